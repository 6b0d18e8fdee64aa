//! The passes over one image. Each goes through the map in blocks of a few vectors of channels, whose sums
//! stay in registers.

#![expect(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use super::{Inputs, Placed, PlacedMut};
use crate::kernels::Map;
use pulp::{Simd, WithSimd};

/// Values that are summed in single precision.
const SHORT: usize = 64;

/// Calls a pass for blocks of four, two and one vectors that cover all channels.
macro_rules! blocks {
    ($S:ident, $channels:expr, |$first:ident| $this:ident . $pass:ident ( $($argument:expr),* )) => {
        let mut $first = 0;
        while $first < $channels {
            let vectors = ($channels - $first) / $S::F32_LANES;
            if vectors >= 4 {
                $this.$pass::<$S, 4>($($argument),*);
                $first += 4 * $S::F32_LANES;
            } else if vectors >= 2 {
                $this.$pass::<$S, 2>($($argument),*);
                $first += 2 * $S::F32_LANES;
            } else {
                $this.$pass::<$S, 1>($($argument),*);
                $first += $S::F32_LANES;
            }
        }
    };
}

#[inline(always)]
fn load<S: Simd, const V: usize>(from: &[f32], at: usize) -> [S::f32s; V] {
    let vectors = S::as_simd_f32s(&from[at..at + V * S::F32_LANES]).0;
    std::array::from_fn(|v| vectors[v])
}

#[inline(always)]
fn store<S: Simd, const V: usize>(to: &mut [f32], at: usize, values: [S::f32s; V]) {
    let vectors = S::as_mut_simd_f32s(&mut to[at..at + V * S::F32_LANES]).0;
    vectors[..V].copy_from_slice(&values);
}

/// Adds the lanes of short sums to sums in double precision.
#[inline(always)]
fn flush<S: Simd, const V: usize>(simd: S, short: &mut [S::f32s; V], long: &mut [f64]) {
    for (v, sum) in short.iter_mut().enumerate() {
        let lanes = pulp::bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(sum));
        for (long, lane) in long[v * S::F32_LANES..].iter_mut().zip(lanes) {
            *long += f64::from(*lane);
        }
        *sum = simd.splat_f32s(0.0);
    }
}

/// Rows whose values may be summed in single precision.
fn short_rows(map: Map) -> usize {
    (SHORT / map.width).max(1)
}

/// Sums per channel of `x - mean`, or of its square.
pub(super) struct SumForward<'a> {
    pub(super) x: Placed<'a>,
    pub(super) means: &'a [f32],
    pub(super) sums: &'a mut [f64],
    pub(super) squares: bool,
}

impl WithSimd for SumForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let this = &mut self;
        blocks!(S, this.x.1.channels, |first| this.block(simd, first));
    }
}

impl SumForward<'_> {
    #[inline(always)]
    fn block<S: Simd, const V: usize>(&mut self, simd: S, first: usize) {
        let (x, map) = self.x;
        let mean = load::<S, V>(self.means, first);
        let mut sum = [simd.splat_f32s(0.0); V];
        let every = short_rows(map);
        for row in 0..map.height {
            let mut at = map.first() + row * map.row() + first;
            for _ in 0..map.width {
                let value = load::<S, V>(x, at);
                at += map.pitch;
                for v in 0..V {
                    let centred = simd.sub_f32s(value[v], mean[v]);
                    sum[v] = if self.squares {
                        simd.mul_add_e_f32s(centred, centred, sum[v])
                    } else {
                        simd.add_f32s(sum[v], centred)
                    };
                }
            }
            if (row + 1) % every == 0 || row + 1 == map.height {
                flush(simd, &mut sum, &mut self.sums[first..]);
            }
        }
    }
}

/// `y = x · slope + offset + residual`, then ReLU.
pub(super) struct ApplyForward<'a> {
    pub(super) x: Placed<'a>,
    pub(super) residual: Option<Placed<'a>>,
    pub(super) slopes: &'a [f32],
    pub(super) offsets: &'a [f32],
    pub(super) y: PlacedMut<'a>,
    pub(super) relu: bool,
}

impl WithSimd for ApplyForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let this = &mut self;
        blocks!(S, this.x.1.channels, |first| this.block(simd, first));
    }
}

impl ApplyForward<'_> {
    #[inline(always)]
    fn block<S: Simd, const V: usize>(&mut self, simd: S, first: usize) {
        let (x, map) = self.x;
        let map_y = self.y.1;
        let slope = load::<S, V>(self.slopes, first);
        let offset = load::<S, V>(self.offsets, first);
        let zero = simd.splat_f32s(0.0);
        for row in 0..map.height {
            let mut at = map.first() + row * map.row() + first;
            let mut to = map_y.first() + row * map_y.row() + first;
            let mut beside = self.residual.map(|(_, map)| map.first() + row * map.row() + first);
            for _ in 0..map.width {
                let value = load::<S, V>(x, at);
                at += map.pitch;
                let mut out = [zero; V];
                for v in 0..V {
                    out[v] = simd.mul_add_e_f32s(value[v], slope[v], offset[v]);
                }
                if let (Some((residual, map)), Some(from)) = (self.residual, &mut beside) {
                    let value = load::<S, V>(residual, *from);
                    *from += map.pitch;
                    for v in 0..V {
                        out[v] = simd.add_f32s(out[v], value[v]);
                    }
                }
                if self.relu {
                    for v in 0..V {
                        // NaN is not below zero and goes through.
                        let negative = simd.less_than_f32s(out[v], zero);
                        out[v] = simd.select_f32s(negative, zero, out[v]);
                    }
                }
                store::<S, V>(self.y.0, to, out);
                to += map_y.pitch;
            }
        }
    }
}

/// The gradient before ReLU of one block of channels at one pixel.
#[inline(always)]
fn gradient<S: Simd, const V: usize>(
    simd: S,
    inputs: &Inputs<'_>,
    relu: bool,
    (dy, y): (usize, usize),
) -> [S::f32s; V] {
    let mut g = load::<S, V>(inputs.dy.0, dy);
    if relu {
        let zero = simd.splat_f32s(0.0);
        let y = load::<S, V>(inputs.y.0, y);
        for v in 0..V {
            g[v] = simd.select_f32s(simd.less_than_f32s(zero, y[v]), g[v], zero);
        }
    }
    g
}

#[inline(always)]
fn start(map: Map, row: usize, first: usize) -> usize {
    map.first() + row * map.row() + first
}

/// Sums per channel of the gradient, and of its product with `x - mean`.
pub(super) struct SumBackward<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) means: &'a [f32],
    pub(super) plain: &'a mut [f64],
    pub(super) centred: &'a mut [f64],
    pub(super) relu: bool,
}

impl WithSimd for SumBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let this = &mut self;
        blocks!(S, this.inputs.x.1.channels, |first| this.block(simd, first));
    }
}

impl SumBackward<'_> {
    #[inline(always)]
    fn block<S: Simd, const V: usize>(&mut self, simd: S, first: usize) {
        let Inputs { dy, y, x, .. } = *self.inputs;
        let mean = load::<S, V>(self.means, first);
        let (mut plain, mut centred) = ([simd.splat_f32s(0.0); V], [simd.splat_f32s(0.0); V]);
        let every = short_rows(x.1);
        for row in 0..x.1.height {
            let mut at_x = start(x.1, row, first);
            let (mut at_dy, mut at_y) = (start(dy.1, row, first), start(y.1, row, first));
            for _ in 0..x.1.width {
                let g = gradient::<S, V>(simd, self.inputs, self.relu, (at_dy, at_y));
                let value = load::<S, V>(x.0, at_x);
                for v in 0..V {
                    plain[v] = simd.add_f32s(plain[v], g[v]);
                    centred[v] = simd.mul_add_e_f32s(g[v], simd.sub_f32s(value[v], mean[v]), centred[v]);
                }
                at_x += x.1.pitch;
                at_dy += dy.1.pitch;
                at_y += y.1.pitch;
            }
            if (row + 1) % every == 0 || row + 1 == x.1.height {
                flush(simd, &mut plain, &mut self.plain[first..]);
                flush(simd, &mut centred, &mut self.centred[first..]);
            }
        }
    }
}

/// `dx (+)= g · a - x · b + c` and `residual (+)= g`.
pub(super) struct ApplyBackward<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    /// a, b and c per channel.
    pub(super) factors: &'a [f32],
    pub(super) dx: Option<(PlacedMut<'a>, bool)>,
    pub(super) residual: Option<(PlacedMut<'a>, bool)>,
    pub(super) relu: bool,
}

impl WithSimd for ApplyBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for ((buffer, map), add) in [&mut self.dx, &mut self.residual].into_iter().flatten() {
            if !*add {
                map.clear_halo(buffer);
            }
        }
        let this = &mut self;
        blocks!(S, this.inputs.x.1.channels, |first| this.block(simd, first));
    }
}

impl ApplyBackward<'_> {
    #[inline(always)]
    fn block<S: Simd, const V: usize>(&mut self, simd: S, first: usize) {
        let Inputs { dy, y, x, .. } = *self.inputs;
        let channels = x.1.channels;
        let [a, b, c] = [0, 1, 2].map(|which| load::<S, V>(self.factors, which * channels + first));
        for row in 0..x.1.height {
            let mut at_x = start(x.1, row, first);
            let (mut at_dy, mut at_y) = (start(dy.1, row, first), start(y.1, row, first));
            for column in 0..x.1.width {
                let g = gradient::<S, V>(simd, self.inputs, self.relu, (at_dy, at_y));
                if let Some(((out, map), add)) = &mut self.residual {
                    let at = start(*map, row, first) + column * map.pitch;
                    put::<S, V>(simd, out, at, g, *add);
                }
                if let Some(((out, map), add)) = &mut self.dx {
                    let value = load::<S, V>(x.0, at_x);
                    let mut d = g;
                    for v in 0..V {
                        let rest = simd.negate_mul_add_e_f32s(value[v], b[v], c[v]);
                        d[v] = simd.mul_add_e_f32s(g[v], a[v], rest);
                    }
                    let at = start(*map, row, first) + column * map.pitch;
                    put::<S, V>(simd, out, at, d, *add);
                }
                at_x += x.1.pitch;
                at_dy += dy.1.pitch;
                at_y += y.1.pitch;
            }
        }
    }
}

#[inline(always)]
fn put<S: Simd, const V: usize>(simd: S, out: &mut [f32], at: usize, mut values: [S::f32s; V], add: bool) {
    if add {
        let before = load::<S, V>(out, at);
        for v in 0..V {
            values[v] = simd.add_f32s(values[v], before[v]);
        }
    }
    store::<S, V>(out, at, values);
}
