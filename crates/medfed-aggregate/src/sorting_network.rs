//! Sorting without branches: the same exchanges for every column, so that a vector unit sorts many columns
//! at a time.

use crate::rows::{LANES, Tile};

/// Batcher's merge exchange (Knuth, volume 3, algorithm 5.2.2M) for any number of rows, without the exchanges
/// that cannot reach the ranks that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SortingNetwork {
    exchanges: Vec<(usize, usize)>,
}

impl SortingNetwork {
    /// The network after which the rows `ranks` hold the values of these ranks, from 0 for the least.
    pub(crate) fn new(rows: usize, ranks: std::ops::Range<usize>) -> Self {
        let mut needed: Vec<bool> = (0..rows).map(|row| ranks.contains(&row)).collect();
        let mut exchanges = merge_exchange(rows);
        let mut kept = Vec::new();
        while let Some((low, high)) = exchanges.pop() {
            if needed[low] || needed[high] {
                needed[low] = true;
                needed[high] = true;
                kept.push((low, high));
            }
        }
        kept.reverse();
        Self { exchanges: kept }
    }

    /// Sorts every column of a tile.
    #[inline(always)]
    pub(crate) fn sort<T: Copy + PartialOrd>(&self, tile: &mut Tile<'_, T>) {
        let width = tile.width;
        for &(low, high) in &self.exchanges {
            let (before, after) = tile.values.split_at_mut(high * width);
            let lows = before[low * width..][..width].as_chunks_mut::<LANES>().0;
            for (low, high) in lows.iter_mut().zip(after[..width].as_chunks_mut::<LANES>().0) {
                // Copies, so that the compiler knows that they do not overlap.
                let (a, b) = (*low, *high);
                for lane in 0..LANES {
                    low[lane] = if b[lane] < a[lane] { b[lane] } else { a[lane] };
                    high[lane] = if b[lane] < a[lane] { a[lane] } else { b[lane] };
                }
            }
        }
    }
}

/// The exchanges of a full sort of `rows` rows.
fn merge_exchange(rows: usize) -> Vec<(usize, usize)> {
    let mut exchanges = Vec::new();
    let top = rows.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            for i in 0..rows.saturating_sub(d) {
                if i & p == r {
                    exchanges.push((i, i + d));
                }
            }
            if q == p {
                break;
            }
            d = q - p;
            q /= 2;
            r = p;
        }
        p /= 2;
    }
    exchanges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arrangement_of_zeros_and_ones_is_sorted() {
        // A network that sorts all zeros and ones sorts everything (Knuth, theorem 5.3.4Z).
        for rows in 1..=14usize {
            for ranks in [0..rows, (rows - 1) / 2..rows / 2 + 1, rows / 4..rows - rows / 4] {
                let network = SortingNetwork::new(rows, ranks.clone());
                let columns = 1usize << rows;
                let width = columns.next_multiple_of(LANES);
                let mut values: Vec<f32> =
                    (0..rows).flat_map(|row| (0..width).map(move |c| (c >> row & 1) as f32)).collect();
                let mut tile = Tile { values: &mut values, width, first: 0, columns };
                network.sort(&mut tile);
                for column in 0..columns {
                    let zeros = rows - column.count_ones() as usize;
                    for rank in ranks.clone() {
                        assert_eq!(tile.row(rank)[column], f32::from(rank >= zeros), "{rows} {column}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_median_costs_less_than_a_sort() {
        let (full, median) = (SortingNetwork::new(10, 0..10), SortingNetwork::new(10, 4..6));
        assert!(median.exchanges.len() < full.exchanges.len());
        assert!(SortingNetwork::new(1, 0..1).exchanges.is_empty());
    }
}
