//! Known answers: ByzFL and transcriptions of the papers, `testdata/generators/aggregate_rules.py`.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps an error")]

use medfed_aggregate::{
    AggregateError, Aggregator, Gram, PreStep, Rule, RuleWarning, SiteUpdate, SquaredDistances, TrimRatio,
    bulyan_selection, foolsgold_weights, krum_scores, krum_selection, nearest_neighbours,
};
use medfed_types::{RoundId, SiteId};
use serde_json::Value;

fn stored() -> Value {
    serde_json::from_str(include_str!("../../../testdata/aggregate_rules.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|number| number as usize).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn updates(rows: &[Vec<f64>], weights: &[f64]) -> Vec<SiteUpdate> {
    let update = |(i, row): (usize, &Vec<f64>)| {
        let delta = row.iter().map(|value| *value as f32).collect();
        let site = SiteId::try_from(format!("site {i:02}")).unwrap();
        SiteUpdate::new(site, RoundId(1), delta, weights.get(i).copied().unwrap_or(1.0)).unwrap()
    };
    rows.iter().enumerate().map(update).collect()
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn distances(rows: &[Vec<f64>]) -> SquaredDistances {
    let entries = rows.iter().flat_map(|a| rows.iter().map(move |b| squared_distance(a, b))).collect();
    SquaredDistances::new(rows.len(), entries).unwrap()
}

fn close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{what}: {found} instead of {expected}");
    }
}

#[test]
fn every_rule_gives_the_stored_step() {
    let mix = |byzantine| PreStep::NearestNeighbourMixing { byzantine };
    for case in stored()["cases"].as_array().unwrap() {
        let (n, f) = (count(&case["n"]), count(&case["f"]));
        let rows = matrix(&case["updates"]);
        let (weighted, equal) = (updates(&rows, &numbers(&case["weights"])), updates(&rows, &[]));
        let ratio = TrimRatio::new(f as f64 / n as f64).unwrap();
        for (name, step) in case["expected"].as_object().unwrap() {
            let (rule, pre) = match name.as_str() {
                "fedavg" | "average" => (Rule::FedAvg, PreStep::None),
                "median" => (Rule::Median, PreStep::None),
                "trimmed_mean" => (Rule::TrimmedMean { ratio }, PreStep::None),
                "krum" => (Rule::Krum { byzantine: f }, PreStep::None),
                "multi_krum" => (Rule::MultiKrum { byzantine: f, selected: n - f - 1 }, PreStep::None),
                "multi_krum_2" => (Rule::MultiKrum { byzantine: f, selected: 2 }, PreStep::None),
                "bulyan" => (Rule::Bulyan { byzantine: f }, PreStep::None),
                "geometric_median" => (Rule::GeometricMedian, PreStep::None),
                "nnm_median" => (Rule::Median, mix(f)),
                "nnm_trimmed_mean" => (Rule::TrimmedMean { ratio }, mix(f)),
                "nnm_krum" => (Rule::Krum { byzantine: f }, mix(f)),
                other => panic!("no rule {other}"),
            };
            let updates = if name == "average" { &equal } else { &weighted };
            let found = Aggregator::new(rule, pre).unwrap().aggregate(updates, RoundId(1), rows[0].len());
            let (found, expected) = (found.unwrap().step, numbers(step));
            let what = format!("{name}, n = {n}, f = {f}, {}", case["kind"]);
            if name == "geometric_median" {
                // The tolerance of the rule is a movement. Near one of the updates the iteration is slow, and
                // the sum of distances hardly changes.
                let sum = |z: &[f64]| rows.iter().map(|row| squared_distance(row, z).sqrt()).sum::<f64>();
                let excess = sum(&found.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()) - sum(&expected);
                assert!(excess < 1e-5, "{what}: {excess}");
                close(&found, &expected, 1e-4, &what);
            } else {
                close(&found, &expected, 1e-6, &what);
            }
        }
    }
}

#[test]
fn selections_are_those_of_the_papers() {
    for case in stored()["cases"].as_array().unwrap() {
        let (n, f) = (count(&case["n"]), count(&case["f"]));
        let distances = distances(&matrix(&case["updates"]));
        let order = indices(&case["krum_order"]);
        for selected in 1..=n - f {
            assert_eq!(krum_selection(&distances, f, selected).unwrap(), order[..selected]);
        }
        let scores = krum_scores(&distances, f).unwrap();
        assert!(order.windows(2).all(|pair| scores[pair[0]] <= scores[pair[1]]));
        match case.get("bulyan_selection") {
            Some(selection) => assert_eq!(bulyan_selection(&distances, f).unwrap(), indices(selection)),
            None => assert!(matches!(
                bulyan_selection(&distances, f),
                Err(AggregateError::TooFew { needed, found, .. }) if needed == 4 * f + 3 && found == n
            )),
        }
        for (i, neighbours) in nearest_neighbours(&distances, f).unwrap().iter().enumerate() {
            assert_eq!(neighbours.len(), n - f);
            let nearest = |j: usize| distances.get(i, j);
            let farthest = neighbours.iter().map(|j| nearest(*j)).fold(0.0, f64::max);
            assert!(neighbours.contains(&i));
            assert!((0..n).all(|j| neighbours.contains(&j) || nearest(j) >= farthest));
        }
    }
}

#[test]
fn foolsgold_gives_the_stored_weights_round_after_round() {
    for case in stored()["foolsgold"].as_array().unwrap() {
        let mut aggregator = Aggregator::new(Rule::FoolsGold, PreStep::None).unwrap();
        let mut history: Vec<Vec<f64>> = Vec::new();
        for round in case["rounds"].as_array().unwrap() {
            let rows = matrix(&round["updates"]);
            history.resize(rows.len(), vec![0.0; rows[0].len()]);
            for (past, new) in history.iter_mut().zip(&rows) {
                past.iter_mut().zip(new).for_each(|(past, new)| *past += new);
            }
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let entries = history.iter().flat_map(|a| history.iter().map(move |b| product(a, b))).collect();
            let weights = numbers(&round["weights"]);
            let found = foolsgold_weights(&Gram::new(rows.len(), entries).unwrap());
            for (found, expected) in found.iter().zip(&weights) {
                assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
            }
            let step = aggregator.aggregate(&updates(&rows, &[]), RoundId(1), rows[0].len()).unwrap();
            close(&step.step, &numbers(&round["step"]), 1e-5, "foolsgold");
            let total: f64 = weights.iter().sum();
            for ((_, share), weight) in step.shares.iter().zip(&weights) {
                assert!((share.unwrap() - weight / total).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn centred_clipping_gives_the_stored_steps_round_after_round() {
    for case in stored()["centered_clipping"].as_array().unwrap() {
        let rule = Rule::CenteredClipping {
            radius: case["radius"].as_f64(),
            iterations: count(&case["iterations"]),
        };
        let mut aggregator = Aggregator::new(rule, PreStep::None).unwrap();
        for round in case["rounds"].as_array().unwrap() {
            let rows = matrix(&round["updates"]);
            let found = aggregator.aggregate(&updates(&rows, &[]), RoundId(1), rows[0].len()).unwrap();
            close(&found.step, &numbers(&round["step"]), 1e-5, &rule.to_string());
        }
    }
}

#[test]
fn published_properties_show_in_small_numbers() {
    // One coordinate, by hand. f = 1 of n = 7: Bulyan picks five, then averages the three around their median.
    let rows: Vec<Vec<f64>> = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1000.0].iter().map(|v| vec![*v]).collect();
    let mut bulyan = Aggregator::new(Rule::Bulyan { byzantine: 1 }, PreStep::None).unwrap();
    let found = bulyan.aggregate(&updates(&rows, &[]), RoundId(1), 1).unwrap();
    assert!((0.0..=5.0).contains(&found.step[0]));
    assert_eq!(found.shares[6].1, Some(0.0));
    assert_eq!(found.shares.iter().filter(|(_, share)| share.is_none()).count(), 5);
    // Squared distances: the score of 0.0 is 1 + 4 + 9 + 16, not 1 + 2 + 3 + 4.
    assert_eq!(krum_scores(&distances(&rows), 1).unwrap()[0], 30.0);
    // A trim that removes nobody says so, and from where on it would.
    let ratio = TrimRatio::new(0.1).unwrap();
    let found = Aggregator::new(Rule::TrimmedMean { ratio }, PreStep::None)
        .unwrap()
        .aggregate(&updates(&rows, &[]), RoundId(1), 1)
        .unwrap();
    assert_eq!(found.warnings, [RuleWarning::TrimsNobody { ratio: 0.1, hospitals: 7, from: Some(10) }]);
    assert_eq!(found.step, [145.0]);
}
