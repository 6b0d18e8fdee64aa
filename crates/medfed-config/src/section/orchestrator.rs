//! The watch over the budget.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
