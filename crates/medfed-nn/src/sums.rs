//! What the executor hands over: sums of gradients over a batch, clipped per privacy unit or not.

use medfed_types::ClipNorm;

/// The sum over a batch of the gradients of the cross-entropy. It protects nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientSum {
    pub(crate) values: Vec<f32>,
    pub(crate) loss_sum: f64,
    pub(crate) images: usize,
}

impl GradientSum {
    /// One value per parameter, in the layout's order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values alone.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Sum over the images of the cross-entropy, in nats.
    pub fn loss_sum(&self) -> f64 {
        self.loss_sum
    }

    /// Images in the batch.
    pub fn images(&self) -> usize {
        self.images
    }
}

/// The sum over a batch of the units' gradients, each scaled down to the clipping norm C where it was
/// longer. Adding or removing one unit moves it by at most C in L2 norm; that is all the protection it
/// gives, and it must not leave the site without noise.
///
/// A unit whose gradient is not finite contributes nothing.
#[derive(Clone, PartialEq)]
pub struct ClippedSum {
    pub(crate) values: Vec<f32>,
    pub(crate) clip: ClipNorm,
    pub(crate) loss_sum: f64,
    pub(crate) images: usize,
    pub(crate) unit_norms: Vec<f64>,
}

impl ClippedSum {
    /// One value per parameter, in the layout's order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values alone.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The clipping norm C: the L2 sensitivity of the sum.
    pub fn clip(&self) -> ClipNorm {
        self.clip
    }

    /// Units in the batch.
    pub fn units(&self) -> usize {
        self.unit_norms.len()
    }

    /// Images in the batch.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Sum over the images of the cross-entropy, in nats. Not clipped, so not for release.
    pub fn loss_sum(&self) -> f64 {
        self.loss_sum
    }

    /// L2 norm of each unit's gradient before clipping, in batch order. Not for release.
    pub fn unit_norms(&self) -> &[f64] {
        &self.unit_norms
    }

    /// Units whose gradient was longer than C. Not for release.
    pub fn clipped_units(&self) -> usize {
        self.unit_norms.iter().filter(|norm| norm.is_finite() && **norm > self.clip.get()).count()
    }

    /// Units whose gradient was not finite and that contribute nothing. Not for release.
    pub fn non_finite_units(&self) -> usize {
        self.unit_norms.iter().filter(|norm| !norm.is_finite()).count()
    }
}

/// Prints counts and no values: a clipped sum is still private.
impl std::fmt::Debug for ClippedSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClippedSum")
            .field("parameters", &self.values.len())
            .field("clip", &self.clip)
            .field("units", &self.units())
            .finish_non_exhaustive()
    }
}

/// Shrinks every clip factor a little, so that a clipped contribution stays within C after all rounding:
/// norms are computed from f32 products (relative error below 1e-5 over all layers and both methods),
/// the scaled values are rounded once more.
const MARGIN: f64 = 1.0 - 2e-5;

/// The factor `min(1, C / norm)` of a unit, with the margin where it clips; 0 if the norm is not finite.
pub(crate) fn clip_factor(norm: f64, clip: ClipNorm) -> f32 {
    if !norm.is_finite() {
        0.0
    } else if norm <= clip.get() * MARGIN {
        1.0
    } else {
        (clip.get() * MARGIN / norm) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_never_lengthen_and_never_pass_the_norm() {
        let clip = ClipNorm::new(1.5).unwrap();
        assert_eq!(clip_factor(1.0, clip), 1.0);
        assert_eq!(clip_factor(0.0, clip), 1.0);
        assert_eq!(clip_factor(f64::NAN, clip), 0.0);
        assert_eq!(clip_factor(f64::INFINITY, clip), 0.0);
        for norm in [1.49999, 1.5, 1.50001, 3.0, 1e20, 1e300] {
            let factor = f64::from(clip_factor(norm, clip));
            assert!(factor * norm <= 1.5 && factor <= 1.0, "{norm}");
        }
    }
}
