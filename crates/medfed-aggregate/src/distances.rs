//! What selection rules look at: the squared distances between updates, or their inner products.
//!
//! Rows and columns stand in the order of the site names. Selection takes these matrices and nothing else, so
//! it works the same whether the updates are at hand or only the distances were opened. Distances
//! are summed in single precision over the at most 1024 columns of a tile, in two vectors of sums, and in double
//! precision over the tiles: their relative error is at most 40 · 2⁻²⁴ ≈ 2.4 · 10⁻⁶ with vectors of 16, twice
//! that with vectors of 8, and in practice a thousandth of that, as roundings cancel. Where squares would leave the range of single precision, the tile is summed in double
//! precision. Products are in double precision throughout.

use crate::error::AggregateError;
use crate::rows::{LANES, Lanes, Rows, Tile, add_over};
use pulp::{Arch, Simd, WithSimd};

/// ‖xᵢ − xⱼ‖² for n updates.
#[derive(Debug, Clone, PartialEq)]
pub struct SquaredDistances {
    matrix: Matrix,
}

/// ⟨xᵢ, xⱼ⟩ for n updates.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    matrix: Matrix,
}

impl SquaredDistances {
    /// From n² entries, row after row: symmetric, finite, not negative, 0 on the diagonal.
    pub fn new(rows: usize, entries: Vec<f64>) -> Result<Self, AggregateError> {
        let matrix = Matrix::new("squared distances", rows, entries)?;
        for (row, column, value) in matrix.entries() {
            if value < 0.0 {
                return Err(matrix.wrong(row, column, "a distance is not negative"));
            }
            if row == column && value != 0.0 {
                return Err(matrix.wrong(row, column, "an update is at distance 0 from itself"));
            }
        }
        Ok(Self { matrix })
    }

    /// n.
    pub fn rows(&self) -> usize {
        self.matrix.rows
    }

    /// ‖xᵢ − xⱼ‖². Panics unless `i` and `j` are below n.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.matrix.row(i)[j]
    }

    pub(crate) fn row(&self, i: usize) -> &[f64] {
        self.matrix.row(i)
    }

    pub(crate) fn of(rows: &Rows<'_>) -> Self {
        let n = rows.len();
        let sums = rows.fold_rows(
            n * n.saturating_sub(1) / 2,
            #[inline(always)]
            |rows, sums| {
                let mut sums = sums.iter_mut();
                for (i, a) in rows.iter().enumerate() {
                    // Three at a time, so that `a` is read once for all of them.
                    let (groups, rest) = rows[i + 1..].as_chunks::<3>();
                    for [b, c, d] in groups {
                        for ((b, found), sum) in [b, c, d].iter().zip(narrow(a, b, c, d)).zip(&mut sums) {
                            *sum += in_range(found).unwrap_or_else(|| wide(a, b));
                        }
                    }
                    for (b, sum) in rest.iter().zip(&mut sums) {
                        let [found, ..] = narrow(a, b, b, b);
                        *sum += in_range(found).unwrap_or_else(|| wide(a, b));
                    }
                }
            },
        );
        let mut matrix = Matrix { what: "squared distances", rows: n, entries: vec![0.0; n * n] };
        let mut sums = sums.into_iter();
        for i in 0..n {
            for (j, sum) in (i + 1..n).zip(&mut sums) {
                matrix.entries[i * n + j] = sum;
                matrix.entries[j * n + i] = sum;
            }
        }
        Self { matrix }
    }
}

impl Gram {
    /// From n² entries, row after row: symmetric, finite, not negative on the diagonal.
    pub fn new(rows: usize, entries: Vec<f64>) -> Result<Self, AggregateError> {
        let matrix = Matrix::new("inner products", rows, entries)?;
        for (row, column, value) in matrix.entries() {
            if row == column && value < 0.0 {
                return Err(matrix.wrong(row, column, "a squared norm is not negative"));
            }
        }
        Ok(Self { matrix })
    }

    /// n.
    pub fn rows(&self) -> usize {
        self.matrix.rows
    }

    /// ⟨xᵢ, xⱼ⟩. Panics unless `i` and `j` are below n.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.matrix.row(i)[j]
    }

    /// ‖xᵢ − xⱼ‖² = ‖xᵢ‖² + ‖xⱼ‖² − 2⟨xᵢ, xⱼ⟩, and 0 where rounding made that negative.
    ///
    /// Updates that are close for their size lose digits here; distances that were taken of the updates
    /// themselves do not.
    pub fn squared_distances(&self) -> SquaredDistances {
        let n = self.matrix.rows;
        let entry = |k: usize| {
            let (i, j) = (k / n, k % n);
            if i == j { 0.0 } else { (self.get(i, i) + self.get(j, j) - 2.0 * self.get(i, j)).max(0.0) }
        };
        let entries = (0..n * n).map(entry).collect();
        SquaredDistances { matrix: Matrix { what: "squared distances", rows: n, entries } }
    }

    /// The products among some of the updates.
    pub(crate) fn only(&self, rows: &[usize]) -> Self {
        let entries = rows.iter().flat_map(|i| rows.iter().map(|j| self.get(*i, *j))).collect();
        Self { matrix: Matrix { what: self.matrix.what, rows: rows.len(), entries } }
    }

    /// The cosine between two updates; 0 where one of them is zero.
    pub(crate) fn cosine(&self, i: usize, j: usize) -> f64 {
        let norms = self.get(i, i).sqrt() * self.get(j, j).sqrt();
        if norms > 0.0 { self.get(i, j) / norms } else { 0.0 }
    }

    /// From the products of rows i ≤ j, row after row.
    pub(crate) fn from_upper(rows: usize, sums: Vec<f64>) -> Self {
        let mut matrix = Matrix { what: "inner products", rows, entries: vec![0.0; rows * rows] };
        let mut sums = sums.into_iter();
        for i in 0..rows {
            for (j, sum) in (i..rows).zip(&mut sums) {
                matrix.entries[i * rows + j] = sum;
                matrix.entries[j * rows + i] = sum;
            }
        }
        Self { matrix }
    }
}

/// Between these no square, and no sum of squares, of a tile has left the range of `f32`, upwards or downwards,
/// in a way that the sum could show.
const SMALL: f32 = 1e-28;
const LARGE: f32 = 1e37;

/// A sum in single precision that nothing has left the range of.
#[inline(always)]
fn in_range(found: f32) -> Option<f64> {
    (SMALL..LARGE).contains(&found).then_some(f64::from(found))
}

/// The squared distances of `a` from three others over the width of a tile, in single precision.
#[inline(always)]
fn narrow(a: &[f32], b: &[f32], c: &[f32], d: &[f32]) -> [f32; 3] {
    Arch::new().dispatch(Narrow { a, others: [b, c, d] })
}

struct Narrow<'r> {
    a: &'r [f32],
    others: [&'r [f32]; 3],
}

impl WithSimd for Narrow<'_> {
    type Output = [f32; 3];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 3] {
        // Two sums of each distance hide the latency of the addition.
        let [b, c, d] = [pairs::<S>(self.others[0]), pairs::<S>(self.others[1]), pairs::<S>(self.others[2])];
        let zero = simd.splat_f32s(0.0);
        let (mut b0, mut b1, mut c0, mut c1, mut d0, mut d1) = (zero, zero, zero, zero, zero, zero);
        for ((([a0, a1], b), c), d) in pairs::<S>(self.a).iter().zip(b).zip(c).zip(d) {
            (b0, b1) = (add_square(simd, b0, *a0, b[0]), add_square(simd, b1, *a1, b[1]));
            (c0, c1) = (add_square(simd, c0, *a0, c[0]), add_square(simd, c1, *a1, c[1]));
            (d0, d1) = (add_square(simd, d0, *a0, d[0]), add_square(simd, d1, *a1, d[1]));
        }
        let [b, c, d] = [simd.add_f32s(b0, b1), simd.add_f32s(c0, c1), simd.add_f32s(d0, d1)];
        [simd.reduce_sum_f32s(b), simd.reduce_sum_f32s(c), simd.reduce_sum_f32s(d)]
    }
}

/// A row as pairs of vectors; its width is a multiple of theirs.
#[inline(always)]
fn pairs<S: Simd>(row: &[f32]) -> &[[S::f32s; 2]] {
    S::as_simd_f32s(row).0.as_chunks::<2>().0
}

#[inline(always)]
fn add_square<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s {
    let difference = simd.sub_f32s(a, b);
    simd.mul_add_f32s(difference, difference, sum)
}

/// The squared distance over the width of a tile, in double precision.
#[inline(never)]
fn wide(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f64; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += (f64::from(a[lane]) - f64::from(b[lane])).powi(2);
        }
    }
    sums.iter().sum()
}

/// Adds the products of all pairs of rows i ≤ j of a tile to `sums`.
#[inline(always)]
pub(crate) fn add_products(tile: &Tile<'_, f64>, rows: usize, sums: &mut [Lanes]) {
    let mut sums = sums.iter_mut();
    for i in 0..rows {
        for (j, sum) in (i..rows).zip(&mut sums) {
            add_over(
                sum,
                tile.row(i),
                tile.row(j),
                #[inline(always)]
                |a, b| a * b,
            );
        }
    }
}

/// A symmetric matrix of finite entries.
#[derive(Debug, Clone, PartialEq)]
struct Matrix {
    what: &'static str,
    rows: usize,
    entries: Vec<f64>,
}

impl Matrix {
    fn new(what: &'static str, rows: usize, entries: Vec<f64>) -> Result<Self, AggregateError> {
        if rows.checked_mul(rows) != Some(entries.len()) {
            return Err(AggregateError::MatrixSize { rows, found: entries.len() });
        }
        let matrix = Self { what, rows, entries };
        for (row, column, value) in matrix.entries() {
            if !value.is_finite() {
                return Err(matrix.wrong(row, column, "every entry is finite"));
            }
            if matrix.row(column)[row] != value {
                return Err(matrix.wrong(row, column, "the matrix is symmetric"));
            }
        }
        Ok(matrix)
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.entries[row * self.rows..][..self.rows]
    }

    fn entries(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        self.entries.iter().enumerate().map(|(k, value)| (k / self.rows, k % self.rows, *value))
    }

    fn wrong(&self, row: usize, column: usize, expected: &'static str) -> AggregateError {
        AggregateError::Matrix { what: self.what, row, column, expected }
    }
}
