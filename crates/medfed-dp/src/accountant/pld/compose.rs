//! The loss of all steps together.
//!
//! A distribution p on the grid is tilted to p(s)·exp(θs)/M(θ), with M its moment generating function;
//! tilted distributions compose like plain ones. With θ at the saddle point of the δ asked for, the
//! tilted composition is centred near the ε looked for, where the plain one has almost no mass, and
//!
//! δ(ε) = infinite + Π M(θ)^T · Σ over s > ε of tilted(s)·e^(−θs)·(1 − e^(ε−s)).
//!
//! Masses at plain probability 1e-12 are thus computed to a relative, not an absolute, 1e-16.

use super::step::StepLoss;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// Most points of the transform: 16 MiB a buffer.
pub(super) const MOST_POINTS: f64 = 2_097_152.0;
/// Logarithm of the tilted mass that may lie beyond either end of the window.
const LOG_OUTSIDE: f64 = -25.0;
/// Unit roundoff of double precision.
const ROUNDOFF: f64 = 0.5 * f64::EPSILON;

/// What the composition is to be accurate for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// Finding ε at this δ.
    Delta(f64),
    /// Finding δ at this ε.
    Epsilon(f64),
}

/// The tilted composition on a window of the grid.
pub(super) struct Composition {
    spacing: f64,
    /// The tilt θ.
    theta: f64,
    /// Loss of the first mass.
    start: f64,
    /// The mean loss, near the ε looked for.
    mean: f64,
    /// Tilted masses, from above.
    masses: Vec<f64>,
    /// ln Π M(θ)^T with the masses' slack.
    log_scale: f64,
    /// Mass counted as infinite loss, plain.
    infinite: f64,
}

/// The steps' cumulant generating functions.
struct Cumulants<'a> {
    losses: &'a [(StepLoss, u64)],
    /// Logarithms of the masses of each.
    logs: Vec<Vec<f64>>,
    spacing: f64,
}

/// ln M at one θ with its first two derivatives.
#[derive(Debug, Clone, Copy, Default)]
struct Cumulant {
    value: f64,
    mean: f64,
    variance: f64,
}

impl Cumulants<'_> {
    /// One step of phase `phase`.
    fn of(&self, phase: usize, theta: f64) -> Cumulant {
        let masses = &self.losses[phase].0.masses;
        let rate = theta * self.spacing;
        let powers = || {
            masses.iter().zip(&self.logs[phase]).map(|((at, _), log)| (*at as f64, log + rate * *at as f64))
        };
        let peak = powers().fold(f64::NEG_INFINITY, |peak, (_, power)| peak.max(power));
        let first = masses[0].0 as f64;
        let (mut sum, mut moment, mut square) = (0.0, 0.0, 0.0);
        for (at, power) in powers() {
            let (weight, place) = ((power - peak).exp(), at - first);
            sum += weight;
            moment += weight * place;
            square += weight * place * place;
        }
        let mean = moment / sum;
        Cumulant {
            value: peak + f64::ln(sum),
            mean: self.spacing * (first + mean),
            variance: self.spacing * self.spacing * (square / sum - mean * mean).max(0.0),
        }
    }

    /// All steps.
    fn total(&self, theta: f64) -> Cumulant {
        self.losses.iter().enumerate().fold(Cumulant::default(), |total, (phase, (_, steps))| {
            let (one, steps) = (self.of(phase, theta), *steps as f64);
            Cumulant {
                value: total.value + steps * one.value,
                mean: total.mean + steps * one.mean,
                variance: total.variance + steps * one.variance,
            }
        })
    }

    /// A θ near the saddle point of the goal, and the cumulant there.
    fn tilt(&self, goal: Goal, guess: f64) -> (f64, Cumulant) {
        // Increases in θ, negative below the saddle point, with its derivative in ln θ; from -1 to 1 it
        // is near enough.
        let miss = |theta: f64, at: Cumulant| match goal {
            Goal::Delta(delta) => {
                let wanted = -delta.ln();
                let near = 0.03 * wanted + 0.05;
                ((theta * at.mean - at.value - wanted) / near, theta * theta * at.variance / near)
            }
            Goal::Epsilon(epsilon) => {
                let near = 0.2 * at.variance.sqrt() + self.spacing;
                ((at.mean - epsilon) / near, theta * at.variance / near)
            }
        };
        // Beyond a tilt of e^8 a grid point nothing but the last point counts.
        let most = 8.0 / self.spacing;
        let mut theta = guess.min(most);
        let mut at = self.total(theta);
        let (mut low, mut high) = (0.0, most);
        for _ in 0..40 {
            let (missed, slope) = miss(theta, at);
            if missed.abs() <= 1.0 || (missed < 0.0 && theta >= most) {
                break;
            }
            *(if missed < 0.0 { &mut low } else { &mut high }) = theta;
            // Newton's step in ln θ, at most a factor of 4, and bisection where it leaves the bracket.
            theta *= (-missed / slope).clamp(-1.4, 1.4).exp();
            if theta <= low || theta > high {
                theta = if low > 0.0 { (low * high).sqrt() } else { 0.25 * high };
            }
            at = self.total(theta);
        }
        (theta, at)
    }

    /// Ends of a window outside of which the tilted composition has at most e^LOG_OUTSIDE on either side
    /// (Chernoff): P(S ≥ b) ≤ exp(K(θ + η) − K(θ) − ηb) for every η > 0, and likewise below.
    fn window(&self, theta: f64, at: Cumulant) -> (f64, f64) {
        let bound = |eta: f64| (self.total(theta + eta).value - at.value - LOG_OUTSIDE) / eta;
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        // The best η of a normal distribution, and smaller ones for heavier tails.
        let best = (-2.0 * LOG_OUTSIDE / at.variance.max(1e-6 * self.spacing * self.spacing)).sqrt();
        for factor in [1.0, 0.4, 0.1, 0.02] {
            let (up, down) = (bound(factor * best), bound(-factor * best));
            high = if up.is_finite() { high.min(up) } else { high };
            low = if down.is_finite() { low.max(down) } else { low };
        }
        let (mut least, mut most) = (0.0, 0.0);
        for (loss, steps) in self.losses {
            if let [(first, _), .., (last, _)] = loss.masses[..] {
                least += *steps as f64 * first as f64 * self.spacing;
                most += *steps as f64 * last as f64 * self.spacing;
            }
        }
        (low.max(least), high.min(most))
    }
}

impl Composition {
    /// Composes steps, each with its number of repetitions, on a grid of the given spacing. Nothing when
    /// the window would have more than [`MOST_POINTS`].
    pub(super) fn new(losses: &[(StepLoss, u64)], spacing: f64, goal: Goal, guess: f64) -> Option<Self> {
        // 1. The tilt and the window.
        let logs =
            losses.iter().map(|(loss, _)| loss.masses.iter().map(|(_, mass)| mass.ln()).collect()).collect();
        let cumulants = Cumulants { losses, logs, spacing };
        let (theta, at) = cumulants.tilt(goal, guess);
        let (low, high) = cumulants.window(theta, at);
        let start = (low / spacing).floor();
        let points = (high / spacing).ceil() - start + 1.0;
        if points.is_nan() || points > MOST_POINTS {
            return None;
        }
        let length = (points as usize).next_power_of_two().max(16);
        let mut planner = RealFftPlanner::<f64>::new();
        // 2. The tilted steps, transformed and raised to their powers.
        let transform = planner.plan_fft_forward(length);
        let mut product = vec![Complex::new(1.0, 0.0); length / 2 + 1];
        // Relative error of each value of the product, in the course of the powers.
        let mut errors = vec![0.0; product.len()];
        // A sum of `length` terms in log₂ stages of at most 8 roundings each.
        let stage_error = 8.0 * ROUNDOFF * (f64::from(length.ilog2()) + 2.0);
        let (mut input, mut spectrum) = (transform.make_input_vec(), transform.make_output_vec());
        let mut scratch = transform.make_scratch_vec();
        let mut origin = 0.0;
        for (phase, (loss, steps)) in losses.iter().enumerate() {
            let one = cumulants.of(phase, theta);
            // Centred on its mean, so that the phases of the spectrum stay small.
            let centre = (one.mean / spacing).round();
            input.fill(0.0);
            for ((at, _), log) in loss.masses.iter().zip(&cumulants.logs[phase]) {
                let slot = (*at as f64 - centre).rem_euclid(length as f64) as usize;
                input[slot] += (log + theta * spacing * *at as f64 - one.value).exp();
            }
            let sized = transform.process_with_scratch(&mut input, &mut spectrum, &mut scratch);
            sized.expect("the buffers were made for this transform");
            raise(&mut product, &mut errors, &spectrum, *steps as f64, stage_error);
            origin += *steps as f64 * centre;
        }
        // 3. Back, with a bound on the error of every mass.
        let mut error = f64::EPSILON * 1e-3;
        for (value, relative) in product.iter().zip(&errors) {
            error += 2.0 * value.norm() * (relative + stage_error);
        }
        error /= length as f64;
        let inverse = planner.plan_fft_inverse(length);
        let last = product.len() - 1;
        (product[0].im, product[last].im) = (0.0, 0.0);
        let mut scratch = inverse.make_scratch_vec();
        let sized = inverse.process_with_scratch(&mut product, &mut input, &mut scratch);
        sized.expect("the buffers were made for this transform");
        let shift = (start - origin).rem_euclid(length as f64) as usize;
        input.rotate_left(shift % length);
        for mass in &mut input {
            *mass = mass.max(0.0) / length as f64 + error;
        }
        // 4. What was left out.
        let steps = || losses.iter().map(|(loss, steps)| (loss, *steps as f64));
        let log_scale = at.value + steps().map(|(loss, steps)| steps * (loss.slack + 1e-14)).sum::<f64>();
        let end = spacing * (start + length as f64);
        let beyond = (log_scale - theta * end + LOG_OUTSIDE).exp();
        let infinite = steps().map(|(loss, steps)| steps * loss.infinite).sum::<f64>() + beyond;
        Some(Self {
            spacing,
            theta,
            start: start * spacing,
            mean: at.mean,
            masses: input,
            log_scale,
            infinite,
        })
    }

    /// The tilt θ.
    pub(super) fn theta(&self) -> f64 {
        self.theta
    }

    /// The least ε ≥ 0 at which δ(ε) is at most `delta`; infinite when the infinite losses exceed it.
    pub(super) fn epsilon(&self, delta: f64) -> f64 {
        let left = delta - self.infinite;
        if left <= 0.0 {
            return f64::INFINITY;
        }
        // δ in the scale of the tilted masses, in which it is an ordinary number near the mean.
        let goal = (left.ln() - self.log_scale + self.theta * self.mean).exp();
        let (shrink, grow) = ((-self.spacing).exp(), -(-self.spacing).exp_m1());
        // At a grid point p: `excess` is δ(p) and `weight` is Σ over s > p of mass(s)·e^(p−s).
        let (mut excess, mut weight) = (0.0, 0.0);
        for (index, mass) in self.masses.iter().enumerate().rev() {
            let loss = self.start + index as f64 * self.spacing;
            if loss <= 0.0 {
                return 0.0;
            }
            weight += mass * (-self.theta * (loss - self.mean)).exp();
            let below = excess + grow * weight;
            if below > goal {
                // In the cell below this point δ(ε) = excess + (1 − e^(ε−loss))·weight.
                return (loss + (-(goal - excess) / weight).ln_1p()).max(0.0);
            }
            (excess, weight) = (below, shrink * weight);
        }
        // The window ends before δ is reached: its start is a valid, if loose, answer.
        self.start.max(0.0)
    }

    /// δ(ε).
    pub(super) fn delta(&self, epsilon: f64) -> f64 {
        let mut sum = 0.0;
        for (index, mass) in self.masses.iter().enumerate().rev() {
            let over = self.start + index as f64 * self.spacing - epsilon;
            if over <= 0.0 {
                break;
            }
            sum -= mass * (-self.theta * over).exp() * (-over).exp_m1();
        }
        self.infinite + (self.log_scale - self.theta * epsilon + sum.ln()).exp()
    }
}

/// Multiplies `product` by `spectrum` to the power `steps` and adds to the relative `errors`.
fn raise(
    product: &mut [Complex<f64>],
    errors: &mut [f64],
    spectrum: &[Complex<f64>],
    steps: f64,
    error: f64,
) {
    for ((value, relative), base) in product.iter_mut().zip(errors).zip(spectrum) {
        let log_size = 0.5 * base.norm_sqr().ln();
        if steps * log_size <= -100.0 {
            // Below e^-100: smaller than the rounding errors that are counted.
            *value = Complex::new(0.0, 0.0);
            continue;
        }
        let angle = base.arg();
        *value *= Complex::from_polar((steps * log_size).exp(), steps * angle);
        *relative += steps * (error / log_size.exp() + ROUNDOFF * (4.0 + 2.0 * angle.abs())) + 4.0 * ROUNDOFF;
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::Direction;
    use super::*;

    /// δ(ε) by plain convolution.
    fn convolved(losses: &[(StepLoss, u64)], spacing: f64, epsilon: f64) -> f64 {
        let mut all = std::collections::BTreeMap::from([(0_i64, 1.0)]);
        let mut infinite = 0.0;
        for (loss, steps) in losses {
            for _ in 0..*steps {
                let mut next = std::collections::BTreeMap::new();
                for (at, mass) in &all {
                    for (by, share) in &loss.masses {
                        *next.entry(at + by).or_insert(0.0) += mass * share;
                    }
                }
                (all, infinite) = (next, infinite + loss.infinite);
            }
        }
        let over = |at: i64| -f64::exp_m1(epsilon - at as f64 * spacing);
        infinite + all.iter().map(|(at, mass)| mass * over(*at).max(0.0)).sum::<f64>()
    }

    #[test]
    fn the_transform_agrees_with_plain_convolution() {
        let spacing = 0.02;
        let loss =
            |rate, noise, direction| StepLoss::new(rate, noise, direction, spacing, 1e-16, 1e6).unwrap();
        for direction in [Direction::Remove, Direction::Add] {
            let losses = [
                (loss(0.2, 1.0, direction), 5),
                (loss(1.0, 3.0, direction), 2),
                (loss(0.05, 0.6, direction), 1),
            ];
            for delta in [1e-2, 1e-5, 1e-10] {
                let composition = Composition::new(&losses, spacing, Goal::Delta(delta), 1.0).unwrap();
                let epsilon = composition.epsilon(delta);
                let exact = convolved(&losses, spacing, epsilon);
                assert!((exact / delta - 1.0).abs() < 1e-7, "{direction:?} {delta}: {exact}");
                // From above, as far as rounding goes.
                assert!(exact <= delta * (1.0 + 1e-12));
                assert!((composition.delta(epsilon) / delta - 1.0).abs() < 1e-9);
            }
        }
    }
}
