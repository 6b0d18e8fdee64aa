//! Federated averaging (McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-efficient learning of
//! deep networks from decentralized data", AISTATS 2017, algorithm 1): the mean of the deltas, weighted by
//! the sites' numbers of training images.
//!
//! A site states its own number. What it counts for is at most [`WEIGHT_CAP`] times the median claim, so that
//! a forged number cannot decide the model alone.

use crate::rule::RuleWarning;
use crate::update::SiteUpdate;

/// A claim counts for at most so many times the median claim (the upper one of two). Large enough for a
/// university clinic among country hospitals, small enough that no claim makes the other hospitals vanish.
pub const WEIGHT_CAP: f64 = 10.0;

/// The share of each of the updates, which are not empty, and a warning for each claim that was cut.
pub(crate) fn shares(updates: &[&SiteUpdate]) -> (Vec<f64>, Vec<RuleWarning>) {
    let mut claims: Vec<f64> = updates.iter().map(|update| update.weight()).collect();
    claims.sort_by(f64::total_cmp);
    let cap = WEIGHT_CAP * claims[claims.len() / 2];
    let capped: Vec<f64> = updates.iter().map(|update| update.weight().min(cap)).collect();
    let warnings = updates
        .iter()
        .filter(|update| update.weight() > cap)
        .map(|update| RuleWarning::WeightCapped {
            site: update.site().clone(),
            claimed: update.weight(),
            counted: cap,
        })
        .collect();
    // Scaled by the largest, claims near the end of the range of doubles neither overflow nor vanish together.
    let largest = capped.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let total: f64 = capped.iter().map(|weight| weight / largest).sum();
    (capped.iter().map(|weight| weight / largest / total).collect(), warnings)
}
