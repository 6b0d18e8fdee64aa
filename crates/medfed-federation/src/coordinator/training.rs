//! The phase in which hospitals train and reply.

use super::{Coordinator, Evaluating};
use crate::error::FederationError;
use crate::site::{LocalReport, SiteReply, TrainRequest};
use medfed_aggregate::{AggregateError, SiteUpdate, fedavg};
use medfed_types::{RoundId, SiteId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A round in which the selected hospitals train.
#[derive(Debug)]
pub struct Training {
    pub(super) core: Coordinator,
    round: RoundId,
    selected: Vec<SiteId>,
    replies: BTreeMap<SiteId, SiteReply>,
}

/// A round that came to nothing. The model is what it was.
#[derive(Debug)]
pub struct Aborted {
    /// The coordinator as it was before the round.
    pub coordinator: Coordinator,
    /// The round.
    pub round: RoundId,
    /// Why, in a sentence without full stop.
    pub reason: String,
    /// The hospitals whose updates were missing or unusable.
    pub culprits: Vec<SiteId>,
    /// Whether spent budgets alone are the cause.
    pub budget_exhausted: bool,
}

impl Training {
    pub(super) fn new(core: Coordinator, round: RoundId, selected: Vec<SiteId>) -> Self {
        Self { core, round, selected, replies: BTreeMap::new() }
    }

    /// The round.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// The hospitals that train, in the order of their names.
    pub fn selected(&self) -> &[SiteId] {
        &self.selected
    }

    /// What each of them is asked.
    pub fn request(&self) -> TrainRequest {
        TrainRequest { round: self.round, parameters: Arc::clone(&self.core.global) }
    }

    /// Takes a hospital's reply.
    pub fn receive(&mut self, site: SiteId, reply: SiteReply) -> Result<(), FederationError> {
        if !self.selected.contains(&site) {
            return Err(FederationError::NotSelected { site, round: self.round });
        }
        if self.replies.contains_key(&site) {
            return Err(FederationError::SecondReply { site, round: self.round });
        }
        self.replies.insert(site, reply);
        Ok(())
    }

    /// Gives the round up without an outcome: the coordinator is as it was.
    pub fn suspend(self) -> Coordinator {
        self.core
    }

    /// Averages the updates and moves the global model, or aborts when there are too few of them.
    pub fn aggregate(mut self) -> Result<Evaluating, Box<Aborted>> {
        let mut updates: Vec<SiteUpdate> = Vec::new();
        let mut local: BTreeMap<SiteId, LocalResult> = BTreeMap::new();
        let mut culprits = Vec::new();
        let mut exhausted = 0;
        for site in &self.selected {
            match self.replies.remove(site) {
                Some(SiteReply::Trained { update, report }) => {
                    let norm = update.norm();
                    updates.push(update);
                    local.insert(site.clone(), LocalResult::Trained { report, norm });
                }
                Some(SiteReply::BudgetExhausted { privacy }) => {
                    exhausted += 1;
                    culprits.push(site.clone());
                    local.insert(site.clone(), LocalResult::BudgetExhausted { privacy });
                }
                Some(SiteReply::Failed { reason, report }) => {
                    culprits.push(site.clone());
                    local.insert(site.clone(), LocalResult::Failed { reason, report });
                }
                None => culprits.push(site.clone()),
            }
        }
        let needed = self.core.settings.min_fit.max(1);
        if updates.len() < needed {
            let reason = format!(
                "{} of {} hospitals sent a usable update, {needed} are needed",
                updates.len(),
                self.selected.len()
            );
            let budget_exhausted = exhausted > 0 && exhausted == culprits.len();
            return Err(self.abort(reason, culprits, budget_exhausted));
        }
        match fedavg::aggregate(&updates, self.round, self.core.global.len()) {
            Ok(step) => {
                let mut global = self.core.global.to_vec();
                for (parameter, step) in global.iter_mut().zip(&step) {
                    *parameter += step;
                }
                Ok(Evaluating::new(self.core, self.round, global, local))
            }
            Err(error) => {
                let culprits = culprit(&error).into_iter().collect();
                Err(self.abort(error.to_string(), culprits, false))
            }
        }
    }

    fn abort(self, reason: String, culprits: Vec<SiteId>, budget_exhausted: bool) -> Box<Aborted> {
        let Self { core, round, .. } = self;
        Box::new(Aborted { coordinator: core, round, reason, culprits, budget_exhausted })
    }
}

/// What a selected hospital's local training came to.
#[derive(Debug)]
pub(super) enum LocalResult {
    Trained { report: LocalReport, norm: f64 },
    BudgetExhausted { privacy: crate::report::PrivacySpent },
    Failed { reason: String, report: LocalReport },
}

fn culprit(error: &AggregateError) -> Option<SiteId> {
    match error {
        AggregateError::NotFinite { site, .. }
        | AggregateError::Weight { site, .. }
        | AggregateError::Length { site, .. }
        | AggregateError::Round { site, .. }
        | AggregateError::Duplicate { site } => Some(site.clone()),
        _ => None,
    }
}
