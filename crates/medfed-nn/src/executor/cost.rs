//! What the ways to compute a layer cost, in nanoseconds of one core. The constants were fitted to measured
//! times; only their ratios matter, and these differ little between machines.

use crate::kernels::winograd::Side;

/// A multiplication and an addition within a register tile.
const MULTIPLY: f64 = 0.0085;
/// An element of a tile's input, result or gradient, transformed.
const TRANSFORM: f64 = 0.03;
/// An element of transformed weights, written once per step.
const WEIGHT: f64 = 0.5;
/// Below, transformations and narrow panels cost what tiles save: DenseNet-121's layers of 32 outputs were
/// measured slower by tiles on two threads, on maps of every size.
const FEW_CHANNELS: usize = 64;
/// Images over which a step spreads the transformation of its weights.
const IMAGES: f64 = 32.0;

/// Sizes of a convolution: results along each axis, taps, and channels in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) map: [usize; 2],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Sizes {
    /// The fastest tiles for a 3×3 convolution with stride 1, if any are faster than the definition.
    pub(super) fn side_forward(self) -> Option<Side> {
        self.fastest(&[Side::Two, Side::Four], |side| {
            let weights = WEIGHT * side.products() as f64 * self.channels() / IMAGES;
            weights + self.tiles(side)
        })
    }

    /// The same for the gradient of its weights, among some tiles.
    pub(super) fn side_gradient(self, within: &[Side]) -> Option<Side> {
        self.fastest(within, |side| {
            TRANSFORM * side.products() as f64 * self.channels() / 8.0 + self.tiles(side)
        })
    }

    fn channels(self) -> f64 {
        (self.inputs * self.outputs) as f64
    }

    /// Products and transformations of the tiles of an image.
    fn tiles(self, side: Side) -> f64 {
        let tiles = side.tiles(self.map).iter().product::<usize>() as f64;
        let sums = (self.inputs + self.outputs) as f64;
        tiles * side.products() as f64 * (MULTIPLY * self.channels() + TRANSFORM * sums)
    }

    fn fastest(self, within: &[Side], cost: impl Fn(Side) -> f64) -> Option<Side> {
        let pixels = self.map.iter().product::<usize>();
        if self.inputs.min(self.outputs) < FEW_CHANNELS {
            return None;
        }
        let direct = (None, MULTIPLY * (pixels * 9) as f64 * self.channels());
        let tiles = within.iter().map(|side| (Some(*side), cost(*side)));
        let all = [direct].into_iter().chain(tiles);
        all.min_by(|a, b| a.1.total_cmp(&b.1)).and_then(|(side, _)| side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_chosen_where_they_save_time() {
        let of = |side: usize, inputs, outputs| Sizes { map: [side, side], inputs, outputs };
        // Wide maps, exact tiles, maps that waste a part of their last tiles.
        for sizes in [of(56, 64, 64), of(28, 64, 64), of(14, 128, 128), of(7, 256, 256)] {
            assert_eq!(sizes.side_forward(), Some(Side::Four), "{sizes:?}");
        }
        // On a small map the weights count, of which tiles of two have fewer.
        assert_eq!(of(4, 256, 256).side_forward(), Some(Side::Two));
        // One pixel gains nothing, nor do few channels.
        assert_eq!(of(1, 512, 512).side_forward(), None);
        assert_eq!(of(28, 128, 32).side_forward(), None);
        assert_eq!(of(14, 128, 128).side_gradient(&[Side::Two]), Some(Side::Two));
    }
}
