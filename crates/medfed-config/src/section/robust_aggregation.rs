//! Aggregation that a few bad updates cannot steer, and the search for them.

use super::privacy::Auto;
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
    /// What happens to the updates before `method`. `nnm` replaces every update by the mean of the
    /// hospitals minus `num_byzantine` nearest to it, against bad hospitals that hide among patients who
    /// differ; not together with `foolsgold`.
    pub pre: PreAggregation,
    /// L2 norm to which `centered_clipping` shortens the difference of every update to the last round's
    /// step. `auto` is the median of the differences.
    pub clipping_radius: ClippingRadius,
    /// How often `centered_clipping` moves its centre in a round.
    #[schemars(range(min = 1, max = 100))]
    pub clipping_iterations: u32,
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
            pre: PreAggregation::None,
            clipping_radius: ClippingRadius::Auto(Auto::Auto),
            clipping_iterations: 3,
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
    /// The point with the least sum of distances to the updates.
    GeometricMedian,
    /// The last round's step plus the mean of the clipped differences to it.
    CenteredClipping,
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
            Self::GeometricMedian => "geometric_median",
            Self::CenteredClipping => "centered_clipping",
        }
    }
}

/// What happens to the updates before the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreAggregation {
    /// Nothing.
    None,
    /// Nearest-neighbour mixing.
    Nnm,
}

/// How far an update may be from the centre of centred clipping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClippingRadius {
    /// This L2 norm.
    Fixed(#[schemars(range(max = 1.0e6), extend("exclusiveMinimum" = 0))] f64),
    /// The median distance of the updates.
    Auto(Auto),
}

impl ClippingRadius {
    /// The fixed radius; `None` where it follows the updates.
    pub fn fixed(self) -> Option<f64> {
        match self {
            Self::Fixed(radius) => Some(radius),
            Self::Auto(_) => None,
        }
    }
}
