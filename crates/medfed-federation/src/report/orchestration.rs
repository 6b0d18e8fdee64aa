//! What the orchestrator decided before a round, and what it saw after it.

use medfed_dp::{Decision, Strategy};
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};

/// The `orchestrator` object of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Orchestration {
    /// How the noise follows the budget.
    pub strategy: Strategy,
    /// One decision for each hospital that was drawn for the round or that left before it; none without
    /// privacy.
    pub decisions: Vec<SiteDecision>,
    /// Hospitals whose measurements are out of line.
    pub anomalies: Vec<Deviation>,
    /// What the watch over the measurements could not do.
    pub warnings: Vec<String>,
}

/// What was decided about one hospital.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteDecision {
    /// The hospital.
    pub hospital: SiteId,
    /// The decision.
    #[serde(flatten)]
    pub decision: Decision,
}

impl std::fmt::Display for SiteDecision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.hospital, self.decision)
    }
}

/// A number that a hospital reports of its local training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measurement {
    /// Mean training loss.
    TrainLoss,
    /// L2 norm of the update.
    UpdateNorm,
    /// Share of the sampled units whose gradient was clipped.
    ClippedFraction,
}

impl std::fmt::Display for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TrainLoss => "training loss",
            Self::UpdateNorm => "norm of the update",
            Self::ClippedFraction => "share of clipped gradients",
        })
    }
}

/// A measurement that is far from those of the other hospitals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// Whose.
    pub hospital: SiteId,
    /// Which.
    pub measurement: Measurement,
    /// Its value.
    pub value: f64,
    /// Mean over the hospitals.
    pub mean: f64,
    /// Distance from it in sample standard deviations.
    pub z_score: f64,
    /// The distance from which it counts.
    pub threshold: f64,
}

impl std::fmt::Display for Deviation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { hospital, measurement, value, mean, z_score, threshold } = self;
        let side = if *z_score < 0.0 { "below" } else { "above" };
        let distance = z_score.abs();
        write!(
            f,
            "{hospital}: the {measurement} {value:.4} is {distance:.1} standard deviations {side} the mean {mean:.4} (threshold {threshold})"
        )
    }
}
