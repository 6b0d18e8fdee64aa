//! What the privacy of a federation would cost, before anything runs.

use super::{Hospital, Setup};
use crate::error::FederationError;
use medfed_dp::orchestrator::Action;
use medfed_dp::{Decision, DpError, DpPlan, History, Orchestrator, affordable_steps};
use medfed_types::{Epsilon, NoiseMultiplier, SamplingRate, SiteId};
use rayon::prelude::*;
use serde::Serialize;
use std::num::{NonZeroU32, NonZeroU64};

/// A hospital's privacy over the planned rounds, as if it trained in every one of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The hospital.
    pub hospital: SiteId,
    /// Privacy units that it trains on.
    pub units: usize,
    /// Probability with which each unit joins a step.
    pub sampling_rate: SamplingRate,
    /// Steps planned in each round.
    pub steps_per_round: u64,
    /// The hospital's own noise, which is the least.
    pub noise_multiplier: NoiseMultiplier,
    /// The rounds that it can pay for.
    pub rounds: Vec<ForecastRound>,
    /// The round before which it leaves, if it does.
    pub leaves_before: Option<u32>,
}

/// One round of a forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForecastRound {
    /// Counted from 1.
    pub round: u32,
    /// Noise of its steps.
    pub noise_multiplier: NoiseMultiplier,
    /// Steps paid for.
    pub steps: u64,
    /// ε after the round, by the official accountant.
    pub epsilon: Epsilon,
    /// What the orchestrator would decide; nothing while it is off.
    pub decision: Option<Decision>,
}

impl Setup {
    /// What each hospital with privacy would spend; empty without privacy.
    pub fn forecast(&self) -> Result<Vec<Forecast>, FederationError> {
        let Some(rounds) = NonZeroU32::new(self.coordinator.rounds) else { return Ok(Vec::new()) };
        let orchestrator = self.coordinator.orchestrator.as_ref();
        let of = |hospital: &Hospital| -> Result<Option<Forecast>, FederationError> {
            let (Some(plan), Some(steps)) = (&hospital.plan, NonZeroU64::new(hospital.training.steps)) else {
                return Ok(None);
            };
            let forecast = match orchestrator {
                Some(orchestrator) => decided(orchestrator, plan, steps, rounds)?,
                None => constant(plan, steps, rounds)?,
            };
            let paid = forecast.len() as u32;
            Ok(Some(Forecast {
                hospital: hospital.id.clone(),
                units: hospital.images.train.len(),
                sampling_rate: plan.terms().rate,
                steps_per_round: steps.get(),
                noise_multiplier: plan.terms().noise,
                leaves_before: (paid < rounds.get()).then_some(paid + 1),
                rounds: forecast,
            }))
        };
        let all: Vec<_> = self.hospitals.par_iter().map(of).collect::<Result<_, _>>()?;
        Ok(all.into_iter().flatten().collect())
    }
}

fn decided(
    orchestrator: &Orchestrator,
    plan: &DpPlan,
    steps: NonZeroU64,
    rounds: NonZeroU32,
) -> Result<Vec<ForecastRound>, DpError> {
    let decisions = orchestrator.foresee(plan, steps, rounds)?.into_iter().zip(1..);
    Ok(decisions
        .filter(|(decision, _)| decision.action != Action::Leave)
        .map(|(decision, round)| ForecastRound {
            round,
            noise_multiplier: decision.noise,
            steps: steps.get(),
            epsilon: decision.after_round,
            decision: Some(decision),
        })
        .collect())
}

/// Constant noise: the ledger grants whole rounds, then what is left of one.
fn constant(plan: &DpPlan, steps: NonZeroU64, rounds: NonZeroU32) -> Result<Vec<ForecastRound>, DpError> {
    let terms = plan.terms();
    let mut history = History::default();
    let mut forecast = Vec::new();
    for round in 1..=rounds.get() {
        let granted = affordable_steps(
            terms.accountant,
            &history,
            terms.rate,
            terms.noise,
            terms.delta,
            terms.budget,
            steps.get(),
        )?;
        if granted == 0 {
            break;
        }
        history.push(plan.phase(granted));
        let epsilon = terms.accountant.epsilon(&history, terms.delta)?;
        forecast.push(ForecastRound {
            round,
            noise_multiplier: terms.noise,
            steps: granted,
            epsilon,
            decision: None,
        });
    }
    Ok(forecast)
}
