//! Ghost norms: the norm of a unit's weight gradient without the gradient.
//!
//! With A the `[position, tap]` matrix of a unit's input and B the `[position, channel]` matrix of its
//! output gradient, the weight gradient is G = AᵀB and ‖G‖² = ⟨AAᵀ, BBᵀ⟩ (Li, Tramèr, Liang, Hashimoto
//! 2022; Bu, Mao, Xu 2022): two Gram matrices over the positions, cheap where positions are few.
#![expect(unsafe_code, reason = "register tiles take raw pointers")]

use super::correlate::Grid;
use super::outer::OuterSum;
use super::padded;
use super::tile::{self, Begin, Runs};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Depth of a transposed block.
const DEPTH: usize = 128;
/// Relative rounding error granted to a product of Gram entries, on the scale of the product of the
/// positions' lengths. It makes the norm an upper bound where terms cancel.
const SLACK: f64 = 1.0 / (1 << 22) as f64;

#[derive(Default)]
struct Scratch {
    /// Positions in the input and in the output's gradient.
    places: [Vec<usize>; 2],
    grams: [Vec<f32>; 2],
    block: Vec<f32>,
    gradient: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl OuterSum {
    /// Adds the squared norm of each unit's gradient, given as a range of images, to `norms`.
    ///
    /// # Panics
    /// If a buffer is too short for the geometry.
    pub(crate) fn ghost_norms(
        &self,
        units: &[Range<usize>],
        source: &[f32],
        output: &[f32],
        norms: &mut [f64],
    ) {
        assert!(norms.len() >= units.len());
        for unit in units {
            self.check(unit, source, output);
        }
        units.par_iter().zip(norms).for_each(|(unit, norm)| {
            SCRATCH.with_borrow_mut(|scratch| {
                // Gram matrices grow with the square of the positions, the gradient does not: a unit of
                // many images is cheaper, and smaller in memory, the direct way.
                let positions = unit.len() * self.rows * self.columns;
                let depth = self.tap_rows * self.run;
                *norm += if positions * (depth + self.width) > 2 * self.len() {
                    self.squared_norm(unit, source, output, &mut scratch.gradient)
                } else {
                    pulp::Arch::new().dispatch(Unit {
                        of: self,
                        images: unit.clone(),
                        source,
                        output,
                        scratch,
                    })
                };
            });
        });
    }
}

struct Unit<'a> {
    of: &'a OuterSum,
    images: Range<usize>,
    source: &'a [f32],
    output: &'a [f32],
    scratch: &'a mut Scratch,
}

impl WithSimd for Unit<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self { of, images, source, output, scratch } = self;
        let Scratch { places, grams, block, .. } = scratch;
        for (places, grid) in places.iter_mut().zip([&of.source, &of.output]) {
            list_places(places, grid, of, &images);
        }
        let (taps, channels) = (of.tap_rows, of.width);
        let matrices = [
            Rows { data: source, places: &places[0], taps, stride: of.tap_stride, run: of.run },
            Rows { data: output, places: &places[1], taps: 1, stride: 0, run: channels },
        ];
        let positions = places[0].len();
        if positions == 1 {
            return matrices[0].length_squared() * matrices[1].length_squared();
        }
        let pitch = padded(positions);
        block.resize(DEPTH * pitch, 0.0);
        for (rows, gram) in matrices.iter().zip(grams.iter_mut()) {
            gram.resize(positions * pitch, 0.0);
            rows.gram(simd, gram, pitch, block);
        }
        let (mut sum, mut lengths) = (0.0, 0.0);
        for t in 0..positions {
            let row = t * pitch..t * pitch + positions;
            for (a, b) in grams[0][row.clone()].iter().zip(&grams[1][row]) {
                sum += f64::from(*a) * f64::from(*b);
            }
            let diagonal = t * pitch + t;
            lengths += (f64::from(grams[0][diagonal]) * f64::from(grams[1][diagonal])).sqrt();
        }
        sum.max(0.0) + SLACK * lengths * lengths
    }
}

#[inline(always)]
fn list_places(places: &mut Vec<usize>, grid: &Grid, of: &OuterSum, unit: &Range<usize>) {
    places.clear();
    for image in unit.clone() {
        for row in 0..of.rows {
            for column in 0..of.columns {
                places.push(grid.first + image * grid.image + row * grid.row + column * grid.column);
            }
        }
    }
}

/// A matrix whose rows are runs of floats at some places of a buffer.
struct Rows<'a> {
    data: &'a [f32],
    places: &'a [usize],
    taps: usize,
    stride: usize,
    run: usize,
}

impl Rows<'_> {
    #[inline(always)]
    fn length_squared(&self) -> f64 {
        let mut sum = 0.0;
        for tap in 0..self.taps {
            let first = self.places[0] + tap * self.stride;
            sum += super::vector::sum_of_squares(&self.data[first..first + self.run]);
        }
        sum
    }

    /// `gram[t][..] = Σ_k row_t[k] · row_..[k]`.
    #[inline(always)]
    fn gram<S: Simd>(&self, simd: S, gram: &mut [f32], pitch: usize, block: &mut [f32]) {
        let mut fresh = true;
        for tap in 0..self.taps {
            for first in (0..self.run).step_by(DEPTH) {
                let len = DEPTH.min(self.run - first);
                let shift = tap * self.stride + first;
                for (panel, width) in tile::panels(pitch) {
                    self.transpose(block, panel, width, shift, len);
                    let vectors = width / S::F32_LANES;
                    let place = (panel, shift, len, pitch, fresh);
                    // SAFETY: the rows lie within the buffer, as `ghost_norms` checked; `block` holds
                    // the panel's `len` rows and `gram` all positions' rows of `pitch` floats.
                    unsafe {
                        match (S::F32_LANES, vectors) {
                            (16, 4) => self.panel::<S, 4, 6>(simd, gram, block, place),
                            (16, 3) => self.panel::<S, 3, 8>(simd, gram, block, place),
                            (16, 2) => self.panel::<S, 2, 12>(simd, gram, block, place),
                            (_, 1) => self.panel::<S, 1, 12>(simd, gram, block, place),
                            (_, 2) => self.panel::<S, 2, 6>(simd, gram, block, place),
                            (_, 4) => self.panel::<S, 4, 4>(simd, gram, block, place),
                            _ => self.panel::<S, 16, 1>(simd, gram, block, place),
                        }
                    }
                }
                fresh = false;
            }
        }
    }

    /// `block[k][t] = row_{panel + t}[shift + k]`, zero beyond the last position.
    #[inline(always)]
    fn transpose(&self, block: &mut [f32], panel: usize, width: usize, shift: usize, len: usize) {
        for t in 0..width {
            let column = block[t..].iter_mut().step_by(width).take(len);
            match self.places.get(panel + t) {
                Some(place) => {
                    let row = &self.data[place + shift..place + shift + len];
                    column.zip(row).for_each(|(out, value)| *out = *value);
                }
                None => column.for_each(|out| *out = 0.0),
            }
        }
    }

    /// # Safety
    /// `place` is a panel within `pitch` whose transposed rows are in `block`.
    #[inline(always)]
    unsafe fn panel<S: Simd, const V: usize, const R: usize>(
        &self,
        simd: S,
        gram: &mut [f32],
        block: &[f32],
        (panel, shift, len, pitch, fresh): (usize, usize, usize, usize, bool),
    ) {
        let begin = if fresh { Begin::Zero } else { Begin::Target };
        let runs = Runs { segments: 1, stride: 0, len };
        let last = self.places.len() - 1;
        let gram = gram.as_mut_ptr();
        for t in (0..=last).step_by(R) {
            // SAFETY: see above.
            unsafe {
                let x: [*const f32; R] =
                    std::array::from_fn(|r| self.data.as_ptr().add(self.places[last.min(t + r)] + shift));
                let out: [*mut f32; R] = std::array::from_fn(|r| gram.add(last.min(t + r) * pitch + panel));
                tile::correlate::<S, V, R>(simd, begin, block.as_ptr(), runs, &x, &out, last + 1 - t);
            }
        }
    }
}
