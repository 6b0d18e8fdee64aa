//! Rules that look at one coordinate at a time: median and trimmed mean (Yin, Chen, Ramchandran, Bartlett,
//! "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018, definitions 1 and
//! 2), and the second step of Bulyan.

use crate::rows::{LANES, Lanes, Rows, Tile};
use crate::sorting_network::SortingNetwork;

/// The median of every coordinate; for even n the mean of the two values in the middle.
pub(crate) fn median(rows: &Rows<'_>, memory: Vec<f32>) -> Vec<f32> {
    let network = median_network(rows.len());
    let (low, high) = middle(rows.len());
    rows.map_sorted(
        memory,
        &network,
        #[inline(always)]
        |tile, out| {
            for ((out, low), high) in out.iter_mut().zip(tile.row(low)).zip(tile.row(high)) {
                // In single precision the sum may overflow.
                *out = (0.5 * (f64::from(*low) + f64::from(*high))) as f32;
            }
        },
    )
}

/// The network that puts the median, or the two values around it, into the rows [`middle`].
pub(crate) fn median_network(rows: usize) -> SortingNetwork {
    let (low, high) = middle(rows);
    SortingNetwork::new(rows, low..high + 1)
}

/// The ranks whose mean is the median of `rows` values.
pub(crate) fn middle(rows: usize) -> (usize, usize) {
    ((rows - 1) / 2, rows / 2)
}

/// The mean of every coordinate without its `trimmed` smallest and largest values; 2 · `trimmed` < n.
pub(crate) fn trimmed_mean(rows: &Rows<'_>, trimmed: usize, memory: Vec<f32>) -> Vec<f32> {
    let kept = trimmed..rows.len() - trimmed;
    let network = SortingNetwork::new(rows.len(), kept.clone());
    rows.map_sorted(
        memory,
        &network,
        #[inline(always)]
        |tile, out| {
            for (block, out) in out.chunks_mut(LANES).enumerate() {
                let mut sums = [0f64; LANES];
                for rank in kept.clone() {
                    let values = lanes(&tile, rank, block);
                    for lane in 0..LANES {
                        sums[lane] += f64::from(values[lane]);
                    }
                }
                write_means(&sums, kept.len(), out);
            }
        },
    )
}

/// Step 2 of Bulyan: for every coordinate of the θ = n−2f selected rows the mean of the β = θ−2f values
/// nearest their median; of two values equally near the smaller one.
pub(crate) fn mean_around_median(rows: &Rows<'_>, byzantine: usize, memory: Vec<f32>) -> Vec<f32> {
    let theta = rows.len();
    let (low, high) = middle(theta);
    let (spare, beta) = (2 * byzantine, theta - 2 * byzantine);
    let network = SortingNetwork::new(theta, 0..theta);
    rows.map_sorted(
        memory,
        &network,
        #[inline(always)]
        |tile, out| {
            // Sorted, the β nearest values are a run x[s], …, x[s+β−1]. The run moves up past x[s] where
            // x[s+β] is nearer to the median, which can only be so for the lowest s.
            for (block, out) in out.chunks_mut(LANES).enumerate() {
                let (low, high) = (lanes(&tile, low, block), lanes(&tile, high, block));
                let mut median = [0f64; LANES];
                for lane in 0..LANES {
                    median[lane] = 0.5 * (f64::from(low[lane]) + f64::from(high[lane]));
                }
                let mut sums = [0f64; LANES];
                for rank in 0..theta {
                    let mut values = lanes(&tile, rank, block).map(f64::from);
                    if rank < spare {
                        let above = lanes(&tile, rank + beta, block);
                        for lane in 0..LANES {
                            let passed = median[lane] - values[lane] > f64::from(above[lane]) - median[lane];
                            values[lane] = if passed { 0.0 } else { values[lane] };
                        }
                    }
                    if rank >= beta {
                        let below = lanes(&tile, rank - beta, block);
                        for lane in 0..LANES {
                            let here = f64::from(lanes(&tile, rank, block)[lane]);
                            let reached = median[lane] - f64::from(below[lane]) > here - median[lane];
                            values[lane] = if reached { values[lane] } else { 0.0 };
                        }
                    }
                    for lane in 0..LANES {
                        sums[lane] += values[lane];
                    }
                }
                write_means(&sums, beta, out);
            }
        },
    )
}

/// A block of a row of a tile.
#[inline(always)]
fn lanes<'t>(tile: &'t Tile<'_, f32>, row: usize, block: usize) -> &'t [f32; LANES] {
    &tile.row(row).as_chunks::<LANES>().0[block]
}

#[inline(always)]
fn write_means(sums: &Lanes, count: usize, out: &mut [f32]) {
    // A division takes longer than all the rest.
    let share = 1.0 / count as f64;
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = (sum * share) as f32;
    }
}
