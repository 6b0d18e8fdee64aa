use super::tally::sum;
use super::*;
use crate::{EvalError, Performance, Predictions, Resampling};
use medfed_types::{Seed, SiteId};
use proptest::prelude::*;
use rand::RngExt;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

const THRESHOLDS: Thresholds = Thresholds {
    demographic_parity: 0.1,
    equalized_odds: 0.1,
    accuracy_parity: 0.15,
    disparate_impact_min: 0.8,
    disparate_impact_max: 1.25,
    hospital_variance: 0.05,
};

/// Predictions that are certain of the class given.
fn certain(predicted: &[u32], labels: &[u32], classes: usize) -> Predictions {
    let mut rows = vec![0.0; labels.len() * classes];
    for (row, class) in rows.chunks_exact_mut(classes).zip(predicted) {
        row[*class as usize] = 1.0;
    }
    Predictions::from_probabilities(&rows, labels, classes)
}

fn partition(groups: &[impl AsRef<str>]) -> Partition {
    let values: Vec<Option<Arc<str>>> =
        groups.iter().map(|g| Some(g.as_ref()).filter(|g| !g.is_empty()).map(Arc::from)).collect();
    Partition::new("sex", &values).unwrap()
}

fn alone(images: usize) -> Vec<u32> {
    (0..images as u32).collect()
}

fn few() -> Resampling {
    Resampling { seed: Seed(1), replicates: 200 }
}

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    classes: usize,
    labels: Vec<u32>,
    predicted: Vec<u32>,
    groups: Vec<String>,
    expected: serde_json::Value,
}

#[test]
fn agrees_with_fairlearn() {
    let vectors: Vectors = serde_json::from_str(include_str!("../../../../testdata/fairness.json")).unwrap();
    assert_eq!(vectors.cases.len(), 6);
    for Case { name, classes, labels, predicted, groups, expected } in vectors.cases {
        let predictions = certain(&predicted, &labels, classes);
        let (partition, patients) = (partition(&groups), alone(labels.len()));
        let by_patient =
            AttributeFairness::from_predictions(&predictions, &partition, &patients, 1, few()).unwrap();
        // The same by way of what two hospitals report.
        let half = labels.len() / 2;
        let report = |images: std::ops::Range<usize>| {
            let chosen: Vec<u32> = images.clone().map(|i| i as u32).collect();
            let part = certain(&predicted[images.clone()], &labels[images], classes);
            GroupTally::of(&part, &partition.select(&chosen), &chosen).unwrap().suppress(0)
        };
        let tallies = [report(0..half), report(half..labels.len())];
        let by_counts = AttributeFairness::from_tallies("sex", classes, &tallies, 1).unwrap();
        for found in [by_patient, by_counts] {
            let close = |what: &str, found: Option<f64>, expected: Option<f64>| match (found, expected) {
                (None, None) => {}
                (Some(a), Some(b)) if (a - b).abs() < 1e-12 => {}
                _ => panic!("{name}: {what} is {found:?}, expected {expected:?}"),
            };
            for (measure, gap) in found.measures() {
                close(measure, gap.map(|gap| gap.value), expected[measure].as_f64());
                if let Some([lower, upper]) = gap.and_then(|gap| gap.interval) {
                    let value = gap.unwrap().value;
                    assert!(lower <= value + 1e-9 && value <= upper + 1e-9, "{name}: {measure} {gap:?}");
                }
            }
            for group in found.groups.iter().filter(|_| classes == 2) {
                let rates = group.rates.as_ref().unwrap();
                let expected = &expected["groups"][&group.group];
                close("accuracy", Some(rates.accuracy.estimate), expected["accuracy"].as_f64());
                for (rate, field) in [
                    (rates.selection_rate, "selection_rate"),
                    (rates.true_positive_rate, "true_positive_rate"),
                    (rates.false_positive_rate, "false_positive_rate"),
                ] {
                    close(field, rate.map(|rate| rate.estimate), expected[field].as_f64());
                }
            }
        }
    }
}

#[test]
fn groups_that_are_too_small_are_named_and_not_compared() {
    let groups: Vec<&str> = std::iter::repeat_n("F", 12).chain(["M"; 9]).chain(["", ""]).collect();
    let predictions = certain(&[1; 23], &[1; 23], 2);
    let partition = partition(&groups);
    let found = AttributeFairness::from_predictions(&predictions, &partition, &alone(23), 10, few()).unwrap();
    assert!(found.measures().iter().all(|(_, gap)| gap.is_none()));
    let sizes: Vec<_> =
        found.groups.iter().map(|g| (g.group.as_str(), g.patients, g.rates.is_some())).collect();
    assert_eq!(sizes, [("F", 12, true), ("M", 9, false)]);
    // One patient with many images is one patient.
    let found = AttributeFairness::from_predictions(&predictions, &partition, &[0; 23], 2, few()).unwrap();
    assert!(found.groups.iter().all(|group| group.patients == 1 && group.rates.is_none()));
    let nobody = FairnessReport::of(&[], false, vec![found], &THRESHOLDS, 10);
    assert_eq!((nobody.fairness_score, nobody.is_fair, nobody.violations.len()), (None, None, 0));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let predictions = certain(&[1, 0], &[1, 0], 2);
    let short = GroupTally::of(&predictions, &partition(&["F"]), &[0, 1]).unwrap_err();
    assert_eq!(short, EvalError::Lengths { what: "groups", expected: 2, found: 1 });
    assert!(GroupTally::of(&predictions, &partition(&["F", "M"]), &[0]).is_err());
    let values: Vec<Option<Arc<str>>> = (0..51).map(|i| Some(Arc::from(i.to_string()))).collect();
    assert!(matches!(Partition::new("age", &values), Err(EvalError::TooManyGroups { found: 51, .. })));
    let forged = GroupCounts { patients: 3, cells: vec![Cells { tp: 1, ..Cells::default() }] };
    let groups = BTreeMap::from([("F".to_owned(), Some(forged))]);
    let tally = ReportedTally { attribute: "sex".to_owned(), groups };
    let error = AttributeFairness::from_tallies("sex", 2, [&tally], 1).unwrap_err();
    assert_eq!(error.to_string(), "the counts of \"F\" in `sex` contradict each other");
    assert!(AttributeFairness::from_tallies("sex", 3, [&tally], 1).is_err());
}

#[test]
fn a_gap_that_is_real_is_told_from_chance() {
    let mut rng = Seed(9).generator("gap", &[]);
    let groups: Vec<&str> = (0..600).map(|i| if i % 3 == 0 { "F" } else { "M" }).collect();
    let labels: Vec<u32> = (0..600).map(|_| rng.random_range(0..2)).collect();
    let mut assess = |skill: [f64; 2]| {
        let right = |group: &&str| if *group == "F" { skill[0] } else { skill[1] };
        let predicted: Vec<u32> = labels
            .iter()
            .zip(&groups)
            .map(|(label, group)| if rng.random_range(0.0..1.0) < right(group) { *label } else { 1 - *label })
            .collect();
        let predictions = certain(&predicted, &labels, 2);
        AttributeFairness::from_predictions(&predictions, &partition(&groups), &alone(600), 10, few())
            .unwrap()
    };
    let equal = assess([0.8, 0.8]).accuracy_difference.unwrap();
    assert!(equal.value < equal.chance.unwrap() && equal.interval.unwrap()[0] < 0.0, "{equal:?}");
    let unequal = assess([0.6, 0.9]);
    let odds = unequal.equalized_odds_difference.as_ref().unwrap();
    assert!(odds.value > odds.chance.unwrap() && odds.interval.unwrap()[0] > 0.1, "{odds:?}");
    let accuracy = unequal.accuracy_difference.as_ref().unwrap();
    assert_eq!((accuracy.high.as_str(), accuracy.low.as_str()), ("M", "F"));
    let report = FairnessReport::of(&[], false, vec![unequal], &THRESHOLDS, 10);
    assert_eq!(report.is_fair, Some(false));
    let odds = report.violations.iter().find(|v| v.criterion == Criterion::EqualizedOdds).unwrap();
    assert!(odds.confirmed && odds.to_string().starts_with("sex: equalised odds difference 0."));
}

#[test]
fn images_of_one_patient_widen_the_interval() {
    let groups: Vec<&str> = (0..400).map(|i| if i < 200 { "F" } else { "M" }).collect();
    // Every patient's ten images agree.
    let predicted: Vec<u32> = (0..400).map(|i| u32::from((i / 10) % 4 == 0)).collect();
    let width = |patients: &[u32]| {
        let predictions = certain(&predicted, &[1; 400], 2);
        let partition = partition(&groups);
        let found =
            AttributeFairness::from_predictions(&predictions, &partition, patients, 5, few()).unwrap();
        let rate = found.groups[0].rates.as_ref().unwrap().true_positive_rate.unwrap();
        let [lower, upper] = found.true_positive_rate_difference.unwrap().interval.unwrap();
        (rate.upper - rate.lower, upper - lower)
    };
    let (alone, together) = (width(&alone(400)), width(&(0..400).map(|i| i / 10).collect::<Vec<u32>>()));
    assert!(together.0 > 2.0 * alone.0 && together.1 > 2.0 * alone.1, "{alone:?} {together:?}");
}

fn hospital(name: &str, right: u32, images: u32) -> HospitalMeasurement {
    let labels: Vec<u32> = (0..images).map(|i| i % 2).collect();
    let predicted: Vec<u32> =
        labels.iter().zip(0..).map(|(label, i)| if i < right { *label } else { 1 - label }).collect();
    HospitalMeasurement {
        hospital: SiteId::try_from(name).unwrap(),
        patients: u64::from(images),
        performance: Performance::of(&certain(&predicted, &labels, 2)),
    }
}

#[test]
fn hospitals_are_compared_and_scored() {
    let hospitals = [hospital("A", 90, 100), hospital("B", 60, 100), hospital("C", 0, 5)];
    let report = FairnessReport::of(&hospitals, true, Vec::new(), &THRESHOLDS, 10);
    let found = report.hospital_fairness.as_ref().unwrap();
    assert!((found.accuracy_variance.unwrap() - 0.0225).abs() < 1e-12);
    assert!((found.accuracy_variance_by_chance.unwrap() - 0.5 * 0.75 * 0.25 / 100.0).abs() < 1e-12);
    assert!(found.auc_variance.is_some());
    let strict = FairnessReport::of(&hospitals, true, Vec::new(), &THRESHOLDS, 60);
    let strict = strict.hospital_fairness.unwrap();
    // A hundred patients each, of them fifty in either class.
    assert!(strict.accuracy_variance.is_some() && strict.auc_variance.is_none());
    let parity = found.accuracy_parity.as_ref().unwrap();
    assert!((parity.value - 0.3).abs() < 1e-12 && parity.interval.unwrap()[0] > 0.15);
    assert_eq!(found.hospitals.iter().map(|h| h.compared).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(report.demographic_fairness[0].attribute, "hospital");
    let parity = report.violations.iter().filter(|v| v.criterion == Criterion::AccuracyParity);
    // Once, though hospitals are compared as such and as groups.
    assert_eq!(parity.map(|v| v.confirmed).collect::<Vec<_>>(), [true]);
    // Both hospitals call half of the images positive or nearly so.
    let score = report.fairness_score.unwrap();
    assert!(score > 0.0 && score < 1.0, "{score}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<FairnessReport>(&json).unwrap(), report);
    let even = [hospital("A", 80, 100), hospital("B", 80, 100)];
    let report = FairnessReport::of(&even, false, Vec::new(), &THRESHOLDS, 10);
    assert_eq!((report.fairness_score, report.is_fair), (Some(1.0), Some(true)));
}

proptest! {
    #[test]
    fn nothing_small_leaves_and_nothing_follows(
        sizes in prop::collection::vec(0usize..30, 1..7),
        unknown in 0usize..15,
        least in 0u64..15,
    ) {
        let groups: Vec<String> = sizes
            .iter()
            .enumerate()
            .flat_map(|(group, size)| std::iter::repeat_n(format!("g{group}"), *size))
            .chain(std::iter::repeat_n(String::new(), unknown))
            .collect();
        prop_assume!(!groups.is_empty());
        let labels = vec![0; groups.len()];
        let tally = GroupTally::of(&certain(&labels, &labels, 2), &partition(&groups), &alone(groups.len()));
        let reported = tally.unwrap().suppress(least);
        let sizes = sizes.iter().filter(|size| **size > 0).map(|size| *size as u64);
        let mut withheld: Vec<u64> = Vec::new();
        for (size, counts) in sizes.zip(reported.groups.values()) {
            match counts {
                Some(counts) => prop_assert!(counts.patients == size && size >= least),
                None => withheld.push(size),
            }
        }
        // What the total minus the reported tells.
        let rest = withheld.iter().sum::<u64>() + unknown as u64;
        let all_withheld = reported.groups.values().all(Option::is_none);
        prop_assert!(rest == 0 || rest >= least || all_withheld);
        prop_assert!(withheld.len() + usize::from(unknown > 0) != 1 || withheld.is_empty() || all_withheld);
        // No more than is needed: without small groups and unknown images nothing is withheld.
        if unknown == 0 && reported.groups.len() == withheld.len() && withheld.iter().all(|s| *s >= least) {
            prop_assert!(withheld.is_empty());
        }
    }

    #[test]
    fn measures_ignore_the_order_of_images_and_stay_in_range(
        rows in prop::collection::vec((0u32..3, 0u32..3, 0usize..4), 1..80),
        turn in 0usize..80,
    ) {
        let assess = |rows: &[(u32, u32, usize)]| {
            let labels: Vec<u32> = rows.iter().map(|row| row.0).collect();
            let predicted: Vec<u32> = rows.iter().map(|row| row.1).collect();
            let groups: Vec<&str> = rows.iter().map(|row| ["a", "b", "c", ""][row.2]).collect();
            let tally =
                GroupTally::of(&certain(&predicted, &labels, 3), &partition(&groups), &alone(rows.len()));
            AttributeFairness::from_tallies("sex", 3, [&tally.unwrap().suppress(0)], 1).unwrap()
        };
        let found = assess(&rows);
        for (measure, gap) in found.measures() {
            if let Some(gap) = gap {
                let most = if measure == "disparate_impact" { f64::MAX } else { 1.0 };
                prop_assert!((0.0..=most).contains(&gap.value), "{} {:?}", measure, gap);
                prop_assert!(gap.high != gap.low);
            }
        }
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        prop_assert_eq!(assess(&turned), found);
    }
}

#[test]
fn hospitals_that_hold_back_are_counted() {
    let tally = |groups: &[&str]| {
        let labels = vec![1; groups.len()];
        GroupTally::of(&certain(&labels, &labels, 2), &partition(groups), &alone(groups.len())).unwrap()
    };
    let large = tally(&[["F"; 12], ["M"; 12]].concat()).suppress(10);
    let small = tally(&[&["F"; 12][..], &["M"; 3]].concat()).suppress(10);
    let summed = sum("sex", 2, [&large, &small]).unwrap();
    let found: Vec<_> = summed.iter().map(|(g, s)| (g.as_str(), s.counts.patients, s.withheld)).collect();
    // Women of the second hospital are held back too, or its men would follow.
    assert_eq!(found, [("F", 12, 1), ("M", 12, 1)]);
}

#[test]
fn a_model_that_says_one_thing_only_is_named() {
    let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
    let groups: Vec<&str> = (0..40).map(|i| if i % 4 < 2 { "F" } else { "M" }).collect();
    let report = |predicted: &[u32]| {
        let predictions = certain(predicted, &labels, 2);
        let found =
            AttributeFairness::from_predictions(&predictions, &partition(&groups), &alone(40), 5, few());
        FairnessReport::of(&[], false, vec![found.unwrap()], &THRESHOLDS, 5)
    };
    let constant = report(&[0; 40]);
    assert!(constant.is_constant && constant.is_fair == Some(true));
    // No replicate differs, and still nobody knows the difference to be nothing.
    let [lower, upper] =
        constant.demographic_fairness[0].equalized_odds_difference.as_ref().unwrap().interval.unwrap();
    assert!(lower < -0.1 && upper > 0.1);
    assert!(!report(&labels).is_constant);
}

#[test]
fn rates_of_few_images_are_not_compared() {
    // Twenty women, ten of them ill; twenty men, two of them ill. Every ill man is missed.
    let labels: Vec<u32> = (0..40).map(|i| u32::from(if i < 20 { i % 2 == 0 } else { i < 22 })).collect();
    let predicted: Vec<u32> = labels.iter().zip(0..).map(|(l, i)| if i < 20 { *l } else { 0 }).collect();
    let groups: Vec<&str> = (0..40).map(|i| if i < 20 { "F" } else { "M" }).collect();
    let predictions = certain(&predicted, &labels, 2);
    let assess = |least| {
        AttributeFairness::from_predictions(&predictions, &partition(&groups), &alone(40), least, few())
            .unwrap()
    };
    assert_eq!(assess(2).true_positive_rate_difference.unwrap().value, 1.0);
    let found = assess(10);
    assert_eq!(found.true_positive_rate_difference, None);
    assert_eq!(found.equalized_odds_difference.unwrap().value, 0.0);
    let men = found.groups[1].rates.as_ref().unwrap();
    assert_eq!((men.true_positive_rate, men.auc), (None, None));
    assert!(men.false_positive_rate.is_some() && found.groups[0].rates.as_ref().unwrap().auc.is_some());
}
