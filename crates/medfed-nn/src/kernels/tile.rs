//! Register tiles: the only loops that count. A tile holds `R × V` vectors of sums in registers and adds
//! products of broadcast values and vectors of a panel to them.
#![expect(unsafe_code, reason = "raw pointers keep the inner loops free of bounds checks")]
#![expect(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use pulp::Simd;
use std::sync::OnceLock;

/// Widest panel in floats: what fills the registers of the vector unit at hand.
pub(super) fn panel_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    struct Ask;
    impl pulp::WithSimd for Ask {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            if S::F32_LANES == 16 { 64 } else { 16 }
        }
    }
    *LIMIT.get_or_init(|| pulp::Arch::new().dispatch(Ask))
}

/// First column and width of each panel of a matrix with `width` columns, a multiple of 16.
pub(super) fn panels(width: usize) -> impl Iterator<Item = (usize, usize)> {
    let limit = panel_limit();
    (0..width).step_by(limit).map(move |first| (first, limit.min(width - first)))
}

/// How a tile's sums begin.
#[derive(Clone, Copy)]
pub(super) enum Begin {
    /// At zero.
    Zero,
    /// At a row of values, the same for all rows of the tile.
    Row(*const f32),
    /// At what the target holds.
    Target,
}

#[inline(always)]
unsafe fn load<S: Simd>(at: *const f32) -> S::f32s {
    // SAFETY: the caller guarantees `F32_LANES` readable floats; the vector type is plain data.
    unsafe { at.cast::<S::f32s>().read_unaligned() }
}

/// The rows of a tile: `out[r][..] (+)= Σ_k panel[k][..] · x[r][k]`, where k runs over `segments` runs of
/// `len` floats that lie `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    pub(super) segments: usize,
    pub(super) stride: usize,
    pub(super) len: usize,
}

/// One tile of a correlation. Rows beyond `count` repeat the last one and are not stored.
///
/// # Safety
/// `panel` covers `segments · len` rows of `V` vectors; every `x[r]` covers the runs; `out[r]` covers
/// `V` vectors for `r < count`, and `Begin::Row` as well.
#[inline(always)]
pub(super) unsafe fn correlate<S: Simd, const V: usize, const R: usize>(
    simd: S,
    begin: Begin,
    panel: *const f32,
    runs: Runs,
    x: &[*const f32; R],
    out: &[*mut f32; R],
    count: usize,
) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    // SAFETY: all accesses are within what the caller guarantees.
    unsafe {
        match begin {
            // What the target holds is added at the end: short sums round less.
            Begin::Zero | Begin::Target => {}
            Begin::Row(row) => {
                for v in 0..V {
                    let value = load::<S>(row.add(v * lanes));
                    for r in 0..R {
                        sums[r][v] = value;
                    }
                }
            }
        }
        let mut a = panel;
        for segment in 0..runs.segments {
            let shift = segment * runs.stride;
            let x: [*const f32; R] = std::array::from_fn(|r| x[r].add(shift));
            for j in 0..runs.len {
                let mut w = [simd.splat_f32s(0.0); V];
                for v in 0..V {
                    w[v] = load::<S>(a.add(v * lanes));
                }
                a = a.add(V * lanes);
                for r in 0..R {
                    let value = simd.splat_f32s(*x[r].add(j));
                    for v in 0..V {
                        sums[r][v] = simd.mul_add_e_f32s(w[v], value, sums[r][v]);
                    }
                }
            }
        }
        if matches!(begin, Begin::Target) {
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = simd.add_f32s(sums[r][v], load::<S>(out[r].add(v * lanes)));
                }
            }
        }
        for r in 0..R {
            if r < count {
                for v in 0..V {
                    out[r].add(v * lanes).cast::<S::f32s>().write_unaligned(sums[r][v]);
                }
            }
        }
    }
}

/// One tile of a sum of outer products: `out[r][..] += Σ_p y[p][..] · x[p][r]` over the pixels whose
/// offsets in `y` and `x` are listed.
///
/// # Safety
/// For every listed pixel `y` covers `V` vectors and `x` covers `R` floats; `out` covers `R` rows of `V`
/// vectors that lie `pitch` apart.
#[inline(always)]
pub(super) unsafe fn outer<S: Simd, const V: usize, const R: usize>(
    simd: S,
    fresh: bool,
    y: *const f32,
    x: *const f32,
    pixels: &[(u32, u32)],
    out: *mut f32,
    pitch: usize,
) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    // SAFETY: all accesses are within what the caller guarantees.
    unsafe {
        for &(at_y, at_x) in pixels {
            let (y, x) = (y.add(at_y as usize), x.add(at_x as usize));
            let mut w = [simd.splat_f32s(0.0); V];
            for v in 0..V {
                w[v] = load::<S>(y.add(v * lanes));
            }
            for r in 0..R {
                let value = simd.splat_f32s(*x.add(r));
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(w[v], value, sums[r][v]);
                }
            }
        }
        if !fresh {
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = simd.add_f32s(sums[r][v], load::<S>(out.add(r * pitch + v * lanes)));
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                out.add(r * pitch + v * lanes).cast::<S::f32s>().write_unaligned(sums[r][v]);
            }
        }
    }
}
