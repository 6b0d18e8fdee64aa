//! Where Winograd's tiles save time: what a layer costs by tiles, as a share of its cost by the definition.
//!
//! The constants are in multiplications (with their additions) of a register tile. They follow from
//! `cargo bench -p medfed-nn --features measure --bench convolutions` on an AMD EPYC with AVX-512, one and two
//! threads, over the shapes of the three models at 28 to 224 pixels; the tests below hold a part of that table.

use crate::kernels::winograd::Side;

/// Tiles are used where they save at least a tenth.
const WORTHWHILE: f64 = 0.9;
/// Layers of 32 channels would gain as well: DenseNet-121 another 8 % at 28 pixels. But then a ReLU falls to
/// the other side in one of the images whose gradients the tests compare with PyTorch's.
const FEW_CHANNELS: usize = 64;
/// Images over which a step spreads the transformation of its weights. A step of fewer gains less, and on
/// the smallest maps loses; the choice does not depend on the batch, so that the results do not.
const IMAGES: f64 = 32.0;
/// An element of a weight gradient's sum, transformed and written.
const SUM: f64 = 16.0;

/// Sizes of a convolution: results along each axis, and channels in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) map: [usize; 2],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Side {
    /// An element of a tile's input, result or gradient, transformed.
    fn transform(self) -> f64 {
        match self {
            Self::Two => 12.0,
            Self::Four => 19.0,
        }
    }

    /// An element of transformed weights.
    fn weight(self) -> f64 {
        match self {
            Self::Two => 95.0,
            Self::Four => 150.0,
        }
    }
}

impl Sizes {
    /// The fastest tiles for a 3×3 convolution with stride 1, if any are worthwhile.
    pub(super) fn side_forward(self) -> Option<Side> {
        self.fastest(|side| side.weight() / IMAGES)
    }

    /// The same for the gradients of its weights, one for each image.
    pub(super) fn side_per_unit(self) -> Option<Side> {
        self.fastest(|_| SUM)
    }

    /// The same for one gradient over all images.
    pub(super) fn side_sum(self) -> Option<Side> {
        self.fastest(|_| SUM / IMAGES)
    }

    /// `once` is what each position and pair of channels costs an image besides its tiles.
    fn fastest(self, once: impl Fn(Side) -> f64) -> Option<Side> {
        if self.inputs.min(self.outputs) < FEW_CHANNELS {
            return None;
        }
        let channels = (self.inputs * self.outputs) as f64;
        let ends = (self.inputs + self.outputs) as f64;
        let direct = (self.map[0] * self.map[1] * 9) as f64;
        let share = |side: Side| {
            let tiles = side.tiles(self.map).iter().product::<usize>() as f64;
            let each = 1.0 + side.transform() * ends / channels;
            side.products() as f64 * (tiles * each + once(side)) / direct
        };
        let [two, four] = [Side::Two, Side::Four].map(share);
        // Tiles of four need more weights and memory, and round more: they have to save a tenth once more.
        let (side, share) = if four < WORTHWHILE * two { (Side::Four, four) } else { (Side::Two, two) };
        (share <= WORTHWHILE).then_some(side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(side: usize, inputs: usize, outputs: usize) -> Sizes {
        Sizes { map: [side, side], inputs, outputs }
    }

    /// A layer, and its times by tiles of two and of four as shares of its time by the definition: the fastest
    /// of seven on two threads, with 9 to 64 images.
    type Measured = (Sizes, [f64; 2]);

    const CONVOLVE: &[Measured] = &[
        (of(2, 512, 512), [1.00, 2.95]),
        (of(3, 128, 256), [1.00, 1.11]),
        (of(4, 32, 128), [0.80, 0.91]),
        (of(4, 256, 256), [0.62, 0.75]),
        (of(4, 512, 512), [0.65, 0.93]),
        (of(7, 128, 32), [0.91, 1.16]),
        (of(7, 64, 128), [0.74, 0.69]),
        (of(7, 256, 256), [0.64, 0.52]),
        (of(7, 512, 512), [0.86, 1.23]),
        (of(8, 128, 32), [0.66, 0.67]),
        (of(8, 128, 128), [0.52, 0.41]),
        (of(8, 256, 512), [0.49, 0.47]),
        (of(14, 32, 64), [0.67, 0.72]),
        (of(14, 64, 32), [0.64, 0.67]),
        (of(14, 32, 128), [0.62, 0.60]),
        (of(14, 128, 32), [0.72, 0.79]),
        (of(14, 128, 128), [0.50, 0.46]),
        (of(14, 256, 256), [0.49, 0.53]),
        (of(16, 32, 128), [0.57, 0.37]),
        (of(16, 64, 64), [0.56, 0.41]),
        (of(16, 128, 256), [0.48, 0.35]),
        (of(28, 64, 64), [0.61, 0.43]),
        (of(28, 128, 32), [0.60, 0.50]),
        (of(32, 32, 64), [0.64, 0.47]),
        (of(32, 64, 128), [0.55, 0.38]),
        (of(56, 64, 64), [0.58, 0.43]),
        (of(64, 64, 32), [0.70, 0.58]),
        (of(112, 32, 64), [0.66, 0.51]),
    ];
    const PER_IMAGE: &[Measured] = &[
        (of(7, 64, 128), [1.04, 1.14]),
        (of(7, 128, 32), [1.31, 1.36]),
        (of(8, 128, 32), [0.94, 1.03]),
        (of(8, 128, 128), [1.04, 1.10]),
        (of(14, 32, 64), [0.69, 0.73]),
        (of(14, 128, 32), [0.83, 0.86]),
        (of(14, 128, 128), [0.69, 0.69]),
        (of(16, 64, 64), [0.64, 0.54]),
        (of(16, 128, 32), [0.71, 0.61]),
        (of(16, 128, 256), [0.61, 0.47]),
        (of(28, 64, 64), [0.71, 0.49]),
        (of(28, 128, 32), [0.71, 0.54]),
        (of(32, 32, 64), [0.73, 0.47]),
        (of(56, 64, 128), [0.70, 0.46]),
        (of(64, 32, 64), [0.80, 0.51]),
    ];
    const SUM_OF_ALL: &[Measured] = &[
        (of(2, 512, 512), [0.47, 1.10]),
        (of(3, 128, 32), [1.39, 1.52]),
        (of(4, 256, 256), [0.51, 0.30]),
        (of(4, 512, 512), [0.52, 0.29]),
        (of(7, 64, 128), [0.69, 0.44]),
        (of(7, 256, 256), [0.62, 0.41]),
        (of(8, 128, 32), [0.85, 0.59]),
        (of(8, 128, 128), [0.46, 0.29]),
        (of(14, 32, 64), [0.88, 0.82]),
        (of(14, 128, 128), [0.54, 0.55]),
        (of(16, 64, 64), [0.87, 0.56]),
        (of(28, 64, 64), [0.83, 0.58]),
        (of(32, 32, 64), [0.93, 0.62]),
        (of(64, 32, 64), [1.07, 0.68]),
    ];

    /// What a choice was measured to take, as a share of the definition's time.
    fn taken(choice: Option<Side>, [two, four]: [f64; 2]) -> f64 {
        match choice {
            None => 1.0,
            Some(Side::Two) => two,
            Some(Side::Four) => four,
        }
    }

    #[test]
    fn tiles_are_chosen_where_they_were_measured_to_save_time() {
        let per_unit = Sizes::side_per_unit as fn(Sizes) -> Option<Side>;
        let (mut chosen, mut best) = (0.0, 0.0);
        for (choose, table) in [
            (Sizes::side_forward as fn(Sizes) -> _, CONVOLVE),
            (per_unit, PER_IMAGE),
            (Sizes::side_sum, SUM_OF_ALL),
        ] {
            for (sizes, times) in table {
                let choice = choose(*sizes);
                let taken = taken(choice, *times);
                let fastest = times[0].min(times[1]).min(1.0);
                assert!(choice.is_none() || taken <= WORTHWHILE, "{sizes:?}: {choice:?} takes {taken}");
                if sizes.inputs.min(sizes.outputs) >= FEW_CHANNELS {
                    chosen += taken;
                    best += fastest;
                }
            }
        }
        assert!(chosen <= 1.1 * best, "{chosen} of {best}");
    }

    #[test]
    fn choices_are_those_that_were_reviewed() {
        assert_eq!(of(28, 64, 64).side_forward(), Some(Side::Four));
        assert_eq!(of(14, 128, 128).side_forward(), Some(Side::Two));
        assert_eq!(of(4, 512, 512).side_forward(), Some(Side::Two));
        assert_eq!(of(2, 512, 512).side_forward(), None);
        assert_eq!(of(7, 128, 32).side_forward(), None);
        // A gradient for each image is a sum over few tiles on a small map.
        assert_eq!(of(28, 64, 64).side_per_unit(), Some(Side::Four));
        assert_eq!(of(8, 128, 128).side_per_unit(), None);
        assert_eq!(of(8, 128, 128).side_sum(), Some(Side::Four));
        assert_eq!(of(64, 32, 64).side_forward(), None);
    }
}
