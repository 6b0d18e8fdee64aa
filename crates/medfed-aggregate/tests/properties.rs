//! What every rule promises, over random and hostile inputs.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps an error")]

use medfed_aggregate::{
    AggregateError, Aggregator, Gram, PreStep, Rule, RuleWarning, SiteUpdate, SquaredDistances, StateFault,
    TrimRatio, WEIGHT_CAP, foolsgold_weights,
};
use medfed_types::{RoundId, SiteId};
use proptest::prelude::*;

const ROUND: RoundId = RoundId(3);

fn site(i: usize) -> SiteId {
    SiteId::try_from(format!("site {i:02}")).unwrap()
}

fn updates(rows: &[Vec<f32>]) -> Vec<SiteUpdate> {
    rows.iter()
        .enumerate()
        .map(|(i, row)| SiteUpdate::new(site(i), ROUND, row.clone(), 1.0).unwrap())
        .collect()
}

fn trimmed(ratio: f64) -> Rule {
    Rule::TrimmedMean { ratio: TrimRatio::new(ratio).unwrap() }
}

/// Every rule, withstanding f = 2 of n = 11 where it is told.
fn rules() -> Vec<Rule> {
    vec![
        Rule::FedAvg,
        Rule::Median,
        trimmed(0.2),
        Rule::Krum { byzantine: 2 },
        Rule::MultiKrum { byzantine: 2, selected: 7 },
        Rule::Bulyan { byzantine: 2 },
        Rule::FoolsGold,
        Rule::GeometricMedian,
        Rule::CenteredClipping { radius: None, iterations: 1 },
        Rule::CenteredClipping { radius: Some(0.5), iterations: 3 },
    ]
}

/// Every rule alone, and every rule after mixing the eight nearest of eleven, a number whose means are exact.
fn every_aggregator() -> Vec<Aggregator> {
    let mix = PreStep::NearestNeighbourMixing { byzantine: 3 };
    let plain = rules().into_iter().map(|rule| Aggregator::new(rule, PreStep::None).unwrap());
    let mixed = rules().into_iter().filter(|rule| *rule != Rule::FoolsGold);
    plain.chain(mixed.map(|rule| Aggregator::new(rule, mix).unwrap())).collect()
}

fn name(aggregator: &Aggregator) -> String {
    format!("{}, before it {}", aggregator.rule(), aggregator.pre())
}

fn step(aggregator: &Aggregator, rows: &[Vec<f32>]) -> Vec<f32> {
    aggregator.clone().aggregate(&updates(rows), ROUND, rows[0].len()).unwrap().step
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
}

/// Eighths, so that sums and differences in these tests are exact.
fn eighths() -> impl Strategy<Value = f32> {
    (-40i32..=40).prop_map(|eighth| eighth as f32 / 8.0)
}

/// Anything finite, often at the end of the range.
fn hostile() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(f32::MAX),
        Just(f32::MIN),
        Just(1e38f32),
        Just(-0.0f32),
        Just(f32::MIN_POSITIVE / 2.0),
        -10f32..10.0,
        prop::num::f32::NORMAL,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn neither_order_nor_names_matter(
        rows in prop::collection::vec(prop::collection::vec(-4f32..4.0, 5), 11),
        rotation in 1usize..11,
    ) {
        for aggregator in every_aggregator() {
            let aggregate = |updates: &[SiteUpdate]| aggregator.clone().aggregate(updates, ROUND, 5).unwrap();
            let (sent, mut late) = (updates(&rows), updates(&rows));
            late.rotate_left(rotation);
            prop_assert_eq!(aggregate(&sent), aggregate(&late), "{}", name(&aggregator));
            // The same updates under other names. Bulyan's last picks look at one neighbour, and of two that
            // are each other's the name decides; mixed updates may coincide.
            let mixed = aggregator.pre() != PreStep::None;
            let selects = |rule| matches!(rule, Rule::Krum { .. } | Rule::MultiKrum { .. });
            if matches!(aggregator.rule(), Rule::Bulyan { .. }) || mixed && selects(aggregator.rule()) {
                continue;
            }
            let mut renamed = rows.clone();
            renamed.rotate_left(rotation);
            let (before, after) = (step(&aggregator, &rows), step(&aggregator, &renamed));
            prop_assert!(distance(&before, &after) < 2e-5, "{}: {before:?} {after:?}", name(&aggregator));
        }
    }

    #[test]
    fn a_shift_of_all_updates_shifts_the_step(
        rows in prop::collection::vec(prop::collection::vec(eighths(), 4), 11),
        shift in prop::collection::vec(-100i32..100, 4),
    ) {
        // FoolsGold looks at directions from the origin, centred clipping from the last step.
        let origin = |rule| matches!(rule, Rule::FoolsGold | Rule::CenteredClipping { .. });
        let add = |row: &Vec<f32>| row.iter().zip(&shift).map(|(v, by)| v + *by as f32).collect::<Vec<_>>();
        for aggregator in every_aggregator().iter().filter(|it| !origin(it.rule())) {
            let shifted = step(aggregator, &rows.iter().map(add).collect::<Vec<_>>());
            let expected = add(&step(aggregator, &rows));
            prop_assert!(distance(&shifted, &expected) < 1e-3, "{}: {shifted:?} {expected:?}", name(aggregator));
        }
    }

    #[test]
    fn two_bad_hospitals_of_eleven_move_the_step_by_a_bounded_amount(
        good in prop::collection::vec(prop::collection::vec(-1f32..1.0, 3), 9),
        bad in prop::collection::vec(prop::collection::vec(hostile(), 3), 2),
        mimic in 0usize..4,
        places in (0usize..9, 0usize..10),
    ) {
        let (n, f) = (11.0, 2.0);
        let mut rows = good.clone();
        let mut bad = bad;
        // Bad hospitals may also be each other's neighbours, or stay next to a good one.
        match mimic {
            0 => bad[1] = bad[0].clone(),
            1 => bad[1] = good[0].iter().map(|v| v + 1.5).collect(),
            _ => {}
        }
        rows.insert(places.0, bad[0].clone());
        rows.insert(places.1, bad[1].clone());
        let diameter = good.iter().flat_map(|a| good.iter().map(|b| distance(a, b))).fold(0.0, f64::max);
        let norm = good.iter().map(|a| distance(a, &[0.0; 3])).fold(0.0, f64::max);
        let centre: Vec<f32> = (0..3).map(|c| good.iter().map(|row| row[c]).sum::<f32>() / 9.0).collect();
        let spread = good.iter().map(|a| distance(a, &centre)).fold(0.0, f64::max);
        for aggregator in every_aggregator() {
            let step = step(&aggregator, &rows);
            prop_assert!(step.iter().all(|v| v.is_finite()), "{}: {step:?}", name(&aggregator));
            let off = distance(&step, &centre);
            // Mixing moves a good update by no more than the diameter of the good ones.
            let mixed = aggregator.pre() != PreStep::None;
            let (more, wider) = if mixed { (diameter, 3.0) } else { (0.0, 1.0) };
            let bound = match aggregator.rule() {
                // A trimmed value lies between two good ones.
                Rule::Median | Rule::TrimmedMean { .. } => 2.0 * diameter,
                // The score is at most that of the worst good update, and counts a good neighbour.
                Rule::Krum { .. } | Rule::MultiKrum { .. } => (n - f - 2f64).sqrt() * diameter * wider + diameter,
                // The values around a median between good values.
                Rule::Bulyan { .. } => 4.0 * diameter * wider,
                Rule::GeometricMedian => 2.0 * (n - f) / (n - 2.0 * f) * (spread + 2.0 * more),
                Rule::CenteredClipping { radius: None, .. } => 2.0 * norm + more,
                Rule::CenteredClipping { radius: Some(radius), iterations } => radius * iterations as f64 + norm,
                // These withstand no lone attacker.
                _ => continue,
            };
            prop_assert!(off <= (bound + more) * 1.001 + 1e-6, "{}: {off} > {bound}", name(&aggregator));
        }
    }

    #[test]
    fn shares_add_up_and_make_the_step(
        rows in prop::collection::vec(prop::collection::vec(eighths(), 3), 11),
    ) {
        for aggregator in every_aggregator() {
            let Ok(found) = aggregator.clone().aggregate(&updates(&rows), ROUND, 3) else {
                prop_assert_eq!(aggregator.rule(), Rule::FoolsGold);
                continue;
            };
            let Some(shares) = found.shares.iter().map(|(_, share)| *share).collect::<Option<Vec<f64>>>() else {
                continue;
            };
            let total: f64 = shares.iter().sum();
            let clips = matches!(aggregator.rule(), Rule::CenteredClipping { .. });
            prop_assert!((total - 1.0).abs() < 1e-9 || clips && total <= 1.0 + 1e-9, "{}", name(&aggregator));
            for (c, value) in found.step.iter().enumerate() {
                let sum: f64 = shares.iter().zip(&rows).map(|(share, row)| share * f64::from(row[c])).sum();
                prop_assert!((sum - f64::from(*value)).abs() < 1e-5, "{}", name(&aggregator));
            }
        }
    }

    #[test]
    fn damaged_state_never_panics(cut in 0usize..200, at in 0usize..200, to: u8) {
        for aggregator in [&mut trained(Rule::FoolsGold), &mut trained(clipping())] {
            let before = aggregator.to_bytes();
            let mut bytes = before.clone();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(before.len().saturating_sub(cut));
            // Either the bytes are refused and nothing changed, or they are the state now.
            match aggregator.restore(&bytes) {
                Ok(()) => prop_assert_eq!(aggregator.to_bytes(), bytes),
                Err(error) => {
                    prop_assert!(matches!(error, AggregateError::State(_)));
                    prop_assert_eq!(aggregator.to_bytes(), before);
                }
            }
        }
    }
}

fn clipping() -> Rule {
    Rule::CenteredClipping { radius: None, iterations: 2 }
}

/// Varied rows without a pattern that a rule could favour.
fn varied(n: usize, d: usize, seed: usize) -> Vec<Vec<f32>> {
    let value = |i: usize, c: usize| {
        let mixed = (i * 7919 + c * 104_729 + seed * 31).wrapping_mul(2_654_435_761) >> 7;
        (mixed % 20_011) as f32 / 10_000.0 - 1.0
    };
    (0..n).map(|i| (0..d).map(|c| value(i, c)).collect()).collect()
}

fn trained(rule: Rule) -> Aggregator {
    let mut aggregator = Aggregator::new(rule, PreStep::None).unwrap();
    aggregator.aggregate(&updates(&varied(3, 4, 1)), ROUND, 4).unwrap();
    aggregator
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    // Several tasks, and a last tile that is not full.
    let rows = varied(11, 100_003, 5);
    let sent = updates(&rows);
    for aggregator in every_aggregator() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut aggregator = aggregator.clone();
                let first = aggregator.aggregate(&sent, ROUND, 100_003).unwrap();
                let second = aggregator.aggregate(&sent, ROUND, 100_003);
                let bits = |step: Vec<f32>| step.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                (bits(first.step), first.shares, second.map(|it| bits(it.step)).ok(), aggregator.to_bytes())
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3), "{}", name(&aggregator));
    }
}

#[test]
fn a_restart_changes_nothing() {
    for aggregator in every_aggregator() {
        let (mut stays, mut restarts) = (aggregator.clone(), aggregator.clone());
        for round in 0..3 {
            // Not everyone takes part in every round.
            let sent: Vec<SiteUpdate> =
                updates(&varied(12, 40, round)).into_iter().filter(|it| *it.site() != site(round)).collect();
            let bytes = restarts.to_bytes();
            restarts = Aggregator::new(aggregator.rule(), aggregator.pre()).unwrap();
            restarts.restore(&bytes).unwrap();
            assert_eq!(stays.aggregate(&sent, ROUND, 40), restarts.aggregate(&sent, ROUND, 40));
        }
        assert_eq!(stays.to_bytes(), restarts.to_bytes());
    }
}

#[test]
fn a_dropped_round_leaves_no_trace() {
    for rule in [Rule::FoolsGold, clipping()] {
        let mut aggregator = trained(rule);
        let before = aggregator.to_bytes();
        // On a clone the coordinator may still change its mind.
        aggregator.clone().aggregate(&updates(&varied(3, 4, 2)), ROUND, 4).unwrap();
        assert_eq!(aggregator.to_bytes(), before);
        // An error leaves the state alone.
        let mut twice = updates(&varied(3, 4, 2));
        twice.push(twice[0].clone());
        assert!(aggregator.aggregate(&twice, ROUND, 4).is_err());
        let other = aggregator.aggregate(&updates(&varied(3, 5, 2)), ROUND, 5);
        assert_eq!(other, Err(AggregateError::StateLength { expected: 5, found: 4 }));
        assert_eq!(aggregator.to_bytes(), before);
    }
}

#[test]
fn state_of_another_rule_or_version_is_refused() {
    let mut gold = Aggregator::new(Rule::FoolsGold, PreStep::None).unwrap();
    let refused = |aggregator: &mut Aggregator, bytes: &[u8]| match aggregator.restore(bytes) {
        Err(AggregateError::State(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut gold, &trained(clipping()).to_bytes()), StateFault::OtherRule);
    assert_eq!(refused(&mut gold, b""), StateFault::Format);
    let good = trained(Rule::FoolsGold).to_bytes();
    let mut newer = good.clone();
    newer[4] = 2;
    assert_eq!(refused(&mut gold, &newer), StateFault::Format);
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(refused(&mut gold, &longer), StateFault::Length { found: longer.len() });
    // A header that announces more than any memory holds.
    let mut huge = good.clone();
    huge[7..15].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(refused(&mut gold, &huge), StateFault::Length { .. }));
    let mut many = good.clone();
    many[15..19].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refused(&mut gold, &many), StateFault::Length { .. }));
    let mut infinite = good.clone();
    let last = infinite.len() - 4;
    infinite[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert_eq!(refused(&mut gold, &infinite), StateFault::NotFinite { entry: 2 });
    gold.restore(&good).unwrap();
    assert_eq!(gold.to_bytes(), good);
}

#[test]
fn too_few_hospitals_are_refused_with_the_number_needed() {
    let mix = |byzantine| PreStep::NearestNeighbourMixing { byzantine };
    let none = PreStep::None;
    for (rule, pre, needed) in [
        (Rule::FedAvg, none, 1),
        (Rule::Median, none, 1),
        (Rule::Krum { byzantine: 0 }, none, 3),
        (Rule::Krum { byzantine: 2 }, none, 7),
        (Rule::MultiKrum { byzantine: 2, selected: 3 }, none, 7),
        (Rule::MultiKrum { byzantine: 2, selected: 8 }, none, 10),
        (Rule::Bulyan { byzantine: 2 }, none, 11),
        (Rule::FoolsGold, none, 2),
        (Rule::Median, mix(3), 7),
        (Rule::Krum { byzantine: 2 }, mix(1), 7),
    ] {
        let mut aggregator = Aggregator::new(rule, pre).unwrap();
        assert_eq!(aggregator.needed(), needed, "{rule}");
        assert!(aggregator.aggregate(&updates(&varied(needed, 6, 2)), ROUND, 6).is_ok(), "{rule}");
        if needed > 1 {
            let error = aggregator.aggregate(&updates(&varied(needed - 1, 6, 2)), ROUND, 6).unwrap_err();
            let expected = format!("needs {needed} hospitals, there are {}", needed - 1);
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
        assert_eq!(aggregator.aggregate(&[], ROUND, 6), Err(AggregateError::Empty));
    }
    let absurd = Aggregator::new(Rule::Bulyan { byzantine: usize::MAX }, mix(usize::MAX)).unwrap();
    assert_eq!(absurd.needed(), usize::MAX);
    let refused = |rule, pre| Aggregator::new(rule, pre).unwrap_err();
    assert_eq!(refused(Rule::FoolsGold, mix(1)), AggregateError::MixedSybils);
    assert!(matches!(
        refused(Rule::MultiKrum { byzantine: 1, selected: 0 }, none),
        AggregateError::Zero { .. }
    ));
    for radius in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let rule = Rule::CenteredClipping { radius: Some(radius), iterations: 1 };
        assert!(matches!(refused(rule, none), AggregateError::Radius { .. }));
    }
    for ratio in [-0.1, 0.5, f64::NAN] {
        assert!(matches!(TrimRatio::new(ratio), Err(AggregateError::TrimRatio { .. })));
    }
}

#[test]
fn what_does_not_fit_names_its_site() {
    let made = |delta: Vec<f32>, weight| SiteUpdate::new(site(1), ROUND, delta, weight);
    assert_eq!(made(vec![0.0, f32::NAN], 1.0), Err(AggregateError::NotFinite { site: site(1), index: 1 }));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(
            matches!(made(vec![0.0], weight), Err(AggregateError::Weight { site: s, .. }) if s == site(1))
        );
    }
    let good = SiteUpdate::new(site(0), ROUND, vec![1.0], 1.0).unwrap();
    let late = SiteUpdate::new(site(1), RoundId(2), vec![0.0], 1.0).unwrap();
    for mut aggregator in every_aggregator() {
        let mut refused =
            |other: &SiteUpdate| aggregator.aggregate(&[good.clone(), other.clone()], ROUND, 1).unwrap_err();
        assert_eq!(
            refused(&late),
            AggregateError::Round { site: site(1), expected: ROUND, found: RoundId(2) }
        );
        let long = made(vec![0.0, 1.0], 1.0).unwrap();
        assert_eq!(refused(&long), AggregateError::Length { site: site(1), expected: 1, found: 2 });
        assert_eq!(refused(&good), AggregateError::Duplicate { site: site(0) });
    }
}

#[test]
fn a_forged_sample_count_is_cut_and_named() {
    let claim = |i: usize, weight| SiteUpdate::new(site(i), ROUND, vec![i as f32], weight).unwrap();
    let sent = |forged| [claim(0, 90.0), claim(1, 100.0), claim(2, 110.0), claim(3, 100.0), claim(4, forged)];
    let mut fedavg = Aggregator::new(Rule::FedAvg, PreStep::None).unwrap();
    let honest = fedavg.aggregate(&sent(100.0 * WEIGHT_CAP), ROUND, 1).unwrap();
    assert!(honest.warnings.is_empty());
    for forged in [1e9, f64::MAX] {
        let found = fedavg.aggregate(&sent(forged), ROUND, 1).unwrap();
        assert_eq!(found.step, honest.step);
        let counted = 100.0 * WEIGHT_CAP;
        assert_eq!(found.warnings, [RuleWarning::WeightCapped { site: site(4), claimed: forged, counted }]);
    }
    let said = fedavg.aggregate(&sent(1e9), ROUND, 1).unwrap().warnings[0].to_string();
    assert_eq!(said, "site 04 claims 1000000000 training images and counts for 1000");
    // Everyone at the end of the range.
    let all: Vec<SiteUpdate> = (0..3).map(|i| claim(i, f64::MAX)).collect();
    assert_eq!(fedavg.aggregate(&all, ROUND, 1).unwrap().step, [1.0]);
    // No other rule looks at the claims.
    for rule in rules().into_iter().skip(1) {
        let mut aggregator = Aggregator::new(rule, PreStep::None).unwrap();
        let mut rows = updates(&varied(11, 3, 8));
        let equal = aggregator.clone().aggregate(&rows, ROUND, 3).unwrap();
        rows[4] = SiteUpdate::new(site(4), ROUND, rows[4].delta().to_vec(), 1e9).unwrap();
        assert_eq!(aggregator.aggregate(&rows, ROUND, 3).unwrap(), equal);
    }
}

#[test]
fn sybils_share_what_one_hospital_would_have() {
    let mut gold = Aggregator::new(Rule::FoolsGold, PreStep::None).unwrap();
    let mut shares = Vec::new();
    for round in 0..4 {
        let mut rows = varied(6, 64, 40 + round);
        let aim = varied(1, 64, 7).remove(0);
        // Three of six push in one direction, a little disguised.
        for (i, row) in rows.iter_mut().enumerate().skip(3) {
            *row = aim.iter().zip(&*row).map(|(aim, own)| aim + 0.05 * own * i as f32).collect();
        }
        shares = gold.aggregate(&updates(&rows), ROUND, 64).unwrap().shares;
    }
    let share = |i: usize| shares[i].1.unwrap();
    assert!((3..6).map(share).sum::<f64>() < 0.05, "{shares:?}");
    assert!((0..3).all(|i| share(i) > 0.2), "{shares:?}");
    // Where everyone is alike, nobody is left.
    let mut gold = Aggregator::new(Rule::FoolsGold, PreStep::None).unwrap();
    let alike = vec![vec![1.0, 2.0, 3.0]; 3];
    assert!(matches!(
        gold.aggregate(&updates(&alike), ROUND, 3),
        Err(AggregateError::NobodyLeft { sites, .. }) if sites.len() == 3
    ));
    // A silent hospital resembles nobody.
    let one = Gram::new(2, vec![0.0, 0.0, 0.0, 1.0]).unwrap();
    assert_eq!(foolsgold_weights(&one), [1.0, 1.0]);
}

#[test]
fn warnings_say_what_is_not_withstood() {
    let warned = |rule, n| {
        let found =
            Aggregator::new(rule, PreStep::None).unwrap().aggregate(&updates(&varied(n, 6, 3)), ROUND, 6);
        found.unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warned(trimmed(0.1), 5),
        [
            "a trimmed mean with share 0.1 leaves out nobody of 5 hospitals and is the plain mean; it begins to trim \
          at 10 hospitals"
        ]
    );
    assert!(warned(trimmed(0.0), 5)[0].ends_with("is the plain mean"));
    assert!(warned(trimmed(0.1), 10).is_empty());
    assert_eq!(
        warned(Rule::Krum { byzantine: 0 }, 5),
        ["krum was told to expect no bad hospital and withstands none"]
    );
    assert_eq!(
        warned(Rule::MultiKrum { byzantine: 1, selected: 5 }, 7),
        ["multi_krum selects 5 updates, its guarantee covers 4"]
    );
    assert!(warned(Rule::MultiKrum { byzantine: 1, selected: 4 }, 7).is_empty());
    // ⌊βn⌋ in decimal, and the number of hospitals from which it is at least 1.
    assert_eq!(TrimRatio::new(0.29).unwrap().trimmed(100), 29);
    for percent in 1..50 {
        let ratio = TrimRatio::new(f64::from(percent) / 100.0).unwrap();
        let from = ratio.trims_from().unwrap();
        assert!(ratio.trimmed(from) >= 1 && ratio.trimmed(from - 1) == 0, "{percent} % from {from}");
        assert!((1..300).all(|n| 2 * ratio.trimmed(n) < n));
    }
}

#[test]
fn matrices_are_checked() {
    let wrong = |entries: [f64; 4]| SquaredDistances::new(2, entries.to_vec()).is_err();
    assert!(!wrong([0.0, 2.0, 2.0, 0.0]));
    for entries in
        [[0.0, 2.0, 1.0, 0.0], [1.0, 2.0, 2.0, 0.0], [0.0, -2.0, -2.0, 0.0], [0.0, f64::NAN, f64::NAN, 0.0]]
    {
        assert!(wrong(entries), "{entries:?}");
    }
    assert_eq!(SquaredDistances::new(2, vec![0.0]), Err(AggregateError::MatrixSize { rows: 2, found: 1 }));
    assert!(SquaredDistances::new(usize::MAX, Vec::new()).is_err());
    assert!(Gram::new(2, vec![-1.0, 0.0, 0.0, 1.0]).is_err());
    let products = Gram::new(2, vec![4.0, 1.0, 1.0, 9.0]).unwrap();
    assert_eq!(products.squared_distances().get(0, 1), 11.0);
}
