//! Tails of the binomial distribution, and the exact interval of a proportion that rests on them.

use crate::Interval;

/// Bisections of a probability: far below the resolution of a double.
const BISECTIONS: u32 = 60;

/// P[X = k] for X ~ Binomial(n, p), 0 ≤ p ≤ 1.
pub(crate) fn mass(k: u64, n: u64, p: f64) -> f64 {
    if k > n {
        return 0.0;
    }
    if p <= 0.0 || p >= 1.0 {
        return f64::from(u8::from(k == if p <= 0.0 { 0 } else { n }));
    }
    let factorial = |x: u64| libm::lgamma(x as f64 + 1.0);
    let ways = factorial(n) - factorial(k) - factorial(n - k);
    (ways + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
}

/// P[X ≥ k] for X ~ Binomial(n, p), 0 ≤ p ≤ 1.
pub(crate) fn upper_tail(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if k > n || p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    // The smaller tail is summed, from its largest term outwards: the ratio of neighbours falls, so the
    // sum ends as soon as a term no longer counts.
    if k as f64 > n as f64 * p {
        let (mut term, mut sum, mut at) = (mass(k, n, p), 0.0, k);
        let odds = p / (1.0 - p);
        while at <= n && term > sum * 1e-18 {
            sum += term;
            term *= (n - at) as f64 / (at + 1) as f64 * odds;
            at += 1;
        }
        sum.min(1.0)
    } else {
        let (mut term, mut sum, mut at) = (mass(k - 1, n, p), 0.0, k - 1);
        let odds = (1.0 - p) / p;
        while term > sum * 1e-18 {
            sum += term;
            if at == 0 {
                break;
            }
            term *= at as f64 / (n - at + 1) as f64 * odds;
            at -= 1;
        }
        (1.0 - sum).max(0.0)
    }
}

/// A proportion with the two-sided 95 % interval of Clopper and Pearson (1934), which covers the truth at
/// least that often at every sample size. `total` is at least 1.
pub(crate) fn clopper_pearson(successes: u64, total: u64) -> Interval {
    let estimate = successes as f64 / total as f64;
    // Tails rise with p: the ends are where they cross 2.5 %.
    let crossing = |k: u64, level: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(low, high);
            if upper_tail(k, total, middle) < level { low = middle } else { high = middle }
        }
        f64::midpoint(low, high)
    };
    let lower = if successes == 0 { 0.0 } else { crossing(successes, 0.025) };
    let upper = if successes == total { 1.0 } else { crossing(successes + 1, 0.975) };
    Interval { estimate, lower: lower.min(estimate), upper: upper.max(estimate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_sums_of_masses() {
        for n in [1u64, 2, 7, 40] {
            for p in [0.0, 1e-9, 0.2, 0.5, 0.93, 1.0] {
                for k in 0..=n + 1 {
                    let sum: f64 = (k..=n).map(|at| mass(at, n, p)).sum();
                    assert!((upper_tail(k, n, p) - sum).abs() < 1e-12, "{k} of {n} at {p}");
                }
            }
        }
    }

    #[test]
    fn the_exact_interval_agrees_with_the_published_example() {
        // Newcombe 1998, Statistics in Medicine 17:857, table I, method 5.
        for (k, n, lower, upper) in [
            (81, 263, 0.2527, 0.3676),
            (15, 148, 0.0578, 0.1617),
            (0, 20, 0.0, 0.1684),
            (1, 29, 0.0009, 0.1776),
        ] {
            let found = clopper_pearson(k, n);
            assert!((found.lower - lower).abs() < 5e-5 && (found.upper - upper).abs() < 5e-5, "{found:?}");
        }
        assert_eq!(clopper_pearson(5, 5).upper, 1.0);
    }
}
