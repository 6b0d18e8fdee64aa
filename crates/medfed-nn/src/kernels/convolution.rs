//! The ways to compute a convolution and its weight gradient, one of which the planner chooses.

use super::correlate::{Correlation, Start};
use super::outer::OuterSum;
use super::winograd::gradient::{Tiles, WinogradSum};
use super::winograd::{Side, Winograd};
use std::ops::Range;

/// How a correlation is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Convolution {
    /// By its definition.
    Direct(Correlation),
    /// By tiles, with transformed weights.
    Tiles(Winograd),
}

impl Convolution {
    /// By tiles of that side, or directly if there is none.
    ///
    /// # Panics
    /// If tiles are asked for where they do not fit.
    pub(crate) fn new(of: Correlation, side: Option<Side>) -> Self {
        let tiles = |side| Winograd::new(of, side).expect("tiles are chosen only where they fit");
        side.map_or(Self::Direct(of), |side| Self::Tiles(tiles(side)))
    }

    /// Writes weights that are packed for the direct way as this way reads them; `packed` holds nothing of
    /// use afterwards.
    pub(crate) fn prepare(&self, packed: &mut Vec<f32>, out: &mut Vec<f32>) {
        match self {
            Self::Direct(_) => std::mem::swap(packed, out),
            Self::Tiles(tiles) => {
                out.resize(tiles.weights_len(), 0.0);
                tiles.transform_weights(packed, out);
            }
        }
    }

    /// Runs it on `images` images.
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
        match self {
            Self::Direct(of) => of.apply(images, weights, start, source, target),
            Self::Tiles(of) => of.apply(images, weights, start, source, target),
        }
    }
}

/// How a weight gradient is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WeightGradient {
    /// Its definition.
    pub(crate) direct: OuterSum,
    tiles: Option<WinogradSum>,
}

impl WeightGradient {
    /// By tiles of that side, or directly if there is none.
    ///
    /// # Panics
    /// If tiles are asked for where they do not fit.
    pub(crate) fn new(direct: OuterSum, side: Option<Side>) -> Self {
        let tiles = |side| WinogradSum::new(direct, side).expect("tiles are chosen only where they fit");
        Self { direct, tiles: side.map(tiles) }
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
        match self.tiles {
            None => self.direct.add(images, source, output, gradient),
            Some(tiles) => tiles.add(images, source, output, gradient, memory),
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
        match self.tiles {
            None => self.direct.per_unit(units, source, output, gradients, norms),
            Some(tiles) => tiles.per_unit(units, source, output, gradients, norms),
        }
    }
}
