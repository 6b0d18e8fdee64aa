//! Sums over long vectors.

use pulp::Arch;
use rayon::prelude::*;

/// Elements of one task.
const CHUNK: usize = 1 << 15;

/// Σ v² in double precision, from single-precision sums of a few hundred squares. For use inside a
/// dispatched kernel.
#[inline(always)]
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(256) {
        let mut sums = [0f32; 16];
        let (chunks, rest) = block.as_chunks::<16>();
        for chunk in chunks {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += value * value;
            }
        }
        for (sum, value) in sums.iter_mut().zip(rest) {
            *sum += value * value;
        }
        total += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>();
    }
    total
}

/// Σ v² in double precision.
pub(crate) fn squared_norm(values: &[f32]) -> f64 {
    Arch::new().dispatch(
        #[inline(always)]
        || sum_of_squares(values),
    )
}

/// `target += factor · values`.
pub(crate) fn add_scaled(target: &mut [f32], factor: f32, values: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (t, v) in target.iter_mut().zip(values) {
                *t += factor * v;
            }
        },
    );
}

/// `target += Σ_u factors[u] · parts[u]` for consecutive parts of `target`'s length; parts whose factor
/// is 0 are not read.
pub(crate) fn add_weighted(target: &mut [f32], factors: &[f32], parts: &[f32]) {
    let len = target.len();
    assert!(parts.len() >= factors.len() * len, "fewer parts than factors");
    target.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, target)| {
        // The chunk stays in the first-level cache while the parts stream past it.
        for (piece, out) in target.chunks_mut(2048).enumerate() {
            let first = chunk * CHUNK + piece * 2048;
            for (unit, factor) in factors.iter().enumerate().filter(|(_, factor)| **factor != 0.0) {
                let part = &parts[unit * len + first..][..out.len()];
                add_scaled(out, *factor, part);
            }
        }
    });
}

/// Scales each image's part of a buffer by its factor. A factor of 0 writes zeros, whatever was there.
pub(crate) fn scale_images(buffer: &mut [f32], image: usize, factors: &[f32]) {
    buffer.par_chunks_mut(image).zip(factors).for_each(|(part, factor)| {
        if *factor == 0.0 {
            part.fill(0.0);
        } else if *factor != 1.0 {
            Arch::new().dispatch(
                #[inline(always)]
                || part.iter_mut().for_each(|value| *value *= factor),
            );
        }
    });
}
