//! GroupNorm with what follows it: the residual sum, if there is one, and ReLU.
//!
//! Forward, per image and group: mean and variance in two passes, then
//! `y = max(0, x · scale + shift + residual)`. Backward: with g the gradient where y > 0,
//! `dx = rstd (γ g - mean(γ g) - x̂ mean(γ g x̂))`, means over the group.
//!
//! Sums run over at most 64 values in single precision before they go on in double precision.

mod passes;

use super::{Map, padded};
use passes::{ApplyBackward, ApplyForward, SumBackward, SumForward};
use pulp::Arch;
use rayon::prelude::*;

/// What is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupNorm {
    /// Channels without padding.
    pub(crate) channels: usize,
    pub(crate) groups: usize,
    /// Whether negative results become 0.
    pub(crate) relu: bool,
}

/// A buffer and the map in it.
pub(crate) type Placed<'a> = (&'a [f32], Map);
/// A buffer to write and the map in it.
pub(crate) type PlacedMut<'a> = (&'a mut [f32], Map);

/// What a GroupNorm reads besides the map, padded with zeros.
#[derive(Clone, Copy)]
pub(crate) struct ScaleShift<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
}

/// Where the gradients of a GroupNorm come from and go to.
pub(crate) struct NormGradients<'a> {
    /// Gradient of the result.
    pub(crate) dy: Placed<'a>,
    /// The result, whose sign says what ReLU let through.
    pub(crate) y: Placed<'a>,
    /// What was normalised.
    pub(crate) x: Placed<'a>,
    pub(crate) statistics: &'a [f32],
    pub(crate) scale: &'a [f32],
    /// Gradient of what was normalised, and whether it is added to what is there.
    pub(crate) dx: Option<(PlacedMut<'a>, bool)>,
    /// The same for the residual.
    pub(crate) residual: Option<(PlacedMut<'a>, bool)>,
    /// Rows of per-image gradients of small parameters.
    pub(crate) small: &'a mut [f32],
    /// Length of such a row, and the place of the scale's gradient in it; the shift's follows.
    pub(crate) small_row: usize,
    pub(crate) small_at: usize,
}

impl GroupNorm {
    /// Floats of statistics per image: mean and reciprocal deviation per channel.
    pub(crate) fn statistics_len(channels: usize) -> usize {
        2 * channels
    }

    /// Normalises `images` images of `x` into `y`.
    pub(crate) fn forward(
        &self,
        images: usize,
        x: Placed<'_>,
        residual: Option<Placed<'_>>,
        parameters: ScaleShift<'_>,
        y: PlacedMut<'_>,
        statistics: &mut [f32],
    ) {
        let (y, map_y) = y;
        y.par_chunks_mut(map_y.image())
            .zip(statistics.par_chunks_mut(Self::statistics_len(map_y.channels)))
            .take(images)
            .enumerate()
            .for_each(|(image, (y, statistics))| {
                map_y.clear_halo(y);
                let residual = residual.map(|residual| of_image(residual, image));
                self.forward_image(of_image(x, image), residual, parameters, (y, map_y), statistics);
            });
    }

    fn forward_image(
        &self,
        x: Placed<'_>,
        residual: Option<Placed<'_>>,
        parameters: ScaleShift<'_>,
        y: PlacedMut<'_>,
        statistics: &mut [f32],
    ) {
        let arch = Arch::new();
        let channels = x.1.channels;
        let (means, deviations) = statistics.split_at_mut(channels);
        let mut sums = vec![0f64; channels];
        means.fill(0.0);
        arch.dispatch(SumForward { x, means, sums: &mut sums, squares: false });
        self.over_groups(&sums, x.1, |range, mean| means[range].fill(mean as f32));
        sums.fill(0.0);
        arch.dispatch(SumForward { x, means, sums: &mut sums, squares: true });
        deviations.fill(0.0);
        self.over_groups(&sums, x.1, |range, variance| {
            let deviation = (variance + crate::network::GROUP_NORM_EPSILON).sqrt();
            deviations[range].fill((1.0 / deviation) as f32);
        });
        let mut factors = vec![0f32; 2 * channels];
        let (slopes, offsets) = factors.split_at_mut(channels);
        for c in 0..channels {
            slopes[c] = parameters.scale[c] * deviations[c];
            offsets[c] = parameters.shift[c] - means[c] * slopes[c];
        }
        arch.dispatch(ApplyForward { x, residual, slopes, offsets, y, relu: self.relu });
    }

    /// Calls `use_mean` with the channels of each group and the mean of the group's elements, given sums
    /// per channel.
    fn over_groups(&self, sums: &[f64], map: Map, mut use_mean: impl FnMut(std::ops::Range<usize>, f64)) {
        let size = self.channels / self.groups;
        let count = (size * map.pixels()) as f64;
        for group in 0..self.groups {
            let range = group * size..(group + 1) * size;
            let mean = sums[range.clone()].iter().sum::<f64>() / count;
            use_mean(range, mean);
        }
    }

    /// Gradients of `images` images.
    pub(crate) fn backward(&self, images: usize, gradients: NormGradients<'_>) {
        let NormGradients { dy, y, x, statistics, scale, dx, residual, small, small_row, small_at } =
            gradients;
        let channels = x.1.channels;
        debug_assert_eq!(channels, padded(self.channels));
        let mut dx = Sinks::new(dx);
        let mut residual = Sinks::new(residual);
        let images: Vec<_> = small
            .chunks_mut(small_row)
            .take(images)
            .map(|row| (&mut row[small_at..small_at + 2 * channels], dx.next(), residual.next()))
            .collect();
        images.into_par_iter().enumerate().for_each(|(image, (small, dx, residual))| {
            let inputs = Inputs {
                dy: of_image(dy, image),
                y: of_image(y, image),
                x: of_image(x, image),
                statistics: &statistics[image * 2 * channels..(image + 1) * 2 * channels],
            };
            self.backward_image(&inputs, scale, small, dx, residual);
        });
    }

    fn backward_image(
        &self,
        inputs: &Inputs<'_>,
        scale: &[f32],
        small: &mut [f32],
        dx: Option<(PlacedMut<'_>, bool)>,
        residual: Option<(PlacedMut<'_>, bool)>,
    ) {
        let arch = Arch::new();
        let (map, channels) = (inputs.x.1, inputs.x.1.channels);
        let (means, deviations) = inputs.statistics.split_at(channels);
        let mut sums = vec![0f64; 2 * channels];
        let (plain, centred) = sums.split_at_mut(channels);
        let relu = self.relu;
        arch.dispatch(SumBackward { inputs, means, plain: &mut *plain, centred: &mut *centred, relu });
        let (dscale, dshift) = small.split_at_mut(channels);
        for c in 0..channels {
            centred[c] *= f64::from(deviations[c]);
            dshift[c] = plain[c] as f32;
            dscale[c] = centred[c] as f32;
            // From here on weighted with γ.
            plain[c] *= f64::from(scale[c]);
            centred[c] *= f64::from(scale[c]);
        }
        if dx.is_none() && residual.is_none() {
            return;
        }
        // dx = g · a - x · b + c per channel.
        let mut factors = vec![0f32; 3 * channels];
        self.over_groups(centred, map, |range, mean| {
            for c in range {
                let slope = f64::from(deviations[c]).powi(2) * mean;
                factors[c] = deviations[c] * scale[c];
                factors[channels + c] = slope as f32;
                factors[2 * channels + c] = (f64::from(means[c]) * slope) as f32;
            }
        });
        self.over_groups(plain, map, |range, mean| {
            for c in range {
                factors[2 * channels + c] -= (f64::from(deviations[c]) * mean) as f32;
            }
        });
        arch.dispatch(ApplyBackward { inputs, factors: &factors, dx, residual, relu });
    }
}

/// What the way back reads of one image.
struct Inputs<'a> {
    dy: Placed<'a>,
    y: Placed<'a>,
    x: Placed<'a>,
    statistics: &'a [f32],
}

fn of_image((buffer, map): Placed<'_>, image: usize) -> Placed<'_> {
    (&buffer[image * map.image()..(image + 1) * map.image()], map)
}

/// A sink's images, one by one, or nothing forever.
struct Sinks<'a>(Option<(std::slice::ChunksMut<'a, f32>, Map, bool)>);

impl<'a> Sinks<'a> {
    fn new(sink: Option<(PlacedMut<'a>, bool)>) -> Self {
        Self(sink.map(|((buffer, map), add)| (buffer.chunks_mut(map.image()), map, add)))
    }

    fn next(&mut self) -> Option<(PlacedMut<'a>, bool)> {
        let (images, map, add) = self.0.as_mut()?;
        Some(((images.next().expect("a buffer has all images"), *map), *add))
    }
}
