//! Rules that look at one coordinate at a time: median and trimmed mean (Yin, Chen, Ramchandran, Bartlett,
//! "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018, definitions 1 and
//! 2), and the second step of Bulyan.

use crate::rows::Rows;
use crate::sorting_network::SortingNetwork;

/// The median of every coordinate; for even n the mean of the two values in the middle.
pub(crate) fn median(rows: &Rows<'_>) -> Vec<f32> {
    let network = median_network(rows.len());
    rows.map_columns(
        #[inline(always)]
        |tile, out| {
            network.sort(tile, out.len());
            let (low, high) = middle(rows.len());
            let (low, high) = (&tile[low * out.len()..], &tile[high * out.len()..]);
            for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                *out = mean_of_two(*low, *high);
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

#[inline(always)]
pub(crate) fn mean_of_two(a: f32, b: f32) -> f32 {
    // In single precision the sum may overflow.
    (0.5 * (f64::from(a) + f64::from(b))) as f32
}

/// The mean of every coordinate without its `trimmed` smallest and largest values; 2 · `trimmed` < n.
pub(crate) fn trimmed_mean(rows: &Rows<'_>, trimmed: usize) -> Vec<f32> {
    let kept = trimmed..rows.len() - trimmed;
    let network = SortingNetwork::new(rows.len(), kept.clone());
    let count = kept.len() as f64;
    rows.map_columns(
        #[inline(always)]
        |tile, out| {
            network.sort(tile, out.len());
            mean_of_rows(&tile[kept.start * out.len()..kept.end * out.len()], count, out);
        },
    )
}

/// Columns whose sums a loop keeps in registers.
const BLOCK: usize = 16;

#[inline(always)]
fn mean_of_rows(rows: &[f32], count: f64, out: &mut [f32]) {
    let width = out.len();
    for (start, out) in out.chunks_mut(BLOCK).enumerate() {
        let start = start * BLOCK;
        let mut sums = [0f64; BLOCK];
        for row in rows.chunks_exact(width) {
            for (sum, value) in sums.iter_mut().zip(&row[start..start + out.len()]) {
                *sum += f64::from(*value);
            }
        }
        for (out, sum) in out.iter_mut().zip(&sums) {
            *out = (sum / count) as f32;
        }
    }
}

/// Step 2 of Bulyan: for every coordinate of the θ = n−2f selected rows the mean of the β = θ−2f values
/// nearest their median; of two values equally near the smaller one.
pub(crate) fn mean_around_median(rows: &Rows<'_>, byzantine: usize) -> Vec<f32> {
    let theta = rows.len();
    let (low, high) = middle(theta);
    let (spare, beta) = (2 * byzantine, theta - 2 * byzantine);
    let network = SortingNetwork::new(theta, 0..theta);
    rows.map_columns(
        #[inline(always)]
        |tile, out| {
            let width = out.len();
            network.sort(tile, width);
            // Sorted, the β nearest values are a run x[s], …, x[s+β−1]. The run moves up past x[s] where
            // x[s+β] is nearer to the median; that can only be so for the lowest s.
            for (c, out) in out.iter_mut().enumerate() {
                let x = |rank: usize| f64::from(tile[rank * width + c]);
                let median = 0.5 * (x(low) + x(high));
                let passed = |s: usize| median - x(s) > x(s + beta) - median;
                let mut sum = 0.0;
                for rank in 0..theta {
                    let below = rank < spare && passed(rank);
                    let above = rank >= beta && !passed(rank - beta);
                    sum += if below || above { 0.0 } else { x(rank) };
                }
                *out = (sum / beta as f64) as f32;
            }
        },
    )
}
