//! GroupNorm with what follows it: the residual sum, if there is one, and ReLU.
//!
//! Forward, per image and group: mean and variance in two passes, then
//! `y = max(0, x · scale + shift + residual)`. Backward: with g the gradient where y > 0,
//! `dx = rstd (γ g - mean(γ g) - x̂ mean(γ g x̂))`, means over the group.

use super::{LANES, Map};
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

impl GroupNorm {
    /// Floats of statistics per image: mean and reciprocal deviation per channel.
    pub(crate) fn statistics_len(channels: usize) -> usize {
        2 * channels
    }

    /// Normalises `images` images of `x` into `y`; `scale` and `shift` are padded with zeros.
    pub(crate) fn forward(
        &self,
        images: usize,
        x: Placed<'_>,
        residual: Option<Placed<'_>>,
        scale: &[f32],
        shift: &[f32],
        y: PlacedMut<'_>,
        statistics: &mut [f32],
    ) {
        let (y, map_y) = y;
        let padded = map_y.channels;
        y.par_chunks_mut(map_y.image())
            .zip(statistics.par_chunks_mut(Self::statistics_len(padded)))
            .take(images)
            .enumerate()
            .for_each(|(image, (y, statistics))| {
                map_y.clear_halo(y);
                let x_image = &x.0[image * x.1.image()..(image + 1) * x.1.image()];
                let residual = residual.map(|(r, map)| (&r[image * map.image()..(image + 1) * map.image()], map));
                Arch::new().dispatch(
                    #[inline(always)]
                    || self.forward_image((x_image, x.1), residual, scale, shift, (y, map_y), statistics),
                );
            });
    }

    #[inline(always)]
    fn forward_image(
        &self,
        x: Placed<'_>,
        residual: Option<Placed<'_>>,
        scale: &[f32],
        shift: &[f32],
        y: PlacedMut<'_>,
        statistics: &mut [f32],
    ) {
        let map = x.1;
        let padded = map.channels;
        let (means, deviations) = statistics.split_at_mut(padded);
        self.statistics(x, means, deviations);
        let mut factors = [0f32; 2 * LANES];
        for first in (0..padded).step_by(LANES) {
            let (a, b) = factors.split_at_mut(LANES);
            for lane in 0..LANES {
                let channel = first + lane;
                a[lane] = scale[channel] * deviations[channel];
                b[lane] = shift[channel] - means[channel] * a[lane];
            }
            let a: [f32; LANES] = std::array::from_fn(|lane| a[lane]);
            let b: [f32; LANES] = std::array::from_fn(|lane| b[lane]);
            let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
            for row in 0..map.height {
                let from = x.1.first() + row * x.1.row() + first;
                let to = y.1.first() + row * y.1.row() + first;
                let beside = residual.map(|(r, map)| &r[map.first() + row * map.row() + first..]);
                let source = &x.0[from..];
                let target = &mut y.0[to..];
                for column in 0..map.width {
                    let (s, t) = (column * x.1.pitch, column * y.1.pitch);
                    let source: &[f32; LANES] = source[s..s + LANES].try_into().expect("LANES floats");
                    let target: &mut [f32; LANES] =
                        (&mut target[t..t + LANES]).try_into().expect("LANES floats");
                    if let (Some(beside), Some((_, map))) = (beside, residual) {
                        let r: &[f32; LANES] =
                            beside[column * map.pitch..][..LANES].try_into().expect("LANES floats");
                        for lane in 0..LANES {
                            target[lane] = larger(source[lane] * a[lane] + b[lane] + r[lane], floor);
                        }
                    } else {
                        for lane in 0..LANES {
                            target[lane] = larger(source[lane] * a[lane] + b[lane], floor);
                        }
                    }
                }
            }
        }
    }

    /// Mean and reciprocal deviation of each channel's group.
    #[inline(always)]
    fn statistics(&self, x: Placed<'_>, means: &mut [f32], deviations: &mut [f32]) {
        let map = x.1;
        let size = self.channels / self.groups;
        let count = (size * map.pixels()) as f64;
        let mut sums = vec![0f64; map.channels];
        for first in (0..map.channels).step_by(LANES) {
            for row in 0..map.height {
                let line = &x.0[map.first() + row * map.row() + first..];
                let mut sum = [0f32; LANES];
                for column in 0..map.width {
                    let values: &[f32; LANES] =
                        line[column * map.pitch..][..LANES].try_into().expect("LANES floats");
                    for lane in 0..LANES {
                        sum[lane] += values[lane];
                    }
                }
                for lane in 0..LANES {
                    sums[first + lane] += f64::from(sum[lane]);
                }
            }
        }
        means.fill(0.0);
        for group in 0..self.groups {
            let range = group * size..(group + 1) * size;
            let mean = sums[range.clone()].iter().sum::<f64>() / count;
            means[range].fill(mean as f32);
        }
        sums.fill(0.0);
        for first in (0..map.channels).step_by(LANES) {
            let mean: [f32; LANES] = means[first..first + LANES].try_into().expect("LANES floats");
            for row in 0..map.height {
                let line = &x.0[map.first() + row * map.row() + first..];
                let mut sum = [0f32; LANES];
                for column in 0..map.width {
                    let values: &[f32; LANES] =
                        line[column * map.pitch..][..LANES].try_into().expect("LANES floats");
                    for lane in 0..LANES {
                        let centred = values[lane] - mean[lane];
                        sum[lane] += centred * centred;
                    }
                }
                for lane in 0..LANES {
                    sums[first + lane] += f64::from(sum[lane]);
                }
            }
        }
        deviations.fill(0.0);
        for group in 0..self.groups {
            let range = group * size..(group + 1) * size;
            let variance = sums[range.clone()].iter().sum::<f64>() / count;
            let deviation = 1.0 / (variance + crate::network::GROUP_NORM_EPSILON).sqrt();
            deviations[range].fill(deviation as f32);
        }
    }
}

/// max(x, floor) that lets NaN through.
#[inline(always)]
fn larger(x: f32, floor: f32) -> f32 {
    if x < floor { floor } else { x }
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
    /// Gradients of `images` images.
    pub(crate) fn backward(&self, images: usize, gradients: NormGradients<'_>) {
        let NormGradients { dy, y, x, statistics, scale, dx, residual, small, small_row, small_at } = gradients;
        let padded = x.1.channels;
        // Chunks of one image each; absent outputs give empty ones.
        let (dx, map_dx, add_dx) = match dx {
            Some(((buffer, map), add)) => (buffer, Some(map), add),
            None => (&mut [][..], None, false),
        };
        let (beside, map_beside, add_beside) = match residual {
            Some(((buffer, map), add)) => (buffer, Some(map), add),
            None => (&mut [][..], None, false),
        };
        let mut dx = dx.chunks_mut(map_dx.map_or(1, |map| map.image()));
        let mut beside = beside.chunks_mut(map_beside.map_or(1, |map| map.image()));
        let parts: Vec<_> = small
            .chunks_mut(small_row)
            .take(images)
            .map(|row| (row, dx.next().unwrap_or_default(), beside.next().unwrap_or_default()))
            .collect();
        parts.into_par_iter().enumerate().for_each(|(image, (row, dx, beside))| {
            let part = |(buffer, map): Placed<'_>| image * map.image()..((image + 1) * map.image()).min(buffer.len());
            let work = ImageBackward {
                norm: self,
                dy: (&dy.0[part(dy)], dy.1),
                y: (&y.0[part(y)], y.1),
                x: (&x.0[part(x)], x.1),
                statistics: &statistics[image * 2 * padded..(image + 1) * 2 * padded],
                scale,
            };
            let dx = map_dx.map(|map| ((dx, map), add_dx));
            let beside = map_beside.map(|map| ((beside, map), add_beside));
            Arch::new().dispatch(
                #[inline(always)]
                || work.run(&mut row[small_at..small_at + 2 * padded], dx, beside),
            );
        });
    }
}

struct ImageBackward<'a> {
    norm: &'a GroupNorm,
    dy: Placed<'a>,
    y: Placed<'a>,
    x: Placed<'a>,
    statistics: &'a [f32],
    scale: &'a [f32],
}

impl ImageBackward<'_> {
    #[inline(always)]
    fn run(&self, small: &mut [f32], dx: Option<(PlacedMut<'_>, bool)>, beside: Option<(PlacedMut<'_>, bool)>) {
        let padded = self.x.1.channels;
        let (means, deviations) = self.statistics.split_at(padded);
        let (dscale, dshift) = small.split_at_mut(padded);
        let (x, dy, y) = (self.x, self.dy, self.y);
        for first in (0..padded).step_by(LANES) {
            let mean: [f32; LANES] = means[first..first + LANES].try_into().expect("LANES floats");
            let (mut plain, mut centred) = ([0f64; LANES], [0f64; LANES]);
            for row in 0..x.1.height {
                let (mut sum, mut product) = ([0f32; LANES], [0f32; LANES]);
                for column in 0..x.1.width {
                    let g = self.gradient(dy, y, row, column, first);
                    let x = lanes(x, row, column, first);
                    for lane in 0..LANES {
                        sum[lane] += g[lane];
                        product[lane] += g[lane] * (x[lane] - mean[lane]);
                    }
                }
                for lane in 0..LANES {
                    plain[lane] += f64::from(sum[lane]);
                    centred[lane] += f64::from(product[lane]);
                }
            }
            for lane in 0..LANES {
                dshift[first + lane] = plain[lane] as f32;
                dscale[first + lane] = (centred[lane] * f64::from(deviations[first + lane])) as f32;
            }
        }
        if let Some(((beside, map), add)) = beside {
            self.pass_on((beside, map), add);
        }
        let Some(((dx, map), add)) = dx else { return };
        if !add {
            map.clear_halo(dx);
        }
        // dx = g · a - x · b + c per channel.
        let size = self.norm.channels / self.norm.groups;
        let count = (size * x.1.pixels()) as f64;
        let mut factors = vec![0f32; 3 * padded];
        for group in 0..self.norm.groups {
            let range = group * size..(group + 1) * size;
            let weighted = |of: &[f32]| {
                range.clone().map(|c| f64::from(self.scale[c]) * f64::from(of[c])).sum::<f64>() / count
            };
            let (of_shift, of_scale) = (weighted(dshift), weighted(dscale));
            for c in range.clone() {
                let (deviation, mean) = (f64::from(deviations[c]), f64::from(means[c]));
                let slope = deviation * deviation * of_scale;
                factors[c] = (deviation * f64::from(self.scale[c])) as f32;
                factors[padded + c] = slope as f32;
                factors[2 * padded + c] = (mean * slope - deviation * of_shift) as f32;
            }
        }
        for first in (0..padded).step_by(LANES) {
            let [a, b, c]: [[f32; LANES]; 3] = std::array::from_fn(|which| {
                std::array::from_fn(|lane| factors[which * padded + first + lane])
            });
            for row in 0..x.1.height {
                for column in 0..x.1.width {
                    let g = self.gradient(dy, y, row, column, first);
                    let x = lanes(x, row, column, first);
                    let out = lanes_mut(dx, map, row, column, first);
                    if add {
                        for lane in 0..LANES {
                            out[lane] += g[lane] * a[lane] - x[lane] * b[lane] + c[lane];
                        }
                    } else {
                        for lane in 0..LANES {
                            out[lane] = g[lane] * a[lane] - x[lane] * b[lane] + c[lane];
                        }
                    }
                }
            }
        }
    }

    /// The gradient before ReLU.
    #[inline(always)]
    fn gradient(&self, dy: Placed<'_>, y: Placed<'_>, row: usize, column: usize, first: usize) -> [f32; LANES] {
        let dy = lanes(dy, row, column, first);
        if !self.norm.relu {
            return *dy;
        }
        let y = lanes(y, row, column, first);
        std::array::from_fn(|lane| if y[lane] > 0.0 { dy[lane] } else { 0.0 })
    }

    /// Hands the gradient before ReLU to the residual.
    #[inline(always)]
    fn pass_on(&self, beside: PlacedMut<'_>, add: bool) {
        let (out, map) = beside;
        if !add {
            map.clear_halo(out);
        }
        for first in (0..map.channels).step_by(LANES) {
            for row in 0..map.height {
                for column in 0..map.width {
                    let g = self.gradient(self.dy, self.y, row, column, first);
                    let out = lanes_mut(out, map, row, column, first);
                    for lane in 0..LANES {
                        out[lane] = if add { out[lane] + g[lane] } else { g[lane] };
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn lanes(from: Placed<'_>, row: usize, column: usize, first: usize) -> &[f32; LANES] {
    let at = from.1.first() + row * from.1.row() + column * from.1.pitch + first;
    from.0[at..at + LANES].try_into().expect("LANES floats")
}

#[inline(always)]
fn lanes_mut(out: &mut [f32], map: Map, row: usize, column: usize, first: usize) -> &mut [f32; LANES] {
    let at = map.first() + row * map.row() + column * map.pitch + first;
    (&mut out[at..at + LANES]).try_into().expect("LANES floats")
}
