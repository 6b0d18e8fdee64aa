//! Which of several values do not lie on a polynomial: error correction for Reed-Solomon codes (Berlekamp
//! and Welch 1986).
//!
//! Values of a polynomial of degree below k at m points are given, at most e of them wrong. If m ≥ k + 2e
//! the polynomial is unique: look for E of degree e with leading coefficient 1 and Q of degree below
//! k + e with Q(x) = y·E(x) at every point. Q/E is the polynomial; the zeros of E are the wrong points.

use crate::field::Fe;
use crate::shamir::weights;

/// Interpolates values at fixed points and checks that none is off.
#[derive(Debug)]
pub(crate) struct Interpolation {
    points: Vec<Fe>,
    /// Coefficients of the polynomial: its degree is below this.
    coefficients: usize,
    at_zero: Vec<Fe>,
    /// For every point beyond the first `coefficients`, the weights that predict its value.
    checks: Vec<Vec<Fe>>,
}

impl Interpolation {
    /// For polynomials with `coefficients` coefficients, of which there are at least as many points.
    pub(crate) fn new(points: Vec<Fe>, coefficients: usize) -> Option<Self> {
        let (base, extra) = points.split_at_checked(coefficients)?;
        let at_zero = weights(base, Fe::ZERO);
        let checks = extra.iter().map(|point| weights(base, *point)).collect();
        Some(Self { points, coefficients, at_zero, checks })
    }

    /// The value at zero, if all values lie on one polynomial.
    pub(crate) fn open(&self, values: &[Fe]) -> Option<Fe> {
        let (base, extra) = values.split_at_checked(self.coefficients)?;
        let at = |weights: &[Fe]| weights.iter().zip(base).fold(Fe::ZERO, |sum, (w, v)| sum + *w * *v);
        let fits = extra.iter().zip(&self.checks).all(|(value, check)| at(check) == *value);
        fits.then(|| at(&self.at_zero))
    }

    /// The places of the fewest wrong values, if they are few enough to be told: at most half as many as
    /// there are points beyond those that determine the polynomial.
    pub(crate) fn wrong(&self, values: &[Fe]) -> Option<Vec<usize>> {
        let spare = self.points.len() - self.coefficients;
        (1..=spare / 2).find_map(|errors| self.locate(values, errors))
    }

    fn locate(&self, values: &[Fe], errors: usize) -> Option<Vec<usize>> {
        let (k, e) = (self.coefficients, errors);
        // Unknowns: the k + e coefficients of Q, then the e lower ones of E. Each point gives
        // Q(x) − y·(E(x) − x^e) = y·x^e.
        let mut rows: Vec<Vec<Fe>> = Vec::with_capacity(self.points.len());
        for (x, y) in self.points.iter().zip(values) {
            let mut powers = vec![Fe::ONE];
            for at in 1..k + e {
                powers.push(powers[at - 1] * *x);
            }
            let mut row = powers.clone();
            row.extend(powers[..e].iter().map(|power| Fe::ZERO - *y * *power));
            row.push(*y * powers[e]);
            rows.push(row);
        }
        let solution = solve(rows, k + 2 * e)?;
        let locator = &solution[k + e..];
        let evaluate = |x: Fe| locator.iter().rev().fold(Fe::ONE, |sum, coefficient| sum * x + *coefficient);
        let wrong: Vec<usize> =
            (0..self.points.len()).filter(|i| evaluate(self.points[*i]) == Fe::ZERO).collect();
        // The rest must fit one polynomial.
        let keep = |i: &usize| !wrong.contains(i);
        let points: Vec<Fe> = (0..self.points.len()).filter(keep).map(|i| self.points[i]).collect();
        let rest: Vec<Fe> = (0..self.points.len()).filter(keep).map(|i| values[i]).collect();
        Self::new(points, k)?.open(&rest).map(|_| wrong)
    }
}

/// One solution of linear equations, each row with its right-hand side last; free unknowns are zero.
fn solve(mut rows: Vec<Vec<Fe>>, unknowns: usize) -> Option<Vec<Fe>> {
    let mut pivots = Vec::new();
    for column in 0..unknowns {
        let done = pivots.len();
        let Some(pivot) = (done..rows.len()).find(|row| rows[*row][column] != Fe::ZERO) else { continue };
        rows.swap(done, pivot);
        let inverse = rows[done][column].inverse();
        for value in &mut rows[done] {
            *value = *value * inverse;
        }
        let pivot_row = rows[done].clone();
        for (at, row) in rows.iter_mut().enumerate() {
            let factor = row[column];
            if at == done || factor == Fe::ZERO {
                continue;
            }
            for (value, pivot) in row.iter_mut().zip(&pivot_row) {
                *value = *value - factor * *pivot;
            }
        }
        pivots.push(column);
    }
    if rows[pivots.len()..].iter().any(|row| row[unknowns] != Fe::ZERO) {
        return None;
    }
    let mut solution = vec![Fe::ZERO; unknowns];
    for (row, column) in rows.iter().zip(&pivots) {
        solution[*column] = row[unknowns];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::SecretKey;
    use proptest::prelude::*;

    fn values(points: &[Fe], coefficients: &[Fe]) -> Vec<Fe> {
        let at = |x: &Fe| coefficients.iter().rev().fold(Fe::ZERO, |sum, c| sum * *x + *c);
        points.iter().map(at).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn wrong_values_are_found(
            m in 3usize..20,
            spare in 0usize..8,
            start in 0usize..20,
            key in any::<[u8; 32]>(),
        ) {
            let k = m.saturating_sub(spare).max(1);
            let mut rng = SecretKey::from_bytes(key).generator("test", &[]);
            let points: Vec<Fe> = (1..=m as u64).map(Fe::from_u64).collect();
            let coefficients: Vec<Fe> = (0..k).map(|_| Fe::random(&mut rng)).collect();
            let right = values(&points, &coefficients);
            let code = Interpolation::new(points, k).unwrap();
            prop_assert_eq!(code.open(&right), Some(coefficients[0]));
            let errors = (m - k) / 2;
            let mut broken = right.clone();
            let mut places: Vec<usize> = (0..errors).map(|i| (start + i) % m).collect();
            places.sort_unstable();
            for place in &places {
                broken[*place] = broken[*place] + Fe::ONE;
            }
            if errors > 0 {
                prop_assert_eq!(code.open(&broken), None);
                prop_assert_eq!(code.wrong(&broken), Some(places));
            }
        }
    }

    #[test]
    fn too_many_errors_are_not_blamed_on_anyone() {
        let points: Vec<Fe> = (1..=6).map(Fe::from_u64).collect();
        let mut broken = values(&points, &[Fe::from_u64(5), Fe::from_u64(7), Fe::from_u64(9)]);
        broken[0] = broken[0] + Fe::ONE;
        broken[4] = broken[4] + Fe::from_u64(1000);
        let code = Interpolation::new(points, 3).unwrap();
        assert_eq!(code.open(&broken), None);
        assert_eq!(code.wrong(&broken), None);
    }
}
