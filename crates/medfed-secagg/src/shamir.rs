//! Shamir's secret sharing over the field of 2⁶¹ − 1 elements (Shamir 1979).
//!
//! A secret is the value at zero of a random polynomial of degree t − 1; the site with index i holds its
//! value at i + 1. Any t values determine it, t − 1 say nothing about it. A seed is five independent
//! elements: 305 bits.

use rand::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::Fault;
use crate::field::Fe;
use crate::roster::SiteIndex;
use crate::wire::Reader;

/// Elements of a seed.
pub(crate) const ELEMENTS: usize = 5;
/// Bytes of a seed or of a share of one.
pub(crate) const SEED_BYTES: usize = 8 * ELEMENTS;

/// A secret of five uniform elements, or a share of one. Wiped on drop, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Seed([Fe; ELEMENTS]);

impl Seed {
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        Self(std::array::from_fn(|_| Fe::random(rng)))
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut elements = [Fe::ZERO; ELEMENTS];
        for element in &mut elements {
            *element = reader.element()?;
        }
        Ok(Self(elements))
    }

    /// The canonical bytes, to be wiped by the caller.
    pub(crate) fn to_bytes(&self) -> [u8; SEED_BYTES] {
        let mut bytes = [0; SEED_BYTES];
        for (out, element) in bytes.chunks_exact_mut(8).zip(&self.0) {
            out.copy_from_slice(&element.get().to_le_bytes());
        }
        bytes
    }
}

impl ConstantTimeEq for Seed {
    fn ct_eq(&self, other: &Self) -> Choice {
        let (mut a, mut b) = (self.to_bytes(), other.to_bytes());
        let equal = a.as_slice().ct_eq(b.as_slice());
        a.zeroize();
        b.zeroize();
        equal
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The place at which a site's shares are evaluated. Zero is the secret's.
pub(crate) fn point(site: SiteIndex) -> Fe {
    Fe::from_u64(site.get() as u64 + 1)
}

/// Shares of a seed for `holders`, of which any `threshold` rebuild it.
pub(crate) fn deal(
    seed: &Seed,
    threshold: usize,
    holders: impl Iterator<Item = SiteIndex>,
    rng: &mut impl CryptoRng,
) -> Vec<Seed> {
    // coefficients[k] multiplies x^k; the constant term is the secret.
    let mut higher: Vec<[Fe; ELEMENTS]> =
        (1..threshold).map(|_| std::array::from_fn(|_| Fe::random(rng))).collect();
    let shares = holders
        .map(|holder| {
            let x = point(holder);
            let mut value = [Fe::ZERO; ELEMENTS];
            for coefficients in higher.iter().rev() {
                for (value, coefficient) in value.iter_mut().zip(coefficients) {
                    *value = (*value + *coefficient) * x;
                }
            }
            for (value, secret) in value.iter_mut().zip(&seed.0) {
                *value = *value + *secret;
            }
            Seed(value)
        })
        .collect();
    higher.iter_mut().for_each(Zeroize::zeroize);
    shares
}

/// The seed whose shares these are: as many as the threshold, at different sites.
pub(crate) fn rebuild(shares: &[(SiteIndex, &Seed)], weights: &[Fe]) -> Seed {
    let mut elements = [Fe::ZERO; ELEMENTS];
    for ((_, share), weight) in shares.iter().zip(weights) {
        for (element, value) in elements.iter_mut().zip(&share.0) {
            *element = *element + *weight * *value;
        }
    }
    Seed(elements)
}

/// Lagrange's weights: Σ weight·f(x) = f(at) for every polynomial of degree below the number of points.
pub(crate) fn weights(points: &[Fe], at: Fe) -> Vec<Fe> {
    points
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let others = points.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| *other);
            let (above, below) = others.fold((Fe::ONE, Fe::ONE), |(above, below), other| {
                (above * (at - other), below * (*x - other))
            });
            above * below.inverse()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::SecretKey;
    use proptest::prelude::*;

    fn indices(sites: usize) -> impl Iterator<Item = SiteIndex> + Clone {
        (0..sites).map(|site| SiteIndex::new(site).expect("the test stays below the limit"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_threshold_of_shares_rebuilds(
            sites in 2usize..=100,
            key in any::<[u8; 32]>(),
            rotate in 0usize..100,
        ) {
            let threshold = 2 * sites / 3 + 1;
            let mut rng = SecretKey::from_bytes(key).generator("test", &[]);
            let seed = Seed::random(&mut rng);
            let shares = deal(&seed, threshold.min(sites), indices(sites), &mut rng);
            let mut held: Vec<_> = indices(sites).zip(&shares).collect();
            held.rotate_left(rotate % sites);
            held.truncate(threshold.min(sites));
            let points: Vec<Fe> = held.iter().map(|(site, _)| point(*site)).collect();
            let rebuilt = rebuild(&held, &weights(&points, Fe::ZERO));
            prop_assert!(bool::from(rebuilt.ct_eq(&seed)));
        }
    }

    #[test]
    fn fewer_shares_fit_every_secret() {
        // For t − 1 shares and any other secret there is a polynomial through both: they say nothing.
        let mut rng = SecretKey::from_bytes([3; 32]).generator("test", &[]);
        let (secret, other) = (Seed::random(&mut rng), Seed::random(&mut rng));
        let shares = deal(&secret, 4, indices(5), &mut rng);
        let seen: Vec<_> = indices(5).zip(&shares).take(3).collect();
        // The share of the fourth site that would make `other` the secret of what was seen.
        let mut points = vec![Fe::ZERO];
        points.extend(seen.iter().map(|(site, _)| point(*site)));
        let fourth = SiteIndex::new(3).expect("3 is below the limit");
        let weights_at_fourth = weights(&points, point(fourth));
        let mut values = vec![(fourth, &other)];
        values.extend(seen.iter().copied());
        let forged = rebuild(&values, &weights_at_fourth);
        let mut completed = seen.clone();
        completed.push((fourth, &forged));
        let points: Vec<Fe> = completed.iter().map(|(site, _)| point(*site)).collect();
        let rebuilt = rebuild(&completed, &weights(&points, Fe::ZERO));
        assert!(bool::from(rebuilt.ct_eq(&other)));
    }

    #[test]
    fn seeds_are_wiped_and_not_printed() {
        let mut rng = SecretKey::from_bytes([3; 32]).generator("test", &[]);
        let mut seed = Seed::random(&mut rng);
        assert_eq!(format!("{seed:?}"), "<redacted>");
        seed.zeroize();
        assert_eq!(seed.to_bytes(), [0; SEED_BYTES]);
    }
}
