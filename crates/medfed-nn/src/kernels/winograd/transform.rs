//! The matrices of Winograd's convolutions, at work on vectors of channels.
//!
//! For M = 2 they interpolate at 0, 1, -1 and infinity, for M = 4 at 0, 1, -1, 2, -2 and infinity.

#![expect(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use super::Side;
use pulp::{Simd, WithSimd};

/// `factor · x + y`.
#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), x, y)
}

/// `factor · x`.
#[inline(always)]
fn scaled<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// Bᵀd.
#[inline(always)]
fn input_line<S: Simd, const A: usize>(simd: S, d: [S::f32s; A]) -> [S::f32s; A] {
    let mut out = d;
    if A == 4 {
        out[0] = simd.sub_f32s(d[0], d[2]);
        out[1] = simd.add_f32s(d[1], d[2]);
        out[2] = simd.sub_f32s(d[2], d[1]);
        out[3] = simd.sub_f32s(d[1], d[3]);
    } else {
        let even = times::<S>(simd, -4.0, d[2], d[4]);
        let odd = times::<S>(simd, -4.0, d[1], d[3]);
        let even_2 = simd.sub_f32s(d[4], d[2]);
        let odd_2 = simd.sub_f32s(d[3], d[1]);
        out[0] = times::<S>(simd, 4.0, d[0], times::<S>(simd, -5.0, d[2], d[4]));
        out[1] = simd.add_f32s(even, odd);
        out[2] = simd.sub_f32s(even, odd);
        out[3] = times::<S>(simd, 2.0, odd_2, even_2);
        out[4] = times::<S>(simd, -2.0, odd_2, even_2);
        out[5] = times::<S>(simd, 4.0, d[1], times::<S>(simd, -5.0, d[3], d[5]));
    }
    out
}

/// Gg.
#[inline(always)]
fn weight_line<S: Simd, const A: usize>(simd: S, g: [S::f32s; 3]) -> [S::f32s; A] {
    let mut out = [g[0]; A];
    let even = simd.add_f32s(g[0], g[2]);
    if A == 4 {
        out[1] = scaled::<S>(simd, 0.5, simd.add_f32s(even, g[1]));
        out[2] = scaled::<S>(simd, 0.5, simd.sub_f32s(even, g[1]));
        out[3] = g[2];
    } else {
        out[0] = scaled::<S>(simd, 0.25, g[0]);
        out[1] = scaled::<S>(simd, -1.0 / 6.0, simd.add_f32s(even, g[1]));
        out[2] = scaled::<S>(simd, -1.0 / 6.0, simd.sub_f32s(even, g[1]));
        let even = simd.mul_add_e_f32s(simd.splat_f32s(4.0), g[2], g[0]);
        let odd = simd.add_f32s(g[1], g[1]);
        out[3] = scaled::<S>(simd, 1.0 / 24.0, simd.add_f32s(even, odd));
        out[4] = scaled::<S>(simd, 1.0 / 24.0, simd.sub_f32s(even, odd));
        out[5] = g[2];
    }
    out
}

/// Aᵀm.
#[inline(always)]
fn output_line<S: Simd, const A: usize, const M: usize>(simd: S, m: [S::f32s; A]) -> [S::f32s; M] {
    let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let mut out = [m[0]; M];
    if A == 4 {
        out[0] = simd.add_f32s(m[0], sum);
        out[1] = simd.sub_f32s(difference, m[3]);
    } else {
        let (sum_2, difference_2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
        out[0] = simd.add_f32s(simd.add_f32s(m[0], sum), sum_2);
        out[1] = times::<S>(simd, 2.0, difference_2, difference);
        out[2] = times::<S>(simd, 4.0, sum_2, sum);
        out[3] = times::<S>(simd, 8.0, difference_2, simd.add_f32s(difference, m[5]));
    }
    out
}

/// Ay: the transposed of [`output_line`].
#[inline(always)]
fn gradient_line<S: Simd, const A: usize, const M: usize>(simd: S, y: [S::f32s; M]) -> [S::f32s; A] {
    let mut out = [y[0]; A];
    if A == 4 {
        out[1] = simd.add_f32s(y[0], y[1]);
        out[2] = simd.sub_f32s(y[0], y[1]);
        out[3] = simd.sub_f32s(simd.splat_f32s(0.0), y[1]);
    } else {
        let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
        let even_2 = times::<S>(simd, 4.0, y[2], y[0]);
        let odd_2 = times::<S>(simd, 8.0, y[3], simd.add_f32s(y[1], y[1]));
        out[1] = simd.add_f32s(even, odd);
        out[2] = simd.sub_f32s(even, odd);
        out[3] = simd.add_f32s(even_2, odd_2);
        out[4] = simd.sub_f32s(even_2, odd_2);
        out[5] = y[3];
    }
    out
}

/// Gᵀu: the transposed of [`weight_line`].
#[inline(always)]
fn sum_line<S: Simd, const A: usize>(simd: S, u: [S::f32s; A]) -> [S::f32s; 3] {
    let (sum, difference) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[1], u[2]));
    if A == 4 {
        [
            times::<S>(simd, 0.5, sum, u[0]),
            scaled::<S>(simd, 0.5, difference),
            times::<S>(simd, 0.5, sum, u[3]),
        ]
    } else {
        let (sum_2, difference_2) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
        let middle = scaled::<S>(simd, -1.0 / 6.0, sum);
        [
            times::<S>(simd, 0.25, u[0], times::<S>(simd, 1.0 / 24.0, sum_2, middle)),
            times::<S>(simd, 1.0 / 12.0, difference_2, scaled::<S>(simd, -1.0 / 6.0, difference)),
            times::<S>(simd, 1.0 / 6.0, sum_2, simd.add_f32s(middle, u[5])),
        ]
    }
}

#[inline(always)]
fn load<S: Simd>(from: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&from[at..at + S::F32_LANES]).0[0]
}

#[inline(always)]
fn store<S: Simd>(to: &mut [f32], at: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut to[at..at + S::F32_LANES]).0[0] = value;
}

/// Bᵀ d B of one tile, for all `channels`. Position p of the tile goes to `out[p · slab..]`.
#[inline(always)]
pub(super) fn input<S: Simd, const A: usize>(
    simd: S,
    from: &[f32],
    rows: &[usize; A],
    columns: &[usize; A],
    channels: usize,
    out: &mut [f32],
    slab: usize,
) {
    for c in (0..channels).step_by(S::F32_LANES) {
        let mut half = [[simd.splat_f32s(0.0); A]; A];
        for j in 0..A {
            let line = input_line::<S, A>(
                simd,
                std::array::from_fn(
                    #[inline(always)]
                    |i| load::<S>(from, rows[i] + columns[j] + c),
                ),
            );
            for i in 0..A {
                half[i][j] = line[i];
            }
        }
        for i in 0..A {
            let line = input_line::<S, A>(simd, half[i]);
            for j in 0..A {
                store::<S>(out, (i * A + j) * slab + c, line[j]);
            }
        }
    }
}

/// Aᵀ m A of one tile and vector of channels. Position p of the tile is at `products[p · slab..]`.
#[inline(always)]
pub(super) fn output<S: Simd, const A: usize, const M: usize>(
    simd: S,
    products: &[f32],
    slab: usize,
) -> [[S::f32s; M]; M] {
    let mut half = [[simd.splat_f32s(0.0); M]; A];
    for i in 0..A {
        half[i] = output_line::<S, A, M>(
            simd,
            std::array::from_fn(
                #[inline(always)]
                |j| load::<S>(products, (i * A + j) * slab),
            ),
        );
    }
    let mut out = [[simd.splat_f32s(0.0); M]; M];
    for j in 0..M {
        let line = output_line::<S, A, M>(
            simd,
            std::array::from_fn(
                #[inline(always)]
                |i| half[i][j],
            ),
        );
        for i in 0..M {
            out[i][j] = line[i];
        }
    }
    out
}

/// A y Aᵀ of one tile, for all `channels`: the gradient of the results, of which `kept` rows and columns
/// lie on the map.
#[inline(always)]
pub(super) fn gradient<S: Simd, const A: usize, const M: usize>(
    simd: S,
    from: &[f32],
    steps: [usize; 2],
    kept: [usize; 2],
    channels: usize,
    out: &mut [f32],
    slab: usize,
) {
    let zero = simd.splat_f32s(0.0);
    for c in (0..channels).step_by(S::F32_LANES) {
        let mut half = [[zero; M]; A];
        for j in 0..M {
            let mut line = [zero; M];
            if j < kept[1] {
                for i in 0..M {
                    if i < kept[0] {
                        line[i] = load::<S>(from, i * steps[0] + j * steps[1] + c);
                    }
                }
            }
            let line = gradient_line::<S, A, M>(simd, line);
            for i in 0..A {
                half[i][j] = line[i];
            }
        }
        for i in 0..A {
            let line = gradient_line::<S, A, M>(simd, half[i]);
            for j in 0..A {
                store::<S>(out, (i * A + j) * slab + c, line[j]);
            }
        }
    }
}

/// Gᵀ u G of one vector of a weight gradient. Position p of the tile is at `sums[p · slab..]`.
#[inline(always)]
pub(super) fn sum<S: Simd, const A: usize>(simd: S, sums: &[f32], slab: usize) -> [[S::f32s; 3]; 3] {
    let mut half = [[simd.splat_f32s(0.0); 3]; A];
    for i in 0..A {
        half[i] = sum_line::<S, A>(
            simd,
            std::array::from_fn(
                #[inline(always)]
                |j| load::<S>(sums, (i * A + j) * slab),
            ),
        );
    }
    let mut out = [[simd.splat_f32s(0.0); 3]; 3];
    for j in 0..3 {
        let line = sum_line::<S, A>(
            simd,
            std::array::from_fn(
                #[inline(always)]
                |i| half[i][j],
            ),
        );
        for i in 0..3 {
            out[i][j] = line[i];
        }
    }
    out
}

/// G g Gᵀ for one panel of packed weights: from `[tap, input, lane]` to `[position, input, lane]`.
pub(super) struct Weights<'a> {
    pub(super) side: Side,
    pub(super) packed: &'a [f32],
    pub(super) inputs: usize,
    pub(super) width: usize,
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.side {
            Side::Two => self.run::<S, 4>(simd),
            Side::Four => self.run::<S, 6>(simd),
        }
    }
}

impl Weights<'_> {
    #[inline(always)]
    fn run<S: Simd, const A: usize>(self, simd: S) {
        let slab = self.inputs * self.width;
        for at in (0..slab).step_by(S::F32_LANES) {
            let mut half = [[simd.splat_f32s(0.0); 3]; A];
            for j in 0..3 {
                let line = weight_line::<S, A>(
                    simd,
                    std::array::from_fn(
                        #[inline(always)]
                        |i| load::<S>(self.packed, (3 * i + j) * slab + at),
                    ),
                );
                for i in 0..A {
                    half[i][j] = line[i];
                }
            }
            for i in 0..A {
                let line = weight_line::<S, A>(simd, half[i]);
                for j in 0..A {
                    store::<S>(self.out, (i * A + j) * slab + at, line[j]);
                }
            }
        }
    }
}
