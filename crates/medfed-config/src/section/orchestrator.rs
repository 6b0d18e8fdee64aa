//! The watch over the budget.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Watches the privacy budget during the run and adapts the noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Orchestrator {
    /// Adapts the noise as the budget runs out. The budget itself is enforced in any case.
    pub enabled: bool,
    /// How the noise follows the budget.
    pub strategy: NoiseStrategy,
    /// Share of the budget from which a warning is given.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub budget_warning_threshold: f64,
    /// Share of the budget from which the strategy `step` raises the noise; the others warn again.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub budget_critical_threshold: f64,
    /// Factor by which the strategy `step` raises the noise, round after round.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub noise_increase_factor: f64,
    /// The most noise, in multiples of a hospital's own. A hospital that would need more for its next
    /// round leaves. `calibrated` raises nothing during the run and has no use for it.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub noise_increase_limit: f64,
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
            strategy: NoiseStrategy::Fit,
            budget_warning_threshold: 0.75,
            budget_critical_threshold: 0.9,
            noise_increase_factor: 1.1,
            noise_increase_limit: 10.0,
            enable_anomaly_detection: true,
            anomaly_zscore_threshold: 3.0,
            log_level: LogLevel::Info,
        }
    }
}

/// A way in which the noise follows the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoiseStrategy {
    /// By a factor, before every round that would end above the critical share of the budget.
    Step,
    /// The smallest noise at which the rounds that are left fit the budget; never less than the
    /// hospital's own.
    Fit,
    /// One noise for the whole run, solved in advance: as `privacy.noise_multiplier: auto`, but never
    /// less than a number that is set there.
    Calibrated,
}

impl NoiseStrategy {
    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Fit => "fit",
            Self::Calibrated => "calibrated",
        }
    }
}

/// A severity of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
