//! Checked scalars of differential privacy. Each is parsed once and is in range from then on.

use serde::{Deserialize, Serialize};

/// A scalar out of its range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{what} must be {expected}, not {found}")]
pub struct ScalarError {
    /// The quantity, in words.
    pub what: &'static str,
    /// Its range, in words.
    pub expected: &'static str,
    /// The value found.
    pub found: f64,
}

macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, |$v:ident| $ok:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// Checks the range.
            pub fn new(value: f64) -> Result<Self, ScalarError> {
                let $v = value;
                if $ok {
                    Ok(Self(value))
                } else {
                    Err(ScalarError { what: $what, expected: $expected, found: value })
                }
            }

            /// The value.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = ScalarError;
            fn try_from(value: f64) -> Result<Self, ScalarError> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

scalar!(
    /// L2 norm C to which each privacy unit's gradient is clipped.
    ClipNorm, "the clipping norm", "finite and above 0", |v| v.is_finite() && v > 0.0
);
scalar!(
    /// Standard deviation of the noise divided by the clipping norm (σ).
    NoiseMultiplier, "the noise multiplier", "finite and above 0", |v| v.is_finite() && v > 0.0
);
scalar!(
    /// Probability q with which each privacy unit joins a batch, independently.
    SamplingRate, "the sampling rate", "above 0 and at most 1", |v| v > 0.0 && v <= 1.0
);
scalar!(
    /// The ε of (ε, δ)-differential privacy. Infinity means that no bound is known.
    Epsilon, "epsilon", "0 or more", |v| v >= 0.0
);
scalar!(
    /// The δ of (ε, δ)-differential privacy.
    Delta, "delta", "above 0 and below 1", |v| v > 0.0 && v < 1.0
);

impl Epsilon {
    /// No privacy spent.
    pub const ZERO: Self = Self(0.0);

    /// For people: rounded *up* to `digits` decimals, so that print never understates.
    pub fn rounded_up(self, digits: u32) -> f64 {
        let scale = 10f64.powi(digits.cast_signed());
        let nearest = (self.0 * scale).round() / scale;
        // The nearest decimal may itself be the value, as for 1.23, whose product with 100 is not whole.
        if nearest >= self.0 { nearest } else { ((self.0 * scale).floor() + 1.0) / scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_and_nan_is_refused() {
        assert!(ClipNorm::new(0.0).is_err());
        assert!(NoiseMultiplier::new(f64::INFINITY).is_err());
        assert!(SamplingRate::new(1.0).is_ok());
        assert!(SamplingRate::new(1.0 + 1e-12).is_err());
        assert!(Epsilon::new(f64::INFINITY).is_ok());
        for bad in [f64::NAN, -1.0] {
            assert!(ClipNorm::new(bad).is_err());
            assert!(NoiseMultiplier::new(bad).is_err());
            assert!(SamplingRate::new(bad).is_err());
            assert!(Epsilon::new(bad).is_err());
            assert!(Delta::new(bad).is_err());
        }
    }

    #[test]
    fn epsilon_is_rounded_up() {
        assert_eq!(Epsilon::new(1.2301).unwrap().rounded_up(2), 1.24);
        assert_eq!(Epsilon::new(1.23).unwrap().rounded_up(2), 1.23);
        assert_eq!(Epsilon::new(1.23 + 1e-15).unwrap().rounded_up(2), 1.24);
        assert_eq!(Epsilon::new(f64::INFINITY).unwrap().rounded_up(2), f64::INFINITY);
        assert_eq!(Epsilon::ZERO.rounded_up(2).to_string(), "0");
    }
}
