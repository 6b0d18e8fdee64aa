//! The fingerprint of a public key: what people compare by telephone.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// DER of an Ed25519 key up to the key itself (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SHA-256 of a public key's `SubjectPublicKeyInfo`, as `openssl pkey -pubin -outform DER | sha256sum` gives
/// it. It stays the same when a certificate is renewed with the same key. Shown as 32 pairs of hexadecimal
/// digits with colons; read with or without colons, in either case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// Not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits, with or without colons between pairs")]
pub struct FingerprintError;

impl Fingerprint {
    /// Of an Ed25519 public key.
    pub fn of_key(key: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(SPKI_PREFIX);
        hash.update(key);
        Self(hash.finalize().into())
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An Ed25519 key as `SubjectPublicKeyInfo`.
pub(crate) fn spki(key: &[u8; 32]) -> Vec<u8> {
    [&SPKI_PREFIX[..], key].concat()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits: Vec<char> = text.trim().chars().filter(|it| *it != ':').collect();
        if digits.len() != 64 {
            return Err(FingerprintError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (pair[0].to_digit(16), pair[1].to_digit(16));
            let (Some(high), Some(low)) = (high, low) else { return Err(FingerprintError) };
            *byte = (high * 16 + low) as u8;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;
    fn try_from(text: String) -> Result<Self, FingerprintError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_they_are_shown() {
        let shown = Fingerprint::of_key(&[7; 32]);
        assert_eq!(shown.to_string().parse(), Ok(shown));
        assert_eq!(shown.to_string().replace(':', "").to_lowercase().parse(), Ok(shown));
        assert_eq!(shown.to_string().len(), 95);
        for wrong in ["", "AB", &"g".repeat(64), &"ä".repeat(64), &"0".repeat(65)] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong}");
        }
    }
}
