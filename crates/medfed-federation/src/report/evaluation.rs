//! How well and how evenly the model serves hospitals and groups of patients.

use medfed_eval::fairness::FairnessReport;
use medfed_eval::{Details, Performance};
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `fairness` object of a round: the hospitals' validation images, and what followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundFairness {
    /// What was measured.
    #[serde(flatten)]
    pub measured: FairnessReport,
    /// Factors on the hospitals' weights in the next aggregation; a hospital that is not named has 1.
    pub weight_factors: BTreeMap<SiteId, f64>,
    /// Whether the run stops here.
    pub halts: bool,
}

/// Fairness of the model that the run saves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinalFairness {
    /// On the hospitals' validation images, from the counts that leave a hospital.
    pub validation: Option<FairnessReport>,
    /// On the common test set, with intervals by resampling patients.
    pub test: Option<FairnessReport>,
}

/// A hospital's validation of the model that the run saves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HospitalPerformance {
    /// The hospital.
    pub hospital: SiteId,
    /// Patients validated on; images where patients are not known or fairness is not measured.
    pub patients: u64,
    /// What was measured.
    pub performance: Performance,
}

/// Everything measured about the model that the run saves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinalEvaluation {
    /// At the hospitals, in the order of their names.
    pub hospitals: Vec<HospitalPerformance>,
    /// On the common test set, with intervals and curves; null without one.
    pub test: Option<Details>,
    /// Fairness; null when it is not measured.
    pub fairness: Option<FinalFairness>,
}
