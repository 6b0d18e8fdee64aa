//! Selection from inner products beside the rules on open updates.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_aggregate::anomaly::{
    Detector, DetectorSettings, Expected, Finding, Method, OnDetection, Statistic,
};
use medfed_aggregate::selection::{
    Detection, LEAST_WEIGHT, LeftOut, NotSelected, OpenedProducts, ProductHistory, SelectionRule,
};
use medfed_aggregate::{
    AggregateError, Aggregator, Gram, PreStep, Rule, RuleWarning, SiteUpdate, foolsgold_weights,
};
use medfed_types::{RoundId, Seed, SiteId};
use proptest::prelude::*;
use rand::RngExt;
use std::collections::BTreeMap;

const PARAMETERS: usize = 40;

fn site(index: usize) -> SiteId {
    SiteId::try_from(format!("h{index:02}")).unwrap()
}

/// Vectors with a common part; those of `bad` are turned around and `factor` times as long.
fn vectors(hospitals: usize, bad: usize, factor: f32, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = Seed(seed).generator("vectors", &[]);
    let mut vector = || -> Vec<f32> { (0..PARAMETERS).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let common = vector();
    let own = |index: usize| {
        let sign = if index + bad >= hospitals { -factor } else { 1.0 };
        common.iter().zip(vector()).map(|(common, own)| sign * (common + 0.5 * own)).collect()
    };
    (0..hospitals).map(own).collect()
}

fn gram(vectors: &[Vec<f32>]) -> Gram {
    let n = vectors.len();
    let product = |k: usize| -> f64 {
        let pair = vectors[k / n].iter().zip(&vectors[k % n]);
        pair.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    Gram::new(n, (0..n * n).map(product).collect()).unwrap()
}

fn opened(vectors: &[Vec<f32>]) -> OpenedProducts {
    OpenedProducts::new((0..vectors.len()).map(site).collect(), gram(vectors), PARAMETERS).unwrap()
}

fn updates(vectors: &[Vec<f32>]) -> Vec<SiteUpdate> {
    let update =
        |(at, it): (usize, &Vec<f32>)| SiteUpdate::new(site(at), RoundId(1), it.clone(), 1.0).unwrap();
    vectors.iter().enumerate().map(update).collect()
}

fn rule(rule: Rule, detection: Option<Detection>) -> SelectionRule {
    SelectionRule::new(rule, detection, 0).unwrap()
}

fn detection(on_detection: OnDetection) -> Detection {
    Detection { settings: DetectorSettings::new(Method::Robust, 3.0).unwrap(), on_detection }
}

proptest! {
    #[test]
    fn multi_krum_selects_whom_it_selects_on_open_updates(
        (hospitals, byzantine, selected) in (5usize..=12).prop_flat_map(|n| {
            (Just(n), 0..=(n - 3) / 2).prop_flat_map(|(n, f)| (Just(n), Just(f), 3..=(n - f).max(3)))
        }),
        seed in any::<u64>(),
    ) {
        let krum = Rule::MultiKrum { byzantine, selected };
        prop_assume!(hospitals >= krum.needed());
        let vectors = vectors(hospitals, byzantine, 1.5, seed);
        let mut aggregator = Aggregator::new(krum, PreStep::None).unwrap();
        let open = aggregator.aggregate(&updates(&vectors), RoundId(1), PARAMETERS).unwrap();
        let used = open.shares.iter().filter(|(_, share)| *share > Some(0.0)).map(|(site, _)| site.clone());
        let verdict = rule(krum, None).select(&opened(&vectors), &BTreeMap::new(), &ProductHistory::default(), LeftOut::default());
        prop_assert_eq!(verdict.selected.unwrap(), used.collect::<Vec<_>>());
        prop_assert_eq!(verdict.passed_over.len(), hospitals - selected);
        prop_assert_eq!(verdict.warnings, open.warnings);
    }

    /// The detector finds the same from inner products as from updates.
    #[test]
    fn findings_follow_from_inner_products(
        hospitals in 3usize..=14, bad in 0usize..3, factor in 0.01f32..100.0, seed in any::<u64>(),
    ) {
        let vectors = vectors(hospitals, bad.min(hospitals / 3), factor, seed);
        let expected: BTreeMap<_, _> =
            (0..hospitals).map(|at| (site(at), Expected::new(1.0 + at as f64, Some(1e-3)).unwrap())).collect();
        let detector = Detector::new(DetectorSettings::new(Method::Robust, 3.0).unwrap());
        let open = detector.inspect(&updates(&vectors), &expected);
        let masked = detector.inspect_products(&opened(&vectors), &expected);
        let told = |found: &[Finding]| -> Vec<(SiteId, Statistic, i64)> {
            found.iter().map(|it| (it.site.clone(), it.statistic, (it.value * 1e6).round() as i64)).collect()
        };
        prop_assert_eq!(told(&open.findings), told(&masked.findings));
        prop_assert_eq!(open.warnings.len(), masked.warnings.len());
    }

    /// Sums over rounds are the inner products of the sequences of updates.
    #[test]
    fn a_history_is_that_of_the_sequences(rounds in 1usize..4, hospitals in 3usize..7, seed in any::<u64>()) {
        let mut past = ProductHistory::default();
        let mut sequences = vec![Vec::new(); hospitals];
        for round in 0..rounds {
            let vectors = vectors(hospitals, 0, 1.0, seed ^ round as u64);
            for (sequence, vector) in sequences.iter_mut().zip(&vectors) {
                sequence.extend_from_slice(vector);
            }
            if round + 1 < rounds {
                past = past.with_round(&opened(&vectors));
                let again = ProductHistory::from_bytes(&past.to_bytes()).unwrap();
                prop_assert_eq!(&again, &past);
                continue;
            }
            let weights = foolsgold_weights(&gram(&sequences));
            // Weights at the limit may fall on either side.
            prop_assume!(weights.iter().all(|weight| (weight - LEAST_WEIGHT).abs() > 1e-6));
            let verdict = rule(Rule::FoolsGold, None).select(&opened(&vectors), &BTreeMap::new(), &past, LeftOut::default());
            let heavy: Vec<SiteId> = (0..hospitals).filter(|at| weights[*at] >= LEAST_WEIGHT).map(site).collect();
            let selected = verdict.selected.unwrap();
            if heavy.len() >= 3 {
                prop_assert_eq!(selected, heavy);
            } else {
                prop_assert!(selected.len() == 3 && heavy.iter().all(|site| selected.contains(site)));
            }
        }
    }

    #[test]
    fn damaged_histories_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let past = ProductHistory::default().with_round(&opened(&vectors(4, 0, 1.0, 1)));
        let mut bytes = past.to_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        if let Ok(read) = ProductHistory::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }
}

#[test]
fn rules_that_do_not_select_are_refused() {
    for other in
        [Rule::Median, Rule::Krum { byzantine: 0 }, Rule::Bulyan { byzantine: 0 }, Rule::GeometricMedian]
    {
        assert!(
            matches!(SelectionRule::new(other, None, 0), Err(AggregateError::NotSelecting { .. })),
            "{other}"
        );
    }
    let two = Rule::MultiKrum { byzantine: 0, selected: 2 };
    assert!(matches!(
        SelectionRule::new(two, None, 0),
        Err(AggregateError::TooFewSelected { selected: 2, needed: 3, .. })
    ));
    assert_eq!(rule(Rule::MultiKrum { byzantine: 2, selected: 6 }, None).needed(), 8);
    let unordered = OpenedProducts::new(vec![site(1), site(0)], gram(&vectors(2, 0, 1.0, 1)), 1);
    assert!(matches!(unordered, Err(AggregateError::Unordered { .. })));
}

#[test]
fn too_few_are_not_summed() {
    // Three of four are one hospital under three names.
    let mut vectors = vectors(4, 0, 1.0, 1);
    for at in 1..3 {
        vectors[at] = vectors[0].clone();
    }
    let verdict = rule(Rule::FoolsGold, None).select(
        &opened(&vectors),
        &BTreeMap::new(),
        &ProductHistory::default(),
        LeftOut::default(),
    );
    assert!(matches!(verdict.selected, Err(AggregateError::TooFewSelected { needed: 3, .. })), "{verdict:?}");
    assert!(verdict.passed_over.iter().all(|it| matches!(it.reason, NotSelected::Weight { .. })));
}

#[test]
fn f_is_lowered_as_far_as_the_rest_asks_for() {
    let lowered = |byzantine, suspects, hospitals| {
        let mut aggregator = Aggregator::new(Rule::Krum { byzantine }, PreStep::None).unwrap();
        aggregator.suspect(suspects);
        let vectors = vectors(hospitals, 0, 1.0, 1);
        aggregator.aggregate(&updates(&vectors), RoundId(1), PARAMETERS).map(|it| it.warnings)
    };
    // Ten of twelve are left, enough for f = 3: nothing changes.
    assert_eq!(lowered(3, 2, 10), Ok(Vec::new()));
    let fewer = |rest| RuleWarning::WithstandsFewer { rule: "krum", left_out: 2, byzantine: 2, rest };
    assert_eq!(lowered(2, 2, 6), Ok(vec![fewer(1)]));
    assert_eq!(lowered(2, 2, 4), Ok(vec![fewer(0)]));
    // Never by more than were left out.
    assert!(matches!(lowered(3, 1, 6), Err(AggregateError::TooFew { needed: 7, found: 6, .. })));
    // Multi-Krum selects no more than are certainly honest, and says so.
    let select = |on_detection, selected| {
        let mut vectors = vectors(8, 0, 1.0, 4);
        for vector in &mut vectors[6..] {
            for value in vector.iter_mut() {
                *value *= 1000.0;
            }
        }
        let krum = Rule::MultiKrum { byzantine: 2, selected };
        rule(krum, Some(detection(on_detection))).select(
            &opened(&vectors),
            &BTreeMap::new(),
            &ProductHistory::default(),
            LeftOut::default(),
        )
    };
    let verdict = select(OnDetection::Exclude, 6);
    assert_eq!(verdict.selected.unwrap().len(), 5);
    assert!(verdict.warnings.contains(&RuleWarning::SelectsFewer { selected: 5, configured: 6 }));
    let left_out = verdict.passed_over.iter().filter(|it| matches!(it.reason, NotSelected::OutOfLine { .. }));
    assert_eq!(left_out.map(|it| it.site.clone()).collect::<Vec<_>>(), [site(6), site(7)]);
    let flagged = select(OnDetection::Flag, 6);
    assert_eq!((flagged.selected.unwrap().len(), flagged.findings.len()), (6, verdict.findings.len()));
    let halted = select(OnDetection::Halt, 6);
    assert_eq!(halted.selected, Err(AggregateError::OutOfLine { sites: vec![site(6), site(7)] }));
}

#[test]
fn who_is_refused_is_among_the_expected_bad_ones() {
    let vectors = vectors(6, 0, 1.0, 1);
    let krum = Rule::MultiKrum { byzantine: 2, selected: 4 };
    let select = |refused, withheld| {
        let gone = LeftOut { refused, withheld };
        rule(krum, None).select(&opened(&vectors), &BTreeMap::new(), &ProductHistory::default(), gone)
    };
    assert!(matches!(select(0, 0).selected, Err(AggregateError::TooFew { needed: 7, found: 6, .. })));
    let refused = select(2, 0);
    assert!(
        refused.selected.unwrap().len() == 4
            && refused.warnings == [RuleWarning::WithstandsNobody { rule: "multi_krum" }][..0]
    );
    // Who withholds may be honest: f is lowered as far as the rest asks for.
    let withheld = select(0, 2);
    let fewer = RuleWarning::WithstandsFewer { rule: "multi_krum", left_out: 2, byzantine: 2, rest: 1 };
    assert!(withheld.selected.unwrap().len() == 4 && withheld.warnings.contains(&fewer));
}
