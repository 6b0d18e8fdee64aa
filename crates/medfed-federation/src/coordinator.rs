//! The coordinator: chooses hospitals, averages their updates, commits rounds. One phase, one type.
//!
//! [`Coordinator`] is the state between rounds. [`Coordinator::select`] consumes it and gives
//! [`Training`], which collects replies; [`Training::aggregate`] gives [`Evaluating`] or [`Aborted`];
//! [`Evaluating::commit`] gives the next [`Coordinator`] and the round's report. An aborted round gives
//! the coordinator back as it was.

mod evaluating;
mod state;
mod training;

pub use evaluating::Evaluating;
pub(crate) use state::OWNER;
pub use training::{Aborted, Training};

use crate::error::FederationError;
use crate::report::{RoundReport, RunStatus, SitePrivacy};
use medfed_nn::optimizer::Ema;
use medfed_types::{RoundId, Seed, SiteId};
use rand::seq::SliceRandom;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the coordinator goes by.
#[derive(Debug, Clone)]
pub struct CoordinatorSettings {
    /// Rounds planned.
    pub rounds: u32,
    /// Part of the hospitals that trains in each round.
    pub fraction_fit: f64,
    /// Fewest updates that make a round.
    pub min_fit: usize,
    /// Fewest hospitals in the federation for a round to start.
    pub min_available: usize,
    /// Decay of the exponential average of the global model; 0 averages nothing.
    pub ema_decay: f64,
    /// Choice of hospitals.
    pub seed: Seed,
}

/// A hospital as the coordinator knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub site: SiteId,
    /// Images it trains on.
    pub train_images: u64,
    /// Units among them.
    pub train_units: u64,
    /// Images it validates on.
    pub validation_images: u64,
}

/// The best model so far, by mean validation AUC, then by validation loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// Its round.
    pub round: u32,
    /// Its mean validation AUC, where defined.
    pub auc: Option<f64>,
    /// Its mean validation loss.
    pub loss: Option<f64>,
    /// Its parameters.
    pub parameters: Arc<Vec<f32>>,
}

impl Best {
    /// Whether a model with this validation AUC and loss is better than the best so far.
    fn is_beaten_by(&self, auc: Option<f64>, loss: Option<f64>) -> bool {
        match (auc, self.auc) {
            (Some(new), Some(old)) if new != old => new > old,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            _ => match (loss, self.loss) {
                (Some(new), Some(old)) => new < old,
                // Without any validation images the newest model is as good a guess as there is.
                _ => true,
            },
        }
    }
}

/// The coordinator between two rounds.
#[derive(Debug)]
pub struct Coordinator {
    settings: CoordinatorSettings,
    members: Vec<Member>,
    /// Hospitals whose budget is spent.
    left: BTreeSet<SiteId>,
    done: RoundId,
    global: Arc<Vec<f32>>,
    average: Option<Ema>,
    best: Option<Best>,
    reports: Vec<RoundReport>,
}

/// What comes next.
#[derive(Debug)]
pub enum Selection {
    /// A round.
    Round(Training),
    /// Nothing: the run is over.
    Ended(Coordinator, RunStatus),
}

impl Coordinator {
    /// A coordinator before the first round, with the initial parameters.
    pub fn new(
        settings: CoordinatorSettings,
        members: Vec<Member>,
        parameters: Vec<f32>,
    ) -> Result<Self, FederationError> {
        let average = if settings.ema_decay > 0.0 {
            Some(Ema::new(settings.ema_decay, parameters.len())?)
        } else {
            None
        };
        Ok(Self {
            settings,
            members,
            left: BTreeSet::new(),
            done: RoundId(0),
            global: Arc::new(parameters),
            average,
            best: None,
            reports: Vec::new(),
        })
    }

    /// Chooses the hospitals of the next round, or says that the run is over.
    pub fn select(self) -> Selection {
        if self.done.0 >= self.settings.rounds {
            return Selection::Ended(self, RunStatus::Completed);
        }
        let mut active: Vec<SiteId> =
            self.members.iter().map(|m| m.site.clone()).filter(|site| !self.left.contains(site)).collect();
        if active.len() < self.settings.min_available.max(self.settings.min_fit).max(1) {
            // Hospitals leave for one reason only: their budget is spent.
            return Selection::Ended(self, RunStatus::BudgetExhausted);
        }
        let round = self.done.next();
        let wanted = (self.settings.fraction_fit * active.len() as f64).round() as usize;
        let wanted = wanted.clamp(self.settings.min_fit.clamp(1, active.len()), active.len());
        if wanted < active.len() {
            active.shuffle(&mut self.settings.seed.generator("select", &[u64::from(round.0)]));
            active.truncate(wanted);
            active.sort();
        }
        Selection::Round(Training::new(self, round, active))
    }

    /// Whether the plan has another round.
    pub fn has_rounds_left(&self) -> bool {
        self.done.0 < self.settings.rounds
    }

    /// Rounds done.
    pub fn done(&self) -> RoundId {
        self.done
    }

    /// The reports of all rounds.
    pub fn reports(&self) -> &[RoundReport] {
        &self.reports
    }

    /// The best model so far, once a round is done.
    pub fn best(&self) -> Option<&Best> {
        self.best.as_ref()
    }

    /// The global parameters.
    pub fn parameters(&self) -> &Arc<Vec<f32>> {
        &self.global
    }

    /// Whether the hospital's budget is spent.
    pub fn has_left(&self, site: &SiteId) -> bool {
        self.left.contains(site)
    }

    fn member(&self, site: &SiteId) -> Option<&Member> {
        self.members.iter().find(|member| member.site == *site)
    }

    /// The site's privacy as of its latest report.
    fn last_privacy(&self, site: &SiteId) -> Option<SitePrivacy> {
        let latest = self.reports.iter().rev().flat_map(|report| &report.hospitals);
        latest.filter(|h| h.hospital == *site).find_map(|h| h.privacy)
    }

    /// ε that the site had spent before the round in progress.
    fn epsilon_before(&self, site: &SiteId) -> f64 {
        self.last_privacy(site).map_or(0.0, |privacy| privacy.spent.epsilon_total)
    }
}
