//! Weight gradients by tiles: `Gᵀ[Σ (Bᵀ d B) ⊙ (A y Aᵀ)]G`, with d the input and y the output's gradient.
//!
//! The sum over tiles is, for each position of a tile, a matrix product of transformed inputs and
//! transformed gradients.

use super::{Side, apart, transform};
use crate::kernels::outer::OuterSum;
use crate::kernels::{LANES, Shared, tile, vector};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Tiles that are transformed together.
const CHUNK: usize = 32;
/// Chunks that are summed together.
const CHUNKS: usize = 16;
/// Rows of weights whose sums are in memory together.
const ROWS: usize = 48;

/// The weight gradient of a 3×3 convolution with stride 1, by tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WinogradSum {
    of: OuterSum,
    side: Side,
}

/// Transformed tiles, chunk after chunk, each `[position, tile, channel]`.
#[derive(Debug, Default)]
pub(crate) struct Tiles {
    values: Vec<f32>,
    slopes: Vec<f32>,
    /// Where the first position of each tile is in `slopes` and `values`.
    places: Vec<(u32, u32)>,
}

thread_local! {
    static TILES: RefCell<Tiles> = RefCell::default();
    static SUMS: RefCell<Vec<f32>> = RefCell::default();
}

impl WinogradSum {
    /// None if the kernel is not 3×3, the stride is not 1, or the inputs are not whole vectors.
    pub(crate) fn new(of: OuterSum, side: Side) -> Option<Self> {
        let fits = of.tap_rows == 3
            && of.run == 3 * of.source.column
            && of.source.row == of.tap_stride
            && of.source.column.is_multiple_of(LANES);
        fits.then_some(Self { of, side })
    }

    /// Adds the gradient over all `images` to `gradient`; `memory` is memory to work in.
    ///
    /// # Panics
    /// If a buffer is too short for the geometry.
    pub(crate) fn add(
        &self,
        images: Range<usize>,
        source: &[f32],
        output: &[f32],
        gradient: &mut [f32],
        memory: &mut Tiles,
    ) {
        if images.is_empty() {
            return;
        }
        self.of.check(&images, source, output);
        assert!(gradient.len() >= self.of.len());
        let gradient = Shared::of(gradient);
        for tiles in self.blocks(&images) {
            let chunks = self.make_room(&tiles, memory);
            let [x, y] = self.chunk_lens();
            let parts = memory.values.par_chunks_exact_mut(x).zip(memory.slopes.par_chunks_exact_mut(y));
            parts.zip(chunks).for_each(|((values, slopes), tiles)| {
                pulp::Arch::new().dispatch(Transform { of: self, tiles, source, output, values, slopes });
            });
            let memory = &*memory;
            self.parts().into_par_iter().for_each(|(panel, rows)| {
                // Outside of the dispatcher, into which closures are not inlined.
                SUMS.with_borrow_mut(|sums| {
                    let fresh = false;
                    let part = Part { of: self, panel, rows, memory, sums, gradient, fresh };
                    pulp::Arch::new().dispatch(part);
                });
            });
        }
    }

    /// Writes the gradient of each unit, given as a range of images, into its own part of `gradients` and
    /// adds the squared norms to `norms`.
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
        let len = self.of.len();
        assert!(gradients.len() >= units.len() * len && norms.len() >= units.len());
        for unit in units {
            self.of.check(unit, source, output);
        }
        gradients.par_chunks_exact_mut(len).zip(units).zip(norms).for_each(|((gradient, images), norm)| {
            let shared = Shared::of(gradient);
            let [x, y] = self.chunk_lens();
            TILES.with_borrow_mut(|memory| {
                for (block, tiles) in self.blocks(images).enumerate() {
                    let chunks = self.make_room(&tiles, memory);
                    let parts = memory.values.chunks_exact_mut(x).zip(memory.slopes.chunks_exact_mut(y));
                    for ((values, slopes), tiles) in parts.zip(chunks) {
                        let task = Transform { of: self, tiles, source, output, values, slopes };
                        pulp::Arch::new().dispatch(task);
                    }
                    for (panel, rows) in self.parts() {
                        // The first tiles of a unit overwrite what an earlier step has left.
                        let (memory, gradient, fresh) = (&*memory, shared, block == 0);
                        SUMS.with_borrow_mut(|sums| {
                            let part = Part { of: self, panel, rows, memory, sums, gradient, fresh };
                            pulp::Arch::new().dispatch(part);
                        });
                    }
                }
            });
            *norm += vector::squared_norm(gradient);
        });
    }

    fn inputs(&self) -> usize {
        self.of.source.column
    }

    fn tiles_per_image(&self) -> usize {
        self.side.tiles([self.of.rows, self.of.columns]).iter().product()
    }

    /// Tiles whose transforms are in memory together.
    fn blocks(&self, images: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let per_image = self.tiles_per_image();
        let end = images.end * per_image;
        (images.start * per_image..end)
            .step_by(CHUNK * CHUNKS)
            .map(move |first| first..end.min(first + CHUNK * CHUNKS))
    }

    /// Floats of a chunk's inputs and gradients.
    fn chunk_lens(&self) -> [usize; 2] {
        [self.inputs(), self.of.width].map(|channels| self.side.products() * apart(CHUNK * channels))
    }

    /// Makes room for the tiles, lists their places and divides them into chunks.
    fn make_room(&self, tiles: &Range<usize>, memory: &mut Tiles) -> Vec<Range<usize>> {
        let chunks: Vec<_> =
            tiles.clone().step_by(CHUNK).map(|first| first..tiles.end.min(first + CHUNK)).collect();
        let [x, y] = self.chunk_lens();
        memory.values.resize(memory.values.len().max(chunks.len() * x), 0.0);
        memory.slopes.resize(memory.slopes.len().max(chunks.len() * y), 0.0);
        memory.places.clear();
        memory.places.extend((0..tiles.len()).map(|tile| {
            let (chunk, tile) = (tile / CHUNK, tile % CHUNK);
            ((chunk * y + tile * self.of.width) as u32, (chunk * x + tile * self.inputs()) as u32)
        }));
        chunks
    }

    /// Panels, and rows of each, that one task sums.
    fn parts(&self) -> Vec<((usize, usize), Range<usize>)> {
        let mut parts = Vec::new();
        for panel in tile::panels(self.of.width) {
            for first in (0..self.inputs()).step_by(ROWS) {
                parts.push((panel, first..self.inputs().min(first + ROWS)));
            }
        }
        parts
    }
}

/// Transforms a chunk of tiles.
struct Transform<'a> {
    of: &'a WinogradSum,
    tiles: Range<usize>,
    source: &'a [f32],
    output: &'a [f32],
    values: &'a mut [f32],
    slopes: &'a mut [f32],
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.of.side {
            Side::Two => self.run::<S, 4, 2>(simd),
            Side::Four => self.run::<S, 6, 4>(simd),
        }
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn run<S: Simd, const A: usize, const M: usize>(self, simd: S) {
        let (of, inputs, per_image) = (self.of.of, self.of.inputs(), self.of.tiles_per_image());
        let tiles_per_row = of.columns.div_ceil(M);
        let [slab_x, slab_y] = [inputs, of.width].map(|channels| apart(CHUNK * channels));
        for (t, tile) in self.tiles.enumerate() {
            let (image, tile) = (tile / per_image, tile % per_image);
            let (row, column) = (M * (tile / tiles_per_row), M * (tile % tiles_per_row));
            // Beyond the map the last row or column stands in: its gradient is zero.
            let rows = std::array::from_fn(|i| (row + i).min(of.rows + 1) * of.source.row);
            let columns = std::array::from_fn(|j| (column + j).min(of.columns + 1) * of.source.column);
            let from = &self.source[of.source.first + image * of.source.image..];
            let out = &mut self.values[t * inputs..];
            transform::input::<S, A>(simd, from, &rows, &columns, inputs, out, slab_x);
            transform::gradient::<S, A, M>(
                simd,
                &self.output[of.output.at(image, row, column)..],
                [of.output.row, of.output.column],
                [M.min(of.rows - row), M.min(of.columns - column)],
                of.width,
                &mut self.slopes[t * of.width..],
                slab_y,
            );
        }
    }
}

/// Sums the products of some rows and a panel over all transformed tiles.
struct Part<'a> {
    of: &'a WinogradSum,
    panel: (usize, usize),
    rows: Range<usize>,
    memory: &'a Tiles,
    /// Sums of products, `[position, row, output]`.
    sums: &'a mut Vec<f32>,
    gradient: Shared,
    /// Whether the target is overwritten.
    fresh: bool,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.of.side {
            Side::Two => self.run::<S, 4>(simd),
            Side::Four => self.run::<S, 6>(simd),
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    #[expect(unsafe_code, reason = "tasks write rows and panels of their own into one gradient")]
    fn run<S: Simd, const A: usize>(self, simd: S) {
        let Self { of, panel: (first, width), rows, memory, sums, gradient, fresh } = self;
        let [slab_x, slab_y] = [of.inputs(), of.of.width].map(|channels| apart(CHUNK * channels));
        let (len, slab) = (rows.len() * width, apart(rows.len() * width));
        sums.resize(sums.len().max(A * A * slab), 0.0);
        for position in 0..A * A {
            let y = &memory.slopes[position * slab_y + first..];
            let x = &memory.values[position * slab_x + rows.start..];
            products(simd, y, x, &memory.places, &mut sums[position * slab..][..len], width);
        }
        for r in 0..rows.len() {
            for v in (0..width).step_by(S::F32_LANES) {
                let taps = transform::sum::<S, A>(simd, &sums[r * width + v..], slab);
                for (tap, value) in taps.as_flattened().iter().enumerate() {
                    let at = (tap * of.inputs() + rows.start + r) * of.of.width + first + v;
                    // SAFETY: the callers checked that the gradient has a row of `width` for each tap and
                    // input; tasks write rows or panels of their own.
                    unsafe {
                        let out = gradient.get().add(at).cast::<S::f32s>();
                        let value = if fresh { *value } else { simd.add_f32s(out.read_unaligned(), *value) };
                        out.write_unaligned(value);
                    }
                }
            }
        }
    }
}

/// `sums[r][..] = Σ_t y[t][..] · x[t][r]`, rows of `width` floats; `places` say where each tile's values
/// begin in `y` and `x`.
#[inline(always)]
fn products<S: Simd>(simd: S, y: &[f32], x: &[f32], places: &[(u32, u32)], sums: &mut [f32], width: usize) {
    let count = sums.len() / width;
    let (last_y, last_x) = *places.last().expect("a unit has tiles");
    assert!(last_y as usize + width <= y.len() && last_x as usize + count <= x.len());
    assert!(sums.len() == count * width && count.is_multiple_of(LANES));
    #[expect(unsafe_code, reason = "register tiles take raw pointers")]
    // SAFETY: the places ascend, so that all of them lie within the buffers, as was just checked; `sums`
    // has all rows.
    unsafe {
        match (S::F32_LANES, width / S::F32_LANES) {
            (16, 4) => rows::<S, 4, 6>(simd, y, x, places, sums),
            (16, 3) => rows::<S, 3, 8>(simd, y, x, places, sums),
            (16, 2) => rows::<S, 2, 8>(simd, y, x, places, sums),
            (16, 1) => rows::<S, 1, 8>(simd, y, x, places, sums),
            (_, 2) => rows::<S, 2, 4>(simd, y, x, places, sums),
            (_, 4) => rows::<S, 4, 4>(simd, y, x, places, sums),
            _ => rows::<S, 16, 1>(simd, y, x, places, sums),
        }
    }
}

/// # Safety
/// Every place covers `V` vectors of `y` and a float of `x` for each row of `sums`, whose number is a
/// multiple of [`LANES`].
#[inline(always)]
#[expect(unsafe_code, reason = "register tiles take raw pointers")]
unsafe fn rows<S: Simd, const V: usize, const R: usize>(
    simd: S,
    y: &[f32],
    x: &[f32],
    places: &[(u32, u32)],
    sums: &mut [f32],
) {
    let pitch = V * S::F32_LANES;
    let count = sums.len() / pitch;
    let sums = sums.as_mut_ptr();
    let mut row = 0;
    // SAFETY: see above.
    unsafe {
        // An even number of tall tiles, so that tiles of four cover the rest.
        while row + 2 * R <= count {
            for _ in 0..2 {
                let (x, out) = (x.as_ptr().add(row), sums.add(row * pitch));
                tile::outer::<S, V, R>(simd, true, y.as_ptr(), x, places, out, pitch);
                row += R;
            }
        }
        while row < count {
            let (x, out) = (x.as_ptr().add(row), sums.add(row * pitch));
            tile::outer::<S, V, 4>(simd, true, y.as_ptr(), x, places, out, pitch);
            row += 4;
        }
    }
}
