//! A model on a set of images.

use crate::error::FederationError;
use medfed_eval::{Performance, Predictions};
use medfed_nn::Executor;
use medfed_types::ImageSource;

/// How well the network with `parameters` does on `images` of `data`; nothing when there are none.
pub fn evaluate(
    executor: &Executor,
    parameters: &[f32],
    data: &dyn ImageSource,
    images: &[u32],
) -> Result<Option<Performance>, FederationError> {
    if images.is_empty() {
        return Ok(None);
    }
    let logits = executor.logits(parameters, data, images)?;
    let labels: Vec<u32> = images.iter().map(|index| data.label(*index as usize)).collect();
    let classes = executor.network().spec().classes;
    Ok(Some(Performance::of(&Predictions::from_logits(&logits, &labels, classes)?)))
}
