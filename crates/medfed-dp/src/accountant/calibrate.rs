//! The noise that a budget buys, and the steps that a budget still allows.

use super::{Accountant, History, Phase};
use crate::error::DpError;
use medfed_types::{Delta, Epsilon, NoiseMultiplier, SamplingRate, ScalarError};

/// Noise multipliers that are tried: what a plan accepts.
const NOISE: std::ops::RangeInclusive<f64> = 1e-3..=1e6;
/// Relative width to which the noise is found.
const TOLERANCE: f64 = 2e-5;

/// The smallest noise multiplier with which `steps` steps at `rate`, on top of `already`, stay within
/// `target` at `delta`. It is found to a relative 2e-5 from above, so the target is never passed.
///
/// [`DpError::Unreachable`] when `already` leaves nothing, or too little for any noise up to 1e6.
pub fn calibrate(
    accountant: Accountant,
    target: Epsilon,
    rate: SamplingRate,
    steps: u64,
    delta: Delta,
    already: &History,
) -> Result<NoiseMultiplier, DpError> {
    if steps == 0 {
        return Err(ScalarError { what: "the number of steps", expected: "1 or more", found: 0.0 }.into());
    }
    let over = |accountant: Accountant, noise: f64| -> Result<f64, DpError> {
        let noise = NoiseMultiplier::new(noise)?;
        let history = already.with(Phase { rate, noise, steps });
        Ok(accountant.epsilon(&history, delta)?.get() - target.get())
    };
    let (least, most) = (*NOISE.start(), *NOISE.end());
    let fails = |accountant: Accountant, noise: f64| Ok::<_, DpError>(over(accountant, noise)? > 0.0);
    // The Rényi accountant is fast and never below the other: its answer is enough noise for both.
    let mut found = narrow(least, most, |noise| over(Accountant::Rdp, noise))?;
    if accountant == Accountant::Pld {
        let mut high = found.unwrap_or(most);
        let mut low = high;
        // Downwards in short steps: the answer is seldom far, and small noise is the costly side.
        while low > least && !fails(accountant, low)? {
            (low, high) = ((0.85 * low).max(least), low);
        }
        found = narrow(low, high, |noise| over(accountant, noise))?;
    }
    let found = found.ok_or(DpError::Unreachable { target, steps, rate, delta })?;
    Ok(NoiseMultiplier::new(found)?)
}

/// Where a decreasing function falls to 0 between `low` and `high`, from above to a relative
/// [`TOLERANCE`]: regula falsi in logarithms, with bisection every third time, because the function may
/// be steep or flat. `low` where it is not above 0 there, nothing where it is above 0 at `high` too.
fn narrow(low: f64, high: f64, over: impl Fn(f64) -> Result<f64, DpError>) -> Result<Option<f64>, DpError> {
    let (mut above, mut below) = (over(low)?, over(high)?);
    if below > 0.0 {
        return Ok(None);
    }
    if above <= 0.0 {
        return Ok(Some(low));
    }
    let (mut low, mut high, mut end) = (low.ln(), high.ln(), high);
    let mut turn = 0_u32;
    while high - low > TOLERANCE {
        turn += 1;
        let secant = low + (high - low) * above / (above - below);
        let middle = if turn.is_multiple_of(3) || !secant.is_finite() { 0.5 * (low + high) } else { secant };
        // Off the ends, so that the bracket shrinks from both sides.
        let margin = (0.4 * TOLERANCE).min(0.25 * (high - low));
        let middle = middle.clamp(low + margin, high - margin);
        let value = over(middle.exp())?;
        if value > 0.0 {
            (low, above) = (middle, value);
        } else {
            (high, below, end) = (middle, value, middle.exp());
        }
    }
    Ok(Some(end))
}

/// How many more steps at `rate` and `noise`, at most `at_most`, fit into `budget` beside `already`.
pub fn affordable_steps(
    accountant: Accountant,
    already: &History,
    rate: SamplingRate,
    noise: NoiseMultiplier,
    delta: Delta,
    budget: Epsilon,
    at_most: u64,
) -> Result<u64, DpError> {
    let fits = |steps: u64| -> Result<bool, DpError> {
        let history = already.with(Phase { rate, noise, steps });
        // What fits by the Rényi accountant, which is fast, fits by the other.
        let by_order = Accountant::Rdp.epsilon(&history, delta)? <= budget;
        Ok(by_order || (accountant == Accountant::Pld && accountant.epsilon(&history, delta)? <= budget))
    };
    if fits(at_most)? {
        return Ok(at_most);
    }
    if at_most == 0 || !fits(0)? {
        return Ok(0);
    }
    let (mut most, mut too_many) = (0, at_most);
    while too_many - most > 1 {
        let middle = most + (too_many - most) / 2;
        if fits(middle)? {
            most = middle;
        } else {
            too_many = middle;
        }
    }
    Ok(most)
}
