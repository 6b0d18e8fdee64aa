//! The fairness report as text and as a file.

use super::{WIDTH, number, row};
use medfed_eval::fairness::{AttributeFairness, FairnessReport, Gap, HospitalFairness, Thresholds};
use medfed_federation::report::{FinalFairness, RoundReport};
use medfed_types::{RunId, SiteId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the numbers do not promise.
const EXACT: &str = "Counts and rates are exact and not covered by differential privacy. At a hospital, groups of fewer patients than min_group_size are held back before anything leaves.";

/// `fairness_report.json`.
#[derive(Debug, Serialize)]
pub(crate) struct FairnessFile<'a> {
    run_id: &'a RunId,
    /// The round of the model that was measured.
    model_round: Option<u32>,
    /// Which images the measurement at the top is of.
    measured_on: &'static str,
    #[serde(flatten)]
    measured: &'a FairnessReport,
    /// The same model on the common test set, with intervals over patients.
    test: Option<&'a FairnessReport>,
    /// The hospitals' validation images after each round that was measured.
    rounds: Vec<RoundLine<'a>>,
    privacy: &'static str,
}

/// One round in a few numbers.
#[derive(Debug, Serialize)]
struct RoundLine<'a> {
    round_num: u32,
    fairness_score: Option<f64>,
    is_fair: Option<bool>,
    accuracy_variance: Option<f64>,
    accuracy_parity: Option<f64>,
    violations: Vec<String>,
    weight_factors: &'a BTreeMap<SiteId, f64>,
}

impl<'a> FairnessFile<'a> {
    /// The file of a run; nothing where there were neither validation nor test images.
    pub(crate) fn new(
        run_id: &'a RunId,
        model_round: Option<u32>,
        found: &'a FinalFairness,
        rounds: &'a [RoundReport],
    ) -> Option<Self> {
        let (measured_on, measured) = match (&found.validation, &found.test) {
            (Some(validation), _) => ("validation", validation),
            (None, Some(test)) => ("test", test),
            (None, None) => return None,
        };
        let lines = rounds.iter().filter_map(|round| Some((round, round.fairness.as_ref()?)));
        Some(Self {
            run_id,
            model_round,
            measured_on,
            measured,
            test: found.test.as_ref(),
            rounds: lines
                .map(|(round, fairness)| {
                    let hospitals = fairness.measured.hospital_fairness.as_ref();
                    let parity = hospitals.and_then(|found| found.accuracy_parity.as_ref());
                    RoundLine {
                        round_num: round.round_num,
                        fairness_score: fairness.measured.fairness_score,
                        is_fair: fairness.measured.is_fair,
                        accuracy_variance: hospitals.and_then(|found| found.accuracy_variance),
                        accuracy_parity: parity.map(|gap| gap.value),
                        violations: fairness.measured.violations.iter().map(ToString::to_string).collect(),
                        weight_factors: &fairness.weight_factors,
                    }
                })
                .collect(),
            privacy: EXACT,
        })
    }
}

/// The report of a run: hospitals from their validation images, each attribute from the test set where its
/// groups can be compared there, otherwise from the hospitals' counts.
pub(crate) fn lines(found: &FinalFairness) -> Vec<String> {
    let mut lines = heading();
    if let Some(hospitals) = found.validation.as_ref().and_then(|found| found.hospital_fairness.as_ref()) {
        lines.extend(hospital_lines(hospitals, &thresholds(found)));
    }
    let names = [&found.test, &found.validation].into_iter().flatten();
    let mut shown: Vec<&str> = Vec::new();
    for name in names.flat_map(|report| &report.demographic_fairness).map(|found| found.attribute.as_str()) {
        if shown.contains(&name) {
            continue;
        }
        shown.push(name);
        let of = |report: &'static str, from: &Option<FairnessReport>| {
            let attribute = from.as_ref()?.demographic_fairness.iter().find(|f| f.attribute == name)?.clone();
            Some((report, attribute))
        };
        let candidates = [of("test images", &found.test), of("validation images", &found.validation)];
        let compared = |pair: &&(&str, AttributeFairness)| pair.1.accuracy_difference.is_some();
        let known: Vec<_> = candidates.into_iter().flatten().collect();
        if let Some((images, attribute)) = known.iter().find(compared).or(known.first()) {
            lines.extend(attribute_lines(attribute, images, &thresholds(found)));
        }
    }
    if shown.is_empty() {
        lines.push("No attribute of the patients is known in these data.".to_owned());
        lines.push(String::new());
    }
    for (images, report) in [("validation", &found.validation), ("test", &found.test)] {
        if let Some(report) = report.as_ref().filter(|report| report.is_fair.is_some()) {
            lines.extend(verdict(report, images));
        }
    }
    lines.push("=".repeat(WIDTH));
    lines
}

/// The report of one measurement.
pub(crate) fn report_lines(report: &FairnessReport, images: &str) -> Vec<String> {
    let mut lines = heading();
    for attribute in &report.demographic_fairness {
        lines.extend(attribute_lines(attribute, images, &report.thresholds));
    }
    lines.extend(verdict(report, images));
    lines.push("=".repeat(WIDTH));
    lines
}

fn heading() -> Vec<String> {
    let rule = "=".repeat(WIDTH);
    vec![rule.clone(), "FAIRNESS REPORT - Hospitals and Groups of Patients".to_owned(), rule, String::new()]
}

fn thresholds(found: &FinalFairness) -> Thresholds {
    let report = found.validation.as_ref().or(found.test.as_ref());
    report.map_or(
        Thresholds {
            demographic_parity: 1.0,
            equalized_odds: 1.0,
            accuracy_parity: 1.0,
            disparate_impact_min: 0.0,
            disparate_impact_max: f64::INFINITY,
            hospital_variance: 1.0,
        },
        |report| report.thresholds.clone(),
    )
}

fn hospital_lines(found: &HospitalFairness, thresholds: &Thresholds) -> Vec<String> {
    let mut lines = vec!["--- HOSPITALS, each on its own validation images ---".to_owned()];
    let widest = found.hospitals.iter().map(|h| h.hospital.as_str().len()).max().unwrap_or(0).max(8);
    lines.push(format!("  {:<widest$}  patients  images  accuracy    AUC", "hospital"));
    for hospital in &found.hospitals {
        let small = if hospital.compared { "" } else { "  too few patients to compare" };
        lines.push(format!(
            "  {:<widest$}  {:>8}  {:>6}  {:>8.3}  {:>5}{small}",
            hospital.hospital.as_str(),
            hospital.patients,
            hospital.images,
            hospital.accuracy,
            number(hospital.auc, 3)
        ));
    }
    let by_chance = found.accuracy_variance_by_chance.map_or(String::new(), |variance| {
        format!(
            "  ({variance:.4} from the sizes of the sets alone; at most {})",
            thresholds.hospital_variance
        )
    });
    lines.push(row("Accuracy Variance", &(number(found.accuracy_variance, 4) + &by_chance)));
    lines.push(row("AUC Variance", &number(found.auc_variance, 4)));
    lines.push(row(
        "Accuracy Parity",
        &gap(found.accuracy_parity.as_ref(), &format!("at most {}", thresholds.accuracy_parity)),
    ));
    lines.push(String::new());
    lines
}

fn attribute_lines(found: &AttributeFairness, images: &str, thresholds: &Thresholds) -> Vec<String> {
    let mut lines = vec![format!("--- {}, on the {images} ---", found.attribute.to_uppercase())];
    if found.groups.is_empty() {
        lines.push("  not known in these data".to_owned());
        lines.push(String::new());
        return lines;
    }
    let widest = found.groups.iter().map(|group| group.group.chars().count()).max().unwrap_or(0).max(8);
    lines.push(format!("  {:<widest$}  patients  images  accuracy    TPR    FPR  selected    AUC", "group"));
    for group in &found.groups {
        let mut line = format!("  {:<widest$}  {:>8}  {:>6}", group.group, group.patients, group.images);
        // Writing to a string cannot fail.
        let _ = match &group.rates {
            Some(rates) => {
                let of = |rate: Option<medfed_eval::Interval>| number(rate.map(|rate| rate.estimate), 3);
                write!(
                    line,
                    "  {:>8.3}  {:>5}  {:>5}  {:>8}  {:>5}",
                    rates.accuracy.estimate,
                    of(rates.true_positive_rate),
                    of(rates.false_positive_rate),
                    of(rates.selection_rate),
                    of(rates.auc)
                )
            }
            None => write!(line, "  too small to compare"),
        };
        if group.withheld_by > 0 {
            let _ = write!(line, "  (held back by {} hospitals)", group.withheld_by);
        }
        lines.push(line);
    }
    let most = |value: f64| format!("at most {value}");
    let impact = format!("{} to {}", thresholds.disparate_impact_min, thresholds.disparate_impact_max);
    for (name, value, bound) in [
        ("Demographic Parity", &found.demographic_parity_difference, most(thresholds.demographic_parity)),
        ("Equalized Odds", &found.equalized_odds_difference, most(thresholds.equalized_odds)),
        ("Disparate Impact", &found.disparate_impact, impact),
        ("Accuracy Parity", &found.accuracy_difference, most(thresholds.accuracy_parity)),
    ] {
        lines.push(row(name, &gap(value.as_ref(), &bound)));
    }
    lines.push(String::new());
    lines
}

fn gap(found: Option<&Gap>, bound: &str) -> String {
    let Some(found) = found else { return format!("n/a  ({bound})") };
    let mut text = format!("{:.3}  {} against {}  (", found.value, found.high, found.low);
    // Writing to a string cannot fail.
    if let Some([lower, upper]) = found.interval {
        let _ = write!(text, "95 % {lower:.3} to {upper:.3}; ");
    }
    if let Some(chance) = found.chance {
        let _ = write!(text, "by chance {chance:.3}; ");
    }
    text + bound + ")"
}

fn verdict(report: &FairnessReport, images: &str) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Fairness Score ({images}): {}  (1 is equality, 0.5 the thresholds)",
            number(report.fairness_score, 3)
        ),
        match (report.is_fair, report.violations.len()) {
            (None, _) => "  No two groups could be compared.".to_owned(),
            (Some(true), _) => "  No threshold is passed.".to_owned(),
            (Some(false), 1) => "  1 threshold is passed:".to_owned(),
            (Some(false), found) => format!("  {found} thresholds are passed:"),
        },
    ];
    if report.is_constant {
        lines.push(
            "  The model predicts one class for everyone: equal rates say nothing about it.".to_owned(),
        );
    }
    for violation in &report.violations {
        let sure = if violation.confirmed { "; so is the whole interval" } else { "" };
        lines.push(format!("  ! {violation}{sure}"));
    }
    lines.push(String::new());
    lines
}
