//! Aggregation that a few bad updates cannot steer, and the search for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Searches for updates whose size or direction is out of line.
    pub enable_detection: bool,
    /// How they are searched for.
    pub detector: AnomalyDetector,
    /// Deviations from which an update counts as out of line. With `robust` 3 stands for a false alarm in
    /// 1 % of the rounds whatever the number of hospitals, and another value scales all cut-offs.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub detection_threshold: f64,
    /// What follows when an update is out of line.
    pub on_detection: OnDetection,
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
            detector: AnomalyDetector::Robust,
            detection_threshold: 3.0,
            on_detection: OnDetection::Flag,
        }
    }
}

/// A search for updates that are out of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyDetector {
    /// Norms and directions beside the others' medians, the hospital's own past, its plan.
    Robust,
    /// The distance of the norm from the mean in standard deviations, and the plan.
    Zscore,
}

/// What follows when an update is out of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDetection {
    /// It is reported, and used.
    Flag,
    /// It is reported and left out of the round.
    Exclude,
    /// The run stops before the model moves.
    Halt,
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
