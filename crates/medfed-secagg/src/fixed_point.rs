//! Real numbers as integers modulo 2³², so that sums are exact and masks cancel to the last bit.
//!
//! A value x within the clip range ±R becomes q = round(x·S), to the nearest integer, ties to even; a
//! value outside, or not finite, is an error. The scale S is as large as the sum of all n sites allows:
//!
//! * equal weights: S = (2³¹ − 1 − n)/(nR). Every |q| ≤ (2³¹ − 1 − n)/n + ½, so n of them stay below 2³¹.
//! * weights w with Σw ≤ 1: q = round(w·x·S) with S = (2³¹ − 1 − n)/R, and the sum again stays below 2³¹.
//!
//! The sum therefore never wraps. Each rounding moves the sum by at most ½, so the opened mean differs
//! from the mean of the reals by at most nR/(2³² − 2n − 2)·(1 + 2⁻²⁰) when all n sites survive (the last
//! factor covers the double-precision products): **within 10⁻⁸ as long as n·R ≤ 42.9**, that is for
//! R ≤ 14.3 with 3 sites, 4.29 with 10, 0.429 with 100. [`FixedPoint::error_bound`] gives the bound.
//!
//! Rounding is deterministic. It comes after the noise of differential privacy and is post-processing.

use crate::error::SecaggError;

/// The largest absolute value of an input: R.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipRange(f64);

impl ClipRange {
    /// A finite range from 10⁻³⁰ to 10³⁰.
    pub fn new(range: f64) -> Result<Self, SecaggError> {
        if (1e-30..=1e30).contains(&range) {
            return Ok(Self(range));
        }
        Err(SecaggError::Terms { what: "the clip range", expected: "from 1e-30 to 1e30", found: range })
    }

    /// R.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// How inputs become integers, and sums become means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedPoint {
    range: f64,
    scale: f64,
}

impl FixedPoint {
    /// For `sites` inputs of equal weight.
    pub(crate) fn equal(range: ClipRange, sites: usize) -> Self {
        let FixedPoint { range, scale } = Self::weighted(range, sites);
        Self { range, scale: scale / sites as f64 }
    }

    /// For inputs that are multiplied by weights whose sum is at most 1.
    pub(crate) fn weighted(range: ClipRange, sites: usize) -> Self {
        let room = f64::from(i32::MAX) - sites as f64;
        Self { range: range.0, scale: room / range.0 }
    }

    /// With at most `scale` steps to one.
    pub(crate) fn at_most(self, scale: f64) -> Self {
        Self { scale: self.scale.min(scale), ..self }
    }

    /// Integer steps to one: S.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// How far the opened mean may be from the mean of the real inputs, when the weights of the
    /// survivors add up to `weight` of the whole (in sites, for equal weights).
    pub fn error_bound(&self, survivors: usize, weight: f64) -> f64 {
        survivors as f64 * 0.5 / (self.scale * weight) * (1.0 + 2f64.powi(-20))
    }

    /// The integers of values times a weight of at most 1, as words modulo 2³²; the index of the first value
    /// that is not within the range, if one is not.
    pub(crate) fn quantise(&self, values: &[f32], weight: f64, words: &mut [u32]) -> Option<usize> {
        // Doubles in [2^52, 2^53) are the integers, so adding this rounds to the nearest one, ties to
        // even, and leaves it in the low bits; the products stay below 2^31.
        let rounding = 1.5 * 2f64.powi(52);
        let factor = weight * self.scale;
        let range = self.largest();
        let mut within = true;
        for (word, value) in words.iter_mut().zip(values) {
            // NaN is not within either.
            within &= value.abs() <= range;
            *word = (f64::from(*value) * factor + rounding).to_bits() as u32;
        }
        (!within).then(|| values.iter().take_while(|value| value.abs() <= range).count())
    }

    /// What is wrong with the value at `index`.
    pub(crate) fn outside(&self, values: &[f32], index: usize) -> SecaggError {
        match values.get(index) {
            Some(value) if value.is_finite() => SecaggError::OutOfRange { index, range: self.range },
            _ => SecaggError::NotFinite { index },
        }
    }

    /// The largest value within the range.
    fn largest(&self) -> f32 {
        let nearest = self.range as f32;
        if f64::from(nearest) > self.range { nearest.next_down() } else { nearest }
    }

    /// The real number of an integer sum.
    pub(crate) fn real(&self, sum: i32) -> f64 {
        f64::from(sum) / self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(fixed: &FixedPoint, value: f32, weight: f64) -> i32 {
        let mut words = [0];
        assert_eq!(fixed.quantise(&[value], weight, &mut words), None);
        words[0].cast_signed()
    }

    proptest! {
        #[test]
        fn values_are_rounded_to_the_nearest(sites in 2usize..=100, value in -1f32..=1.0, weight in 0f64..=1.0) {
            let fixed = FixedPoint::weighted(ClipRange::new(1.0).unwrap(), sites);
            let expected = (f64::from(value) * (weight * fixed.scale())).round_ties_even() as i32;
            prop_assert_eq!(one(&fixed, value, weight), expected);
        }

        #[test]
        fn the_largest_inputs_do_not_wrap(sites in 2usize..=100, range in 1e-6f64..1e6) {
            let range = ClipRange::new(f64::from(range as f32)).unwrap();
            let equal = FixedPoint::equal(range, sites);
            let alone = i64::from(one(&equal, range.get() as f32, 1.0));
            prop_assert!(alone * i64::try_from(sites).unwrap() <= i64::from(i32::MAX));
            let weighted = FixedPoint::weighted(range, sites);
            let share = 1.0 / sites as f64;
            let one_share = i64::from(one(&weighted, range.get() as f32, share));
            prop_assert!(one_share * i64::try_from(sites).unwrap() <= i64::from(i32::MAX));
            prop_assert!(i64::from(one(&weighted, -range.get() as f32, 1.0)) > i64::from(i32::MIN));
        }
    }

    #[test]
    fn the_stated_ranges_are_within_the_stated_error() {
        for (sites, range) in [(3, 14.3), (10, 4.29), (100, 0.429)] {
            let range = ClipRange::new(range).unwrap();
            assert!(FixedPoint::equal(range, sites).error_bound(sites, sites as f64) <= 1e-8);
            assert!(FixedPoint::weighted(range, sites).error_bound(sites, 1.0) <= 1e-8);
        }
    }

    #[test]
    fn what_is_outside_is_named() {
        let fixed = FixedPoint::equal(ClipRange::new(1.0).unwrap(), 3);
        let check = |values: &[f32]| {
            fixed.quantise(values, 1.0, &mut vec![0; values.len()]).map(|at| fixed.outside(values, at))
        };
        assert_eq!(check(&[0.0, 1.0, -1.0]), None);
        assert_eq!(check(&[0.0, f32::NAN, 2.0]), Some(SecaggError::NotFinite { index: 1 }));
        assert_eq!(check(&[f32::INFINITY]), Some(SecaggError::NotFinite { index: 0 }));
        let above = 1.000_000_1;
        assert_eq!(check(&[0.5, -above]), Some(SecaggError::OutOfRange { index: 1, range: 1.0 }));
        for broken in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(ClipRange::new(broken).is_err());
        }
    }
}
