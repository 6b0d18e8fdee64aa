//! Key agreement and sealing: X25519 (RFC 7748), HKDF-SHA-256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439).
//!
//! Every key is derived under the transcript of the keys round, so a key agreed in one session is of no
//! use in another, and for one purpose and one ordered pair of sites, so a nonce of zero is used once.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::digest::Digest;
use crate::roster::SiteIndex;
use crate::shamir::Seed;

/// Bytes that sealing adds.
pub(crate) const TAG_BYTES: usize = 16;

/// An X25519 secret. Wiped on drop, never printed.
pub(crate) struct AgreementSecret(StaticSecret);

impl AgreementSecret {
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(StaticSecret::from(*bytes))
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// The mask secret of a seed: what is shared is the seed, so whoever rebuilds it has the secret.
    pub(crate) fn of_seed(seed: &Seed, context: Digest) -> Self {
        let bytes = Zeroizing::new(seed.to_bytes());
        Self(StaticSecret::from(*expand(bytes.as_slice(), context, "mask secret", &[])))
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The secret shared with the owner of `other`; nothing for a point of low order.
    pub(crate) fn agree(&self, other: &[u8; 32]) -> Option<SharedSecret> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*other));
        shared.was_contributory().then_some(SharedSecret(shared))
    }
}

impl std::fmt::Debug for AgreementSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Whether a public key has low order: agreement with it gives a secret that everyone knows.
pub(crate) fn has_low_order(public: &[u8; 32]) -> bool {
    // Every secret is a multiple of the cofactor, so one shows for all.
    AgreementSecret(StaticSecret::from([0x55; 32])).agree(public).is_none()
}

/// What two sites agreed on. Wiped on drop.
pub(crate) struct SharedSecret(x25519_dalek::SharedSecret);

impl SharedSecret {
    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub(crate) fn key(&self, transcript: Digest, purpose: &str, sites: [SiteIndex; 2]) -> DerivedKey {
        derive(self.0.as_bytes(), transcript, purpose, &sites)
    }
}

/// A 256-bit key for one purpose. Wiped on drop, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct DerivedKey([u8; 32]);

impl DerivedKey {
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts in place and gives the tag. A key seals one message.
    pub(crate) fn seal(self, message: &mut [u8]) -> [u8; TAG_BYTES] {
        let cipher = ChaCha20Poly1305::new((&self.0).into());
        let tag = cipher.encrypt_inout_detached(&Nonce::default(), &[], message.into());
        tag.expect("a message is far below the limit of 256 GiB").into()
    }

    /// Decrypts in place if the tag fits.
    pub(crate) fn open(&self, message: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
        let cipher = ChaCha20Poly1305::new((&self.0).into());
        cipher.decrypt_inout_detached(&Nonce::default(), &[], message.into(), &Tag::from(*tag)).is_ok()
    }
}

impl std::fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A key of its own from a secret.
pub(crate) fn derive(secret: &[u8], transcript: Digest, purpose: &str, sites: &[SiteIndex]) -> DerivedKey {
    DerivedKey(*expand(secret, transcript, purpose, sites))
}

fn expand(secret: &[u8], salt: Digest, purpose: &str, sites: &[SiteIndex]) -> Zeroizing<[u8; 32]> {
    let mut info = Vec::with_capacity(64);
    info.extend_from_slice(b"medfed secure aggregation v1\0");
    info.extend_from_slice(purpose.as_bytes());
    info.push(0);
    info.extend(sites.iter().map(|site| site.byte()));
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret)
        .expand(&info, key.as_mut_slice())
        .expect("32 bytes are within HKDF-SHA-256's limit of 8160");
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::SecretKey;

    fn index(i: usize) -> SiteIndex {
        SiteIndex::new(i).unwrap()
    }

    #[test]
    fn both_ends_agree_and_keys_differ_by_purpose() {
        let mut rng = SecretKey::from_bytes([5; 32]).generator("test", &[]);
        let (a, b) = (AgreementSecret::random(&mut rng), AgreementSecret::random(&mut rng));
        let transcript = Digest::of("t", &[]);
        let ours = a.agree(&b.public()).unwrap();
        let theirs = b.agree(&a.public()).unwrap();
        let key = |secret: &SharedSecret, purpose, sites| *secret.key(transcript, purpose, sites).expose();
        let pair = [index(0), index(1)];
        assert_eq!(key(&ours, "x", pair), key(&theirs, "x", pair));
        assert_ne!(key(&ours, "x", pair), key(&ours, "y", pair));
        assert_ne!(key(&ours, "x", pair), key(&ours, "x", [index(1), index(0)]));
    }

    #[test]
    fn low_order_points_are_seen() {
        // The points of order 1, 2 and 4, of order 8, and non-canonical encodings of the first two.
        let order_eight = [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
            0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ];
        let number = |low: u8, rest: u8, high: u8| {
            let mut bytes = [rest; 32];
            (bytes[0], bytes[31]) = (low, high);
            bytes
        };
        let points = [
            number(0, 0, 0),
            number(1, 0, 0),
            number(0xec, 0xff, 0x7f),
            number(0xed, 0xff, 0x7f),
            number(0xee, 0xff, 0x7f),
            order_eight,
        ];
        for point in points {
            assert!(has_low_order(&point), "{point:?}");
        }
        assert!(!has_low_order(&number(9, 0, 0)));
    }

    #[test]
    fn what_was_altered_does_not_open() {
        let mut message = *b"a share";
        let tag = DerivedKey::from_bytes([1; 32]).seal(&mut message);
        assert_ne!(&message, b"a share");
        let key = DerivedKey::from_bytes([1; 32]);
        let mut altered = message;
        altered[3] ^= 1;
        assert!(!key.open(&mut altered, &tag));
        assert!(!DerivedKey::from_bytes([2; 32]).open(&mut message.clone(), &tag));
        assert!(key.open(&mut message, &tag));
        assert_eq!(&message, b"a share");
    }
}
