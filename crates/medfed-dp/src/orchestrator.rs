//! The budget orchestrator: before each round it says with how much noise a hospital trains, or that the
//! hospital leaves.
//!
//! **In**: the hospital's plan, everything it has paid for, the steps of a round and the rounds that are
//! left. **Out**: a [`Decision`], with the ε that it leads to and its reasons. It is a function of these
//! inputs alone, so a run that is killed and resumed decides again what it decided before.
//!
//! The hospital's plan names the least noise; the orchestrator only adds to it.
//!
//! * [`Strategy::Fit`] asks whether all rounds that are left fit the budget. While they do, the noise is
//!   the plan's. When they do not, it is the smallest at which they do. Noise that was raised is lowered
//!   again when the hospital sat rounds out and the budget has room.
//! * [`Strategy::Step`] multiplies the noise by a factor before every round that would end above the
//!   critical share of the budget. It does not ask whether the plan fits.
//! * [`Strategy::Calibrated`] keeps one noise for the whole run: [`Orchestrator::opening`] solves for the
//!   noise at which the planned rounds spend exactly the budget, before the first of them.
//!
//! Whatever the strategy, a round is paid for as a whole or not at all. A round that does not fit at the
//! strategy's noise gets the smallest noise at which it fits, up to a limit; a hospital of which no
//! allowed noise makes a round fit leaves. The ledger enforces the budget once more, by itself.
//!
//! A projection counts every round that is left, as if the hospital were drawn for each of them. It is
//! what the noise announced now would lead to, not a promise: the noise may change again.

mod decision;

pub use decision::{Action, Decision, Reason};

use crate::accountant::{Accountant, History, calibrate};
use crate::error::DpError;
use crate::plan::{DpPlan, PlanTerms};
use medfed_types::{Epsilon, NoiseMultiplier, ScalarError};
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU32, NonZeroU64};

/// The largest noise multiplier that a plan accepts.
const MOST_NOISE: f64 = 1e6;
/// Noise raised before is kept while the plan that is left spends at least this share of the budget with
/// it: to follow the last digits of the solution would gain nothing and make every round a kind of its own.
const CLOSE: f64 = 0.99;

/// How the noise follows the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// By a factor, before every round that would end above the critical share of the budget.
    Step,
    /// The smallest noise at which the rounds that are left fit.
    #[default]
    Fit,
    /// One noise, solved before the first round.
    Calibrated,
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Fit => "fit",
            Self::Calibrated => "calibrated",
        })
    }
}

/// What an orchestrator goes by. [`Orchestrator::new`] checks it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OrchestratorTerms {
    /// How the noise follows the budget.
    pub strategy: Strategy,
    /// Share of the budget at which a warning is given, above 0 and below `critical`.
    pub warning: f64,
    /// Share of the budget from which [`Strategy::Step`] raises the noise, at most 1.
    pub critical: f64,
    /// Factor by which it does so, 1 or more.
    pub factor: f64,
    /// The most noise that is ever announced, in multiples of the plan's, 1 or more.
    pub limit: f64,
}

/// Decides about noise. Everything it knows is in its terms and in what it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orchestrator(OrchestratorTerms);

/// One hospital before a round.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    /// What it promised; its noise is the least.
    pub plan: &'a DpPlan,
    /// Everything it paid for in the rounds before.
    pub history: &'a History,
    /// Steps of a round.
    pub steps: NonZeroU64,
    /// Rounds left, the one about to start included.
    pub rounds: NonZeroU32,
}

impl Orchestrator {
    /// Checks the terms.
    pub fn new(terms: OrchestratorTerms) -> Result<Self, DpError> {
        let OrchestratorTerms { warning, critical, factor, limit, .. } = terms;
        let refuse = |what, expected, found| ScalarError { what, expected, found };
        if !(critical > 0.0 && critical <= 1.0) {
            return Err(refuse("the critical share of the budget", "above 0 and at most 1", critical).into());
        }
        if !(warning > 0.0 && warning < critical) {
            let expected = "above 0 and below the critical share";
            return Err(refuse("the warning share of the budget", expected, warning).into());
        }
        for (what, found) in
            [("the factor by which noise is raised", factor), ("the limit of raised noise", limit)]
        {
            if !(1.0..=MOST_NOISE).contains(&found) {
                return Err(refuse(what, "from 1 to 1e6", found).into());
            }
        }
        Ok(Self(terms))
    }

    /// The terms.
    pub fn terms(&self) -> &OrchestratorTerms {
        &self.0
    }

    /// The plan with which a hospital starts into `steps` steps: under [`Strategy::Calibrated`] with the
    /// noise at which they spend exactly the budget, but never with less than the plan's; otherwise the
    /// plan as it is.
    pub fn opening(&self, plan: DpPlan, steps: u64) -> Result<DpPlan, DpError> {
        if self.0.strategy != Strategy::Calibrated {
            return Ok(plan);
        }
        let PlanTerms { accountant, budget, rate, delta, noise, .. } = *plan.terms();
        let solved = calibrate(accountant, budget, rate, steps, delta, &History::default())?;
        if solved > noise { plan.with_noise(solved) } else { Ok(plan) }
    }

    /// Decides about one hospital's next round.
    pub fn decide(&self, outlook: &Outlook<'_>) -> Result<Decision, DpError> {
        Case::new(&self.0, outlook)?.decide()
    }

    /// The decisions of a whole run in which the hospital trains in every one of `rounds` rounds and
    /// nothing else changes. The last is the one to leave, if it comes to that.
    pub fn foresee(
        &self,
        plan: &DpPlan,
        steps: NonZeroU64,
        rounds: NonZeroU32,
    ) -> Result<Vec<Decision>, DpError> {
        let mut history = History::default();
        let mut decisions = Vec::new();
        for left in (1..=rounds.get()).rev().filter_map(NonZeroU32::new) {
            let decision = self.decide(&Outlook { plan, history: &history, steps, rounds: left })?;
            let leaves = decision.action == Action::Leave;
            history.push(plan.clone().with_noise(decision.noise)?.phase(steps.get()));
            decisions.push(decision);
            if leaves {
                break;
            }
        }
        Ok(decisions)
    }
}

/// One decision in the making.
struct Case<'a> {
    policy: &'a OrchestratorTerms,
    terms: &'a PlanTerms,
    outlook: &'a Outlook<'a>,
    /// Noise of the newest steps, or the plan's before the first.
    last: NoiseMultiplier,
    /// The most noise allowed.
    most: NoiseMultiplier,
    /// Steps of all rounds that are left.
    remaining: u64,
    spent: Epsilon,
}

impl<'a> Case<'a> {
    fn new(policy: &'a OrchestratorTerms, outlook: &'a Outlook<'a>) -> Result<Self, DpError> {
        let terms = outlook.plan.terms();
        let own = terms.noise;
        let most = match policy.strategy {
            Strategy::Calibrated => own,
            Strategy::Step | Strategy::Fit => {
                NoiseMultiplier::new((own.get() * policy.limit).min(MOST_NOISE).max(own.get()))?
            }
        };
        // A past under other terms does not bind.
        let last = match outlook.history.phases().last().map(|phase| phase.noise) {
            Some(newest) if newest > most => most,
            Some(newest) if newest > own => newest,
            _ => own,
        };
        let remaining = outlook.steps.get().saturating_mul(u64::from(outlook.rounds.get()));
        let spent = terms.accountant.epsilon(outlook.history, terms.delta)?;
        Ok(Self { policy, terms, outlook, last, most, remaining, spent })
    }

    fn decide(self) -> Result<Decision, DpError> {
        let mut reasons = Vec::new();
        let wanted = match self.policy.strategy {
            Strategy::Fit => self.fitting(&mut reasons)?,
            Strategy::Step => self.stepped(&mut reasons)?,
            Strategy::Calibrated => self.terms.noise,
        };
        let Some(noise) = self.affordable(wanted, &mut reasons)? else {
            return Ok(self.leave());
        };
        let after_round = self.projected(noise, self.outlook.steps.get())?;
        let budget = self.terms.budget;
        let share = |epsilon: Epsilon| epsilon.get() / budget.get();
        let crosses = |line: f64| share(self.spent) < line && share(after_round) >= line;
        if crosses(self.policy.critical) {
            reasons.push(Reason::Critical { share: share(after_round), threshold: self.policy.critical });
        } else if crosses(self.policy.warning) {
            reasons.push(Reason::Warning { share: share(after_round), threshold: self.policy.warning });
        }
        let action = match noise.get().total_cmp(&self.last.get()) {
            std::cmp::Ordering::Greater => Action::Raise,
            std::cmp::Ordering::Equal => Action::Keep,
            std::cmp::Ordering::Less => Action::Lower,
        };
        Ok(Decision {
            action,
            noise,
            previous: self.last,
            spent: self.spent,
            after_round,
            at_end: finite(self.projected(noise, self.remaining)?),
            budget,
            rounds: self.outlook.rounds,
            reasons,
        })
    }

    /// [`Strategy::Fit`]: the smallest noise, from the plan's on, at which everything that is left fits.
    fn fitting(&self, reasons: &mut Vec<Reason>) -> Result<NoiseMultiplier, DpError> {
        let own = self.terms.noise;
        if self.fits(own, self.remaining)? {
            if self.last > own {
                reasons.push(Reason::Room);
            }
            return Ok(own);
        }
        let kept = self.last > own && self.fits(self.last, self.remaining)?;
        if kept && self.projected(self.last, self.remaining)?.get() >= CLOSE * self.terms.budget.get() {
            return Ok(self.last);
        }
        let solved = self.smallest(self.remaining)?;
        if kept {
            reasons.push(Reason::Room);
        } else {
            let projected = finite(self.projected(self.last, self.remaining)?);
            reasons.push(Reason::PlanPassesBudget { projected, budget: self.terms.budget });
        }
        if let Some(noise) = solved.filter(|noise| *noise <= self.most) {
            return Ok(noise);
        }
        reasons.push(Reason::Limit { limit: self.most, needed: solved });
        Ok(self.most)
    }

    /// [`Strategy::Step`]: times the factor, where the round would end above the critical share.
    fn stepped(&self, reasons: &mut Vec<Reason>) -> Result<NoiseMultiplier, DpError> {
        let after = self.projected(self.last, self.outlook.steps.get())?;
        if after.get() < self.policy.critical * self.terms.budget.get() {
            return Ok(self.last);
        }
        let factor = self.policy.factor;
        let raised = NoiseMultiplier::new((self.last.get() * factor).min(MOST_NOISE))?;
        reasons.push(Reason::CriticalStep { factor, share: finite(after).map(|after| self.share(after)) });
        if raised > self.most {
            reasons.push(Reason::Limit { limit: self.most, needed: Some(raised) });
            return Ok(self.most);
        }
        Ok(raised)
    }

    /// `wanted`, or the smallest larger noise at which the whole round fits; nothing where no allowed
    /// noise does.
    fn affordable(
        &self,
        wanted: NoiseMultiplier,
        reasons: &mut Vec<Reason>,
    ) -> Result<Option<NoiseMultiplier>, DpError> {
        let steps = self.outlook.steps.get();
        if self.fits(wanted, steps)? {
            return Ok(Some(wanted));
        }
        let projected = finite(self.projected(wanted, steps)?);
        reasons.push(Reason::RoundPassesBudget { projected, budget: self.terms.budget });
        if wanted >= self.most {
            return Ok(None);
        }
        Ok(self.smallest(steps)?.filter(|noise| *noise >= wanted && *noise <= self.most))
    }

    fn leave(self) -> Decision {
        let reason = Reason::BudgetSpent { spent: self.spent, budget: self.terms.budget, most: self.most };
        Decision {
            action: Action::Leave,
            noise: self.last,
            previous: self.last,
            spent: self.spent,
            after_round: self.spent,
            at_end: finite(self.spent),
            budget: self.terms.budget,
            rounds: self.outlook.rounds,
            reasons: vec![reason],
        }
    }

    fn share(&self, epsilon: Epsilon) -> f64 {
        epsilon.get() / self.terms.budget.get()
    }

    /// The history after `steps` more steps with `noise`.
    fn longer(&self, noise: NoiseMultiplier, steps: u64) -> History {
        let mut phase = self.outlook.plan.phase(steps);
        phase.noise = noise;
        self.outlook.history.with(phase)
    }

    fn projected(&self, noise: NoiseMultiplier, steps: u64) -> Result<Epsilon, DpError> {
        self.terms.accountant.epsilon(&self.longer(noise, steps), self.terms.delta)
    }

    fn fits(&self, noise: NoiseMultiplier, steps: u64) -> Result<bool, DpError> {
        let (history, delta) = (self.longer(noise, steps), self.terms.delta);
        // The Rényi accountant is fast and never below the other.
        let by_order = Accountant::Rdp.epsilon(&history, delta)? <= self.terms.budget;
        let accountant = self.terms.accountant;
        Ok(by_order
            || (accountant == Accountant::Pld && accountant.epsilon(&history, delta)? <= self.terms.budget))
    }

    /// The smallest noise at which `steps` steps fit; nothing where none does.
    fn smallest(&self, steps: u64) -> Result<Option<NoiseMultiplier>, DpError> {
        let PlanTerms { accountant, budget, rate, delta, .. } = *self.terms;
        match calibrate(accountant, budget, rate, steps, delta, self.outlook.history) {
            Ok(noise) => Ok(Some(noise)),
            Err(DpError::Unreachable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A bound, where there is one.
fn finite(epsilon: Epsilon) -> Option<Epsilon> {
    epsilon.get().is_finite().then_some(epsilon)
}

#[cfg(test)]
mod tests;
