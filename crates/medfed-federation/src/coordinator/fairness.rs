//! When hospitals evaluate, which of them, and what an unfair model leads to.

use super::Member;
use crate::evaluation::SiteEvaluation;
use crate::report::RoundFairness;
use medfed_aggregate::{AggregateError, SiteUpdate};
use medfed_eval::EvalError;
use medfed_eval::fairness::{
    AttributeFairness, FairnessReport, HospitalMeasurement, ReportedTally, Thresholds, reweighted,
};
use medfed_types::{RoundId, Seed, SiteId};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When hospitals evaluate the global model, and which of them.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationPlan {
    /// Rounds from one evaluation to the next.
    pub every: u32,
    /// Part of the hospitals with validation images that evaluates.
    pub fraction: f64,
    /// Hospitals that evaluate at the least, if there are as many.
    pub least: usize,
    /// What is measured about fairness, and what follows from it.
    pub fairness: Option<FairnessPlan>,
}

/// What is measured about fairness, and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct FairnessPlan {
    /// Rounds from one measurement to the next.
    pub every: u32,
    /// Attributes that hospitals report about.
    pub attributes: Vec<String>,
    /// Whether hospitals are also compared as groups are.
    pub hospitals: bool,
    /// Classes of the model.
    pub classes: usize,
    /// Bounds.
    pub thresholds: Thresholds,
    /// Patients that a group needs to be compared.
    pub least: u64,
    /// What follows from a violation.
    pub on_violation: OnViolation,
}

/// What follows from a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnViolation {
    /// Whether it is announced.
    pub warns: bool,
    /// Whether it changes the hospitals' weights.
    pub adjusts_weights: bool,
    /// Whether it stops the run.
    pub halts: bool,
}

impl EvaluationPlan {
    /// Whether hospitals evaluate after `round` of `rounds`: when performance or fairness is due.
    pub(super) fn is_due(&self, round: RoundId, rounds: u32) -> bool {
        let due = |every: u32| round.0.is_multiple_of(every.max(1)) || round.0 >= rounds;
        due(self.every) || self.fairness.as_ref().is_some_and(|plan| due(plan.every))
    }

    /// What is to be measured about fairness after `round` of `rounds`.
    pub(super) fn fairness(&self, round: RoundId, rounds: u32) -> Option<&FairnessPlan> {
        let due = |plan: &&FairnessPlan| round.0.is_multiple_of(plan.every.max(1)) || round.0 >= rounds;
        self.fairness.as_ref().filter(due)
    }

    /// The hospitals that evaluate after `round`, in the order of their names. After the last round all do:
    /// the numbers that the run is remembered by are of no part.
    pub(super) fn choose(&self, members: &[Member], round: RoundId, rounds: u32, seed: Seed) -> Vec<SiteId> {
        if !self.is_due(round, rounds) {
            return Vec::new();
        }
        let mut able: Vec<SiteId> =
            members.iter().filter(|m| m.validation_images > 0).map(|m| m.site.clone()).collect();
        let wanted = (self.fraction * able.len() as f64).round() as usize;
        let wanted = wanted.max(self.least.max(1)).min(able.len());
        if wanted < able.len() && round.0 < rounds {
            able.shuffle(&mut seed.generator("evaluate", &[u64::from(round.0)]));
            able.truncate(wanted);
        }
        able.sort();
        able
    }
}

impl FairnessPlan {
    /// Refuses counts that cannot be.
    pub(super) fn check(&self, tallies: &[ReportedTally]) -> Result<(), EvalError> {
        tallies.iter().try_for_each(|tally| tally.check(self.classes))
    }

    /// What the hospitals' evaluations, which were checked, say together.
    pub(crate) fn measure(
        &self,
        evaluations: &BTreeMap<SiteId, SiteEvaluation>,
    ) -> Result<FairnessReport, EvalError> {
        let hospitals: Vec<HospitalMeasurement> = evaluations
            .iter()
            .map(|(site, evaluation)| HospitalMeasurement {
                hospital: site.clone(),
                patients: evaluation.patients,
                performance: evaluation.performance.clone(),
            })
            .collect();
        let tallies: Vec<&ReportedTally> =
            evaluations.values().flat_map(|evaluation| &evaluation.groups).collect();
        let attribute = |name: &String| {
            AttributeFairness::from_tallies(name, self.classes, tallies.iter().copied(), self.least)
        };
        let attributes = self.attributes.iter().map(attribute).collect::<Result<_, _>>()?;
        Ok(FairnessReport::of(&hospitals, self.hospitals, attributes, &self.thresholds, self.least))
    }
}

/// What earlier measurements left behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FairnessState {
    /// Factors on the hospitals' weights; a hospital that is not named has 1.
    factors: BTreeMap<SiteId, f64>,
    /// Why the run stops.
    pub(super) halted: Option<String>,
}

impl FairnessState {
    /// Multiplies the weights of updates by the hospitals' factors.
    pub(super) fn weigh(&self, updates: &mut Vec<SiteUpdate>) -> Result<(), AggregateError> {
        if self.factors.is_empty() {
            return Ok(());
        }
        let weighed =
            std::mem::take(updates).into_iter().map(|update| match self.factors.get(update.site()) {
                Some(factor) => update.scaled(*factor),
                None => Ok(update),
            });
        *updates = weighed.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Does what the plan says about what was measured after `round`.
    pub(super) fn follow(
        &mut self,
        plan: &FairnessPlan,
        round: RoundId,
        measured: FairnessReport,
    ) -> RoundFairness {
        let violated = !measured.violations.is_empty();
        if plan.on_violation.adjusts_weights {
            let hospitals = measured.hospital_fairness.iter().flat_map(|found| &found.hospitals);
            let accuracies: Vec<(SiteId, f64)> =
                hospitals.filter(|h| h.compared).map(|h| (h.hospital.clone(), h.accuracy)).collect();
            self.factors = reweighted(&self.factors, &accuracies, violated);
        }
        if plan.on_violation.halts && violated {
            let found: Vec<String> = measured.violations.iter().map(ToString::to_string).collect();
            self.halted = Some(format!(
                "fairness.on_violation.halt_training stopped the run after round {round}: {}",
                found.join("; ")
            ));
        }
        RoundFairness { measured, weight_factors: self.factors.clone(), halts: self.halted.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_weigh_what_the_factors_say() {
        let site = |name: &str| SiteId::try_from(name).unwrap();
        let update = |name: &str| SiteUpdate::new(site(name), RoundId(1), vec![0.0], 8.0).unwrap();
        let mut updates = vec![update("a"), update("b")];
        FairnessState::default().weigh(&mut updates).unwrap();
        assert_eq!(updates.iter().map(SiteUpdate::weight).collect::<Vec<_>>(), [8.0, 8.0]);
        let state = FairnessState { factors: BTreeMap::from([(site("b"), 1.5)]), halted: None };
        state.weigh(&mut updates).unwrap();
        assert_eq!(updates.iter().map(SiteUpdate::weight).collect::<Vec<_>>(), [8.0, 12.0]);
    }

    #[test]
    fn evaluation_is_due_as_planned_and_always_at_the_end() {
        let plan = EvaluationPlan { every: 3, fraction: 0.5, least: 1, fairness: None };
        let due: Vec<u32> = (1..=7).filter(|round| plan.is_due(RoundId(*round), 7)).collect();
        assert_eq!(due, [3, 6, 7]);
    }
}
