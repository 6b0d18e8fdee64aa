//! A model on a set of images.

use crate::error::FederationError;
use medfed_eval::fairness::ReportedTally;
use medfed_eval::{Performance, Predictions};
use medfed_nn::Executor;
use medfed_types::ImageSource;
use serde::{Deserialize, Serialize};

/// What a hospital says about a model on its validation images. All of it is exact; differential privacy
/// does not cover it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteEvaluation {
    /// How well the model does.
    pub performance: Performance,
    /// Patients validated on; images where patients are not known or fairness is not measured.
    pub patients: u64,
    /// Counts by group of each attribute, small groups held back; empty when fairness is not measured.
    pub groups: Vec<ReportedTally>,
}

/// How well the network with `parameters` does on `images` of `data`; nothing when there are none.
pub fn evaluate(
    executor: &Executor,
    parameters: &[f32],
    data: &dyn ImageSource,
    images: &[u32],
) -> Result<Option<Performance>, FederationError> {
    Ok(predict(executor, parameters, data, images)?.as_ref().map(Performance::of))
}

/// What the network with `parameters` says about `images` of `data`; nothing when there are none.
pub fn predict(
    executor: &Executor,
    parameters: &[f32],
    data: &dyn ImageSource,
    images: &[u32],
) -> Result<Option<Predictions>, FederationError> {
    if images.is_empty() {
        return Ok(None);
    }
    let logits = executor.logits(parameters, data, images)?;
    let labels: Vec<u32> = images.iter().map(|index| data.label(*index as usize)).collect();
    let classes = executor.network().spec().classes;
    Ok(Some(Predictions::from_logits(&logits, &labels, classes)?))
}
