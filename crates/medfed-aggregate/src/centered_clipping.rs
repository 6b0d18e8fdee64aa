//! Centred clipping (Karimireddy, He, Jaggi, "Learning from history for Byzantine robust optimization", ICML
//! 2021, algorithm 2): v ← v + (1/n) Σ (xᵢ − v) min(1, τ / ‖xᵢ − v‖), from the last round's result on.
//!
//! Every iterate is a combination of the start and the updates, so n + 1 weights are all that is kept of it,
//! and an iteration is one pass over the updates.

use crate::geometric_median::lower_median;
use crate::rows::{Rows, add_squared_distance};

/// The weights of the updates, and the weight of the start, after `iterations` iterations. Without a `start`
/// it is the origin.
pub(crate) fn weights(
    rows: &Rows<'_>,
    start: Option<&[f32]>,
    radius: Option<f64>,
    iterations: usize,
) -> (Vec<f64>, f64) {
    let n = rows.len();
    let (mut weights, mut of_start) = (vec![0.0; n], 1.0);
    for _ in 0..iterations {
        let distances = distances(rows, &weights, start, of_start);
        let radius = radius.unwrap_or_else(|| lower_median(&distances));
        let pulls: Vec<f64> = distances
            .iter()
            .map(|distance| if *distance > radius { radius / distance } else { 1.0 } / n as f64)
            .collect();
        let kept = 1.0 - pulls.iter().sum::<f64>();
        of_start *= kept;
        for (weight, pull) in weights.iter_mut().zip(pulls) {
            *weight = *weight * kept + pull;
        }
    }
    (weights, of_start)
}

/// ‖xᵢ − v‖ for v = `of_start` · start + Σ wᵢ xᵢ.
fn distances(rows: &Rows<'_>, weights: &[f64], start: Option<&[f32]>, of_start: f64) -> Vec<f64> {
    let sums = rows.fold_columns(
        rows.len(),
        1,
        #[inline(always)]
        |tile, spare, sums| {
            let centre = &mut spare[..tile.width];
            centre.fill(0.0);
            if let Some(start) = start {
                for (centre, value) in centre.iter_mut().zip(tile.of(start)) {
                    *centre = of_start * f64::from(*value);
                }
            }
            for (row, weight) in tile.rows().zip(weights) {
                for (centre, value) in centre.iter_mut().zip(row) {
                    *centre += weight * value;
                }
            }
            for (sum, row) in sums.iter_mut().zip(tile.rows()) {
                add_squared_distance(sum, row, centre);
            }
        },
    );
    sums.into_iter().map(f64::sqrt).collect()
}
