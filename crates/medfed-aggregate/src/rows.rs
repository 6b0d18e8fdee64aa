//! The updates as the rows of a matrix, read tile by tile.
//!
//! Parameters are divided into chunks, which rayon hands to threads, and chunks into tiles that fit the
//! first-level cache together. Both sizes depend on n and d alone, so results do not depend on the number of
//! threads.

use crate::sorting_network::SortingNetwork;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Columns that are worked on side by side, whatever the width of the vector unit.
pub(crate) const LANES: usize = 32;

/// The parts of a sum.
pub(crate) type Lanes = [f64; LANES];

/// Parameters of one task, at least.
const CHUNK: usize = 1 << 15;

/// Tasks of one pass, at most: what each one sums is kept until all are done.
const TASKS: usize = 256;

/// Bytes of a tile, about.
const TILE: usize = 16 << 10;

/// n updates of equal length, in the order of the site names.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    updates: Vec<&'a [f32]>,
    /// For every row the rows whose mean takes its place.
    mixing: Option<Vec<Vec<usize>>>,
    columns: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `columns` values each.
    pub(crate) fn new(rows: Vec<&'a [f32]>, columns: usize) -> Self {
        assert!(rows.iter().all(|row| row.len() == columns), "lengths are checked before");
        Self { updates: rows, mixing: None, columns }
    }

    /// The rows of which each is the mean of its `neighbours`.
    pub(crate) fn mixed(self, neighbours: Vec<Vec<usize>>) -> Self {
        Self { mixing: Some(neighbours), ..self }
    }

    /// Some of the rows.
    pub(crate) fn only(&self, selection: &[usize]) -> Self {
        let rows = match &self.mixing {
            None => selection.iter().map(|row| self.updates[*row]).collect(),
            Some(_) => self.updates.clone(),
        };
        let mixing = self.mixing.as_ref().map(|it| selection.iter().map(|row| it[*row].clone()).collect());
        Self { updates: rows, mixing, columns: self.columns }
    }

    /// n.
    pub(crate) fn len(&self) -> usize {
        self.mixing.as_ref().map_or(self.updates.len(), Vec::len)
    }

    /// d.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The weights on the rows before mixing that make the same combination as `weights` on these.
    pub(crate) fn unmixed_weights(&self, weights: &[f64]) -> Vec<f64> {
        let Some(mixing) = &self.mixing else { return weights.to_vec() };
        let mut unmixed = vec![0.0; self.updates.len()];
        for (neighbours, weight) in mixing.iter().zip(weights) {
            for row in neighbours {
                unmixed[*row] += weight / neighbours.len() as f64;
            }
        }
        unmixed
    }

    /// The rows before mixing.
    pub(crate) fn unmixed(&self) -> &[&'a [f32]] {
        &self.updates
    }

    /// One value per column from the column's n values, in `memory`. `kernel` gets a tile whose columns the
    /// network has sorted, and the output.
    pub(crate) fn map_sorted(
        &self,
        memory: Vec<f32>,
        network: &SortingNetwork,
        kernel: impl Fn(Tile<'_, f32>, &mut [f32]) + Sync,
    ) -> Vec<f32> {
        let mut out = sized(memory, self.columns);
        let (chunk, width) = (chunk(self.columns), width(self.len(), size_of::<f32>()));
        out.par_chunks_mut(chunk).enumerate().for_each(|(task, out)| {
            let mut memory = vec![0f32; self.len() * width];
            let mut sums = vec![0f64; width];
            vectorised(
                #[inline(always)]
                || {
                    for (piece, out) in out.chunks_mut(width).enumerate() {
                        let first = task * chunk + piece * width;
                        let tile = self.load_sorted(network, first, out.len(), &mut memory, &mut sums);
                        kernel(tile, out);
                    }
                },
            );
        });
        out
    }

    /// Sums over all columns. `kernel` gets a tile, `spare` rows of its width with anything in them, and
    /// the lanes of the `sums` sums to add to.
    pub(crate) fn fold_columns<T: From<f32> + Clone>(
        &self,
        sums: usize,
        spare: usize,
        kernel: impl Fn(Tile<'_, T>, &mut [T], &mut [Lanes]) + Sync,
    ) -> Vec<f64> {
        let (chunk, width) = (chunk(self.columns), width(self.len() + spare, size_of::<T>()));
        let tasks: Vec<Vec<f64>> = (0..self.columns.div_ceil(chunk))
            .into_par_iter()
            .map(|task| {
                let mut memory = vec![T::from(0.0); self.len() * width];
                let mut spare = vec![T::from(0.0); spare * width];
                let mut mixed = vec![0f64; width];
                let mut lanes = vec![[0f64; LANES]; sums];
                let columns = task * chunk..((task + 1) * chunk).min(self.columns);
                vectorised(
                    #[inline(always)]
                    || {
                        for first in columns.clone().step_by(width) {
                            let columns = width.min(columns.end - first);
                            let tile = self.load(first, columns, &mut memory, &mut mixed);
                            kernel(tile, &mut spare, &mut lanes);
                        }
                    },
                );
                lanes.iter().map(|lanes| lanes.iter().sum()).collect()
            })
            .collect();
        total(sums, tasks)
    }

    /// Sums over all columns, like [`Rows::fold_columns`], for kernels that only read: `kernel` gets a few
    /// columns of every row, a multiple of [`LANES`] of them, and the sums.
    pub(crate) fn fold_rows(&self, sums: usize, kernel: impl Fn(&[&[f32]], &mut [f64]) + Sync) -> Vec<f64> {
        let (chunk, width) = (chunk(self.columns), width(self.len(), size_of::<f32>()));
        let tasks: Vec<Vec<f64>> = (0..self.columns.div_ceil(chunk))
            .into_par_iter()
            .map(|task| {
                let mut memory = vec![0f32; self.len() * width];
                let mut mixed = vec![0f64; width];
                let mut sums = vec![0f64; sums];
                let columns = task * chunk..((task + 1) * chunk).min(self.columns);
                vectorised(
                    #[inline(always)]
                    || {
                        for first in columns.clone().step_by(width) {
                            let columns = width.min(columns.end - first);
                            // What is there already is not copied.
                            if self.mixing.is_none() && columns.is_multiple_of(LANES) {
                                let rows = self.updates.iter().map(|row| &row[first..first + columns]);
                                kernel(&rows.collect::<Vec<_>>(), &mut sums);
                            } else {
                                let tile = self.load(first, columns, &mut memory, &mut mixed);
                                kernel(&tile.rows().collect::<Vec<_>>(), &mut sums);
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        total(sums, tasks)
    }

    /// The `columns` columns from `first` on, each sorted, in the front of `memory`.
    #[inline(always)]
    fn load_sorted<'t>(
        &self,
        network: &SortingNetwork,
        first: usize,
        columns: usize,
        memory: &'t mut [f32],
        mixed: &mut [f64],
    ) -> Tile<'t, f32> {
        // Sorted on their way into the tile, few rows are written once.
        if self.mixing.is_none() && columns.is_multiple_of(LANES) {
            let values = &mut memory[..self.len() * columns];
            if network.sort_few(&self.updates, first..first + columns, values) {
                return Tile { values: &mut memory[..self.len() * columns], width: columns, first, columns };
            }
        }
        let mut tile = self.load(first, columns, memory, mixed);
        network.sort(&mut tile);
        tile
    }

    /// The `columns` columns from `first` on, in the front of `memory`.
    #[inline(always)]
    fn load<'t, T: From<f32>>(
        &self,
        first: usize,
        columns: usize,
        memory: &'t mut [T],
        mixed: &mut [f64],
    ) -> Tile<'t, T> {
        let width = columns.next_multiple_of(LANES);
        let values = &mut memory[..self.len() * width];
        for (i, tile) in values.chunks_exact_mut(width).enumerate() {
            let (tile, padding) = tile.split_at_mut(columns);
            for value in padding {
                *value = T::from(0.0);
            }
            match &self.mixing {
                None => {
                    for (to, from) in tile.iter_mut().zip(&self.updates[i][first..first + columns]) {
                        *to = T::from(*from);
                    }
                }
                Some(mixing) => {
                    let sums = &mut mixed[..columns];
                    sums.fill(0.0);
                    for row in &mixing[i] {
                        for (sum, from) in sums.iter_mut().zip(&self.updates[*row][first..first + columns]) {
                            *sum += f64::from(*from);
                        }
                    }
                    for (to, sum) in tile.iter_mut().zip(sums) {
                        *to = T::from((*sum / mixing[i].len() as f64) as f32);
                    }
                }
            }
        }
        Tile { values, width, first, columns }
    }
}

/// A few columns of all rows, row after row.
pub(crate) struct Tile<'a, T> {
    /// The values; behind `columns` columns every row is filled up with 0.
    pub(crate) values: &'a mut [T],
    /// Values of a row: a multiple of [`LANES`].
    pub(crate) width: usize,
    /// The first column.
    pub(crate) first: usize,
    /// The columns of the updates in this tile.
    pub(crate) columns: usize,
}

impl<T> Tile<'_, T> {
    /// Row `i`.
    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> &[T] {
        &self.values[i * self.width..][..self.width]
    }

    /// The rows.
    #[inline(always)]
    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, T> {
        self.values.chunks_exact(self.width)
    }

    /// The columns of this tile in a row of all columns.
    #[inline(always)]
    pub(crate) fn of<'r>(&self, row: &'r [f32]) -> &'r [f32] {
        &row[self.first..][..self.columns]
    }
}

/// Runs `work`, which changes something and is marked `#[inline(always)]`, compiled for the widest vector unit
/// of this machine.
///
/// A closure that is passed to [`Arch::dispatch`] directly is called through `FnOnce`, and the compiler may
/// leave that call, and all the work behind it, outside of the code for the vector unit.
pub(crate) fn vectorised(work: impl FnMut()) {
    Arch::new().dispatch(Work(work));
}

struct Work<F>(F);

impl<F: FnMut()> NullaryFnOnce for Work<F> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        (self.0)();
    }
}

/// The sums of the tasks, in the order of the tasks.
fn total(sums: usize, tasks: Vec<Vec<f64>>) -> Vec<f64> {
    let mut total = vec![0f64; sums];
    for partial in tasks {
        for (total, partial) in total.iter_mut().zip(partial) {
            *total += partial;
        }
    }
    total
}

/// `memory` with `len` values, whatever they are: fresh memory costs as much as reading the updates twice.
pub(crate) fn sized(mut memory: Vec<f32>, len: usize) -> Vec<f32> {
    if memory.capacity() < len {
        return vec![0f32; len];
    }
    memory.resize(len, 0.0);
    memory
}

/// Columns of a task.
pub(crate) fn chunk(columns: usize) -> usize {
    CHUNK.max(columns.div_ceil(TASKS).next_multiple_of(LANES))
}

/// Columns of a tile of `rows` rows.
fn width(rows: usize, bytes: usize) -> usize {
    (TILE / bytes / rows.max(1) / LANES * LANES).clamp(2 * LANES, 32 * LANES)
}

/// Adds term(aᵢ, bᵢ) over two rows of a tile to the lanes of a sum.
#[inline(always)]
pub(crate) fn add_over(lanes: &mut Lanes, a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) {
    // Copied, the lanes stay in registers.
    let mut sums = *lanes;
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    *lanes = sums;
}

/// Adds Σ (aᵢ − bᵢ)² to the lanes of a sum.
#[inline(always)]
pub(crate) fn add_squared_distance(lanes: &mut Lanes, a: &[f64], b: &[f64]) {
    add_over(
        lanes,
        a,
        b,
        #[inline(always)]
        |a, b| (a - b) * (a - b),
    );
}
