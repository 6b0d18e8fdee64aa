//! Pooling, and the small things that happen once per pixel.

#![expect(clippy::needless_pass_by_value, reason = "a buffer and its map go together")]

use super::{LANES, Map};
use crate::network::Window;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rows of taps of a window that lie inside a map of `size` rows, for the window at `position`.
#[inline(always)]
fn inside(window: &Window, axis: usize, position: usize, size: usize) -> std::ops::Range<usize> {
    let start = position * window.stride[axis];
    let padding = window.padding[axis];
    padding.saturating_sub(start)..window.kernel[axis].min(size + padding - start)
}

/// Writes the maximum over each window of `x` into `y`, and the number of the tap that won into `winners`
/// (`pixels · channels` floats per image).
pub(crate) fn max_forward(
    images: usize,
    window: Window,
    x: (&[f32], Map),
    y: (&mut [f32], Map),
    winners: &mut [f32],
) {
    let (map_x, map_y) = (x.1, y.1);
    let per_image = map_y.pixels() * map_y.channels;
    let parts = y.0.par_chunks_mut(map_y.image()).zip(winners.par_chunks_mut(per_image));
    parts.take(images).enumerate().for_each(|(image, (y, winners))| {
        map_y.clear_halo(y);
        let x = &x.0[image * map_x.image()..(image + 1) * map_x.image()];
        Arch::new().dispatch(MaxForward { window, x, map_x, y, map_y, winners });
    });
}

struct MaxForward<'a> {
    window: Window,
    x: &'a [f32],
    map_x: Map,
    y: &'a mut [f32],
    map_y: Map,
    winners: &'a mut [f32],
}

impl WithSimd for MaxForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { window, x, map_x, y, map_y, winners } = self;
        for row in 0..map_y.height {
            let taps_row = inside(&window, 0, row, map_x.height);
            for column in 0..map_y.width {
                let taps_column = inside(&window, 1, column, map_x.width);
                let out = map_y.first() + row * map_y.row() + column * map_y.pitch;
                let y = S::as_mut_simd_f32s(&mut y[out..out + map_y.channels]).0;
                let winner = (row * map_y.width + column) * map_y.channels;
                let winners = S::as_mut_simd_f32s(&mut winners[winner..winner + map_y.channels]).0;
                for (v, (y, winner)) in y.iter_mut().zip(winners).enumerate() {
                    let mut best = simd.splat_f32s(f32::NEG_INFINITY);
                    let mut which = simd.splat_f32s(0.0);
                    for i in taps_row.clone() {
                        for j in taps_column.clone() {
                            let at = place(&window, map_x, [row, column], [i, j]) + v * S::F32_LANES;
                            let value = S::as_simd_f32s(&x[at..at + S::F32_LANES]).0[0];
                            let tap = simd.splat_f32s((i * window.kernel[1] + j) as f32);
                            // "Not less or equal" and not "greater", so that NaN wins.
                            let keep = simd.less_than_or_equal_f32s(value, best);
                            best = simd.select_f32s(keep, best, value);
                            which = simd.select_f32s(keep, which, tap);
                        }
                    }
                    *y = best;
                    *winner = which;
                }
            }
        }
    }
}

/// Index in the input of a window's tap.
#[inline(always)]
fn place(window: &Window, map: Map, position: [usize; 2], tap: [usize; 2]) -> usize {
    let [row, column] =
        std::array::from_fn(|axis| position[axis] * window.stride[axis] + tap[axis] - window.padding[axis]);
    map.first() + row * map.row() + column * map.pitch
}

/// Hands the gradient of each window to the tap that won.
pub(crate) fn max_backward(
    images: usize,
    window: Window,
    dy: (&[f32], Map),
    winners: &[f32],
    dx: (&mut [f32], Map),
    add: bool,
) {
    let (map_y, map_x) = (dy.1, dx.1);
    let per_image = map_y.pixels() * map_y.channels;
    dx.0.par_chunks_mut(map_x.image()).take(images).enumerate().for_each(|(image, dx)| {
        let dy = &dy.0[image * map_y.image()..(image + 1) * map_y.image()];
        let winners = &winners[image * per_image..(image + 1) * per_image];
        // Windows that do not overlap: what they cover is written at once.
        let apart = window.stride == window.kernel && window.padding == [0, 0] && !add;
        if apart {
            map_x.clear_halo(dx);
            clear_beyond(dx, map_x, [0, 1].map(|i| window.kernel[i] * [map_y.height, map_y.width][i]));
        } else if !add {
            clear(dx, map_x);
        }
        Arch::new().dispatch(MaxBackward { window, dy, map_y, winners, dx, map_x, add: !apart });
    });
}

struct MaxBackward<'a> {
    window: Window,
    dy: &'a [f32],
    map_y: Map,
    winners: &'a [f32],
    dx: &'a mut [f32],
    map_x: Map,
    add: bool,
}

impl WithSimd for MaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { window, dy, map_y, winners, dx, map_x, add } = self;
        let zero = simd.splat_f32s(0.0);
        for row in 0..map_y.height {
            let taps_row = inside(&window, 0, row, map_x.height);
            for column in 0..map_y.width {
                let taps_column = inside(&window, 1, column, map_x.width);
                let from = map_y.first() + row * map_y.row() + column * map_y.pitch;
                let dy = S::as_simd_f32s(&dy[from..from + map_y.channels]).0;
                let winner = (row * map_y.width + column) * map_y.channels;
                let winners = S::as_simd_f32s(&winners[winner..winner + map_y.channels]).0;
                for i in taps_row.clone() {
                    for j in taps_column.clone() {
                        let at = place(&window, map_x, [row, column], [i, j]);
                        let out = S::as_mut_simd_f32s(&mut dx[at..at + map_x.channels]).0;
                        let tap = simd.splat_f32s((i * window.kernel[1] + j) as f32);
                        for ((out, g), winner) in out.iter_mut().zip(dy).zip(winners) {
                            let passed = simd.select_f32s(simd.equal_f32s(*winner, tap), *g, zero);
                            *out = if add { simd.add_f32s(*out, passed) } else { passed };
                        }
                    }
                }
            }
        }
    }
}

/// Writes the mean over each window of `x` into `y`.
pub(crate) fn mean_forward(images: usize, window: Window, x: (&[f32], Map), y: (&mut [f32], Map)) {
    let (map_x, map_y) = (x.1, y.1);
    let scale = 1.0 / (window.kernel[0] * window.kernel[1]) as f32;
    y.0.par_chunks_mut(map_y.image()).take(images).enumerate().for_each(|(image, y)| {
        map_y.clear_halo(y);
        let x = &x.0[image * map_x.image()..(image + 1) * map_x.image()];
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for row in 0..map_y.height {
                    for column in 0..map_y.width {
                        let out = map_y.first() + row * map_y.row() + column * map_y.pitch;
                        for first in (0..map_y.channels).step_by(LANES) {
                            let mut sum = [0f32; LANES];
                            for i in 0..window.kernel[0] {
                                for j in 0..window.kernel[1] {
                                    let at = place(&window, map_x, [row, column], [i, j]) + first;
                                    let values: &[f32; LANES] =
                                        x[at..at + LANES].try_into().expect("LANES floats");
                                    for lane in 0..LANES {
                                        sum[lane] += values[lane];
                                    }
                                }
                            }
                            for lane in 0..LANES {
                                y[out + first + lane] = sum[lane] * scale;
                            }
                        }
                    }
                }
            },
        );
    });
}

/// Spreads the gradient of each mean over its window.
pub(crate) fn mean_backward(
    images: usize,
    window: Window,
    dy: (&[f32], Map),
    dx: (&mut [f32], Map),
    add: bool,
) {
    let (map_y, map_x) = (dy.1, dx.1);
    let scale = 1.0 / (window.kernel[0] * window.kernel[1]) as f32;
    dx.0.par_chunks_mut(map_x.image()).take(images).enumerate().for_each(|(image, dx)| {
        let dy = &dy.0[image * map_y.image()..(image + 1) * map_y.image()];
        Arch::new().dispatch(
            #[inline(always)]
            || {
                if !add {
                    clear(dx, map_x);
                }
                for row in 0..map_y.height {
                    for column in 0..map_y.width {
                        let from = map_y.first() + row * map_y.row() + column * map_y.pitch;
                        for first in (0..map_y.channels).step_by(LANES) {
                            let g: [f32; LANES] =
                                dy[from + first..][..LANES].try_into().expect("LANES floats");
                            for i in 0..window.kernel[0] {
                                for j in 0..window.kernel[1] {
                                    let at = place(&window, map_x, [row, column], [i, j]) + first;
                                    for lane in 0..LANES {
                                        dx[at + lane] += g[lane] * scale;
                                    }
                                }
                            }
                        }
                    }
                }
            },
        );
    });
}

/// Zeros over the maps of all images.
pub(crate) fn clear_all(images: usize, x: (&mut [f32], Map)) {
    x.0.par_chunks_mut(x.1.image()).take(images).for_each(|image| clear(image, x.1));
}

/// Zeros over a map and its halo.
#[inline(always)]
fn clear(image: &mut [f32], map: Map) {
    map.clear_halo(image);
    for row in 0..map.height {
        for column in 0..map.width {
            let at = map.first() + row * map.row() + column * map.pitch;
            image[at..at + map.channels].fill(0.0);
        }
    }
}

/// Zeros over the pixels of a map beyond the first rows and columns.
#[inline(always)]
fn clear_beyond(image: &mut [f32], map: Map, [rows, columns]: [usize; 2]) {
    for row in 0..map.height {
        let first = if row < rows { columns } else { 0 };
        for column in first..map.width {
            let at = map.first() + row * map.row() + column * map.pitch;
            image[at..at + map.channels].fill(0.0);
        }
    }
}

/// Copies a map of each image, halo and all, into another of the same shape.
pub(crate) fn copy(images: usize, x: (&[f32], Map), y: (&mut [f32], Map)) {
    let (map_x, map_y) = (x.1, y.1);
    y.0.par_chunks_mut(map_y.image()).take(images).enumerate().for_each(|(image, y)| {
        map_y.clear_halo(y);
        let x = &x.0[image * map_x.image()..(image + 1) * map_x.image()];
        for row in 0..map_y.height {
            for column in 0..map_y.width {
                let from = map_x.first() + row * map_x.row() + column * map_x.pitch;
                let to = map_y.first() + row * map_y.row() + column * map_y.pitch;
                y[to..to + map_y.channels].copy_from_slice(&x[from..from + map_x.channels]);
            }
        }
    });
}

/// Multiplies a map of one pixel by factors, image by image; with `add` the product is added to `y`.
pub(crate) fn multiply(images: usize, x: (&[f32], Map), factors: &[f32], y: (&mut [f32], Map), add: bool) {
    let (map_x, map_y) = (x.1, y.1);
    for image in 0..images {
        let x = &x.0[image * map_x.image() + map_x.first()..][..map_x.channels];
        let y = &mut y.0[image * map_y.image() + map_y.first()..][..map_y.channels];
        let factors = &factors[image * map_x.channels..][..map_x.channels];
        for ((y, x), factor) in y.iter_mut().zip(x).zip(factors) {
            *y = if add { *y + x * factor } else { x * factor };
        }
    }
}

/// Sums a map over its pixels for each image, into `rows` of `row_len` floats at `at`: the gradient of a
/// bias.
pub(crate) fn sum_pixels(images: usize, x: (&[f32], Map), rows: &mut [f32], row_len: usize, at: usize) {
    let map = x.1;
    rows.par_chunks_mut(row_len).take(images).enumerate().for_each(|(image, row)| {
        let x = &x.0[image * map.image()..(image + 1) * map.image()];
        let out = &mut row[at..at + map.channels];
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for first in (0..map.channels).step_by(LANES) {
                    let mut total = [0f64; LANES];
                    for row in 0..map.height {
                        let line = &x[map.first() + row * map.row() + first..];
                        let mut sum = [0f32; LANES];
                        for column in 0..map.width {
                            let values: &[f32; LANES] =
                                line[column * map.pitch..][..LANES].try_into().expect("LANES floats");
                            for lane in 0..LANES {
                                sum[lane] += values[lane];
                            }
                        }
                        for lane in 0..LANES {
                            total[lane] += f64::from(sum[lane]);
                        }
                    }
                    for lane in 0..LANES {
                        out[first + lane] = total[lane] as f32;
                    }
                }
            },
        );
    });
}
