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
    score_interval(successes as f64 / total as f64, total as f64)
}

/// A proportion of images that belong to patients, `clusters[patient] = (successes, images)`: Wilson's
/// interval at the effective number of images n/deff (Korn & Graubard 1998), deff being the variance of the
/// ratio over patients, by linearisation, over that of independent images, and at least 1. Where all images
/// agree there is no variance to compare, and patients count. `total` is at least 1.
pub(crate) fn effective_wilson(successes: u64, total: u64, clusters: &[(u64, u64)]) -> Interval {
    let (n, patients) = (total as f64, clusters.len() as f64);
    let p = successes as f64 / n;
    if clusters.len() as u64 == total {
        return wilson(successes, total);
    }
    if successes == 0 || successes == total || clusters.len() < 2 {
        return score_interval(p, patients.min(n));
    }
    let residuals = clusters.iter().map(|(hits, images)| (*hits as f64 - p * *images as f64).powi(2));
    let variance = residuals.sum::<f64>() * patients / (patients - 1.0) / (n * n);
    let effect = (variance / (p * (1.0 - p) / n)).max(1.0);
    score_interval(p, n / effect)
}

/// Wilson's interval around `estimate` with `n` observations, which need not be a whole number.
fn score_interval(estimate: f64, n: f64) -> Interval {
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

/// The difference of two independent proportions, each `(successes, total)` with a total of at least 1:
/// Newcombe's hybrid score interval (Statistics in Medicine 17:873, 1998, method 10), -1 to 1.
pub(crate) fn newcombe_difference(a: (u64, u64), b: (u64, u64)) -> [f64; 2] {
    let (a, b) = (wilson(a.0, a.1), wilson(b.0, b.1));
    let difference = a.estimate - b.estimate;
    [
        difference - (a.estimate - a.lower).hypot(b.upper - b.estimate),
        difference + (a.upper - a.estimate).hypot(b.estimate - b.lower),
    ]
}

/// The ratio of two independent proportions, each `(successes, total)` with a total of at least 1: Katz'
/// interval on the logarithmic scale (Katz et al., Biometrics 34:469, 1978), with half a success and half a
/// failure added to each where there is a proportion of 0, or both are 1: the variance would be 0.
pub(crate) fn katz(a: (u64, u64), b: (u64, u64)) -> [f64; 2] {
    let certain = a.0 == a.1 && b.0 == b.1;
    let more = if a.0 == 0 || b.0 == 0 || certain { 0.5 } else { 0.0 };
    let part = |(successes, total): (u64, u64)| (successes as f64 + more, total as f64 + 2.0 * more);
    let ((x, m), (y, n)) = (part(a), part(b));
    let log = ((x / m) / (y / n)).ln();
    let half = Z * (1.0 / x - 1.0 / m + 1.0 / y - 1.0 / n).max(0.0).sqrt();
    // With an added half the estimate itself may lie outside.
    let lower = if a.0 == 0 { 0.0 } else { (log - half).exp() };
    [lower, (log + half).exp()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_agree_with_the_published_example() {
        // Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 - 48/80, 9/10 - 3/10,
        // 10/10 - 0/20.
        for (a, b, lower, upper) in [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((10, 10), (0, 20), 0.6791, 1.0),
        ] {
            let [low, high] = newcombe_difference(a, b);
            assert!((low - lower).abs() < 5e-5 && (high - upper).abs() < 5e-5, "{low} {high}");
        }
    }

    #[test]
    fn ratios_have_an_interval_also_at_zero() {
        // By hand: ln 2 ± z·sqrt(1/20 - 1/50 + 1/10 - 1/50).
        let half = Z * 0.11f64.sqrt();
        let [low, high] = katz((20, 50), (10, 50));
        assert!((low - 2.0 * (-half).exp()).abs() < 1e-12 && (high - 2.0 * half.exp()).abs() < 1e-12);
        let [low, high] = katz((0, 20), (10, 20));
        assert!(low == 0.0 && high > 0.0 && high < 1.0);
        assert!(katz((5, 20), (0, 20))[1].is_finite());
        let [low, high] = katz((15, 15), (31, 31));
        assert!(low > 0.85 && low < 0.98 && high > 1.02 && high < 1.15, "{low} {high}");
    }

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
