//! Weight gradients: sums over pixels of outer products of the input's taps and the output's gradient.
#![expect(unsafe_code, reason = "register tiles take raw pointers")]

use super::correlate::Grid;
use super::tile;
use super::{LANES, Shared};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Pixels whose gradients stay in the first-level cache: 128 of 64 floats are 32 KiB.
const PIXELS: usize = 128;
/// Rows of weights per task.
const TASK_ROWS: usize = 96;

/// `gradient[k][..width] += Σ_position source[position][k] · output[position][..]`, where k runs over
/// `tap_rows` runs of `run` floats, `tap_stride` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OuterSum {
    /// The layer's input.
    pub(crate) source: Grid,
    /// The gradient of the layer's output.
    pub(crate) output: Grid,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) tap_rows: usize,
    pub(crate) tap_stride: usize,
    pub(crate) run: usize,
    /// Output channels, a multiple of [`LANES`].
    pub(crate) width: usize,
}

impl OuterSum {
    /// Elements of the weight gradient, `[depth, width]`.
    pub(crate) fn len(&self) -> usize {
        self.tap_rows * self.run * self.width
    }

    pub(super) fn check(&self, images: &Range<usize>, source: &[f32], output: &[f32]) {
        let last = |grid: &Grid| {
            grid.first
                + (images.end - 1) * grid.image
                + (self.rows - 1) * grid.row
                + (self.columns - 1) * grid.column
        };
        let source_end = last(&self.source) + (self.tap_rows - 1) * self.tap_stride + self.run;
        assert!(source_end <= source.len(), "the input lies outside its buffer");
        assert!(last(&self.output) + self.width <= output.len(), "the gradient lies outside its buffer");
        assert!(u32::try_from(source.len().max(output.len())).is_ok(), "offsets have 32 bits");
        assert!(self.width.is_multiple_of(LANES));
    }

    /// Adds the gradient over all `images` to `gradient`.
    ///
    /// # Panics
    /// If a buffer is too short for the geometry.
    pub(crate) fn add(&self, images: Range<usize>, source: &[f32], output: &[f32], gradient: &mut [f32]) {
        if images.is_empty() {
            return;
        }
        self.check(&images, source, output);
        assert!(gradient.len() >= self.len());
        let tasks = self.tasks();
        let gradient = Shared::of(gradient);
        tasks.into_par_iter().for_each(|(tap, rows, panel)| {
            let part = Part { tap, rows, panel: Some(panel), images: images.clone() };
            pulp::Arch::new().dispatch(Task { of: self, part, source, output, gradient, fresh: false });
        });
    }

    /// Writes the gradient of each unit, given as a range of images, into its own part of `gradients`
    /// (`len()` floats each) and adds the squared norms to `norms`.
    ///
    /// # Panics
    /// If a buffer is too short for the geometry.
    pub(crate) fn per_unit(
        &self,
        units: &[Range<usize>],
        source: &[f32],
        output: &[f32],
        gradients: &mut [f32],
        norms: &mut [f64],
    ) {
        let len = self.len();
        assert!(gradients.len() >= units.len() * len && norms.len() >= units.len());
        for unit in units {
            self.check(unit, source, output);
        }
        // One task per unit and run of taps; the norms of the parts are added in order.
        let parts = self.parts();
        let shared = Shared::of(gradients);
        let squares: Vec<f64> = (0..units.len() * parts.len())
            .into_par_iter()
            .map(|task| {
                let (unit, (tap, rows)) = (task / parts.len(), parts[task % parts.len()].clone());
                // SAFETY: `gradients` has `len` floats for each unit.
                let own = Shared(unsafe { shared.get().add(unit * len) });
                let part = Part { tap, rows: rows.clone(), panel: None, images: units[unit].clone() };
                pulp::Arch::new().dispatch(Task {
                    of: self,
                    part,
                    source,
                    output,
                    gradient: own,
                    fresh: true,
                });
                let first = (tap * self.run + rows.start) * self.width;
                // SAFETY: these are the rows that this task alone has just written.
                let written =
                    unsafe { std::slice::from_raw_parts(own.get().add(first), rows.len() * self.width) };
                super::vector::squared_norm(written)
            })
            .collect();
        for (norm, parts) in norms.iter_mut().zip(squares.chunks_exact(parts.len())) {
            *norm += parts.iter().sum::<f64>();
        }
    }

    /// Squared norm of the gradient over `images`, computed in `scratch` on the calling thread.
    pub(super) fn squared_norm(
        &self,
        images: &Range<usize>,
        source: &[f32],
        output: &[f32],
        scratch: &mut Vec<f32>,
    ) -> f64 {
        self.check(images, source, output);
        scratch.resize(self.len(), 0.0);
        let gradient = Shared::of(scratch);
        for (tap, rows) in self.parts() {
            let part = Part { tap, rows, panel: None, images: images.clone() };
            pulp::Arch::new().dispatch(Task { of: self, part, source, output, gradient, fresh: true });
        }
        super::vector::squared_norm(scratch)
    }

    /// Runs of taps of moderate size: `(tap row, range within the run)`.
    fn parts(&self) -> Vec<(usize, Range<usize>)> {
        let mut parts = Vec::new();
        for tap in 0..self.tap_rows {
            for first in (0..self.run).step_by(TASK_ROWS) {
                parts.push((tap, first..self.run.min(first + TASK_ROWS)));
            }
        }
        parts
    }

    fn tasks(&self) -> Vec<(usize, Range<usize>, (usize, usize))> {
        let mut tasks = Vec::new();
        for (tap, rows) in self.parts() {
            for panel in tile::panels(self.width) {
                tasks.push((tap, rows.clone(), panel));
            }
        }
        tasks
    }
}

/// What one task computes: rows of one tap row, one panel or all, over a range of images.
struct Part {
    tap: usize,
    rows: Range<usize>,
    panel: Option<(usize, usize)>,
    images: Range<usize>,
}

struct Task<'a> {
    of: &'a OuterSum,
    part: Part,
    source: &'a [f32],
    output: &'a [f32],
    gradient: Shared,
    /// Whether the target is overwritten.
    fresh: bool,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut pixels = [(0u32, 0u32); PIXELS];
        let (rows, columns) = (self.of.rows, self.of.columns);
        let (mut image, mut row, mut column) = (self.part.images.start, 0, 0);
        let mut left = self.part.images.len() * rows * columns;
        let mut fresh = self.fresh;
        let shift = self.part.tap * self.of.tap_stride;
        while left > 0 {
            let count = left.min(PIXELS);
            for pixel in &mut pixels[..count] {
                let at =
                    |grid: &Grid| grid.first + image * grid.image + row * grid.row + column * grid.column;
                *pixel = (at(&self.of.output) as u32, (at(&self.of.source) + shift) as u32);
                column += 1;
                if column == columns {
                    (column, row) = (0, row + 1);
                }
                if row == rows {
                    (row, image) = (0, image + 1);
                }
            }
            left -= count;
            match self.part.panel {
                Some(panel) => self.block(simd, panel, &pixels[..count], fresh),
                None => {
                    for panel in tile::panels(self.of.width) {
                        self.block(simd, panel, &pixels[..count], fresh);
                    }
                }
            }
            fresh = false;
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn block<S: Simd>(&self, simd: S, (first, width): (usize, usize), pixels: &[(u32, u32)], fresh: bool) {
        // SAFETY: the geometry was checked by the caller; tasks write disjoint rows or panels.
        unsafe {
            match (S::F32_LANES, width / S::F32_LANES) {
                (16, 4) => self.panel::<S, 4, 6>(simd, first, pixels, fresh),
                (16, 3) => self.panel::<S, 3, 8>(simd, first, pixels, fresh),
                (16, 2) => self.panel::<S, 2, 12>(simd, first, pixels, fresh),
                (_, 1) => self.panel::<S, 1, 12>(simd, first, pixels, fresh),
                (_, 2) => self.panel::<S, 2, 6>(simd, first, pixels, fresh),
                (_, 4) => self.panel::<S, 4, 4>(simd, first, pixels, fresh),
                _ => self.panel::<S, 16, 1>(simd, first, pixels, fresh),
            }
        }
    }

    /// # Safety
    /// The pixels lie within the buffers, and the panel of `V` vectors at column `first` exists.
    #[inline(always)]
    unsafe fn panel<S: Simd, const V: usize, const R: usize>(
        &self,
        simd: S,
        first: usize,
        pixels: &[(u32, u32)],
        fresh: bool,
    ) {
        let pitch = self.of.width;
        let Range { start, end } = self.part.rows;
        let base = self.part.tap * self.of.run;
        // SAFETY: see above; `gradient` has `len()` floats.
        unsafe {
            let y = self.output.as_ptr().add(first);
            let x = self.source.as_ptr();
            let out = |row: usize| self.gradient.get().add((base + row) * pitch + first);
            let mut row = start;
            while row + R <= end {
                tile::outer::<S, V, R>(simd, fresh, y, x.add(row), pixels, out(row), pitch);
                row += R;
            }
            if R > 4 && row + 4 <= end {
                tile::outer::<S, V, 4>(simd, fresh, y, x.add(row), pixels, out(row), pitch);
                row += 4;
            }
            while row + 3 <= end {
                tile::outer::<S, V, 3>(simd, fresh, y, x.add(row), pixels, out(row), pitch);
                row += 3;
            }
            while row < end {
                tile::outer::<S, V, 1>(simd, fresh, y, x.add(row), pixels, out(row), pitch);
                row += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every vector unit this machine has: gradients, and both ways to their norms.
    #[test]
    fn all_vector_units_agree_with_the_definition() {
        let (rows, columns, run, tap_rows, width, images) = (4, 5, 11, 2, 16, 2);
        let source_row = columns - 1 + run;
        let value = |i: usize| (i as f32 * 0.61).sin();
        let source: Vec<f32> = (0..images * (rows + tap_rows) * source_row).map(value).collect();
        let output: Vec<f32> = (0..images * rows * columns * width).map(|i| value(i + 3)).collect();
        let of = OuterSum {
            source: Grid { first: 0, image: (rows + tap_rows) * source_row, row: source_row, column: 1 },
            output: Grid { first: 0, image: rows * columns * width, row: columns * width, column: width },
            rows,
            columns,
            tap_rows,
            tap_stride: source_row,
            run,
            width,
        };
        let mut expected = vec![0f64; of.len()];
        for position in 0..images * rows * columns {
            let (image, row, column) =
                (position / (rows * columns), position / columns % rows, position % columns);
            let x = &source[image * of.source.image + row * source_row + column..];
            for (i, sum) in expected.iter_mut().enumerate() {
                let (k, c) = (i / width, i % width);
                let x = x[k / run * source_row + k % run];
                *sum += f64::from(x) * f64::from(output[position * width + c]);
            }
        }
        let run_on = |with: &dyn Fn(Task<'_>)| {
            let mut gradient = vec![f32::NAN; of.len()];
            for (tap, rows) in of.parts() {
                let part = Part { tap, rows, panel: None, images: 0..images };
                let gradient = Shared::of(&mut gradient);
                with(Task { of: &of, part, source: &source, output: &output, gradient, fresh: true });
            }
            gradient
        };
        let mut found = vec![run_on(&|task| task.with_simd(pulp::Scalar))];
        found.push(run_on(&|task| pulp::Arch::new().dispatch(task)));
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = pulp::x86::V3::try_new() {
            found.push(run_on(&|task| Simd::vectorize(unit, task)));
        }
        for gradient in found {
            for (found, expected) in gradient.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-4);
            }
        }
        let squared: f64 = expected.iter().map(|g| g * g).sum();
        let direct = of.squared_norm(&(0..images), &source, &output, &mut Vec::new());
        assert!((direct / squared - 1.0).abs() < 1e-5, "{direct} {squared}");
        for images in [0..1usize, 1..2] {
            let mut ghost = [0.0];
            of.ghost_norms(std::slice::from_ref(&images), &source, &output, &mut ghost);
            let direct = of.squared_norm(&images, &source, &output, &mut Vec::new());
            assert!((ghost[0] / direct - 1.0).abs() < 1e-4, "{} {direct}", ghost[0]);
        }
    }
}
