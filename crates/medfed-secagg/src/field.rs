//! The field of p = 2⁶¹ − 1 elements, in which secrets are shared.
//!
//! Additions and products take the same time whatever the values: no branch and no table depends on
//! them. Inversion raises to the fixed power p − 2.

use rand::CryptoRng;
use zeroize::Zeroize;

/// The modulus, a Mersenne prime.
pub(crate) const P: u64 = (1 << 61) - 1;

/// An element, always below p.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Zeroize)]
pub(crate) struct Fe(u64);

impl Fe {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const ONE: Self = Self(1);

    /// The element of a number below p.
    pub(crate) fn from_canonical(value: u64) -> Option<Self> {
        (value < P).then_some(Self(value))
    }

    /// The element that a number is congruent to.
    pub(crate) fn from_u64(value: u64) -> Self {
        Self(reduce_once((value & P) + (value >> 61)))
    }

    /// The element that a signed number is congruent to.
    pub(crate) fn from_i64(value: i64) -> Self {
        let magnitude = Self::from_u64(value.unsigned_abs());
        let negative = Self::ZERO - magnitude;
        // All ones for a negative number.
        let mask = (value >> 63).cast_unsigned();
        Self((negative.0 & mask) | (magnitude.0 & !mask))
    }

    /// The number below p.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The congruent number nearest to zero, within ±(p − 1)/2.
    pub(crate) fn to_signed(self) -> i64 {
        if self.0 > P / 2 { -(P - self.0).cast_signed() } else { self.0.cast_signed() }
    }

    /// A uniform element.
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        loop {
            // 61 uniform bits; p itself is drawn once in 2^61 times.
            if let Some(element) = Self::from_canonical(rng.next_u64() & P) {
                return element;
            }
        }
    }

    /// This element to a public power.
    fn power(self, exponent: u64) -> Self {
        let mut result = Self::ONE;
        for bit in (0..61).rev() {
            result = result * result;
            if exponent >> bit & 1 == 1 {
                result = result * self;
            }
        }
        result
    }

    /// The inverse; that of zero is zero.
    pub(crate) fn inverse(self) -> Self {
        self.power(P - 2)
    }
}

/// Brings a number below 2p under p.
fn reduce_once(value: u64) -> u64 {
    let less = value.wrapping_sub(P);
    // All ones when the subtraction went below zero.
    let borrow = (less.cast_signed() >> 63).cast_unsigned();
    less.wrapping_add(P & borrow)
}

/// Brings any 128-bit number under p.
fn reduce_wide(value: u128) -> Fe {
    let p = u128::from(P);
    let folded = (value & p) + (value >> 61);
    let folded = (folded & p) + (folded >> 61);
    Fe(reduce_once((folded as u64 & P) + (folded >> 61) as u64))
}

impl std::ops::Add for Fe {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(reduce_once(self.0 + other.0))
    }
}

impl std::ops::Sub for Fe {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(reduce_once(self.0 + P - other.0))
    }
}

impl std::ops::Mul for Fe {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let product = u128::from(self.0) * u128::from(other.0);
        Self(reduce_once((product as u64 & P) + (product >> 61) as u64))
    }
}

/// Σ a·b. Products have 122 bits, so 63 of them fit 128 bits before they are reduced.
pub(crate) fn dot(a: &[Fe], b: &[Fe]) -> Fe {
    a.chunks(63).zip(b.chunks(63)).fold(Fe::ZERO, |sum, (a, b)| {
        let products = a.iter().zip(b).map(|(a, b)| u128::from(a.0) * u128::from(b.0));
        sum + reduce_wide(products.sum())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::SecretKey;
    use proptest::prelude::*;

    fn slow(value: u128) -> u64 {
        (value % u128::from(P)) as u64
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_residues(a in any::<u64>(), b in any::<u64>(), s in any::<i64>()) {
            let (x, y) = (Fe::from_u64(a), Fe::from_u64(b));
            let (a, b) = (u128::from(a), u128::from(b));
            prop_assert_eq!(x.get(), slow(a));
            prop_assert_eq!((x + y).get(), slow(a + b));
            prop_assert_eq!((x - y).get(), slow(a + 16 * u128::from(P) - b));
            prop_assert_eq!((x * y).get(), slow(a % u128::from(P) * b));
            prop_assert_eq!(i128::from(Fe::from_i64(s).get()), i128::from(s).rem_euclid(i128::from(P)));
            prop_assert_eq!(Fe::from_i64(s / 8).to_signed(), s / 8);
            prop_assert_eq!(x * x.inverse(), if x == Fe::ZERO { Fe::ZERO } else { Fe::ONE });
        }

        #[test]
        fn dot_products_do_not_overflow(length in 0usize..200) {
            let largest = vec![Fe::from_u64(P - 1); length];
            // (−1)² summed.
            prop_assert_eq!(dot(&largest, &largest).get(), length as u64);
        }
    }

    #[test]
    fn edges() {
        assert_eq!(Fe::from_canonical(P), None);
        assert_eq!(Fe::from_u64(P), Fe::ZERO);
        assert_eq!(Fe::from_u64(u64::MAX).get(), slow(u128::from(u64::MAX)));
        assert_eq!(reduce_wide(u128::MAX).get(), slow(u128::MAX));
        assert_eq!(Fe::from_i64(i64::MIN).get(), (i128::from(i64::MIN).rem_euclid(i128::from(P))) as u64);
    }

    #[test]
    fn random_elements_fill_the_field() {
        let mut rng = SecretKey::from_bytes([1; 32]).generator("field", &[]);
        let top = (0..4000).filter(|_| Fe::random(&mut rng).get() >= P / 2).count();
        // Six standard deviations.
        assert!((1810..2190).contains(&top), "{top}");
    }
}
