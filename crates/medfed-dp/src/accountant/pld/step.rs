//! The privacy loss of one step on a grid.
//!
//! With q the sampling rate, σ the noise multiplier and z standard normal, the noised sum of a step is
//! Q = N(0, 1) without the unit and P = (1 − q) N(0, 1) + q N(1/σ, 1) with it, in units of the noise.
//! The loss of removing the unit is L(z) = ln(P/Q) = ln(1 − q + q·exp(z/σ − 1/(2σ²))) with z from P, the
//! loss of adding it is −L(z) with z from Q.
//!
//! Connect-the-dots moves the mass of each cell [ε₀, ε₁] of the grid to its two ends such that both its
//! probability under P and under Q stay what they are. The shares are integrals of the positive
//! functions φ(z)(e^L − e^ε₀) and φ(z)(e^ε₁ − e^L); with D = e^ε − (1 − q) they are φ·D·|exp((z − z_end)/σ)
//! − 1|, which Gauss-Legendre quadrature integrates without cancellation. A mass at ε of the one
//! direction is the mass times e^−ε at −ε of the other.

//!
//! Cells are one grid spacing wide near 0, where the steps' bulk lies, and grow to 1/512 of the loss in
//! the tail: rare losses need no finer grid, and the number of cells stays small.

use std::f64::consts::{SQRT_2, TAU};

/// Beyond this many standard deviations the normal density is 0 in double precision.
const BEYOND: f64 = 39.0;
/// Widest cells: a share of the loss, and an absolute width.
const WIDEST: (f64, f64) = (1.0 / 512.0, 0.02);

/// Whether the unit is in the data that the step saw, or only in its neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The data have the unit.
    Remove,
    /// The neighbour has it.
    Add,
}

/// Distribution of one step's loss in one direction.
pub(super) struct StepLoss {
    /// Grid index and mass, in rising order. Masses are at least the true ones up to `slack`.
    pub(super) masses: Vec<(i64, f64)>,
    /// Mass of the losses beyond the grid, counted as infinite.
    pub(super) infinite: f64,
    /// Bound on the relative error of the masses.
    pub(super) slack: f64,
}

impl StepLoss {
    /// Discretises a step on a grid of the given spacing, up to tails of mass `tail`. Nothing when the
    /// grid would have more than `most` points.
    pub(super) fn new(
        rate: f64,
        noise: f64,
        direction: Direction,
        spacing: f64,
        tail: f64,
        most: f64,
    ) -> Option<Self> {
        let step = Step { rate, noise };
        // 1. The losses to cover: all but mass `tail` of either direction.
        let low_tail = solve(|z| below(z) <= tail, 0.0, -BEYOND);
        let high_tail = solve(|z| step.above(z) <= tail, 0.0, BEYOND + 1.0 / noise);
        let lowest = step.loss(low_tail).max(step.least_loss());
        let (first, last) = ((lowest / spacing).floor(), (step.loss(high_tail) / spacing).ceil());
        let points = last - first;
        if points.is_nan() || points >= most {
            return None;
        }
        let (first, last) = (first as i64, last as i64);
        // 2. The shares of each cell.
        let bottom = step.edge(first as f64 * spacing);
        let (mut index, mut low) = (first, bottom);
        let mut masses = vec![(first, 0.0)];
        while index < last || index == first {
            let cells = (index.unsigned_abs() as f64 * WIDEST.0).min(WIDEST.1 / spacing).max(1.0);
            let next = index + (1_i64 << cells.log2() as u32);
            let high = step.edge(next as f64 * spacing);
            let width = (next - index) as f64 * spacing;
            let (to_low, to_high) = step.shares(direction, &low, &high);
            if let Some((_, mass)) = masses.last_mut() {
                *mass += to_low / width.exp_m1();
            }
            masses.push((next, to_high / -(-width).exp_m1()));
            (index, low) = (next, high);
        }
        // 3. Losses below the grid count as its lowest, losses above it as infinite.
        let infinite = match direction {
            Direction::Remove => {
                masses[0].1 += step.below(bottom.z);
                step.above(low.z)
            }
            Direction::Add => {
                masses.reverse();
                for (index, _) in &mut masses {
                    *index = -*index;
                }
                masses[0].1 += above(low.z);
                below(bottom.z)
            }
        };
        let sum: f64 = masses.iter().map(|(_, mass)| mass).sum();
        Some(Self { masses, infinite, slack: (sum + infinite - 1.0).abs() + 1e-14 })
    }
}

/// One end of a cell.
#[derive(Clone, Copy)]
struct Edge {
    /// The loss there, ε.
    loss: f64,
    /// Where the loss is reached; minus infinity below the least loss.
    z: f64,
    /// ln D, or nothing below the least loss.
    log_distance: Option<f64>,
}

struct Step {
    rate: f64,
    noise: f64,
}

impl Step {
    /// L(z).
    fn loss(&self, z: f64) -> f64 {
        let exponent = (z - 0.5 / self.noise) / self.noise;
        if self.rate >= 1.0 {
            exponent
        } else if exponent < 600.0 {
            (self.rate * exponent.exp_m1()).ln_1p()
        } else {
            let joined = exponent + self.rate.ln();
            if joined > 40.0 { joined } else { (joined.exp() - self.rate).ln_1p() }
        }
    }

    /// The infimum of L.
    fn least_loss(&self) -> f64 {
        if self.rate >= 1.0 { f64::NEG_INFINITY } else { (-self.rate).ln_1p() }
    }

    /// The end of a cell at `loss`.
    fn edge(&self, loss: f64) -> Edge {
        let q = self.rate;
        // D/q = e^exponent with exponent = z/σ − 1/(2σ²).
        let relative = loss.exp_m1() / q;
        let exponent = if q >= 1.0 {
            loss
        } else if loss > 1.0 {
            loss + (-(1.0 - q) * (-loss).exp()).ln_1p() - q.ln()
        } else if relative <= -1.0 {
            return Edge { loss, z: f64::NEG_INFINITY, log_distance: None };
        } else {
            relative.ln_1p()
        };
        let z = exponent * self.noise + 0.5 / self.noise;
        Edge { loss, z, log_distance: Some(exponent + q.ln()) }
    }

    /// P(z > x).
    fn above(&self, x: f64) -> f64 {
        (1.0 - self.rate) * above(x) + self.rate * above(x - 1.0 / self.noise)
    }

    /// P(z < x).
    fn below(&self, x: f64) -> f64 {
        (1.0 - self.rate) * below(x) + self.rate * below(x - 1.0 / self.noise)
    }

    /// The cell's integrals ∫φ(e^ε₁ − e^L) and ∫φ(e^L − e^ε₀), which go to its low and its high end. For
    /// adding they are scaled by e^−ε of that end and the low end of the one is the high of the other.
    fn shares(&self, direction: Direction, low: &Edge, high: &Edge) -> (f64, f64) {
        // Gauss-Legendre nodes and weights on [-1, 1], four points.
        const NODES: [(f64, f64); 4] = [
            (-0.861_136_311_594_052_6, 0.347_854_845_137_453_85),
            (-0.339_981_043_584_856_3, 0.652_145_154_862_546_1),
            (0.339_981_043_584_856_3, 0.652_145_154_862_546_1),
            (0.861_136_311_594_052_6, 0.347_854_845_137_453_85),
        ];
        let (from, to) = (low.z.max(-BEYOND), high.z.min(BEYOND + 1.0 / self.noise));
        let Some(high_distance) = high.log_distance.filter(|_| to > from) else {
            return (0.0, 0.0);
        };
        let panels = ((to - from) / (0.1 * self.noise.min(1.0))).ceil().clamp(1.0, 1e5);
        let half = 0.5 * (to - from) / panels;
        let scale = |edge: &Edge| match direction {
            Direction::Remove => 0.0,
            Direction::Add => -edge.loss,
        };
        let (mut to_low, mut to_high) = (0.0, 0.0);
        for panel in 0..panels as u64 {
            let centre = from + half * (2 * panel + 1) as f64;
            // Sums relative to the density at the centre, so that one exponential serves both shares.
            let (mut falling, mut rising) = (0.0, 0.0);
            for (node, weight) in NODES {
                let z = centre + half * node;
                let density = weight * (0.5 * (centre - z) * (centre + z)).exp();
                falling -= density * ((z - high.z) / self.noise).exp_m1();
                rising += density
                    * match low.log_distance {
                        Some(_) => ((z - low.z) / self.noise).exp_m1(),
                        // Below the least loss D < 0: e^L − e^ε₀ = q·e^exponent + |D|, relative to D₁.
                        None => {
                            ((z - high.z) / self.noise).exp()
                                - (low.loss.exp_m1() + self.rate) / high_distance.exp()
                        }
                    };
            }
            let normal = half.ln() - 0.5 * centre * centre - 0.5 * TAU.ln();
            to_low += falling * (normal + high_distance + scale(low)).exp();
            to_high += rising * (normal + low.log_distance.unwrap_or(high_distance) + scale(high)).exp();
        }
        (to_low, to_high)
    }
}

/// Mass of the standard normal above x.
fn above(x: f64) -> f64 {
    0.5 * libm::erfc(x / SQRT_2)
}

/// Mass of the standard normal below x.
fn below(x: f64) -> f64 {
    above(-x)
}

/// A point close to `no` where a predicate that fails there and holds at `yes` begins to hold.
fn solve(holds: impl Fn(f64) -> bool, mut no: f64, mut yes: f64) -> f64 {
    while (yes - no).abs() > 1e-3 {
        let middle = 0.5 * (no + yes);
        if holds(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// δ(ε) of one step: P(L > ε) − e^ε Q(L > ε), or with the roles exchanged.
    fn curve(step: &Step, direction: Direction, epsilon: f64) -> f64 {
        match direction {
            Direction::Remove => {
                let edge = step.edge(epsilon);
                step.above(edge.z) - epsilon.exp() * above(edge.z)
            }
            Direction::Add => {
                let edge = step.edge(-epsilon);
                below(edge.z) - epsilon.exp() * step.below(edge.z)
            }
        }
    }

    #[test]
    fn dots_lie_on_the_curve() {
        for (rate, noise, spacing) in
            [(0.01, 1.0, 0.002), (0.3, 0.7, 0.05), (1.0, 0.5, 0.1), (1e-4, 0.5, 1e-4), (0.9, 20.0, 0.01)]
        {
            for direction in [Direction::Remove, Direction::Add] {
                let loss = StepLoss::new(rate, noise, direction, spacing, 1e-14, 1e6).unwrap();
                assert!(loss.slack < 1e-12, "{rate} {noise} {direction:?}: {}", loss.slack);
                let step = Step { rate, noise };
                for (dot, _) in loss.masses.iter().step_by(loss.masses.len() / 17) {
                    let epsilon = *dot as f64 * spacing;
                    let above = loss.masses.iter().filter(|(at, _)| at > dot);
                    let found: f64 = loss.infinite
                        + above
                            .map(|(at, mass)| -mass * f64::exp_m1(epsilon - *at as f64 * spacing))
                            .sum::<f64>();
                    let exact = curve(&step, direction, epsilon);
                    assert!(
                        found >= exact - 1e-15 && found <= exact * (1.0 + 1e-9) + 2e-14,
                        "{rate} {noise} {direction:?} at {epsilon}: {found} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_unbearable_grid_is_refused() {
        assert!(StepLoss::new(1.0, 0.1, Direction::Remove, 1e-9, 1e-20, 1e6).is_none());
    }
}
