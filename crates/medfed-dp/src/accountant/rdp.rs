//! Rényi accounting of the Poisson-subsampled Gaussian, with the order optimised continuously.
//!
//! With q the sampling rate, σ the noise multiplier and r(z) = q·(exp(z/σ − 1/(2σ²)) − 1), a step's
//! moment of order α = 1 + θ is E[(1 + r(z))^α] over a standard normal z (Mironov, Talwar, Zhang 2019,
//! section 3.3; removing a unit is the worse direction for every order, theorem 5). Its logarithm adds
//! up over steps, and (Balle et al. 2020, theorem 21; Canonne, Kamath, Steinke 2020, proposition 12)
//!
//! ε = (Σ log-moments + ln(1/δ) + θ ln θ − α ln α) / θ
//!
//! holds for every θ > 0. The numerator is convex in θ, so ε has one minimum, which a golden-section
//! search finds.
//!
//! Because `E[r]` = 0, the moment is 1 + `E[(1 + r)^α − 1 − α r]`; the integrand is never negative, so
//! nothing cancels even where a moment differs from 1 by 1e-20. The trapezoidal rule integrates it: the
//! integrand is analytic in the strip |Im z| < πσ and no larger there than e^(y²/2) times its value on
//! the real line, so the error falls like exp(−2πy/Δ) and is below 1e-17 relative at the step Δ used.

use super::Phase;
use std::f64::consts::TAU;

/// Relative slack that covers rounding, the quadrature and what is cut off its range.
const SLACK: f64 = 1e-11;
/// Terms below e^-CUT of the largest are left out.
const CUT: f64 = 45.0;

/// The best bound and where it is reached.
pub(super) struct Bound {
    /// ε, never below 0.
    pub(super) epsilon: f64,
    /// θ, the order less one.
    pub(super) theta: f64,
}

/// ε of the phases at δ.
pub(super) fn epsilon(phases: &[Phase], delta: f64) -> f64 {
    best(phases, delta).epsilon
}

/// ε of the phases at δ, and the order that gives it.
pub(super) fn best(phases: &[Phase], delta: f64) -> Bound {
    if phases.is_empty() {
        return Bound { epsilon: 0.0, theta: 1.0 };
    }
    let Bound { epsilon, theta } = convert(delta, |theta| log_moments(phases, theta));
    // A total variation below δ needs no ε: it is at most √(1 − e^-KL) (Bretagnolle, Huber 1979).
    let indistinguishable = -f64::exp_m1(-divergence(phases)) <= delta * delta;
    Bound { epsilon: if indistinguishable { 0.0 } else { epsilon }, theta }
}

/// The same for adding a unit, which is never worse: E[(1 + r)^(−θ)] takes the moment's place.
pub(super) fn best_of_adding(phases: &[Phase], delta: f64) -> Bound {
    convert(delta, |theta| log_moments(phases, -1.0 - theta))
}

/// The best bound from the log-moments.
fn convert(delta: f64, log_moments: impl Fn(f64) -> f64) -> Bound {
    let objective = |theta: f64| (log_moments(theta) - delta.ln() + conversion(theta)) / theta;
    let theta = golden_section(objective);
    Bound { epsilon: objective(theta).max(0.0), theta }
}

/// δ of the phases at ε.
pub(super) fn delta(phases: &[Phase], epsilon: f64) -> f64 {
    if phases.is_empty() || epsilon == f64::INFINITY {
        return 0.0;
    }
    let objective = |theta: f64| log_moments(phases, theta) - theta * epsilon + conversion(theta);
    let by_order = objective(golden_section(objective)).exp();
    by_order.min((-f64::exp_m1(-divergence(phases))).sqrt())
}

/// Kullback-Leibler divergence of the phases, from above.
pub(super) fn divergence(phases: &[Phase]) -> f64 {
    const NEARLY_ZERO: f64 = 1e-9;
    log_moments(phases, NEARLY_ZERO) / NEARLY_ZERO
}

/// θ ln θ − α ln α.
fn conversion(theta: f64) -> f64 {
    // α ln α = α ln θ + α ln(1 + 1/θ), arranged so that large θ do not cancel.
    if theta > 1.0 {
        -theta.ln() - (theta + 1.0) * (1.0 / theta).ln_1p()
    } else {
        theta * theta.ln() - (theta + 1.0) * theta.ln_1p()
    }
}

/// The θ that minimises a function of θ with one minimum.
fn golden_section(objective: impl Fn(f64) -> f64) -> f64 {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let (mut low, mut high) = (1e-8_f64.ln(), 1e18_f64.ln());
    let at = |x: f64| objective(x.exp());
    let mut inner = (high - RATIO * (high - low), low + RATIO * (high - low));
    let mut values = (at(inner.0), at(inner.1));
    while high - low > 1e-7 {
        if values.0 <= values.1 {
            high = inner.1;
            inner = (high - RATIO * (high - low), inner.0);
            values = (at(inner.0), values.0);
        } else {
            low = inner.0;
            inner = (inner.1, low + RATIO * (high - low));
            values = (values.1, at(inner.1));
        }
    }
    (if values.0 <= values.1 { inner.0 } else { inner.1 }).exp()
}

/// Logarithm of the moment of order 1 + θ of all phases together, from above. Negative orders are those
/// of adding a unit.
fn log_moments(phases: &[Phase], theta: f64) -> f64 {
    phases
        .iter()
        .map(|phase| phase.steps as f64 * log_moment(phase.rate.get(), phase.noise.get(), theta))
        .sum::<f64>()
        * (1.0 + SLACK)
}

/// Logarithm of one step's moment of order 1 + θ.
fn log_moment(rate: f64, noise: f64, theta: f64) -> f64 {
    if rate >= 1.0 {
        return theta * (1.0 + theta) / (2.0 * noise * noise);
    }
    let step = Step { rate, noise, theta };
    let spacing = (0.4 * noise).min(0.5);
    let intervals = step.intervals();
    let (mut peak, mut sum, mut next) = (f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY);
    for (low, high) in intervals {
        // One grid for all intervals: together they are one trapezoidal rule with its gaps left out.
        let first = (low / spacing).floor().max(next);
        let last = (high / spacing).ceil();
        let mut node = first;
        while node <= last {
            let term = step.integrand(node * spacing);
            if term > peak {
                sum = sum * (peak - term).exp() + 1.0;
                peak = term;
            } else {
                sum += (term - peak).exp();
            }
            node += 1.0;
        }
        next = node;
    }
    let log_excess = peak + (sum * spacing / TAU.sqrt()).ln();
    if log_excess > 700.0 { log_excess } else { log_excess.exp().ln_1p() }
}

/// One step at one order.
struct Step {
    rate: f64,
    noise: f64,
    theta: f64,
}

impl Step {
    /// ln(1 + r(z)).
    fn log_ratio(&self, z: f64) -> f64 {
        let exponent = (z - 0.5 / self.noise) / self.noise;
        if exponent < 600.0 {
            (self.rate * exponent.exp_m1()).ln_1p()
        } else {
            let joined = exponent + self.rate.ln();
            if joined > 40.0 { joined } else { (joined.exp() - self.rate).ln_1p() }
        }
    }

    /// ln((1 + r)^α − 1 − α r) where ln(1 + r) is given.
    fn log_excess(&self, log_ratio: f64) -> f64 {
        let theta = self.theta;
        let power = theta * log_ratio;
        if power > 100.0 {
            return log_ratio + power;
        }
        let r = log_ratio.exp_m1();
        if theta.abs().max(1.0) * r.abs() < 1e-2 {
            // Taylor series; the first term left out is below 1e-13 of the sum.
            let mut series = 1.0;
            for order in (3..8).rev() {
                series = 1.0 + (theta + 2.0 - f64::from(order)) / f64::from(order) * r * series;
            }
            return 2.0 * r.abs().ln() + (0.5 * theta * (1.0 + theta) * series).ln();
        }
        if log_ratio > 1.0 {
            log_ratio + (power.exp_m1() + theta * (-log_ratio).exp_m1()).ln()
        } else {
            ((1.0 + r) * power.exp_m1() - theta * r).ln()
        }
    }

    /// Logarithm of the integrand, without the normal density's constant.
    fn integrand(&self, z: f64) -> f64 {
        self.log_excess(self.log_ratio(z)) - 0.5 * z * z
    }

    /// Where the integrand is not negligible, in order and apart. Its logarithm has its maxima near 0,
    /// near 2/σ and near z = α g/σ, where g is the share of the sampled part in the likelihood.
    fn intervals(&self) -> Vec<(f64, f64)> {
        let alpha = 1.0 + self.theta;
        let mut top = alpha / self.noise;
        for _ in 0..50 {
            let sampled =
                ((top - 0.5 / self.noise) / self.noise + self.rate.ln() - self.log_ratio(top)).exp();
            top = alpha / self.noise * sampled.min(1.0);
        }
        let centres = [0.0, 2.0 / self.noise, top.max(0.0)];
        let probes = centres.iter().flat_map(|centre| [centre - 0.7, *centre, centre + 0.7]);
        let mut peak = probes.map(|z| self.integrand(z)).fold(f64::NEG_INFINITY, f64::max);
        // Two points, because the integrand vanishes where r = 0.
        let mut counts = |z: f64, outward: f64| {
            let here = self.integrand(z).max(self.integrand(z + outward));
            peak = peak.max(here);
            here > peak - CUT
        };
        let mut intervals: Vec<(f64, f64)> = Vec::with_capacity(centres.len());
        for centre in centres {
            let (mut low, mut high) = (centre - 10.0, centre + 10.0);
            while counts(low, -1.0) {
                low -= 2.0;
            }
            while counts(high, 1.0) {
                high += 2.0;
            }
            intervals.push((low, high));
        }
        intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
        intervals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E[(1 + r)^α] for a whole order: Σ binomial(α, k) (1 − q)^(α−k) q^k exp(k(k − 1)/(2σ²)).
    fn whole_order(rate: f64, noise: f64, order: u32) -> f64 {
        let mut binomial = 1.0;
        let mut sum = 0.0;
        for k in 0..=order {
            let power = f64::from(k) * (f64::from(k) - 1.0) / (2.0 * noise * noise);
            sum += binomial * (1.0 - rate).powf(f64::from(order - k)) * rate.powf(f64::from(k)) * power.exp();
            binomial *= f64::from(order - k) / f64::from(k + 1);
        }
        sum.ln()
    }

    #[test]
    fn moments_of_whole_orders_have_their_closed_form() {
        for rate in [1e-6, 0.001, 0.03, 0.5, 0.999] {
            for noise in [0.4, 1.0, 5.0, 50.0] {
                for order in [2, 3, 7, 20, 64] {
                    let exact = whole_order(rate, noise, order);
                    if !exact.is_finite() {
                        continue;
                    }
                    let found = log_moment(rate, noise, f64::from(order) - 1.0);
                    // The closed form itself is 1 plus something, to 1e-16.
                    assert!(
                        (found - exact).abs() < 1e-11 * exact + 1e-14,
                        "{rate} {noise} {order}: {found} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn second_moment_keeps_its_digits_where_it_is_tiny() {
        // E[r²] = q²(exp(1/σ²) − 1), down to 1e-16 and below.
        for (rate, noise) in [(1e-6, 1.0), (1e-6, 100.0), (1e-9, 0.5), (0.01, 100.0)] {
            let exact = (rate * rate * f64::exp_m1(1.0 / (noise * noise))).ln_1p();
            let found = log_moment(rate, noise, 1.0);
            assert!((found / exact - 1.0).abs() < 1e-10, "{rate} {noise}: {found} {exact}");
        }
    }

    #[test]
    fn adding_has_its_second_moment_too() {
        // E_P[Q/P] = 1 at θ = −1 + 0, and E_Q[Q/P] ≥ 1 by Jensen, below removing's E_P[P/Q].
        for (rate, noise) in [(0.01, 0.5), (0.3, 1.0), (0.9, 2.0)] {
            let adding = log_moment(rate, noise, -2.0);
            assert!(adding > 0.0 && adding < log_moment(rate, noise, 1.0), "{rate} {noise}: {adding}");
        }
    }
}
