//! The coordinator: chooses hospitals, makes one step of their updates, commits rounds. One phase, one type.
//!
//! [`Coordinator`] is the state between rounds. [`Coordinator::select`] consumes it and gives
//! [`Training`], which collects replies; [`Training::aggregate`] gives [`Evaluating`] or [`Aborted`];
//! [`Evaluating::commit`] gives the next [`Coordinator`] and the round's report. An aborted round gives
//! the coordinator back as it was.

mod admission;
mod evaluating;
mod fairness;
mod measurements;
mod paid;
mod state;
mod training;

pub use evaluating::Evaluating;
pub use fairness::{EvaluationPlan, FairnessPlan, OnViolation};
pub use medfed_aggregate::anomaly::OnDetection;
pub(crate) use state::OWNER;
pub use training::{Aborted, Training};

use crate::error::FederationError;
use crate::evaluation::SiteEvaluation;
use crate::masking::MaskingPlan;
use crate::report::{
    FinalEvaluation, FinalFairness, HospitalPerformance, RoundReport, RunStatus, SiteDecision, SitePrivacy,
};
use medfed_aggregate::Aggregator;
use medfed_aggregate::anomaly::Detector;
use medfed_aggregate::selection::ProductHistory;
use medfed_dp::orchestrator::Action;
use medfed_dp::{DpPlan, Orchestrator, Outlook};
use medfed_nn::optimizer::Ema;
use medfed_nn::schedule::LearningRate;
use medfed_types::{RoundId, Seed, SiteId};
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
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
    /// Makes one step of the updates; as before its first round.
    pub aggregator: Aggregator,
    /// Searches the updates; as before its first round.
    pub detector: Option<Detector>,
    /// What a finding leads to.
    pub on_detection: OnDetection,
    /// When hospitals evaluate the global model, and what they measure.
    pub evaluation: EvaluationPlan,
    /// Decides about noise before each round.
    pub orchestrator: Option<Orchestrator>,
    /// Standard deviations from which a reported measurement is out of line; nothing is watched without.
    pub measurement_threshold: Option<f64>,
    /// Masks on the updates; without, the coordinator sees every one.
    pub masking: Option<MaskingPlan>,
}

impl CoordinatorSettings {
    /// Hospitals with an update that a round needs, for the guarantees of the rule and of the masks.
    pub(crate) fn needed(&self) -> usize {
        let vectors = self.aggregator.needed();
        self.masking.as_ref().map_or(vectors, |masking| masking.needed(vectors))
    }
}

/// A hospital as the coordinator knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub site: SiteId,
    /// Images it trains on; 0, with the units, where it does not release its counts.
    pub train_images: u64,
    /// Units among them.
    pub train_units: u64,
    /// Images it validates on.
    pub validation_images: u64,
    /// How it trains, as announced.
    pub training: AnnouncedLocal,
}

/// A hospital's local training as announced: nothing in it depends on its images.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnouncedLocal {
    /// Steps in each round.
    pub steps: u64,
    /// Learning rate of each step, counted over the whole run.
    pub learning_rate: LearningRate,
    /// Momentum of plain gradient descent; nothing for Adam.
    pub momentum: Option<f64>,
    /// Weight decay.
    pub weight_decay: f64,
    /// Parameters that move.
    pub parameters: usize,
    /// The plan, when there is privacy; its noise is the least.
    pub plan: Option<DpPlan>,
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
    aggregator: Aggregator,
    /// Memory of the last round's step, for the next.
    spare: Vec<f32>,
    detector: Option<Detector>,
    /// What was opened of masked updates in the rounds done; for rules that remember.
    past: ProductHistory,
    fairness: fairness::FairnessState,
    done: RoundId,
    global: Arc<Vec<f32>>,
    average: Option<Ema>,
    best: Option<Best>,
    reports: Vec<RoundReport>,
}

/// What comes next.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
#[derive(Debug)]
pub enum Selection {
    /// A round.
    Round(Training),
    /// Nothing: the run is over.
    Ended(Ended),
}

/// Whether enough hospitals are there for a round.
#[derive(Debug)]
pub enum Presence {
    /// What comes next.
    Enough(Box<Selection>),
    /// A round has to wait.
    TooFew {
        /// The coordinator as it was.
        coordinator: Box<Coordinator>,
        /// The hospitals that a round could have if they were there, in the order of their names.
        missing: Vec<SiteId>,
        /// Hospitals that a round needs.
        needed: usize,
    },
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// The coordinator after the last round.
    pub coordinator: Coordinator,
    /// How the run ended.
    pub status: RunStatus,
    /// Why, where that needs a sentence.
    pub reason: Option<String>,
    /// The decisions by which hospitals left before a round that did not come.
    pub decisions: Vec<SiteDecision>,
}

impl Coordinator {
    /// The name under which its state is kept.
    pub const OWNER: &'static str = OWNER;

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
        let (aggregator, detector) = (settings.aggregator.clone(), settings.detector.clone());
        Ok(Self {
            settings,
            members,
            aggregator,
            spare: Vec::new(),
            detector,
            past: ProductHistory::default(),
            fairness: fairness::FairnessState::default(),
            left: BTreeSet::new(),
            done: RoundId(0),
            global: Arc::new(parameters),
            average,
            best: None,
            reports: Vec::new(),
        })
    }

    /// Decides about every hospital's noise and chooses the hospitals of the next round, or says that the
    /// run is over.
    pub fn select(self) -> Result<Selection, FederationError> {
        match self.select_without(&BTreeSet::new())? {
            Presence::Enough(selection) => Ok(*selection),
            Presence::TooFew { .. } => unreachable!("nobody is away"),
        }
    }

    /// [`Coordinator::select`] among the hospitals that are not `away`.
    pub fn select_without(self, away: &BTreeSet<SiteId>) -> Result<Presence, FederationError> {
        let ended = |coordinator, status, reason, decisions| {
            let ended = Ended { coordinator, status, reason, decisions };
            Ok(Presence::Enough(Box::new(Selection::Ended(ended))))
        };
        if self.done.0 >= self.settings.rounds {
            return ended(self, RunStatus::Completed, None, Vec::new());
        }
        if let Some(reason) = self.fairness.halted.clone() {
            return ended(self, RunStatus::Halted, Some(reason), Vec::new());
        }
        let round = self.done.next();
        let mut decisions = self.decisions(round)?;
        let leaves = |decision: &SiteDecision| decision.decision.action == Action::Leave;
        let leaving: BTreeSet<&SiteId> =
            decisions.iter().filter(|d| leaves(d)).map(|decision| &decision.hospital).collect();
        let mut active: Vec<SiteId> = (self.members.iter())
            .map(|member| member.site.clone())
            .filter(|site| !self.left.contains(site) && !leaving.contains(site))
            .collect();
        let least = self.settings.min_fit.max(self.settings.needed()).max(1);
        let needed = self.settings.min_available.max(least);
        if active.len() < needed {
            // Hospitals leave for one reason only: their budget is spent.
            let reason = format!(
                "the privacy budget of {} of {} hospitals is spent; {} are left, {needed} are needed",
                self.members.len() - active.len(),
                self.members.len(),
                active.len()
            );
            decisions.retain(leaves);
            return ended(self, RunStatus::BudgetExhausted, Some(reason), decisions);
        }
        let missing: Vec<SiteId> = active.iter().filter(|site| away.contains(site)).cloned().collect();
        active.retain(|site| !away.contains(site));
        if active.len() < needed {
            return Ok(Presence::TooFew { coordinator: Box::new(self), missing, needed });
        }
        let wanted = (self.settings.fraction_fit * active.len() as f64).round() as usize;
        let wanted = wanted.clamp(least.min(active.len()), active.len());
        if wanted < active.len() {
            active.shuffle(&mut self.settings.seed.generator("select", &[u64::from(round.0)]));
            active.truncate(wanted);
            active.sort();
        }
        decisions.retain(|decision| leaves(decision) || active.contains(&decision.hospital));
        let training = Training::new(self, round, active, decisions);
        Ok(Presence::Enough(Box::new(Selection::Round(training))))
    }

    /// What the orchestrator says about each hospital with privacy that has not left. It is a function of
    /// the rounds done, so a resumed run decides again what it decided before.
    fn decisions(&self, round: RoundId) -> Result<Vec<SiteDecision>, FederationError> {
        let Some(orchestrator) = &self.settings.orchestrator else { return Ok(Vec::new()) };
        let Some(rounds) = NonZeroU32::new(self.settings.rounds.saturating_sub(round.0 - 1)) else {
            return Ok(Vec::new());
        };
        let decide = |member: &Member| -> Result<Option<SiteDecision>, FederationError> {
            let (Some(plan), Some(steps)) = (&member.training.plan, NonZeroU64::new(member.training.steps))
            else {
                return Ok(None);
            };
            if self.left.contains(&member.site) {
                return Ok(None);
            }
            let history = paid::paid(member, plan, &self.reports)?;
            let decision = orchestrator.decide(&Outlook { plan, history: &history, steps, rounds })?;
            Ok(Some(SiteDecision { hospital: member.site.clone(), decision }))
        };
        let decided: Vec<_> = self.members.par_iter().map(decide).collect::<Result<_, _>>()?;
        Ok(decided.into_iter().flatten().collect())
    }

    /// Whether hospitals mask their updates.
    pub fn is_masked(&self) -> bool {
        self.settings.masking.is_some()
    }

    /// Whether the plan has another round.
    pub fn has_rounds_left(&self) -> bool {
        self.done.0 < self.settings.rounds
    }

    /// When hospitals evaluate, and what they measure.
    pub fn evaluation(&self) -> &EvaluationPlan {
        &self.settings.evaluation
    }

    /// What the choice of hospitals and the intervals of measurements are drawn from.
    pub fn seed(&self) -> Seed {
        self.settings.seed
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

    /// The rule by which updates become a step.
    pub fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    /// Everything that hospitals measured about the model that the run leaves. The coordinator has no images
    /// of its own to measure on.
    pub fn final_evaluation(
        &self,
        evaluations: &BTreeMap<SiteId, SiteEvaluation>,
    ) -> Result<FinalEvaluation, FederationError> {
        let fairness = match &self.settings.evaluation.fairness {
            Some(plan) => Some(FinalFairness { validation: Some(plan.measure(evaluations)?), test: None }),
            None => None,
        };
        let hospitals = evaluations.iter().map(|(hospital, evaluation)| HospitalPerformance {
            hospital: hospital.clone(),
            patients: evaluation.patients,
            performance: evaluation.performance.clone(),
        });
        Ok(FinalEvaluation { hospitals: hospitals.collect(), test: None, fairness })
    }

    /// Refuses counts of a hospital that cannot be.
    pub fn check_evaluation(&self, evaluation: &SiteEvaluation) -> Result<(), FederationError> {
        match &self.settings.evaluation.fairness {
            Some(plan) => Ok(plan.check(&evaluation.groups)?),
            None => Ok(()),
        }
    }

    /// The hospitals, in the order of their names.
    pub fn members(&self) -> &[Member] {
        &self.members
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
