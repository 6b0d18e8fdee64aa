//! Estimates with a 95 % confidence interval.

use serde::{Deserialize, Serialize};

/// The standard normal's 97.5 % quantile.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// An estimate with its two-sided 95 % confidence interval, all in 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub estimate: f64,
    /// The interval's lower end, at most `estimate`.
    pub lower: f64,
    /// The interval's upper end, at least `estimate`.
    pub upper: f64,
}

/// A proportion with Wilson's score interval (Wilson 1927). `total` is at least 1.
pub(crate) fn wilson(successes: u64, total: u64) -> Interval {
    let n = total as f64;
    let estimate = successes as f64 / n;
    let z2 = Z * Z;
    let centre = (estimate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (estimate * (1.0 - estimate) / n + z2 / (4.0 * n * n)).sqrt();
    // Rounding alone can put an end on the wrong side of an estimate of 0 or 1.
    Interval {
        estimate,
        lower: (centre - half).clamp(0.0, estimate),
        upper: (centre + half).clamp(estimate, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_the_published_example() {
        // Newcombe 1998, Statistics in Medicine 17:857, table I: 81/263 and 15/148, 0/20, 1/29.
        for (r, n, lower, upper) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let found = wilson(r, n);
            assert!((found.lower - lower).abs() < 5e-5 && (found.upper - upper).abs() < 5e-5, "{found:?}");
        }
        assert_eq!(wilson(20, 20).upper, 1.0);
    }
}
