//! Gaussian noise on a clipped sum.
//!
//! A clipped sum enters, and leaves with noise of standard deviation σC or a little more in every
//! coordinate, where C is the clipping norm and σ the noise multiplier. The result lies on a public
//! grid, so that the low-order bits of a floating-point number, which can betray the sum beneath the
//! noise (Mironov 2012), are not there.
//!
//! **Fast mode.** The noise is a double-precision Gaussian (ziggurat); the sum of both, in double
//! precision, is rounded to a multiple of g = 2^⌊log2(σC)⌋ / 2²⁰. Rounding is post-processing: it costs
//! nothing. What double precision leaves is a relative error of about 2⁻³⁰ in the probability of a grid
//! point.
//!
//! **Secure mode.** The sum is rounded to integer multiples of a grid g and gets *exact* discrete
//! Gaussian noise (`noise/discrete.rs`). Rounding comes before the noise, so it counts: for d coordinates, two
//! neighbouring sums that differ by at most C in L2 norm differ by at most Δ = C/g + √d grid steps
//! after rounding. The noise has the integer standard deviation ⌈σΔ⌉ in grid steps, so the noise
//! multiplier that was announced is the one that holds. The grid is the largest power of two with
//! g ≤ 2⁻¹⁴ C/√d and g ≤ 2⁻²⁰ σC; the first bounds the added noise by 0.0061 %.
//!
//! Discrete and continuous: with L2 sensitivity Δ, discrete Gaussian noise of standard deviation s on
//! integer vectors has the Rényi divergence αΔ²/(2s²) at every order α or less, as the continuous one
//! (Canonne, Kamath, Steinke 2020, theorem 14). For Poisson-sampled steps the accountants use the
//! continuous Gaussian. The point probabilities of the discrete Gaussian and of a continuous one
//! rounded to integers differ, over all d coordinates, by a factor within exp(±η) with
//! η = Σ(t² + 1)/(24 s²) to first order, t the noise in standard deviations (the mid-point rule; the
//! normalisation differs by exp(−2π²s²)). Since s ≥ 2¹⁴ σ√d and s ≥ 2²⁰, and Σt² ≤ d + 2√(50 d) + 100
//! but for a probability of e⁻⁵⁰, η < 10⁻⁹ max(1, 1/σ²) for every d. So ε changes by at most 2η per step:
//! by 2·10⁻⁴ max(1, 1/σ²) after 10⁵ steps.
//!
//! **Streams.** Coordinates are drawn in chunks of 2¹⁴, each from a generator of its own under the
//! step's key, so the bits do not depend on the number of threads.

mod discrete;
#[cfg(feature = "measure")]
pub mod measure;

use crate::error::DpError;
use crate::ledger::PaidStep;
use crate::plan::{DpPlan, ExpectedBatchSize};
use discrete::{DiscreteGaussian, Words};
use medfed_nn::ClippedSum;
use medfed_types::{ClipNorm, SecretKey};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::num::NonZeroU64;

/// Coordinates per stream.
const CHUNK: usize = 1 << 14;

/// The only sum that may leave a hospital: noise was added and paid for, or
/// [`danger`](crate::danger) says that there is none.
///
/// ```compile_fail,E0451
/// fn forged(divisor: medfed_dp::ExpectedBatchSize) -> medfed_dp::NoisedSum {
///     medfed_dp::NoisedSum { values: vec![0.5], divisor, private: true }
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NoisedSum {
    values: Vec<f32>,
    divisor: ExpectedBatchSize,
    private: bool,
}

impl NoisedSum {
    pub(crate) fn without_noise(values: Vec<f32>, divisor: ExpectedBatchSize) -> Self {
        Self { values, divisor, private: false }
    }

    /// The sum over the batch, one value per parameter.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The public divisor.
    pub fn divisor(&self) -> ExpectedBatchSize {
        self.divisor
    }

    /// Whether noise was added and paid for.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// The estimate of the mean gradient: the sum divided by the public divisor, in place.
    pub fn estimate(self) -> Vec<f32> {
        let Self { mut values, divisor, .. } = self;
        let scale = 1.0 / divisor.get();
        for value in &mut values {
            *value = (f64::from(*value) * scale) as f32;
        }
        values
    }
}

impl DpPlan {
    /// Adds the plan's noise to a sum.
    ///
    /// `site` is the hospital's own key; the noise is a function of it and of the paid step, which is used
    /// up. Refused are a sum that was clipped to another norm than the plan's, a step paid for under
    /// another plan, and a sum with a value that is not finite.
    #[expect(clippy::needless_pass_by_value, reason = "a step pays for one sum")]
    pub fn add_noise(&self, sum: ClippedSum, step: PaidStep, site: &SecretKey) -> Result<NoisedSum, DpError> {
        let terms = self.terms();
        let found = sum.clip();
        if found != terms.clip {
            return Err(DpError::ClipNorm { expected: terms.clip, found });
        }
        if !step.is_under(terms) {
            return Err(DpError::OtherTerms { round: step.round() });
        }
        let mut values = sum.into_values();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(DpError::NotFinite { index });
        }
        let key = step.key(site);
        if terms.secure_mode {
            SecureNoise::new(terms.clip, terms.noise.get(), values.len()).add(&mut values, &key);
        } else {
            FastNoise::new(terms.clip, terms.noise.get()).add(&mut values, &key);
        }
        Ok(NoisedSum { values, divisor: terms.expected_batch_size, private: true })
    }
}

/// Double-precision noise on a grid.
#[derive(Debug, Clone, Copy)]
struct FastNoise {
    /// σC.
    deviation: f64,
    /// A power of two.
    grid: f64,
}

impl FastNoise {
    fn new(clip: ClipNorm, noise: f64) -> Self {
        let deviation = clip.get() * noise;
        Self { deviation, grid: power_of_two_below(deviation) * 2f64.powi(-20) }
    }

    fn add(self, values: &mut [f32], key: &SecretKey) {
        let Self { deviation, grid } = self;
        // Doubles in [2^52, 2^53) grids are the multiples of the grid, so adding this rounds to the
        // nearest one. A result beyond 2^51 grids rounds to multiples of more when it becomes an f32.
        let rounding = 1.5 * 2f64.powi(52) * grid;
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
            let mut rng = Words::new(key.generator("gaussian noise", &[chunk as u64]));
            for value in values {
                let z: f64 = StandardNormal.sample(&mut rng);
                let noised = deviation * z + f64::from(*value);
                *value = ((noised + rounding) - rounding) as f32;
            }
        });
    }
}

/// Exact discrete Gaussian noise on an integer-quantised sum.
#[derive(Debug, Clone, Copy)]
struct SecureNoise {
    /// A power of two.
    grid: f64,
    sampler: DiscreteGaussian,
}

impl SecureNoise {
    fn new(clip: ClipNorm, noise: f64, coordinates: usize) -> Self {
        let root = (coordinates.max(1) as f64).sqrt();
        let finest = (clip.get() / root * 2f64.powi(-14)).min(noise * clip.get() * 2f64.powi(-20));
        let grid = power_of_two_below(finest);
        // One more step than √d covers the rounding of this line itself.
        let sensitivity = clip.get() / grid + root + 1.0;
        let deviation = (noise * sensitivity).ceil() as u64;
        let deviation = NonZeroU64::new(deviation).expect("the grid makes the deviation at least 2^20");
        Self { grid, sampler: DiscreteGaussian::new(deviation, NonZeroU64::MIN) }
    }

    /// Standard deviation of the noise, in units of the sum.
    #[cfg(test)]
    fn deviation(self) -> f64 {
        self.sampler.deviation() * self.grid
    }

    /// The nearest number of grid steps: exact up to 2^53 and saturating beyond, which brings
    /// neighbours no further apart.
    fn quantise(self, value: f32) -> i64 {
        (f64::from(value) / self.grid).round_ties_even() as i64
    }

    fn add(self, values: &mut [f32], key: &SecretKey) {
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
            let mut rng = Words::new(key.generator("discrete gaussian noise", &[chunk as u64]));
            for value in values {
                let noised = self.quantise(*value).saturating_add(self.sampler.sample(&mut rng));
                *value = (noised as f64 * self.grid) as f32;
            }
        });
    }
}

/// The largest power of two that is not above `value`, which is an ordinary positive number.
fn power_of_two_below(value: f64) -> f64 {
    f64::from_bits(value.to_bits() & (0x7ff << 52))
}

#[cfg(test)]
mod tests;
