//! The updates as the rows of a matrix, read tile by tile.
//!
//! Parameters are divided into chunks, which rayon hands to threads, and chunks into tiles that fit the
//! first-level cache together. Both sizes depend on n and d alone, so results do not depend on the number of
//! threads.

use pulp::Arch;
use rayon::prelude::*;

/// Doubles that are added side by side, whatever the width of the vector unit.
const LANES: usize = 16;

/// Parameters of one task, at least.
const CHUNK: usize = 1 << 15;

/// Tasks of one pass, at most: what each one sums is kept until all are done.
const TASKS: usize = 256;

/// Bytes of a tile, about.
const TILE: usize = 24 << 10;

/// n updates of equal length, in the order of the site names.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    rows: Vec<&'a [f32]>,
    /// For every row the rows whose mean takes its place.
    mixing: Option<Vec<Vec<usize>>>,
    columns: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `columns` values each.
    pub(crate) fn new(rows: Vec<&'a [f32]>, columns: usize) -> Self {
        assert!(rows.iter().all(|row| row.len() == columns), "lengths are checked before");
        Self { rows, mixing: None, columns }
    }

    /// The rows of which each is the mean of its `neighbours`.
    pub(crate) fn mixed(self, neighbours: Vec<Vec<usize>>) -> Self {
        Self { mixing: Some(neighbours), ..self }
    }

    /// Some of the rows.
    pub(crate) fn only(&self, selection: &[usize]) -> Self {
        let rows = match &self.mixing {
            None => selection.iter().map(|row| self.rows[*row]).collect(),
            Some(_) => self.rows.clone(),
        };
        let mixing = self.mixing.as_ref().map(|it| selection.iter().map(|row| it[*row].clone()).collect());
        Self { rows, mixing, columns: self.columns }
    }

    /// n.
    pub(crate) fn len(&self) -> usize {
        self.mixing.as_ref().map_or(self.rows.len(), Vec::len)
    }

    /// d.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The weights on the rows before mixing that make the same combination as `weights` on these.
    pub(crate) fn unmixed_weights(&self, weights: &[f64]) -> Vec<f64> {
        let Some(mixing) = &self.mixing else { return weights.to_vec() };
        let mut unmixed = vec![0.0; self.rows.len()];
        for (neighbours, weight) in mixing.iter().zip(weights) {
            for row in neighbours {
                unmixed[*row] += weight / neighbours.len() as f64;
            }
        }
        unmixed
    }

    /// The rows before mixing.
    pub(crate) fn unmixed(&self) -> &[&'a [f32]] {
        &self.rows
    }

    /// One value per column from the column's n values. `kernel` gets a tile, row after row, and the output.
    pub(crate) fn map_columns(&self, kernel: impl Fn(&mut [f32], &mut [f32]) + Sync) -> Vec<f32> {
        let mut out = vec![0f32; self.columns];
        let (chunk, width) = (chunk(self.columns), width(self.len(), size_of::<f32>()));
        out.par_chunks_mut(chunk).enumerate().for_each(|(task, out)| {
            let mut tile = vec![0f32; self.len() * width];
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (piece, out) in out.chunks_mut(width).enumerate() {
                        let tile = &mut tile[..self.len() * out.len()];
                        self.load(task * chunk + piece * width, tile);
                        kernel(tile, out);
                    }
                },
            );
        });
        out
    }

    /// Sums over all columns. `kernel` gets the first column of a tile, the tile, row after row, and the
    /// `sums` sums to add to.
    pub(crate) fn fold_columns(
        &self,
        sums: usize,
        kernel: impl Fn(usize, &mut [f64], &mut [f64]) + Sync,
    ) -> Vec<f64> {
        let (chunk, width) = (chunk(self.columns), width(self.len(), size_of::<f64>()));
        let tasks: Vec<Vec<f64>> = (0..self.columns.div_ceil(chunk))
            .into_par_iter()
            .map(|task| {
                let mut tile = vec![0f64; self.len() * width];
                let mut partial = vec![0f64; sums];
                let columns = task * chunk..((task + 1) * chunk).min(self.columns);
                Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        for start in columns.clone().step_by(width) {
                            let tile = &mut tile[..self.len() * width.min(columns.end - start)];
                            self.load(start, tile);
                            kernel(start, tile, &mut partial);
                        }
                    },
                );
                partial
            })
            .collect();
        let mut total = vec![0f64; sums];
        for partial in tasks {
            for (total, partial) in total.iter_mut().zip(partial) {
                *total += partial;
            }
        }
        total
    }

    /// Fills `tile` with the columns from `start` on, row after row.
    #[inline(always)]
    fn load<T: From<f32>>(&self, start: usize, tile: &mut [T]) {
        let width = tile.len() / self.len();
        match &self.mixing {
            None => {
                for (row, tile) in self.rows.iter().zip(tile.chunks_exact_mut(width)) {
                    for (to, from) in tile.iter_mut().zip(&row[start..start + width]) {
                        *to = T::from(*from);
                    }
                }
            }
            Some(mixing) => {
                let mut sum = vec![0f64; width];
                for (neighbours, tile) in mixing.iter().zip(tile.chunks_exact_mut(width)) {
                    sum.fill(0.0);
                    for row in neighbours {
                        for (sum, from) in sum.iter_mut().zip(&self.rows[*row][start..start + width]) {
                            *sum += f64::from(*from);
                        }
                    }
                    for (to, sum) in tile.iter_mut().zip(&sum) {
                        *to = T::from((sum / neighbours.len() as f64) as f32);
                    }
                }
            }
        }
    }
}

/// Columns of a task.
pub(crate) fn chunk(columns: usize) -> usize {
    CHUNK.max(columns.div_ceil(TASKS).next_multiple_of(LANES))
}

/// Columns of a tile of `rows` rows.
pub(crate) fn width(rows: usize, bytes: usize) -> usize {
    (TILE / bytes / rows.max(1) / LANES * LANES).clamp(4 * LANES, 64 * LANES)
}

/// Σ term(aᵢ, bᵢ) over two rows of a tile, in one fixed order.
#[inline(always)]
pub(crate) fn sum_over(a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0f64; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += term(*a, *b);
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += term(*a, *b);
    }
    sums.iter().sum()
}

/// Σ (aᵢ − bᵢ)².
#[inline(always)]
pub(crate) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    sum_over(
        a,
        b,
        #[inline(always)]
        |a, b| (a - b) * (a - b),
    )
}
