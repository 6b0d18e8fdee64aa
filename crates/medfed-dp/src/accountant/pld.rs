//! Accounting by privacy loss distributions.
//!
//! **In**: phases of Poisson-subsampled Gaussian steps and a δ. **Out**: ε, the larger one of removing
//! and of adding a unit, never below the truth.
//!
//! 1. [`step`] puts the privacy loss of one step on a grid by connect-the-dots (Doroshenko, Ghazi,
//!    Kamath, Kumar, Manurangsi 2022): the step's (ε, δ) curve is exact at the grid points and joined
//!    by straight lines in e^ε above the true, convex curve.
//! 2. [`compose`] convolves the steps by one Fourier transform, after an exponential tilt towards the ε
//!    looked for, so that rounding errors are small against δ even for δ = 1e-12 and a million steps.
//! 3. Everything left out is added to δ: tails of the step, tails of the window, and a running bound on
//!    the rounding errors of the transform.
//!
//! The grid raises a step's log-moment of order 1 + θ by at most θ(1 + θ)h²/12 on average (h is the
//! spacing), so ε over T steps rises by about T(1 + θ)h²/12, which is kept below a ten-thousandth of ε.
//! In the ordinary regime of many small losses the spacing depends on the kind of step only, not on T
//! or δ, so ε rises strictly with every further step.

mod compose;
mod step;

use super::{Phase, rdp};
use compose::{Composition, Goal, MOST_POINTS};
use step::{Direction, StepLoss};

/// Relative error of ε that the grid may cause.
const GRID_ERROR: f64 = 1e-4;
/// Mass of all steps' cut-off tails together, in multiples of δ.
const TAILS: f64 = 1e-6;
/// Below this noise multiplier a single step can lose hundreds of nats; the Rényi bound has to do.
const LEAST_NOISE: f64 = 0.03;

/// ε of the phases at δ.
pub(super) fn epsilon(phases: &[Phase], delta: f64) -> f64 {
    let bound = rdp::best(phases, delta);
    if bound.epsilon == 0.0 || hopeless(phases) {
        return bound.epsilon;
    }
    let plan = Plan::new(phases, delta, Goal::Delta(delta));
    let removing = plan.refined(Direction::Remove, &bound, bound.epsilon).min(bound.epsilon);
    // Without sampling the two directions mirror each other.
    if phases.iter().all(|phase| phase.rate.get() >= 1.0) {
        return removing;
    }
    let adding = rdp::best_of_adding(phases, delta);
    if adding.epsilon <= removing {
        return removing;
    }
    plan.refined(Direction::Add, &adding, removing).clamp(removing, bound.epsilon)
}

/// δ of the phases at ε.
pub(super) fn delta(phases: &[Phase], epsilon: f64) -> f64 {
    let by_order = rdp::delta(phases, epsilon);
    if by_order < f64::MIN_POSITIVE || hopeless(phases) {
        return by_order;
    }
    // At the δ that the Rényi accountant gives for ε, its best order is near the one for ε.
    let nearby = by_order.min(0.5);
    let plan = Plan::new(phases, nearby, Goal::Epsilon(epsilon));
    let removing = plan.refined(Direction::Remove, &rdp::best(phases, nearby), epsilon);
    let adding = plan.refined(Direction::Add, &rdp::best_of_adding(phases, nearby), epsilon);
    removing.max(adding).min(by_order)
}

/// Whether a phase has so little noise that no grid serves it.
fn hopeless(phases: &[Phase]) -> bool {
    phases.iter().any(|phase| phase.noise.get() < LEAST_NOISE)
}

/// What is to be composed, and towards what.
struct Plan<'a> {
    phases: &'a [Phase],
    goal: Goal,
    /// Number of all steps.
    steps: f64,
    /// Mass of a step's tails that are cut off.
    tail: f64,
    /// Kullback-Leibler divergence of a step, on average.
    divergence: f64,
}

impl<'a> Plan<'a> {
    fn new(phases: &'a [Phase], delta: f64, goal: Goal) -> Self {
        let steps: f64 = phases.iter().map(|phase| phase.steps as f64).sum();
        let tail = (TAILS * delta / steps).max(1e-290);
        Self { phases, goal, steps, tail, divergence: rdp::divergence(phases) / steps }
    }

    /// The spacing, a power of two, that serves an ε of about `epsilon` reached at the tilt `theta`.
    fn spacing(&self, epsilon: f64, theta: f64) -> f64 {
        // With many small losses ε/(1 + θ) lies between the steps' divergence and twice it, whatever
        // their number and δ; one grid serves them all. With few large losses ε/(1 + θ) is larger.
        let scale = self.divergence.max(0.5 * epsilon / (1.0 + theta) / self.steps);
        (12.0 * GRID_ERROR * scale).sqrt().log2().floor().exp2()
    }

    /// The goal's ε or δ in one direction, on a grid that suits it. `guess` is the Rényi accountant's
    /// answer; `scale` is an ε of the size that matters.
    fn refined(&self, direction: Direction, guess: &rdp::Bound, scale: f64) -> f64 {
        let mut spacing = self.spacing(scale, guess.theta);
        let mut theta = guess.theta;
        let mut best = f64::INFINITY;
        for _ in 0..4 {
            let Some((composition, coarser)) = self.bearable(direction, spacing, theta) else {
                return best;
            };
            let (value, epsilon) = match self.goal {
                Goal::Delta(delta) => {
                    let epsilon = composition.epsilon(delta);
                    (epsilon, epsilon)
                }
                Goal::Epsilon(epsilon) => (composition.delta(epsilon), epsilon),
            };
            best = best.min(value);
            theta = composition.theta();
            // Rényi's ε can be far above the one found, and its order far below: then refine.
            let wanted = self.spacing(epsilon, theta);
            if coarser > spacing || epsilon == 0.0 || wanted >= 0.5 * spacing {
                return best;
            }
            spacing = wanted;
        }
        best
    }

    /// Composes on the finest bearable grid that is no finer than `spacing`, and says how fine that is.
    fn bearable(&self, direction: Direction, spacing: f64, theta: f64) -> Option<(Composition, f64)> {
        let mut spacing = spacing;
        for _ in 0..60 {
            if let Some(composition) = self.compose(direction, spacing, theta) {
                return Some((composition, spacing));
            }
            spacing *= 2.0;
        }
        None
    }

    fn compose(&self, direction: Direction, spacing: f64, theta: f64) -> Option<Composition> {
        let one = |phase: &Phase| {
            let loss = StepLoss::new(
                phase.rate.get(),
                phase.noise.get(),
                direction,
                spacing,
                self.tail,
                MOST_POINTS,
            )?;
            Some((loss, phase.steps))
        };
        let losses = self.phases.iter().map(one).collect::<Option<Vec<_>>>()?;
        Composition::new(&losses, spacing, self.goal, theta)
    }
}
