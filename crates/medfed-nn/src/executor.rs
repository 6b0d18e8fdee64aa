//! Runs a network on the CPU: logits, sums of gradients, clipped sums.

use crate::dropout::DropoutStream;
use crate::error::NnError;
use crate::network::Network;
use crate::sums::{ClippedSum, GradientSum};
use crate::trainable::Trainable;
use medfed_types::{Batch, ClipNorm, ImageSource};
use std::sync::Arc;

/// Choices that change speed and memory, and results at most in the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerformanceOptions {
    /// Images that go through the network together; chosen from the network's size if absent.
    pub micro_batch: Option<std::num::NonZeroUsize>,
}

/// The CPU executor of one network.
#[derive(Debug)]
pub struct Executor {
    network: Arc<Network>,
    options: PerformanceOptions,
}

impl Executor {
    /// An executor of the network.
    pub fn new(network: Arc<Network>, options: PerformanceOptions) -> Self {
        Self { network, options }
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Logits `[images, classes]` in evaluation mode.
    pub fn logits(
        &self,
        params: &[f32],
        images: &dyn ImageSource,
        indices: &[u32],
    ) -> Result<Vec<f32>, NnError> {
        todo!()
    }

    /// The sum of the batch's gradients, without privacy.
    pub fn gradient_sum(
        &self,
        params: &[f32],
        images: &dyn ImageSource,
        batch: &Batch,
        trainable: &Trainable,
        dropout: Option<DropoutStream>,
    ) -> Result<GradientSum, NnError> {
        todo!()
    }

    /// The sum of the units' gradients, each clipped to `clip`.
    pub fn clipped_sum(
        &self,
        params: &[f32],
        images: &dyn ImageSource,
        batch: &Batch,
        trainable: &Trainable,
        clip: ClipNorm,
        dropout: Option<DropoutStream>,
    ) -> Result<ClippedSum, NnError> {
        todo!()
    }
}
