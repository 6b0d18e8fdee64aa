//! The escape from the promise: sums that leave without noise.
//!
//! Whoever calls this says in every output, and in the audit log, that no privacy was applied.

use crate::noise::NoisedSum;
use crate::plan::ExpectedBatchSize;
use medfed_nn::GradientSum;

/// Releases a sum of gradients as it is, for training without privacy (`privacy.enabled: false`).
/// [`NoisedSum::is_private`] of the result is false. The divisor may be the batch's actual size here.
pub fn without_noise(sum: GradientSum, divisor: ExpectedBatchSize) -> NoisedSum {
    NoisedSum::without_noise(sum.into_values(), divisor)
}
