//! Sorting without branches: the same exchanges for every column, so that a vector unit sorts many columns
//! at a time.

use crate::rows::Tile;
use pulp::{Arch, Simd, WithSimd};

/// Batcher's merge exchange (Knuth, volume 3, algorithm 5.2.2M) for any number of rows, without the exchanges
/// that cannot reach the ranks that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SortingNetwork {
    rows: usize,
    exchanges: Vec<(usize, usize)>,
}

impl SortingNetwork {
    /// The network after which the rows `ranks` hold the values of these ranks, from 0 for the least.
    pub(crate) fn new(rows: usize, ranks: std::ops::Range<usize>) -> Self {
        let mut needed: Vec<bool> = (0..rows).map(|row| ranks.contains(&row)).collect();
        let mut exchanges = Vec::new();
        let mut next = MergeExchange::of(rows).next();
        while let Some((exchange, rest)) = next {
            exchanges.push(exchange);
            next = rest.next();
        }
        let mut kept = Vec::new();
        while let Some((low, high)) = exchanges.pop() {
            if needed[low] || needed[high] {
                needed[low] = true;
                needed[high] = true;
                kept.push((low, high));
            }
        }
        kept.reverse();
        Self { rows, exchanges: kept }
    }

    /// Writes `width` columns of all rows, each column sorted, to `values`, row after row. Up to 16 rows; of more
    /// nothing is done, and the answer is false.
    #[inline(always)]
    pub(crate) fn sort_few(
        &self,
        rows: &[&[f32]],
        columns: std::ops::Range<usize>,
        values: &mut [f32],
    ) -> bool {
        macro_rules! sized {
            ($($n:literal)*) => {
                match self.rows {
                    $($n => Arch::new().dispatch(InRegisters::<$n> {
                        rows: std::array::from_fn(#[inline(always)] |row| &rows[row][columns.clone()]),
                        values,
                    }),)*
                    _ => return false,
                }
            };
        }
        sized!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        true
    }

    /// Sorts every column of a tile.
    #[inline(always)]
    pub(crate) fn sort<T: Copy + PartialOrd>(&self, tile: &mut Tile<'_, T>) {
        let width = tile.width;
        for &(low, high) in &self.exchanges {
            let (before, after) = tile.values.split_at_mut(high * width);
            let lows = &mut before[low * width..][..width];
            for (low, high) in lows.iter_mut().zip(&mut after[..width]) {
                let (a, b) = (*low, *high);
                *low = if b < a { b } else { a };
                *high = if b < a { a } else { b };
            }
        }
    }
}

/// The exchanges of a full sort, one after the other.
#[derive(Clone, Copy)]
struct MergeExchange {
    rows: usize,
    top: usize,
    p: usize,
    q: usize,
    r: usize,
    d: usize,
    i: usize,
}

impl MergeExchange {
    const fn of(rows: usize) -> Self {
        let top = rows.next_power_of_two() / 2;
        Self { rows, top, p: top, q: top, r: 0, d: top, i: 0 }
    }

    /// The next exchange, and what comes after it.
    const fn next(mut self) -> Option<((usize, usize), Self)> {
        while self.p > 0 {
            while self.i + self.d < self.rows {
                let i = self.i;
                self.i += 1;
                if i & self.p == self.r {
                    return Some(((i, i + self.d), self));
                }
            }
            self.i = 0;
            if self.q == self.p {
                self.p /= 2;
                (self.q, self.r, self.d) = (self.top, 0, self.p);
            } else {
                self.d = self.q - self.p;
                self.q /= 2;
                self.r = self.p;
            }
        }
        None
    }
}

/// Sorts the columns of N rows in the vector registers.
struct InRegisters<'t, const N: usize> {
    /// As long as whole vectors of any unit.
    rows: [&'t [f32]; N],
    /// As many values, row after row.
    values: &'t mut [f32],
}

impl<const N: usize> InRegisters<'_, N> {
    /// The exchanges of a full sort, and how many they are. A sort of 16 has 63.
    const EXCHANGES: ([(usize, usize); 63], usize) = {
        let mut all = [(0, 0); 63];
        let mut len = 0;
        let mut next = MergeExchange::of(N).next();
        while let Some((exchange, rest)) = next {
            all[len] = exchange;
            len += 1;
            next = rest.next();
        }
        (all, len)
    };
}

impl<const N: usize> WithSimd for InRegisters<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.rows.map(
            #[inline(always)]
            |row| S::as_simd_f32s(row).0,
        );
        let mut sorted = self.values.chunks_exact_mut(self.rows[0].len());
        let mut sorted: [&mut [S::f32s]; N] = std::array::from_fn(
            #[inline(always)]
            |_| S::as_mut_simd_f32s(sorted.next().expect("there is room for N rows")).0,
        );
        for block in 0..rows[0].len() {
            let mut column = rows.map(
                #[inline(always)]
                |row| row[block],
            );
            // A loop over the exchanges would keep the column in memory, and with it the time of the sort.
            macro_rules! exchange {
                ($($k:literal)*) => {
                    $(if const { $k < Self::EXCHANGES.1 } {
                        let (low, high) = const { Self::EXCHANGES.0[$k] };
                        let (a, b) = (column[low], column[high]);
                        column[low] = simd.min_f32s(a, b);
                        column[high] = simd.max_f32s(a, b);
                    })*
                };
            }
            exchange!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
            exchange!(32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62);
            for (row, value) in sorted.iter_mut().zip(column) {
                row[block] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::LANES;

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
                let rows_before: Vec<Vec<f32>> = tile.rows().map(<[f32]>::to_vec).collect();
                let slices: Vec<&[f32]> = rows_before.iter().map(Vec::as_slice).collect();
                network.sort(&mut tile);
                let mut few = vec![0f32; rows * width];
                assert!(network.sort_few(&slices, 0..width, &mut few));
                for rank in ranks.clone() {
                    assert_eq!(tile.row(rank), &few[rank * width..][..width]);
                }
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
