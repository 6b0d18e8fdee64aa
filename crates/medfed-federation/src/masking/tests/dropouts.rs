//! Hospitals that fall silent at any step, compared with a model of what then should happen.

use super::*;
use crate::masking::wire::{Phase, Place, Verdict};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// How many calls each hospital answers before it falls silent.
type Patience = Vec<usize>;
/// Calls in the longest undisturbed round: an invitation and two sessions.
const ALL: usize = 11;

/// What a round should come to, from who answers how often: the hospitals in the sum, or nothing.
struct Model<'a> {
    plan: &'a MaskingPlan,
    left: Vec<usize>,
}

enum Fate {
    Opened(Vec<usize>),
    /// Before an input left; with the hospitals that went silent.
    Retry(Vec<usize>),
    Lost,
}

impl Model<'_> {
    /// Those who answer the next call.
    fn answered(&mut self, asked: &[usize]) -> Vec<usize> {
        let there: Vec<usize> = asked.iter().copied().filter(|site| self.left[*site] > 0).collect();
        for site in &there {
            self.left[*site] -= 1;
        }
        there
    }

    fn session(&mut self, cohort: &[usize]) -> Fate {
        let threshold = self.plan.threshold_of(cohort.len());
        let least = threshold.max(self.plan.min_clients);
        let gone = |there: &[usize]| {
            Fate::Retry(cohort.iter().copied().filter(|site| !there.contains(site)).collect())
        };
        let joined = self.answered(cohort);
        if joined.len() < least {
            return gone(&joined);
        }
        let dealt = self.answered(&joined);
        if dealt.len() < least {
            return gone(&dealt);
        }
        let summed = self.answered(&dealt);
        if summed.len() < least {
            return Fate::Lost;
        }
        let agreed = self.answered(&summed);
        let released = self.answered(&agreed);
        if released.len() < threshold { Fate::Lost } else { Fate::Opened(summed) }
    }

    /// Attempts with fewer and fewer hospitals; counts those that fail.
    fn attempts(&mut self, mut cohort: Vec<usize>, attempts: &mut usize) -> Option<Vec<usize>> {
        loop {
            match self.session(&cohort) {
                Fate::Opened(summed) => return Some(summed),
                Fate::Lost => {
                    *attempts += 1;
                    return None;
                }
                Fate::Retry(gone) => {
                    *attempts += 1;
                    cohort.retain(|site| !gone.contains(site));
                    let least = self.plan.min_clients.max(self.plan.threshold.unwrap_or(2));
                    if cohort.len() < least {
                        return None;
                    }
                }
            }
        }
    }

    fn round(plan: &MaskingPlan, patience: &Patience) -> (Option<Vec<usize>>, usize) {
        let mut model = Model { plan, left: patience.clone() };
        let everyone: Vec<usize> = (0..patience.len()).collect();
        let mut cohort = model.answered(&everyone);
        let mut attempts = 0;
        if cohort.len() < plan.min_clients {
            return (None, 0);
        }
        if plan.by_samples {
            let Some(counted) = model.attempts(cohort, &mut attempts) else { return (None, attempts) };
            cohort = counted;
        }
        (model.attempts(cohort, &mut attempts), attempts)
    }
}

/// Plays a round in which hospitals fall silent.
fn silent(order: &Order, patience: &Patience) -> Unmasked {
    let mut hospitals = Hospitals::new(order, updates(patience.len()));
    let mut left: BTreeMap<SiteId, usize> =
        patience.iter().enumerate().map(|(index, calls)| (site(index), *calls)).collect();
    hospitals.play(|_, site, answered| {
        let left = left.get_mut(site).unwrap();
        let answered = answered.expect("an honest coordinator's calls are answered");
        (*left > 0).then(|| {
            *left -= 1;
            answered
        })
    })
}

fn check_sum(plan: MaskingPlan, patience: &Patience) {
    let (expected, attempts) = Model::round(&plan, patience);
    let by_samples = plan.by_samples;
    let unmasked = silent(&order(plan), patience);
    let report = &unmasked.report;
    assert_eq!(report.attempts.len(), attempts, "{patience:?}: {report:?}");
    for site in report.attempts.iter().flat_map(|attempt| &attempt.left_out) {
        assert!(report.lost.iter().any(|lost| lost.hospital == *site), "only who was silent is left out");
    }
    if let Some(summed) = expected {
        let opened = unmasked.opened.unwrap_or_else(|reason| panic!("{patience:?}: {reason}"));
        let summed: Vec<SiteId> = summed.into_iter().map(site).collect();
        assert_eq!(opened.len(), 1);
        assert_eq!((&opened[0].sites, &report.survivors), (&summed, &summed), "{patience:?}");
        assert_mean(&opened[0], &updates(patience.len()), by_samples);
        return;
    }
    let reason = unmasked.opened.expect_err("too few hospitals");
    assert!(report.survivors.is_empty());
    // Who fell silent is named.
    for lost in &report.lost {
        assert!(reason.contains(lost.hospital.as_str()), "{reason}");
    }
    assert!(!report.lost.is_empty(), "{patience:?}: {reason}");
}

fn sums() -> [MaskingPlan; 3] {
    let [equal, weighted] = [false, true].map(|by_samples| plan(MaskingMode::Sum, by_samples));
    [MaskingPlan { min_clients: 3, ..equal.clone() }, equal, weighted]
}

#[test]
fn one_or_more_hospitals_may_fall_silent_at_any_step() {
    for hospitals in 3..=7 {
        for gone in 1..=2 {
            for calls in 0..ALL {
                let patience = (0..hospitals).map(|site| if site < gone { calls } else { 99 }).collect();
                for plan in sums() {
                    check_sum(plan, &patience);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn sums_are_those_of_whoever_masked_an_input(
        patience in prop::collection::vec(prop_oneof![3 => Just(99usize), 2 => 0..ALL + 6], 3..=7),
        which in 0usize..3,
    ) {
        check_sum(sums()[which].clone(), &patience);
    }

    #[test]
    fn groups_open_the_sums_of_whoever_masked_an_input(
        patience in prop::collection::vec(prop_oneof![3 => Just(99usize), 1 => 0usize..12], 4..=8),
    ) {
        check_groups(&patience);
    }
}

fn check_groups(patience: &Patience) {
    let unmasked = silent(&order(plan(MaskingMode::Groups, false)), patience);
    let report = &unmasked.report;
    let quiet: BTreeSet<SiteId> =
        patience.iter().enumerate().filter(|(_, calls)| **calls < 99).map(|(index, _)| site(index)).collect();
    assert!(report.lost.iter().all(|lost| quiet.contains(&lost.hospital)), "{report:?}");
    assert!(report.attempts.iter().flat_map(|attempt| &attempt.left_out).all(|site| quiet.contains(site)));
    let Ok(opened) = unmasked.opened else {
        assert!(!quiet.is_empty() && report.survivors.is_empty());
        return;
    };
    assert!(opened.len() >= 2, "a rule has something to compare");
    let drawn: BTreeSet<&SiteId> = report.groups.iter().flatten().collect();
    assert_eq!(drawn.len(), report.groups.iter().map(Vec::len).sum::<usize>(), "each is in one group");
    for mean in &opened {
        assert!(report.groups.iter().any(|group| mean.sites.iter().all(|site| group.contains(site))));
        assert!(mean.sites.len() >= 2);
        assert_mean(mean, &updates(patience.len()), false);
    }
    // A group in which nobody fell silent is opened whole.
    for group in report.groups.iter().filter(|group| group.iter().all(|site| !quiet.contains(site))) {
        assert!(opened.iter().any(|mean| mean.sites == *group), "{group:?} of {report:?}");
    }
}

#[test]
fn groups_survive_silence_at_any_step() {
    for hospitals in 4..=7 {
        for calls in 0..9 {
            check_groups(&(0..hospitals).map(|site| if site == 1 { calls } else { 99 }).collect());
        }
    }
}

#[test]
fn a_group_that_lost_a_member_before_inputs_left_is_drawn_anew() {
    // Three of seven in a group with a threshold of two survive one silence; two of two do not.
    let patience = vec![99, 4, 99, 99, 99, 99, 99];
    let unmasked = silent(&order(plan(MaskingMode::Groups, false)), &patience);
    let members = unmasked.report.survivors.len();
    assert_eq!(members, 6, "{:?}", unmasked.report);
    let retried = !unmasked.report.attempts.is_empty();
    let first = silent(&order(plan(MaskingMode::Groups, false)), &vec![99; 7]);
    assert_eq!(retried, first.report.groups.iter().any(|group| group.len() == 2 && group.contains(&site(1))));
}

#[test]
fn what_one_dealer_does_to_all_others_does_not_cost_the_round() {
    // Of four hospitals one may lie. Three accuse the dealer before an input of theirs has left; one accuses
    // it alone, and stays out itself.
    for (accusers, survivors) in [(3, vec![1, 2, 3]), (1, vec![0, 2, 3])] {
        let order = order(MaskingPlan { min_clients: 3, ..plan(MaskingMode::Sum, false) });
        let mut hospitals = Hospitals::new(&order, updates(4));
        let (mut opening, mut calls) = hospitals.play_to(Step::Mask);
        let mut first = true;
        let unmasked = loop {
            for call in &calls {
                let accuses = first && (1..=accusers).any(|accuser| site(accuser) == call.to);
                let answer = if accuses {
                    let place =
                        Place { round: RoundId(3), attempt: 0, phase: Phase::Updates, step: Step::Mask };
                    let (reason, culprits) = ("a wrong share".to_owned(), vec![site(0)]);
                    place.answer(&Verdict::Refused { reason, culprits }).into()
                } else {
                    hospitals.handle(call).unwrap()
                };
                opening.receive(&call.to, &answer).unwrap();
            }
            first = false;
            match opening.close() {
                Turn::Ask(next, messages) => (opening, calls) = (next, messages),
                Turn::Done(unmasked) => break unmasked,
            }
        };
        let survivors: Vec<SiteId> = survivors.into_iter().map(site).collect();
        assert_eq!(unmasked.report.survivors, survivors, "{:?}", unmasked.opened);
        assert_mean(&unmasked.opened.unwrap()[0], &updates(4), false);
    }
}

#[test]
fn with_the_default_three_hospitals_the_error_says_what_would_help() {
    let plan = MaskingPlan { min_clients: 3, ..plan(MaskingMode::Sum, true) };
    let unmasked = silent(&order(plan), &vec![99, 99, 2]);
    let reason = unmasked.opened.unwrap_err();
    assert!(reason.contains("hospital 2: no answer to the dealing message"), "{reason}");
    assert!(reason.contains("without hospital 2 there are 2"), "{reason}");
    assert!(reason.contains("secure_aggregation.min_clients asks for 3; more hospitals"), "{reason}");
    assert_eq!(unmasked.report.attempts.len(), 1);
    // After an input has left there is no other attempt.
    let plan = MaskingPlan { min_clients: 3, ..self::plan(MaskingMode::Sum, false) };
    let reason = silent(&order(plan), &vec![99, 99, 3]).opened.unwrap_err();
    assert!(reason.contains("masked inputs have left"), "{reason}");
}
