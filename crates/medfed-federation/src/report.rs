//! What a run says about itself: the shapes of `results.json` and of the store's rows.
//!
//! [`RoundReport`] and [`Summary`] hold no times, so that two runs from one seed give equal reports;
//! times are in [`Timing`]. Values that the data do not define (the AUC of a validation set with one
//! class) are null, never 0.

mod evaluation;
mod masking;
mod orchestration;
mod security;
mod selection;

pub use evaluation::{FinalEvaluation, FinalFairness, HospitalPerformance, RoundFairness};
pub use masking::{Attempt, MaskingReport, Revealed, Traffic};
pub use orchestration::{Deviation, Measurement, Orchestration, SiteDecision};
pub use security::{Exclusion, SecurityReport, SecuritySummary, SiteWeight};
pub use selection::{ExpectedUpdate, SelectionReport};

use medfed_eval::Performance;
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};

/// What a hospital did in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteStatus {
    /// It trained and its update entered the mean.
    Trained,
    /// It was not drawn for this round (`federated.fraction_fit`).
    NotSelected,
    /// Its privacy budget allows no further step; it has left the federation.
    BudgetExhausted,
    /// It could not give an update; the reason is in the events.
    Failed,
    /// It did not answer in time, or declined; the reason is beside it.
    Absent,
    /// Its update was left out: it was no update, or detection excluded it. The reason is in `security`.
    Excluded,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundStatus {
    /// The global model moved.
    Completed,
    /// The model stayed as it was.
    Aborted,
}

/// Privacy that a hospital has spent on its own units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrivacySpent {
    /// Probability with which each unit joins a step.
    pub sampling_rate: f64,
    /// Noise of the steps.
    pub noise_multiplier: f64,
    /// ε spent so far, by the official accountant.
    pub epsilon_total: f64,
    /// The same by the privacy loss distribution.
    pub epsilon_pld: f64,
    /// The same by Rényi differential privacy.
    pub epsilon_rdp: f64,
}

/// A hospital's privacy in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SitePrivacy {
    /// By how much ε rose in this round, by the official accountant.
    pub epsilon_round: f64,
    /// What is spent after it.
    #[serde(flatten)]
    pub spent: PrivacySpent,
}

/// One hospital in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteRound {
    /// The hospital.
    pub hospital: SiteId,
    /// What it did.
    pub status: SiteStatus,
    /// Why it gave no update, where that needs a sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// Images it trains on; null where it does not release its counts.
    pub train_images: Option<u64>,
    /// Privacy units among them.
    pub train_units: Option<u64>,
    /// Images it validates on.
    pub validation_images: Option<u64>,
    /// Local steps taken.
    pub steps: u64,
    /// Images used for training, each counted as often as it was used.
    pub images_used: Option<u64>,
    /// Mean training loss over them.
    pub train_loss: Option<f64>,
    /// Log loss of the new global model on the hospital's validation images.
    pub val_loss: Option<f64>,
    /// Accuracy there.
    pub accuracy: Option<f64>,
    /// AUROC there.
    pub auc: Option<f64>,
    /// L2 norm of its update.
    pub update_norm: Option<f64>,
    /// Share of the sampled units whose gradient was clipped.
    pub clipped_fraction: Option<f64>,
    /// Units whose gradient was not finite; they contributed nothing.
    pub non_finite_units: Option<u64>,
    /// Null without privacy.
    pub privacy: Option<SitePrivacy>,
}

/// One federated round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// Counted from 1.
    pub round_num: u32,
    /// How it ended.
    pub status: RoundStatus,
    /// Largest rise of ε at a hospital; null without privacy.
    pub epsilon_round: Option<f64>,
    /// Largest ε spent at a hospital so far; null without privacy.
    pub epsilon_total: Option<f64>,
    /// Smallest noise multiplier used by a hospital; null without privacy.
    pub noise_multiplier: Option<f64>,
    /// Hospitals whose updates entered the mean.
    pub num_clients: u64,
    /// Mean over the hospitals, weighted by the images used.
    pub train_loss: Option<f64>,
    /// Mean over the hospitals, weighted by their validation images.
    pub val_loss: Option<f64>,
    /// The same.
    pub accuracy: Option<f64>,
    /// The same, over the hospitals where it is defined.
    pub auc: Option<f64>,
    /// AUC of the new global model on the test set.
    pub test_auc: Option<f64>,
    /// Its accuracy there.
    pub test_accuracy: Option<f64>,
    /// SHA-256 of the global parameters after the round.
    pub model_hash: String,
    /// Every hospital.
    pub hospitals: Vec<SiteRound>,
    /// How the updates became one step, and what was wrong with them.
    #[serde(default)]
    pub security: SecurityReport,
    /// What the orchestrator decided before the round; null while it is off.
    #[serde(default)]
    pub orchestrator: Option<Orchestration>,
    /// How evenly the new global model serves hospitals and groups of patients; null in rounds in which that
    /// is not measured.
    #[serde(default)]
    pub fairness: Option<RoundFairness>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Every planned round was done.
    Completed,
    /// The privacy budget ended it before its last round.
    BudgetExhausted,
    /// It was asked to stop and can be resumed.
    Interrupted,
    /// A round could not be finished; the last good model stays.
    Aborted,
    /// The model was unfair, and the configuration says to stop then.
    Halted,
}

/// The whole run in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How it ended.
    pub status: RunStatus,
    /// Why, where that needs a sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// Rounds done.
    pub total_rounds: u32,
    /// Highest mean validation AUC of a round.
    pub best_auc: Option<f64>,
    /// The round of the saved model.
    pub best_round: Option<u32>,
    /// Mean validation accuracy of the last round.
    pub final_accuracy: Option<f64>,
    /// AUC of the saved model on the test set.
    pub test_auc: Option<f64>,
    /// Its accuracy there.
    pub test_accuracy: Option<f64>,
    /// Largest ε spent at a hospital, rounded up to 4 decimals; null without privacy.
    pub final_epsilon: Option<f64>,
    /// Budget for each hospital; null without privacy.
    pub epsilon_budget: Option<f64>,
    /// The δ of (ε, δ); null without privacy.
    pub delta: Option<f64>,
    /// The official accountant; null without privacy.
    pub accountant: Option<String>,
    /// What the guarantee protects, an image or a patient; null without privacy.
    pub privacy_unit: Option<String>,
    /// Smallest noise multiplier used; null without privacy.
    pub noise_multiplier: Option<f64>,
    /// Whether noise and samples came from the public seed. Then ε holds only for whoever does not know it.
    pub reproducible_noise: bool,
    /// The seed of weights, splits and order.
    pub seed: u64,
    /// What was wrong with updates over all rounds.
    #[serde(default)]
    pub security: SecuritySummary,
    /// Everything measured on the test set.
    pub test: Option<Performance>,
    /// One sentence about what protects the patients in this run.
    pub privacy_statement: String,
    /// The attack that was simulated, and what came of it; null in a federation of honest hospitals.
    #[serde(default)]
    pub simulated_attack: Option<crate::attack::AttackReport>,
}

/// Wall-clock times, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Whole run, all sittings together.
    pub total: f64,
    /// Local training, evaluation and aggregation of each round.
    pub rounds: Vec<f64>,
}
