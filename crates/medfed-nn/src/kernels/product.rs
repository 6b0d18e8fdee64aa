//! The product of two matrices by the `gemm` crate: what this machine can do, beside which convolutions are
//! measured. Training does not use it.
#![expect(unsafe_code, reason = "gemm takes pointers")]

use gemm::Parallelism;

/// `c = a · b` for matrices of `n` rows of `n` floats, on the given number of threads of the current pool.
///
/// # Panics
/// If a matrix has another size.
pub fn product(n: usize, a: &[f32], b: &[f32], c: &mut [f32], threads: usize) {
    assert!([a.len(), b.len(), c.len()] == [n * n; 3], "each matrix has n rows of n floats");
    let parallelism = if threads == 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    let (row, c, a, b) = (n.cast_signed(), c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
    // SAFETY: rows lie n floats apart and columns one, so all accesses are within the n · n floats that each
    // matrix has, as asserted; only `c` is written, and it is mutably borrowed.
    unsafe {
        gemm::gemm(
            n,
            n,
            n,
            c,
            1,
            row,
            false,
            a,
            1,
            row,
            b,
            1,
            row,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_meet_columns() {
        let mut c = [9.0; 4];
        product(2, &[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], &mut c, 1);
        assert_eq!(c, [19.0, 22.0, 43.0, 50.0]);
    }
}
