//! The sections of the configuration, one typed structure each.
//!
//! The documentation of a field is its description in the schema, its range attribute is what the
//! parser checks, and the `Default` of its section is its default: there is no second list.

mod data;
mod fairness;
mod federated;
mod model;
mod network;
mod orchestrator;
mod output;
mod privacy;
mod privacy_audit;
mod robust_aggregation;
mod secure_aggregation;
mod simulation;
mod training;

pub use data::{Columns, Data, Dataset, Node, NonIid, PathologyBias};
pub use fairness::{
    AgeBias, DemographicGroup, Demographics, Fairness, FairnessThresholds, OnViolation, SexBias,
};
pub use federated::Federated;
pub use model::{Model, ModelName, Pretrained};
pub use network::Network;
pub use orchestrator::{LogLevel, NoiseStrategy, Orchestrator};
pub use output::{Dashboard, Device, Evaluation, Experiment, Metric, Output};
pub use privacy::{AccountantName, NoiseSetting, Privacy, PrivacyUnit};
pub use privacy_audit::{Attack, CanaryKind, PrivacyAudit};
pub use robust_aggregation::{
    AnomalyDetector, ClippingRadius, OnDetection, PreAggregation, RobustAggregation, RobustMethod,
};
pub use secure_aggregation::{SecureAggregation, SecureMode};
pub use simulation::{SimulatedAttack, Simulation};
pub use training::{OptimizerName, SchedulerName, Training};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Federated training of a diagnostic imaging model: everything a run needs to know.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "MedFedAgent configuration")]
pub struct Sections {
    /// Hospitals and rounds.
    pub federated: Federated,
    /// The network that is trained.
    pub model: Model,
    /// What a hospital does within one round.
    pub training: Training,
    /// Differential privacy of every hospital's own patients.
    pub privacy: Privacy,
    /// Sums of updates without a look at any single one.
    pub secure_aggregation: SecureAggregation,
    /// Aggregation that a few bad updates cannot steer.
    pub robust_aggregation: RobustAggregation,
    /// Whether the model serves every hospital and every group of patients.
    pub fairness: Fairness,
    /// Attacks on the finished model that measure what it gives away.
    pub privacy_audit: PrivacyAudit,
    /// Watches the privacy budget during the run and adapts the noise.
    pub orchestrator: Orchestrator,
    /// Images and how hospitals share them.
    pub data: Data,
    /// Measurements after each round.
    pub evaluation: Evaluation,
    /// The web pages.
    pub dashboard: Dashboard,
    /// Where results go.
    pub output: Output,
    /// Name and seed of the run.
    pub experiment: Experiment,
    /// How long a coordinator waits for hospitals on a network, and how often it tries. Nothing here changes what
    /// a round computes or what it costs.
    pub network: Network,
    /// Hospitals that misbehave on purpose. For simulations only.
    pub simulation: Simulation,
}
