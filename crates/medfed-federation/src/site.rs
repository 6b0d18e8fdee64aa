//! A hospital: trains locally, pays for every private step, evaluates the global model on its own images.
//!
//! What enters is the global model; what leaves is a [`RawUpdate`] and a few numbers ([`LocalReport`]).
//! With privacy the update is made of noised sums only: each step is paid for in the ledger first, its
//! batch is a Poisson sample and its gradient a clipped sum with noise, divided by a public number
//! (DP-SGD, Abadi et al. 2016, algorithm 1).
//!
//! Not protected: losses, norms, counts and validation metrics in the reports are exact.

mod local;
mod state;

use crate::error::FederationError;
use crate::evaluation::{SiteEvaluation, predict};
use crate::grouping::Grouping;
use crate::masking::Party;
use crate::report::PrivacySpent;
use medfed_data::Units;
use medfed_dp::{DpPlan, Ledger, LedgerStorage};
use medfed_eval::Performance;
use medfed_nn::optimizer::{Optimizer, OptimizerState};
use medfed_nn::schedule::LearningRate;
use medfed_nn::{Executor, Trainable};
use medfed_types::{ImageSource, NoiseMultiplier, RoundId, SecretKey, Seed, SiteId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(crate) use local::LocalWork;
pub(crate) use state::MASKED;

/// The images of all hospitals of a simulation, or of one hospital.
pub type Images = Arc<dyn ImageSource + Send + Sync>;

/// What a hospital needs to train.
#[derive(Debug, Clone)]
pub struct LocalTraining {
    /// The rule by which parameters move.
    pub optimizer: Optimizer,
    /// The learning rate of each step, counted over the whole run.
    pub learning_rate: LearningRate,
    /// Steps in each round.
    pub steps: u64,
    /// Images in a batch; with privacy the expected number of units.
    pub batch_size: usize,
    /// L2 norm to which the mean gradient is clipped, without privacy.
    pub grad_clip_norm: Option<f64>,
    /// The parameters that move.
    pub trainable: Trainable,
    /// Order of batches and dropout, without privacy. A private step takes both from the hospital's key.
    pub seed: Seed,
    /// SHA-256 of the configuration: part of what a paid round is bound to.
    pub configuration: [u8; 32],
}

/// What protects the hospital's patients.
#[derive(Debug)]
pub enum Protection<S> {
    /// DP-SGD under a plan, paid for in a ledger, with the hospital's own key for noise and samples.
    Private {
        /// The plan.
        plan: DpPlan,
        /// The ledger.
        ledger: Ledger<S>,
        /// The key.
        key: SecretKey,
    },
    /// Nothing: the update is a function of the images.
    Absent,
}

/// A hospital.
#[derive(Debug)]
pub struct Site<S> {
    id: SiteId,
    executor: Arc<Executor>,
    images: SiteImages,
    training: LocalTraining,
    protection: Protection<S>,
    optimizer: Option<OptimizerState>,
    paused: Option<LocalWork>,
    /// Its part in secure aggregation, where updates are masked.
    party: Option<Party>,
}

/// The images of one hospital within a set.
#[derive(Clone)]
pub struct SiteImages {
    /// The set.
    pub source: Images,
    /// Images to train on, as privacy units; the canaries among them are the last.
    pub train: Units,
    /// Canaries among them, which the hospital does not count: their number is secret.
    pub canaries: u64,
    /// Images to validate on.
    pub validation: Vec<u32>,
    /// Groups of patients of the set, when fairness is measured.
    pub grouping: Option<Grouping>,
}

impl SiteImages {
    /// Images to train on that the hospital tells others of: all but canaries.
    pub fn announced_images(&self) -> u64 {
        self.train.images().len() as u64 - self.canaries
    }

    /// Privacy units that the hospital tells others of: all but canaries.
    pub fn announced_units(&self) -> u64 {
        self.train.len() as u64 - self.canaries
    }
}

impl std::fmt::Debug for SiteImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SiteImages({} units, {} for validation)", self.train.len(), self.validation.len())
    }
}

/// The coordinator's request: train on from these parameters.
#[derive(Debug, Clone)]
pub struct TrainRequest {
    /// The round.
    pub round: RoundId,
    /// The global parameters.
    pub parameters: Arc<Vec<f32>>,
    /// The noise multiplier of this round's steps; without one it is the plan's. A hospital never
    /// trains with less than its plan's, whoever asks.
    pub noise: Option<NoiseMultiplier>,
}

/// What a hospital sends: nobody has checked it yet.
#[derive(Debug, Clone, PartialEq)]
pub struct RawUpdate {
    /// The round it is for.
    pub round: RoundId,
    /// Parameters after local training minus the global parameters, as many as the model has.
    pub delta: Vec<f32>,
    /// The number of images it claims to have trained on.
    pub weight: f64,
}

/// What a hospital says about its local training. What it does not release is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalReport {
    /// Steps taken.
    pub steps: u64,
    /// Mean training loss over the images used; absent also where none was.
    pub train_loss: Option<f64>,
    /// Images used, each counted as often as it was used.
    pub images: Option<u64>,
    /// Units sampled, each counted as often as it was used.
    pub units: Option<u64>,
    /// Share of them whose gradient was clipped; absent without privacy and where none was sampled.
    pub clipped_fraction: Option<f64>,
    /// Units among them whose gradient was not finite, which contributed nothing.
    pub non_finite_units: Option<u64>,
    /// What the round cost; nothing without privacy.
    pub privacy: Option<PrivacySpent>,
    /// Whether the budget allows another step.
    pub can_continue: bool,
}

/// A hospital's answer to a [`TrainRequest`].
#[derive(Debug)]
pub enum SiteReply {
    /// It trained.
    Trained {
        /// The update.
        update: RawUpdate,
        /// What it says about it.
        report: LocalReport,
    },
    /// It trained; its update leaves under masks only.
    Withheld {
        /// What it says about it.
        report: LocalReport,
    },
    /// Its budget allows no step.
    BudgetExhausted {
        /// What was spent before.
        privacy: PrivacySpent,
    },
    /// Training gave something that is no update.
    Failed {
        /// Why, in a sentence without full stop.
        reason: String,
        /// What it says about it.
        report: LocalReport,
    },
}

/// How a request for local training ended.
#[derive(Debug)]
pub enum LocalOutcome {
    /// With an answer.
    Replied(SiteReply),
    /// It was asked to stop between two steps; the same request continues there.
    Interrupted,
}

impl<S: LedgerStorage> Site<S> {
    /// A hospital before its first round.
    pub fn new(
        id: SiteId,
        executor: Arc<Executor>,
        images: SiteImages,
        training: LocalTraining,
        protection: Protection<S>,
    ) -> Self {
        Self { id, executor, images, training, protection, optimizer: None, paused: None, party: None }
    }

    /// Its name.
    pub fn id(&self) -> &SiteId {
        &self.id
    }

    /// Steps it takes in a round when its budget allows.
    pub fn planned_steps(&self) -> u64 {
        self.training.steps
    }

    /// From now on it takes part in secure aggregation, in its own name.
    pub fn enrol(&mut self, party: Party) {
        self.party = Some(party);
    }

    /// Its part in secure aggregation, once it is enrolled. What changes in it is in the
    /// [snapshot](Self::snapshot) too.
    pub fn party(&mut self) -> Option<&mut Party> {
        self.party.as_mut()
    }

    /// Its images.
    pub fn images(&self) -> &SiteImages {
        &self.images
    }

    /// Its plan, when there is privacy.
    pub fn plan(&self) -> Option<&DpPlan> {
        match &self.protection {
            Protection::Private { plan, .. } => Some(plan),
            Protection::Absent => None,
        }
    }

    /// The round is over: what was kept to answer its request again is dropped.
    pub fn end_round(&mut self) {
        self.paused = None;
    }

    /// What leaves the hospital about a global model on its validation images; nothing without such images.
    pub fn evaluate(&self, parameters: &[f32]) -> Result<Option<SiteEvaluation>, FederationError> {
        let SiteImages { source, validation, grouping, .. } = &self.images;
        let Some(predictions) = predict(&self.executor, parameters, &**source, validation)? else {
            return Ok(None);
        };
        Ok(Some(SiteEvaluation {
            performance: Performance::of(&predictions),
            patients: grouping.as_ref().map_or(validation.len() as u64, |groups| groups.count(validation)),
            groups: match grouping {
                Some(groups) => groups.tallies(&predictions, validation)?,
                None => Vec::new(),
            },
        }))
    }

    /// What has been spent so far, when there is privacy.
    pub fn spent(&self) -> Result<Option<PrivacySpent>, FederationError> {
        let Protection::Private { plan, ledger, .. } = &self.protection else { return Ok(None) };
        let terms = plan.terms();
        let spent = ledger.spent(terms.delta)?;
        let noise = ledger.history().phases().last().map_or(terms.noise, |newest| newest.noise);
        Ok(Some(PrivacySpent {
            sampling_rate: terms.rate.get(),
            noise_multiplier: noise.get(),
            epsilon_total: spent.by(terms.accountant).get(),
            epsilon_pld: spent.pld.get(),
            epsilon_rdp: spent.rdp.get(),
        }))
    }
}
