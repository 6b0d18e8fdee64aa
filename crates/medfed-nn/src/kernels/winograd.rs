//! Winograd's short convolutions for 3×3 kernels with stride 1 (Lavin, Gray 2016): fewer
//! multiplications than the definition, paid for with additions.
//!
//! A tile of M×M results, M = 2 or 4, needs A×A inputs, A = M + 2. With the matrices of
//! `winograd/transform.rs`, `Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`. Summed over input channels, the elementwise
//! product is a matrix product for each of the A² positions of a tile: A² / M² multiplications per
//! result and pair of channels (4 for M = 2 and 2.25 for M = 4) where the definition takes 9.
//!
//! A task takes some tiles through all three steps, so that everything but the weights stays in the
//! second-level cache. Tiles never cross from one image to another, so a value that is not finite stays
//! within its image.
#![expect(unsafe_code, reason = "register tiles take raw pointers")]

pub(crate) mod gradient;
mod transform;

use super::correlate::{Correlation, Start};
use super::tile::{self, Begin, Runs};
use super::{LANES, Shared};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Depth of a block of weights, as in a direct correlation.
const DEPTH: usize = 128;
/// Floats of transformed input in a task: 512 KiB.
const BUDGET: usize = 1 << 17;
/// Tiles of a task, a multiple of every register tile's height.
const TILES: Range<usize> = 24..96;

/// Results along one side of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Two,
    Four,
}

impl Side {
    /// M: results along one side.
    pub(crate) fn results(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// A²: products per tile and pair of channels.
    pub(crate) fn products(self) -> usize {
        (self.results() + 2).pow(2)
    }

    /// Tiles along each axis of a map.
    pub(crate) fn tiles(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        [rows.div_ceil(self.results()), columns.div_ceil(self.results())]
    }
}

/// A 3×3 correlation with stride 1, by tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Winograd {
    of: Correlation,
    side: Side,
}

#[derive(Default)]
struct Scratch {
    /// Transformed inputs, `[position, tile, input]`.
    values: Vec<f32>,
    /// Products of one panel, `[position, tile, output]`.
    products: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Winograd {
    /// None if the kernel is not 3×3, the stride is not 1, or the inputs are not whole vectors.
    pub(crate) fn new(of: Correlation, side: Side) -> Option<Self> {
        let fits = of.tap_rows == 3
            && of.run == 3 * of.source.column
            && of.source.row == of.tap_stride
            && of.source.column.is_multiple_of(LANES);
        fits.then_some(Self { of, side })
    }

    fn inputs(&self) -> usize {
        self.of.source.column
    }

    /// Floats of transformed weights.
    pub(crate) fn weights_len(&self) -> usize {
        self.side.products() * self.inputs() * self.of.width
    }

    /// Transforms weights that are packed for the direct correlation: panel after panel, each
    /// `[position, input, lane]`.
    ///
    /// # Panics
    /// If a buffer has another length than the geometry says.
    pub(crate) fn transform_weights(&self, packed: &[f32], out: &mut [f32]) {
        assert!(packed.len() == self.of.depth() * self.of.width && out.len() == self.weights_len());
        let (depth, products) = (self.of.depth(), self.side.products() * self.inputs());
        let mut rest = out;
        let mut panels = Vec::new();
        for (first, width) in tile::panels(self.of.width) {
            let (part, after) = rest.split_at_mut(products * width);
            panels.push((&packed[first * depth..][..depth * width], width, part));
            rest = after;
        }
        panels.into_par_iter().for_each(|(packed, width, out)| {
            pulp::Arch::new().dispatch(transform::Weights {
                side: self.side,
                packed,
                inputs: self.inputs(),
                width,
                out,
            });
        });
    }

    /// Runs it on `images` images, with transformed weights.
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
        if images == 0 || self.of.rows == 0 || self.of.columns == 0 {
            return;
        }
        self.of.check(images, start, source, target);
        assert!(weights.len() >= self.weights_len());
        let tiles = images * self.side.tiles([self.of.rows, self.of.columns]).iter().product::<usize>();
        // Which tiles share a task changes nothing in the result.
        let fitting = BUDGET / (self.side.products() * self.inputs());
        let even = tiles.div_ceil(4 * rayon::current_num_threads());
        let size = fitting.min(even).clamp(TILES.start, TILES.end).next_multiple_of(12);
        let target = Shared::of(target);
        (0..tiles.div_ceil(size)).into_par_iter().for_each(|task| {
            SCRATCH.with_borrow_mut(|scratch| {
                let tiles = task * size..tiles.min((task + 1) * size);
                pulp::Arch::new().dispatch(Task { of: self, tiles, weights, start, source, target, scratch });
            });
        });
    }
}

/// Floats from one position of the tiles to the next, for `len` floats of each: an odd number of cache lines,
/// so that the positions of one tile lie in different sets of the cache.
const fn apart(len: usize) -> usize {
    (len.div_ceil(LANES) | 1) * LANES
}

struct Task<'a> {
    of: &'a Winograd,
    tiles: Range<usize>,
    weights: &'a [f32],
    start: Start<'a>,
    source: &'a [f32],
    target: Shared,
    scratch: &'a mut Scratch,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.of.side {
            Side::Two => self.run::<S, 4, 2>(simd),
            Side::Four => self.run::<S, 6, 4>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const A: usize, const M: usize>(self, simd: S) {
        let Self { of: &Winograd { of, .. }, tiles, weights, start, source, target, scratch } = self;
        let (count, inputs) = (tiles.len(), of.source.column);
        let Scratch { values, products } = scratch;
        let (slab, panel_width) = (apart(count * inputs), of.width.min(tile::panel_limit()));
        values.resize(values.len().max(A * A * slab), 0.0);
        products.resize(products.len().max(A * A * apart(count * panel_width)), 0.0);
        let grid = [of.rows.div_ceil(M), of.columns.div_ceil(M)];
        let places = || {
            tiles.clone().map(|tile| {
                let (image, tile) = (tile / (grid[0] * grid[1]), tile % (grid[0] * grid[1]));
                (image, M * (tile / grid[1]), M * (tile % grid[1]))
            })
        };
        for (t, (image, row, column)) in places().enumerate() {
            // Beyond the map the last row or column stands in: it reaches no result that is kept.
            let rows = std::array::from_fn(|i| (row + i).min(of.rows + 1) * of.source.row);
            let columns = std::array::from_fn(|j| (column + j).min(of.columns + 1) * of.source.column);
            let from = &source[of.source.first + image * of.source.image..];
            let out = &mut values[t * inputs..];
            transform::input::<S, A>(simd, from, &rows, &columns, inputs, out, slab);
        }
        for (first, width) in tile::panels(of.width) {
            let slice = apart(count * width);
            for position in 0..A * A {
                let weights = &weights[(first * A * A + position * width) * inputs..][..inputs * width];
                let values = &values[position * slab..][..count * inputs];
                let products = &mut products[position * slice..][..count * width];
                multiply(simd, weights, values, products, [count, inputs, width]);
            }
            for (t, (image, row, column)) in places().enumerate() {
                let kept = [M.min(of.rows - row), M.min(of.columns - column)];
                let at = of.target.at(image, row, column) + first;
                // SAFETY: `apply` checked that all positions lie within the target, and tasks have tiles
                // of their own.
                let place = unsafe { target.get().add(at) };
                let steps = [of.target.row, of.target.column];
                for v in (0..width).step_by(S::F32_LANES) {
                    let mut results = transform::output::<S, A, M>(simd, &products[t * width + v..], slice);
                    for (i, results) in results.iter_mut().enumerate().take(kept[0]) {
                        for (j, result) in results.iter_mut().enumerate().take(kept[1]) {
                            // SAFETY: as above, and a bias covers the width.
                            unsafe {
                                let out = place.add(i * steps[0] + j * steps[1] + v).cast::<S::f32s>();
                                let begin = match start {
                                    Start::Zero => simd.splat_f32s(0.0),
                                    Start::Bias(bias) => {
                                        bias.as_ptr().add(first + v).cast::<S::f32s>().read_unaligned()
                                    }
                                    Start::Accumulate => out.read_unaligned(),
                                };
                                out.write_unaligned(simd.add_f32s(*result, begin));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `products[t][..] = Σ_k values[t][k] · weights[k][..]`, with `sizes` tiles, inputs and outputs.
#[inline(always)]
fn multiply<S: Simd>(simd: S, weights: &[f32], values: &[f32], products: &mut [f32], sizes: [usize; 3]) {
    let [tiles, inputs, width] = sizes;
    assert!(values.len() == tiles * inputs && products.len() == tiles * width);
    assert!(weights.len() == inputs * width);
    // SAFETY: the lengths were just checked.
    unsafe {
        match (S::F32_LANES, width / S::F32_LANES) {
            (16, 4) => rows::<S, 4, 6>(simd, weights, values, products, inputs),
            (16, 3) => rows::<S, 3, 8>(simd, weights, values, products, inputs),
            (16, 2) => rows::<S, 2, 12>(simd, weights, values, products, inputs),
            (_, 1) => rows::<S, 1, 12>(simd, weights, values, products, inputs),
            (_, 2) => rows::<S, 2, 6>(simd, weights, values, products, inputs),
            (_, 4) => rows::<S, 4, 4>(simd, weights, values, products, inputs),
            _ => rows::<S, 16, 1>(simd, weights, values, products, inputs),
        }
    }
}

/// # Safety
/// `weights` has `inputs` rows of `V` vectors, and `products` a row of `V` vectors for each row of
/// `inputs` values.
#[inline(always)]
unsafe fn rows<S: Simd, const V: usize, const R: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    products: &mut [f32],
    inputs: usize,
) {
    let (width, last) = (V * S::F32_LANES, values.len() / inputs - 1);
    let products = products.as_mut_ptr();
    for first in (0..inputs).step_by(DEPTH) {
        let begin = if first == 0 { Begin::Zero } else { Begin::Target };
        let runs = Runs { segments: 1, stride: 0, len: DEPTH.min(inputs - first) };
        for t in (0..=last).step_by(R) {
            // SAFETY: see above; rows beyond the last repeat it.
            unsafe {
                let panel = weights.as_ptr().add(first * width);
                let x: [*const f32; R] =
                    std::array::from_fn(|r| values.as_ptr().add(last.min(t + r) * inputs + first));
                let out: [*mut f32; R] = std::array::from_fn(|r| products.add(last.min(t + r) * width));
                tile::correlate::<S, V, R>(simd, begin, panel, runs, &x, &out, last + 1 - t);
            }
        }
    }
}

#[cfg(test)]
mod tests;
