//! Correlation of a map with packed weights: convolutions forward, and backward onto their input.
//!
//! There is no unfolding (im2col): with channels contiguous, the taps of one kernel row are one
//! contiguous run of the source, so the register tile reads its operands from the map itself.
#![expect(unsafe_code, reason = "register tiles take raw pointers")]

use super::tile::{self, Begin, Runs};
use super::{LANES, Shared};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Depth of a block of weights: 128 rows of 64 floats are 32 KiB.
const DEPTH: usize = 128;
/// Rows of one task, a multiple of every tile's height.
const TASK_ROWS: usize = 240;
/// Taller than any tile.
const MAX_ROWS: usize = 12;

/// Addresses of the positions `(image, row, column)` in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Index of position (0, 0, 0).
    pub(crate) first: usize,
    /// Floats from one image to the next.
    pub(crate) image: usize,
    /// Floats from one row of positions to the next.
    pub(crate) row: usize,
    /// Floats from one column of positions to the next.
    pub(crate) column: usize,
}

impl Grid {
    pub(super) fn at(&self, image: usize, row: usize, column: usize) -> usize {
        self.first + image * self.image + row * self.row + column * self.column
    }
}

/// `target[position][..width] = Σ_k weights[k][..] · source[position][k]`, where k runs over `tap_rows`
/// runs of `run` floats, `tap_stride` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Correlation {
    pub(crate) source: Grid,
    pub(crate) target: Grid,
    /// Positions per column.
    pub(crate) rows: usize,
    /// Positions per row.
    pub(crate) columns: usize,
    pub(crate) tap_rows: usize,
    pub(crate) tap_stride: usize,
    pub(crate) run: usize,
    /// Floats written at each position, a multiple of [`LANES`].
    pub(crate) width: usize,
}

/// What the sums begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// A value per output channel.
    Bias(&'a [f32]),
    /// What the target holds already.
    Accumulate,
}

/// Part of the depth that is summed in one go.
#[derive(Clone, Copy)]
struct Block {
    /// First of its rows of weights.
    depth: usize,
    /// Its place relative to the position in the source.
    shift: usize,
    runs: Runs,
}

impl Correlation {
    /// Rows of weights.
    pub(crate) fn depth(&self) -> usize {
        self.tap_rows * self.run
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        if self.run > DEPTH {
            let parts = self.run.div_ceil(DEPTH);
            let len = self.run.div_ceil(parts);
            for tap in 0..self.tap_rows {
                for first in (0..self.run).step_by(len) {
                    blocks.push(Block {
                        depth: tap * self.run + first,
                        shift: tap * self.tap_stride + first,
                        runs: Runs { segments: 1, stride: 0, len: len.min(self.run - first) },
                    });
                }
            }
        } else {
            let together = (DEPTH / self.run).max(1);
            for tap in (0..self.tap_rows).step_by(together) {
                let segments = together.min(self.tap_rows - tap);
                blocks.push(Block {
                    depth: tap * self.run,
                    shift: tap * self.tap_stride,
                    runs: Runs { segments, stride: self.tap_stride, len: self.run },
                });
            }
        }
        blocks
    }

    /// Panics if a buffer is too short for `images` images.
    pub(super) fn check(&self, images: usize, start: Start<'_>, source: &[f32], target: &[f32]) {
        let (last_row, last_column) = (self.rows - 1, self.columns - 1);
        let source_end = self.source.at(images - 1, last_row, last_column)
            + (self.tap_rows - 1) * self.tap_stride
            + self.run;
        let target_end = self.target.at(images - 1, last_row, last_column) + self.width;
        assert!(source_end <= source.len() && target_end <= target.len(), "a map outside its buffer");
        assert!(self.width.is_multiple_of(LANES));
        if let Start::Bias(bias) = start {
            assert!(bias.len() >= self.width, "a bias shorter than the channels");
        }
    }

    /// Runs it on `images` images.
    ///
    /// `weights` are packed by [`pack`](super::pack): panel after panel, each `depth` rows of the panel's
    /// width.
    ///
    /// # Panics
    /// If a buffer is too short for the geometry.
    pub(crate) fn apply(
        &self,
        images: usize,
        weights: &[f32],
        start: Start<'_>,
        source: &[f32],
        target: &mut [f32],
    ) {
        if images == 0 || self.rows == 0 || self.columns == 0 {
            return;
        }
        self.check(images, start, source, target);
        assert!(weights.len() >= self.depth() * self.width);
        let positions = images * self.rows * self.columns;
        let chunks = positions.div_ceil(TASK_ROWS);
        let panels: Vec<(usize, usize)> = tile::panels(self.width).collect();
        // Few positions: each panel is a task of its own, so that late layers use all threads and read
        // their large weights once.
        let split = if chunks < 4 * rayon::current_num_threads() { panels.len() } else { 1 };
        let target = Shared::of(target);
        let blocks = self.blocks();
        (0..chunks * split).into_par_iter().for_each(|task| {
            let (part, chunk) = (task / chunks, task % chunks);
            let panels = if split == 1 { &panels[..] } else { &panels[part..=part] };
            let first = chunk * TASK_ROWS;
            let task = Task {
                of: self,
                blocks: &blocks,
                weights,
                start,
                source,
                target,
                panels,
                positions: first..positions.min(first + TASK_ROWS),
            };
            pulp::Arch::new().dispatch(task);
        });
    }
}

struct Task<'a> {
    of: &'a Correlation,
    blocks: &'a [Block],
    weights: &'a [f32],
    start: Start<'a>,
    source: &'a [f32],
    target: Shared,
    panels: &'a [(usize, usize)],
    positions: std::ops::Range<usize>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut sources = [0; TASK_ROWS + MAX_ROWS];
        let mut targets = [0; TASK_ROWS + MAX_ROWS];
        let count = self.positions.len();
        let (columns, rows) = (self.of.columns, self.of.rows);
        let (mut image, rest) =
            (self.positions.start / (rows * columns), self.positions.start % (rows * columns));
        let (mut row, mut column) = (rest / columns, rest % columns);
        for i in 0..count {
            sources[i] = self.of.source.at(image, row, column);
            targets[i] = self.of.target.at(image, row, column);
            column += 1;
            if column == columns {
                (column, row) = (0, row + 1);
            }
            if row == rows {
                (row, image) = (0, image + 1);
            }
        }
        // A tile that reaches beyond the last position computes that position again.
        for i in count..count + MAX_ROWS {
            (sources[i], targets[i]) = (sources[count - 1], targets[count - 1]);
        }
        for &(first, width) in self.panels {
            let vectors = width / S::F32_LANES;
            let place = (&sources[..], &targets[..], count);
            // SAFETY: `apply` checked that all positions lie within the buffers; tasks write disjoint
            // positions or panels.
            unsafe {
                match (S::F32_LANES, vectors) {
                    (16, 4) => self.panel::<S, 4, 6>(simd, first, place),
                    (16, 3) => self.panel::<S, 3, 8>(simd, first, place),
                    (16, 2) => self.panel::<S, 2, 12>(simd, first, place),
                    (_, 1) => self.panel::<S, 1, 12>(simd, first, place),
                    (_, 2) => self.panel::<S, 2, 6>(simd, first, place),
                    (_, 4) => self.panel::<S, 4, 4>(simd, first, place),
                    _ => self.panel::<S, 16, 1>(simd, first, place),
                }
            }
        }
    }
}

impl Task<'_> {
    /// # Safety
    /// The places lie within the buffers, and the panel of `V` vectors at column `first` exists.
    #[inline(always)]
    unsafe fn panel<S: Simd, const V: usize, const R: usize>(
        &self,
        simd: S,
        first: usize,
        (sources, targets, count): (&[usize], &[usize], usize),
    ) {
        let width = V * S::F32_LANES;
        for (b, block) in self.blocks.iter().enumerate() {
            // SAFETY: see above; `weights` covers `depth` rows of every panel.
            unsafe {
                let begin = match self.start {
                    _ if b > 0 => Begin::Target,
                    Start::Zero => Begin::Zero,
                    Start::Bias(bias) => Begin::Row(bias.as_ptr().add(first)),
                    Start::Accumulate => Begin::Target,
                };
                let panel = self.weights.as_ptr().add(first * self.of.depth() + block.depth * width);
                for i in (0..count).step_by(R) {
                    let x: [*const f32; R] =
                        std::array::from_fn(|r| self.source.as_ptr().add(sources[i + r] + block.shift));
                    let out: [*mut f32; R] =
                        std::array::from_fn(|r| self.target.get().add(targets[i + r] + first));
                    tile::correlate::<S, V, R>(simd, begin, panel, block.runs, &x, &out, count - i);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every vector unit this machine has, on one panel of 16, which all of them pack alike.
    #[test]
    fn all_vector_units_agree_with_the_definition() {
        let (rows, columns, run, tap_rows, width) = (5, 7, 6, 3, 16);
        let source_row = (columns - 1) * 2 + run;
        let value = |i: usize| (i as f32 * 0.37).sin();
        let source: Vec<f32> = (0..2 * (rows + tap_rows) * source_row).map(value).collect();
        let weights: Vec<f32> = (0..tap_rows * run * width).map(|i| value(i + 7)).collect();
        let of = Correlation {
            source: Grid { first: 0, image: (rows + tap_rows) * source_row, row: source_row, column: 2 },
            target: Grid { first: 0, image: rows * columns * width, row: columns * width, column: width },
            rows,
            columns,
            tap_rows,
            tap_stride: source_row,
            run,
            width,
        };
        let positions = 2 * rows * columns;
        let blocks = of.blocks();
        let run_on = |with: &dyn Fn(Task<'_>)| {
            let mut target = vec![1.0; positions * width];
            with(Task {
                of: &of,
                blocks: &blocks,
                weights: &weights,
                start: Start::Accumulate,
                source: &source,
                target: Shared::of(&mut target),
                panels: &[(0, width)],
                positions: 0..positions,
            });
            target
        };
        let mut found = vec![run_on(&|task| task.with_simd(pulp::Scalar))];
        found.push(run_on(&|task| pulp::Arch::new().dispatch(task)));
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = pulp::x86::V3::try_new() {
            found.push(run_on(&|task| Simd::vectorize(unit, task)));
        }
        for target in found {
            for position in 0..positions {
                let (image, row, column) =
                    (position / (rows * columns), position / columns % rows, position % columns);
                let x = &source[of.source.at(image, row, column)..];
                for c in 0..width {
                    let term = |k: usize| x[k / run * source_row + k % run] * weights[k * width + c];
                    let expected = 1.0 + (0..tap_rows * run).map(term).sum::<f32>();
                    assert!((target[position * width + c] - expected).abs() < 1e-5);
                }
            }
        }
    }
}
