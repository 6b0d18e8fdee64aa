//! Network descriptions and the CPU executor: forward, backward, per-unit norms, clipped sums.
//!
//! A [`ModelSpec`] builds a [`Network`], which says what is computed; an [`Executor`] computes it. What
//! leaves training is a [`ClippedSum`], which carries its own sensitivity, or a [`GradientSum`] when
//! there is no privacy. Parameters are one flat `f32` buffer laid out by the network's
//! [`ParameterLayout`](medfed_types::ParameterLayout).

pub mod checkpoint;
mod dropout;
mod error;
mod executor;
mod kernels;
mod models;
pub mod network;
pub mod optimizer;
pub mod schedule;
mod sums;
mod trainable;

pub use dropout::DropoutStream;
pub use error::NnError;
#[cfg(feature = "measure")]
pub use executor::measure;
pub use executor::{Executor, PerformanceOptions};
pub use models::{Architecture, ModelSpec};
pub use network::Network;
pub use sums::{ClippedSum, GradientSum};
pub use trainable::Trainable;
