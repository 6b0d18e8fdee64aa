//! Σ wᵢ xᵢ.

use crate::rows::{LANES, chunk, sized, vectorised};
use rayon::prelude::*;

/// The combination of `rows` of `columns` values with `weights`, summed in double precision in the order of
/// the rows, in `memory`. Rows of weight 0 are not read.
pub(crate) fn combination(rows: &[&[f32]], weights: &[f64], columns: usize, memory: Vec<f32>) -> Vec<f32> {
    let weighted: Vec<(&[f32], f64)> =
        rows.iter().copied().zip(weights.iter().copied()).filter(|(_, weight)| *weight != 0.0).collect();
    let mut out = sized(memory, columns);
    let chunk = chunk(columns);
    out.par_chunks_mut(chunk).enumerate().for_each(|(task, out)| {
        vectorised(
            #[inline(always)]
            || {
                let first = task * chunk;
                let (blocks, rest) = out.as_chunks_mut::<LANES>();
                for (block, out) in blocks.iter_mut().enumerate() {
                    // The sums of a block stay in registers while the rows pass.
                    let mut sums = [0f64; LANES];
                    for (row, weight) in &weighted {
                        let values = &row[first..].as_chunks::<LANES>().0[block];
                        for lane in 0..LANES {
                            sums[lane] += weight * f64::from(values[lane]);
                        }
                    }
                    for lane in 0..LANES {
                        out[lane] = sums[lane] as f32;
                    }
                }
                for (column, out) in (first + blocks.len() * LANES..).zip(rest) {
                    *out =
                        weighted.iter().fold(0.0, |sum, (row, weight)| sum + weight * f64::from(row[column]))
                            as f32;
                }
            },
        );
    });
    out
}
