//! Privacy loss distributions.

use super::{Phase, rdp};

/// ε of the phases at δ.
pub(super) fn epsilon(phases: &[Phase], delta: f64) -> f64 {
    rdp::epsilon(phases, delta)
}

/// δ of the phases at ε.
pub(super) fn delta(phases: &[Phase], epsilon: f64) -> f64 {
    rdp::delta(phases, epsilon)
}
