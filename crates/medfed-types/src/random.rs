//! Two kinds of generator that never mix.
//!
//! [`SecretRng`] draws noise, Poisson samples and keys; it comes only from a [`SecretKey`], which comes
//! from the operating system. [`SimulationRng`] draws initial weights, splits, dropout and synthetic
//! images; it comes only from a [`Seed`] that anyone may know. A function that needs secrecy takes
//! `&mut SecretRng`, so a seeded generator cannot reach it by accident.
//!
//! Streams are derived with HKDF-SHA-256 (RFC 5869) from the domain and its numbers, so work that is
//! repeated after a crash draws the same values, whatever ran before it.

use chacha20::{ChaCha8Rng, ChaCha20Rng};
use hkdf::Hkdf;
use rand::rand_core::{Infallible, SeedableRng, TryCryptoRng, TryRng};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 256 secret bits. Wiped on drop, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A fresh key from the operating system.
    pub fn generate() -> Result<Self, rand::rngs::SysError> {
        let mut bytes = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The key kept by the owner's own store.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the owner's own store only.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The generator of one purpose: `domain` names it, `numbers` count within it.
    pub fn generator(&self, domain: &str, numbers: &[u64]) -> SecretRng {
        let mut seed = derive(&self.0, domain, numbers);
        let rng = ChaCha20Rng::from_seed(seed);
        seed.zeroize();
        SecretRng(rng)
    }

    /// A key of its own for one purpose.
    #[must_use]
    pub fn subkey(&self, domain: &str, numbers: &[u64]) -> Self {
        Self(derive(&self.0, domain, numbers))
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Noise, Poisson samples and keys: ChaCha20 under a [`SecretKey`].
pub struct SecretRng(ChaCha20Rng);

impl std::fmt::Debug for SecretRng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A public number from which simulations are reproducible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Seed(pub u64);

impl Seed {
    /// The generator of one purpose: `domain` names it, `numbers` count within it.
    pub fn generator(self, domain: &str, numbers: &[u64]) -> SimulationRng {
        SimulationRng(ChaCha8Rng::from_seed(derive(&self.0.to_le_bytes(), domain, numbers)))
    }
}

/// Escapes from the promise that noise is secret. Whoever calls them says so in every output.
pub mod danger {
    use super::{SecretKey, Seed, derive};

    /// A "secret" key that anyone who knows the seed can compute: for reproducible simulations, in
    /// which one party holds every hospital's data anyway. Noise drawn from it protects nobody from a
    /// reader who knows the seed.
    pub fn reproducible_key(seed: Seed) -> SecretKey {
        SecretKey(derive(&seed.0.to_le_bytes(), "medfed reproducible noise", &[]))
    }
}

/// Values of a [`Seed`] stream: ChaCha8, fast and portable, not secret.
#[derive(Debug)]
pub struct SimulationRng(ChaCha8Rng);

macro_rules! delegate {
    ($name:ident) => {
        impl TryRng for $name {
            type Error = Infallible;
            fn try_next_u32(&mut self) -> Result<u32, Infallible> {
                self.0.try_next_u32()
            }
            fn try_next_u64(&mut self) -> Result<u64, Infallible> {
                self.0.try_next_u64()
            }
            fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
                self.0.try_fill_bytes(out)
            }
        }
    };
}
delegate!(SecretRng);
delegate!(SimulationRng);
impl TryCryptoRng for SecretRng {}

fn derive(key: &[u8], domain: &str, numbers: &[u64]) -> [u8; 32] {
    let mut info = Vec::with_capacity(domain.len() + 1 + 8 * numbers.len());
    info.extend_from_slice(domain.as_bytes());
    info.push(0);
    for number in numbers {
        info.extend_from_slice(&number.to_le_bytes());
    }
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(Some(b"medfed v1"), key)
        .expand(&info, &mut out)
        .expect("32 bytes are within HKDF-SHA-256's limit of 8160");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_by_domain_and_number_and_repeat() {
        let key = SecretKey::from_bytes([7; 32]);
        let first = |domain: &str, n: &[u64]| key.generator(domain, n).next_u64();
        assert_eq!(first("noise", &[1, 2]), first("noise", &[1, 2]));
        assert_ne!(first("noise", &[1, 2]), first("noise", &[2, 1]));
        assert_ne!(first("noise", &[1]), first("sample", &[1]));
        assert_ne!(Seed(1).generator("a", &[]).next_u64(), Seed(2).generator("a", &[]).next_u64());
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = SecretKey::from_bytes([0xab; 32]);
        assert_eq!(format!("{key:?} {:?}", key.generator("x", &[])), "<redacted> <redacted>");
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(SecretKey::generate().unwrap().expose(), SecretKey::generate().unwrap().expose());
    }
}
