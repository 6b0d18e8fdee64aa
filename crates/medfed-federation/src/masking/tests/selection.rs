//! Selection under masks: the open rule's choice, its exclusions, and coordinators that choose otherwise.

use super::*;
use crate::masking::wire::{Place, Verdict};
use crate::report::Revealed;
use medfed_aggregate::anomaly::{DetectorSettings, Expected, Method, OnDetection, Statistic};
use medfed_aggregate::selection::{Detection, NotSelected, ProductHistory, SelectionRule};
use medfed_aggregate::{Aggregator, PreStep, Rule, SiteUpdate, SquaredDistances, krum_scores};
use medfed_secagg::SecaggError;
use proptest::prelude::*;

const LENGTH: usize = 60;
const BOUND: f64 = 8.0;

fn norm(bound: f64) -> NormBound {
    NormBound::new(bound).unwrap()
}

/// Looks for updates that are out of line.
fn search(on_detection: OnDetection) -> Detection {
    let settings = DetectorSettings::new(Method::Robust, 3.0).unwrap();
    Detection { settings, on_detection }
}

fn selecting(rule: Rule, detection: Option<Detection>) -> Order {
    let selection = Some(SelectionRule::new(rule, detection, 3).unwrap());
    let plan = MaskingPlan { selection, min_clients: 3, ..plan(MaskingMode::Selection, false) };
    let expected = BTreeMap::new();
    let prospect = Some(Prospect { norm: norm(BOUND), expected, past: ProductHistory::default() });
    Order { parameters: LENGTH, prospect, ..order(plan) }
}

/// Updates of one direction and a length of about 1, each with a part of its own; the last `bad` point
/// against it.
fn drawn(hospitals: usize, bad: usize, seed: u64) -> BTreeMap<SiteId, RawUpdate> {
    let mut rng = Seed(seed).generator("update", &[]);
    let mut vector = |size: f32| -> Vec<f32> { (0..LENGTH).map(|_| rng.random_range(-size..size)).collect() };
    let common = vector(0.2);
    let update = |index: usize| {
        let sign = if index + bad >= hospitals { -1.0 } else { 1.0 };
        let own = vector(0.15);
        let delta = common.iter().zip(own).map(|(common, own)| sign * common + own).collect();
        (site(index), RawUpdate { round: RoundId(3), delta, weight: 1.0 })
    };
    (0..hospitals).map(update).collect()
}

fn honest(_: &Opening, _: &SiteId, answer: Result<Arc<[u8]>, MaskingError>) -> Option<Arc<[u8]>> {
    answer.ok()
}

fn open(updates: &BTreeMap<SiteId, RawUpdate>) -> Vec<SiteUpdate> {
    let open = |(site, it): (&SiteId, &RawUpdate)| {
        SiteUpdate::new(site.clone(), RoundId(3), it.delta.clone(), 1.0).unwrap()
    };
    updates.iter().map(open).collect()
}

/// Whose updates the rule uses when it sees them, and the step it makes.
fn open_choice(rule: Rule, updates: &BTreeMap<SiteId, RawUpdate>, least: f64) -> (Vec<SiteId>, Vec<f32>) {
    let mut aggregator = Aggregator::new(rule, PreStep::None).unwrap();
    let aggregate = aggregator.aggregate(&open(updates), RoundId(3), LENGTH).unwrap();
    let shares = || aggregate.shares.iter().filter_map(|(site, share)| Some((site, (*share)?)));
    let most = shares().map(|(_, share)| share).fold(0.0, f64::max);
    let chosen = shares().filter(|(_, share)| share / most >= least).map(|(site, _)| site.clone());
    (chosen.collect(), aggregate.step)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Multi-Krum selects whom it selects on open updates, unless two scores are closer than rounding.
    #[test]
    fn the_selection_is_that_of_open_updates(
        (hospitals, byzantine, selected) in (4usize..=12).prop_flat_map(|n| {
            (Just(n), 0..=(n - 3) / 2).prop_flat_map(|(n, f)| (Just(n), Just(f), 3..=(n - f).max(3)))
        }),
        seed in any::<u64>(),
    ) {
        let rule = Rule::MultiKrum { byzantine, selected };
        prop_assume!(hospitals >= rule.needed());
        let updates = drawn(hospitals, byzantine, seed);
        let unmasked = Hospitals::new(&selecting(rule, None), updates.clone()).play(honest);
        let [opened] = &unmasked.opened.unwrap()[..] else { panic!("one sum is opened") };
        let report = unmasked.report.selection.unwrap();

        let squared = |a: &RawUpdate, b: &RawUpdate| -> f64 {
            let pairs = a.delta.iter().zip(&b.delta);
            pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
        };
        let all: Vec<&RawUpdate> = updates.values().collect();
        let pairs = all.iter().flat_map(|a| all.iter().map(|b| squared(a, b)));
        let distances = SquaredDistances::new(hospitals, pairs.collect()).unwrap();
        let mut scores = krum_scores(&distances, byzantine).unwrap();
        scores.sort_by(f64::total_cmp);
        let error = 2.0 * hospitals as f64 * report.distance_error;
        prop_assert!(error < 1e-4, "{error}");
        if scores.get(selected).is_some_and(|next| next - scores[selected - 1] <= error) {
            return Ok(());
        }
        let (chosen, step) = open_choice(rule, &updates, 0.5);
        prop_assert_eq!(&opened.sites, &chosen);
        prop_assert_eq!(&report.selected, &chosen);
        prop_assert_eq!(report.compared.len(), hospitals);
        prop_assert_eq!(report.passed_over.len(), hospitals - chosen.len());
        for (found, expected) in opened.mean.iter().zip(step) {
            let error = unmasked.report.error_bound + 1e-7;
            prop_assert!(f64::from((found - expected).abs()) < error, "{found} {expected}");
        }
        prop_assert_eq!(unmasked.report.revealed, [Revealed::InnerProducts, Revealed::SelectedSum]);
        prop_assert_eq!(unmasked.report.survivors, chosen);
    }

    /// FoolsGold selects, in a first round, whoever has a weight of one half on open updates.
    #[test]
    fn sybils_are_not_selected(hospitals in 6usize..=9, seed in any::<u64>()) {
        let mut updates = drawn(hospitals, 0, seed);
        let sybil = updates[&site(hospitals - 1)].delta.clone();
        updates.get_mut(&site(hospitals - 2)).unwrap().delta = sybil;
        let (chosen, _) = open_choice(Rule::FoolsGold, &updates, 0.5);
        prop_assume!(chosen.len() >= 3);
        let unmasked = Hospitals::new(&selecting(Rule::FoolsGold, None), updates).play(honest);
        let report = unmasked.report.selection.unwrap();
        prop_assert_eq!(&report.selected, &chosen);
        for sybil in [site(hospitals - 1), site(hospitals - 2)] {
            prop_assert!(report.passed_over.iter().any(|it| it.hospital == sybil));
        }
    }

    /// What the coordinator sends before a round comes back, and damaged bytes never panic.
    #[test]
    fn prospects_come_back(
        expected in prop::collection::btree_map("[a-z]{1,9}", (1e-9..1e9f64, prop::option::of(1e-9..1e9f64)), 0..6),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<bool>(),
    ) {
        let past = Hospitals::new(&selecting(Rule::FedAvg, Some(search(OnDetection::Flag))), drawn(4, 0, 1))
            .play(honest)
            .judgement
            .map(|it| ProductHistory::default().with_round(&it.opened))
            .unwrap();
        let expected = expected.into_iter().map(|(name, (scale, least))| {
            (SiteId::try_from(name).unwrap(), Expected::new(scale, least).unwrap())
        });
        let prospect = Prospect { norm: norm(2.0), expected: expected.collect(), past };
        let mut bytes = prospect.encode();
        prop_assert_eq!(Prospect::decode(&bytes), Ok(prospect.clone()));
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        if let Ok(other) = Prospect::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
            prop_assert!(other.bind(Digest::new([1; 32]), 0) != prospect.bind(Digest::new([1; 32]), 0));
        }
    }

    /// A damaged message of one hospital: no panic, and what opens is the mean of whom it names.
    #[test]
    fn damaged_messages_never_panic(
        step in prop::sample::select(vec![Step::Invite, Step::Mask, Step::Multiply, Step::Review, Step::Unmask]),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<bool>(),
    ) {
        let updates = drawn(7, 1, 5);
        let rule = Rule::MultiKrum { byzantine: 1, selected: 4 };
        let unmasked = Hospitals::new(&selecting(rule, None), updates.clone()).play(|opening, from, answer| {
            let mut bytes = answer.ok()?.to_vec();
            if opening.step() == step && *from == site(2) {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            }
            Some(bytes.into())
        });
        if let Ok(opened) = unmasked.opened {
            let expected = mean_of_length(&updates, &opened[0].sites);
            for (found, expected) in opened[0].mean.iter().zip(expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-6);
            }
        }
    }
}

fn mean_of_length(updates: &BTreeMap<SiteId, RawUpdate>, sites: &[SiteId]) -> Vec<f64> {
    let value = |at: usize| {
        let sum: f64 = sites.iter().map(|site| f64::from(updates[site].delta[at])).sum();
        sum / sites.len() as f64
    };
    (0..LENGTH).map(value).collect()
}

/// Hospital 6 sends an update many times as long as the others'.
fn one_long() -> BTreeMap<SiteId, RawUpdate> {
    let mut updates = drawn(7, 0, 3);
    updates.get_mut(&site(6)).unwrap().delta.iter_mut().for_each(|value| *value *= 9.0);
    let longest = updates[&site(6)].delta.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    assert!(longest < 40.0);
    updates
}

/// With a bound that lets the long update through.
fn wide(rule: Rule, detection: Option<Detection>) -> Order {
    let mut order = selecting(rule, detection);
    order.prospect.as_mut().unwrap().norm = norm(40.0);
    order
}

#[test]
fn what_is_out_of_line_is_left_out_flagged_or_halts() {
    let settings = DetectorSettings::new(Method::Robust, 1.0).unwrap();
    let with = |on_detection| {
        let order = wide(Rule::FedAvg, Some(Detection { settings, on_detection }));
        Hospitals::new(&order, one_long()).play(honest)
    };
    let excluded = with(OnDetection::Exclude);
    let verdict = excluded.judgement.unwrap().verdict;
    assert_eq!(excluded.opened.unwrap()[0].sites, (0..6).map(site).collect::<Vec<_>>());
    assert_eq!(verdict.findings[0].statistic, Statistic::Norm);
    let [passed] = &verdict.passed_over[..] else { panic!("{:?}", verdict.passed_over) };
    assert!(passed.site == site(6) && matches!(passed.reason, NotSelected::OutOfLine { .. }));
    let flagged = with(OnDetection::Flag);
    assert_eq!(flagged.opened.unwrap()[0].sites.len(), 7);
    assert_eq!(flagged.judgement.unwrap().verdict.findings, verdict.findings);
    let halted = with(OnDetection::Halt);
    assert!(halted.opened.unwrap_err().contains("updates are out of line"));
    assert_eq!(halted.report.revealed, [Revealed::InnerProducts]);
    assert!(halted.report.survivors.is_empty());
}

#[test]
fn an_update_beyond_the_bound_is_withheld_by_name() {
    let updates = one_long();
    let order = selecting(Rule::FedAvg, Some(search(OnDetection::Flag)));
    let unmasked = Hospitals::new(&order, updates).play(honest);
    let [lost] = &unmasked.report.lost[..] else { panic!("{:?}", unmasked.report.lost) };
    assert!(lost.hospital == site(6) && lost.reason.contains("norm_bound"), "{}", lost.reason);
    assert_eq!(unmasked.opened.unwrap()[0].sites.len(), 6);
}

#[test]
fn a_hospital_signs_its_own_selection_only() {
    let rule = Rule::MultiKrum { byzantine: 1, selected: 4 };
    let mut hospitals = Hospitals::new(&selecting(rule, None), drawn(7, 1, 8));
    let (_, calls) = hospitals.play_to(Step::Review);
    for (at, call) in calls.iter().enumerate() {
        // The set of survivors are the last 16 bytes: another hospital in place of one of them.
        let mut bytes = call.bytes.to_vec();
        let bits = bytes.len() - 16;
        let selected = bytes[bits];
        let (first, other) = (selected & selected.wrapping_neg(), !selected & (selected + 1));
        bytes[bits] = selected & !first | other & 0b111_1111;
        assert_eq!(bytes[bits].count_ones(), 4, "{selected:b}");
        let forged = Message { to: call.to.clone(), bytes: bytes.into() };
        let answer = hospitals.handle(&forged).unwrap();
        let Verdict::Refused { reason, .. } = Place::of_answer(&answer, &call.to).unwrap().1 else {
            panic!("hospital {at} signed another's selection");
        };
        assert_eq!(reason, SecaggError::OtherSelection.to_string());
        // The right one comes too late: the state is gone.
        assert!(hospitals.handle(call).is_err());
    }
}

#[test]
fn hospitals_that_are_told_different_things_open_nothing() {
    let rule = Rule::MultiKrum { byzantine: 1, selected: 4 };
    let mut hospitals = Hospitals::new(&selecting(rule, None), drawn(7, 1, 8));
    let (mut opening, mut calls) = hospitals.start();
    // Hospital 3 is shown another expectation of hospital 0, and so another selection could follow.
    let mut prospect = selecting(rule, None).prospect.unwrap();
    prospect.expected.insert(site(0), Expected::new(1.0, Some(100.0)).unwrap());
    let mut invited = calls[3].bytes.to_vec();
    invited.truncate(invited.len() - selecting(rule, None).prospect.unwrap().encode().len());
    invited.extend(prospect.encode());
    calls[3].bytes = invited.into();
    let unmasked = loop {
        for call in &calls {
            if let Ok(answer) = hospitals.handle(call) {
                let _ = opening.receive(&call.to, &answer);
            }
        }
        match opening.close() {
            Turn::Ask(next, messages) => (opening, calls) = (next, messages),
            Turn::Done(unmasked) => break unmasked,
        }
    };
    // The others go on without it.
    assert!(unmasked.opened.is_ok_and(|opened| !opened[0].sites.contains(&site(3))));
    let lost: Vec<&SiteId> = unmasked.report.lost.iter().map(|lost| &lost.hospital).collect();
    assert_eq!(lost, [&site(3)]);
}

#[test]
fn an_invitation_to_another_mode_is_refused() {
    let rule = Rule::MultiKrum { byzantine: 1, selected: 4 };
    let order = Order { prospect: None, ..selecting(rule, None) };
    let mut hospitals = Hospitals::new(&selecting(rule, None), drawn(7, 1, 8));
    hospitals.order = order;
    let (_, calls) = hospitals.start();
    let refused = hospitals.handle(&calls[0]).unwrap_err();
    assert_eq!(refused, MaskingError::Other { what: "mode" });
}

#[test]
fn silence_at_any_step_costs_at_most_the_round() {
    let rule = Rule::MultiKrum { byzantine: 1, selected: 3 };
    let steps =
        [Step::Invite, Step::Join, Step::Deal, Step::Mask, Step::Multiply, Step::Review, Step::Unmask];
    for step in steps {
        let updates = drawn(7, 1, 8);
        let unmasked =
            Hospitals::new(&selecting(rule, None), updates.clone()).play(|opening, from, answer| {
                let silent = *from == site(0) && opening.step() >= step;
                if silent { None } else { answer.ok() }
            });
        let opened = unmasked.opened.unwrap_or_else(|reason| panic!("{step}: {reason}"));
        let compared = unmasked.report.selection.unwrap().compared;
        assert_eq!(compared.contains(&site(0)), step > Step::Mask, "{step}");
        let expected = mean_of_length(&updates, &opened[0].sites);
        for (found, expected) in opened[0].mean.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
        assert!(unmasked.report.lost.iter().any(|lost| lost.hospital == site(0)), "{step}");
    }
    // Below the threshold nothing opens; what was opened before is reported.
    let unmasked = Hospitals::new(&selecting(rule, None), drawn(7, 1, 8)).play(|opening, from, answer| {
        let silent = from >= &site(4) && opening.step() >= Step::Unmask;
        if silent { None } else { answer.ok() }
    });
    assert!(unmasked.opened.is_err());
    assert_eq!(unmasked.report.revealed, [Revealed::InnerProducts]);
}
