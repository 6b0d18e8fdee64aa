//! The geometric median by the smoothed Weiszfeld algorithm (Pillutla, Kakade, Harchaoui, "Robust aggregation
//! for federated learning", IEEE Transactions on Signal Processing 2022, algorithm 2), every hospital counting
//! the same.
//!
//! z ← Σ βᵢ xᵢ / Σ βᵢ with βᵢ = 1 / max(ν, ‖z − xᵢ‖), from the coordinate-wise median on: from there an update
//! at the end of the range of floats is as harmless as any other, which it is not from the mean. The unit of
//! length is s, the median distance of the updates from the start: ν = s in the first iteration and 10⁻⁸ s
//! from then on, and z has converged when it moves by no more than 10⁻⁶ s. Every iterate is a combination of the updates, so n weights are all that is
//! kept of it, and an iteration is one pass over the updates.

use crate::coordinate::{median_network, middle};
use crate::rows::{Rows, Tile, add_over, add_squared_distance};
use crate::rule::RuleWarning;

/// ν, in units of the median distance from the start.
const SMOOTHING: f64 = 1e-8;

/// The movement at which the iteration ends, in the same unit.
const TOLERANCE: f64 = 1e-6;

/// Iterations at most.
const ITERATIONS: usize = 200;

/// The weights of the updates in their geometric median; they add up to 1.
pub(crate) fn weights(rows: &Rows<'_>) -> (Vec<f64>, Option<RuleWarning>) {
    let n = rows.len();
    let distances = distances_to_median(rows);
    let unit = lower_median(&distances);
    if unit == 0.0 {
        // At least half of the updates are one point, which no other point beats.
        let there: Vec<f64> =
            distances.iter().map(|distance| f64::from(u8::from(*distance == 0.0))).collect();
        return (normalised(&there), None);
    }
    let step = |distances: &[f64], smoothing: f64| {
        let weights = distances.iter().map(|distance| unit / distance.max(smoothing * unit));
        normalised(&weights.collect::<Vec<_>>())
    };
    // The start may be one of the updates, which without smoothing holds the iteration for ever.
    let mut weights = step(&distances, 1.0);
    let mut before = vec![0.0; n];
    let mut movement = f64::INFINITY;
    for iteration in 0..ITERATIONS {
        let (distances, moved) = distances_to_combination(rows, &weights, &before);
        // The first centre is not a combination: how far it moved is not known.
        movement = if iteration == 0 { f64::INFINITY } else { moved / unit };
        if movement <= TOLERANCE {
            return (weights, None);
        }
        before = std::mem::replace(&mut weights, step(&distances, SMOOTHING));
    }
    (weights, Some(RuleWarning::NotConverged { iterations: ITERATIONS, movement }))
}

/// The lower one of the two middle values for even n, so that more than half of the values are not below it
/// whenever n is odd or even.
pub(crate) fn lower_median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

fn normalised(weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// ‖xᵢ − z‖ for the coordinate-wise median z.
fn distances_to_median(rows: &Rows<'_>) -> Vec<f64> {
    let n = rows.len();
    let network = median_network(n);
    let (low, high) = middle(n);
    let sums = rows.fold_columns(
        n,
        n + 1,
        #[inline(always)]
        |tile, spare, sums| {
            let (sorted, median) = spare.split_at_mut(n * tile.width);
            sorted.copy_from_slice(tile.values);
            let mut sorted = Tile { values: sorted, ..tile };
            network.sort(&mut sorted);
            let median = &mut median[..tile.width];
            for ((median, low), high) in median.iter_mut().zip(sorted.row(low)).zip(sorted.row(high)) {
                *median = 0.5 * (low + high);
            }
            for (sum, row) in sums.iter_mut().zip(tile.rows()) {
                add_squared_distance(sum, row, median);
            }
        },
    );
    sums.into_iter().map(f64::sqrt).collect()
}

/// ‖xᵢ − z‖ for z = Σ wᵢ xᵢ, and the distance of z from the combination with the weights `before`.
fn distances_to_combination(rows: &Rows<'_>, weights: &[f64], before: &[f64]) -> (Vec<f64>, f64) {
    let n = rows.len();
    let mut sums = rows.fold_columns(
        n + 1,
        2,
        #[inline(always)]
        |tile, spare, sums| {
            let (centre, moved) = spare.split_at_mut(tile.width);
            let moved = &mut moved[..tile.width];
            centre.fill(0.0);
            moved.fill(0.0);
            for ((row, weight), before) in tile.rows().zip(weights).zip(before) {
                let change = weight - before;
                for ((centre, moved), value) in centre.iter_mut().zip(&mut *moved).zip(row) {
                    *centre += weight * value;
                    *moved += change * value;
                }
            }
            for (sum, row) in sums.iter_mut().zip(tile.rows()) {
                add_squared_distance(sum, row, centre);
            }
            add_over(
                &mut sums[n],
                moved,
                moved,
                #[inline(always)]
                |a, b| a * b,
            );
        },
    );
    let moved = sums.pop().map_or(0.0, f64::sqrt);
    (sums.into_iter().map(f64::sqrt).collect(), moved)
}
