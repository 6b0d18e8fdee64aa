//! Σ wᵢ xᵢ.

use crate::rows::{chunk, vectorised};
use rayon::prelude::*;

/// Columns whose sums stay in the first-level cache while the rows stream past.
const TILE: usize = 1024;

/// The combination of `rows` of `columns` values with `weights`, summed in double precision in the order of
/// the rows. Rows of weight 0 are not read.
pub(crate) fn combination(rows: &[&[f32]], weights: &[f64], columns: usize) -> Vec<f32> {
    let weighted: Vec<(&[f32], f64)> =
        rows.iter().copied().zip(weights.iter().copied()).filter(|(_, weight)| *weight != 0.0).collect();
    let mut out = vec![0f32; columns];
    let chunk = chunk(columns);
    out.par_chunks_mut(chunk).enumerate().for_each(|(task, out)| {
        vectorised(
            #[inline(always)]
            || {
                for (piece, out) in out.chunks_mut(TILE).enumerate() {
                    let start = task * chunk + piece * TILE;
                    let sums = &mut [0f64; TILE][..out.len()];
                    for (row, weight) in &weighted {
                        for (sum, value) in sums.iter_mut().zip(&row[start..]) {
                            *sum += weight * f64::from(*value);
                        }
                    }
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = *sum as f32;
                    }
                }
            },
        );
    });
    out
}
