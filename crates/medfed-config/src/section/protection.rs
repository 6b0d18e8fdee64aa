//! Secure and robust aggregation, the audit of the model, and the watch over the budget.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sums of updates without a look at any single one.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecureAggregation {
    /// Adds up masked updates, so that the coordinator sees nothing but their sum.
    pub enabled: bool,
    /// Hospitals whose updates a sum has to contain at the least.
    #[schemars(range(min = 2, max = 1000))]
    pub min_clients: u32,
    /// Hospitals that have to work together to remove the masks. Without this key two thirds of
    /// `federated.num_clients`, rounded down, plus 1.
    #[schemars(range(min = 2, max = 1000))]
    pub threshold: Option<u32>,
    /// Hides every update behind pairwise masks.
    pub use_masking: bool,
    /// Seals the shares of every hospital for their receivers. The name is that of the original
    /// project; the encryption is real.
    pub simulate_encryption: bool,
    /// Writes every step of the protocol to the audit log.
    pub audit_enabled: bool,
}

impl Default for SecureAggregation {
    fn default() -> Self {
        Self {
            enabled: false,
            min_clients: 3,
            threshold: None,
            use_masking: true,
            simulate_encryption: true,
            audit_enabled: true,
        }
    }
}

/// Aggregation that a few bad updates cannot steer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RobustAggregation {
    /// Aggregates with `method`. While this is `false` the updates are averaged (`fedavg`).
    pub enabled: bool,
    /// Aggregation rule.
    pub method: RobustMethod,
    /// Bad hospitals to withstand.
    #[schemars(range(min = 0, max = 499))]
    pub num_byzantine: u32,
    /// Share of the values that `trimmed_mean` leaves out at either end.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 0.5))]
    pub trim_ratio: f64,
    /// Updates that `multi_krum` selects.
    #[schemars(range(min = 1, max = 1000))]
    pub multi_krum_k: u32,
    /// Reports updates whose size or direction is out of line.
    pub enable_detection: bool,
    /// Deviations from which an update counts as out of line.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub detection_threshold: f64,
}

impl Default for RobustAggregation {
    fn default() -> Self {
        Self {
            enabled: false,
            method: RobustMethod::Fedavg,
            num_byzantine: 0,
            trim_ratio: 0.1,
            multi_krum_k: 1,
            enable_detection: false,
            detection_threshold: 3.0,
        }
    }
}

/// A rule that makes one update of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RobustMethod {
    /// The mean, weighted by samples.
    Fedavg,
    /// The median of every coordinate.
    Median,
    /// The mean of every coordinate without its extremes.
    TrimmedMean,
    /// The update that is nearest to its neighbours.
    Krum,
    /// The mean of the `multi_krum_k` updates nearest to their neighbours.
    MultiKrum,
    /// Krum, repeated, then a trimmed mean.
    Bulyan,
    /// Less weight for hospitals whose updates resemble each other too much.
    Foolsgold,
}

impl RobustMethod {
    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fedavg => "fedavg",
            Self::Median => "median",
            Self::TrimmedMean => "trimmed_mean",
            Self::Krum => "krum",
            Self::MultiKrum => "multi_krum",
            Self::Bulyan => "bulyan",
            Self::Foolsgold => "foolsgold",
        }
    }
}

/// Attacks on the finished model that measure what it gives away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyAudit {
    /// Attacks the model at the end of the run and reports how far the attacks came.
    pub enabled: bool,
    /// Attacks to carry out.
    #[schemars(length(min = 1))]
    pub attack_types: Vec<Attack>,
}

impl Default for PrivacyAudit {
    fn default() -> Self {
        Self { enabled: false, attack_types: vec![Attack::Threshold, Attack::LossBased] }
    }
}

/// An attack that guesses whether an image was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attack {
    /// By the confidence of the prediction.
    Threshold,
    /// By the loss.
    LossBased,
    /// By models trained for comparison.
    Shadow,
}

/// Watches the privacy budget during the run and adapts the noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Orchestrator {
    /// Adapts the noise as the budget runs out. The budget itself is enforced in any case.
    pub enabled: bool,
    /// Share of the budget from which a warning is given.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub budget_warning_threshold: f64,
    /// Share of the budget from which the noise is raised.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub budget_critical_threshold: f64,
    /// Factor by which the noise is raised.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub noise_increase_factor: f64,
    /// Reports hospitals whose measurements are out of line.
    pub enable_anomaly_detection: bool,
    /// Standard deviations from which a measurement counts as out of line.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub anomaly_zscore_threshold: f64,
    /// Least severity of what is written to the log.
    pub log_level: LogLevel,
}

impl Default for Orchestrator {
    fn default() -> Self {
        Self {
            enabled: false,
            budget_warning_threshold: 0.75,
            budget_critical_threshold: 0.9,
            noise_increase_factor: 1.1,
            enable_anomaly_detection: true,
            anomaly_zscore_threshold: 3.0,
            log_level: LogLevel::Info,
        }
    }
}

/// A severity of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The course of the run.
    Info,
    /// What may go wrong.
    Warning,
    /// What went wrong.
    Error,
}
