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
    let unreachable = || DpError::Unreachable { target, steps, rate, delta };
    // The Rényi accountant is fast and seldom far off: it brackets the answer.
    let (least, most) = (*NOISE.start(), *NOISE.end());
    let guess = Bracket::of(least, most, |noise| over(Accountant::Rdp, noise))?.map(|bracket| bracket.high);
    if accountant == Accountant::Rdp {
        return Ok(NoiseMultiplier::new(guess.ok_or_else(unreachable)?)?);
    }
    let mut high = guess.unwrap_or(most);
    while over(accountant, high)? > 0.0 {
        if high >= most {
            return Err(unreachable());
        }
        high = (2.0 * high).min(most);
    }
    let mut low = 0.8 * high;
    while low > least && over(accountant, low)? <= 0.0 {
        (low, high) = (0.5 * low, low);
    }
    let bracket = Bracket::of(low.max(least), high, |noise| over(accountant, noise))?;
    Ok(NoiseMultiplier::new(bracket.ok_or_else(unreachable)?.high)?)
}

/// Two neighbouring points, the lower of which overspends while the higher does not.
struct Bracket {
    high: f64,
}

impl Bracket {
    /// Narrows `low..high` around the zero of a decreasing function, by regula falsi on logarithms with
    /// the Illinois rule, and bisection where that is slow. Nothing when `high` overspends too.
    fn of(low: f64, high: f64, over: impl Fn(f64) -> Result<f64, DpError>) -> Result<Option<Self>, DpError> {
        let (mut low, mut high) = (low.ln(), high.ln());
        let (mut above, mut below) = (over(low.exp())?, over(high.exp())?);
        if below > 0.0 {
            return Ok(None);
        }
        if above <= 0.0 {
            return Ok(Some(Self { high: low.exp() }));
        }
        let mut turn = 0_u32;
        while high - low > TOLERANCE {
            turn += 1;
            let secant = low + (high - low) * above / (above - below);
            let middle = if turn % 3 == 0 || !secant.is_finite() { 0.5 * (low + high) } else { secant };
            // Stay off the ends, so that the bracket shrinks from both sides.
            let margin = (0.4 * TOLERANCE).min(0.25 * (high - low));
            let middle = middle.clamp(low + margin, high - margin);
            let value = over(middle.exp())?;
            if value > 0.0 {
                (low, above) = (middle, value);
            } else {
                (high, below) = (middle, value);
            }
        }
        Ok(Some(Self { high: high.exp() }))
    }
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
    let over = |steps: u64| -> Result<f64, DpError> {
        let history = already.with(Phase { rate, noise, steps });
        Ok(accountant.epsilon(&history, delta)?.get() - budget.get())
    };
    if over(at_most)? <= 0.0 {
        return Ok(at_most);
    }
    let (mut fits, mut too_many) = (0, at_most);
    if over(0)? > 0.0 {
        return Ok(0);
    }
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if over(middle)? <= 0.0 {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    Ok(fits)
}
