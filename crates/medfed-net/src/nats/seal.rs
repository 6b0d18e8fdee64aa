//! Keys of a session, and what is sealed with them.

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hkdf::Hkdf;
use medfed_types::SecretKey;
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that a seal adds.
pub(super) const TAG: usize = 16;
/// What the keys are derived for.
const DOMAIN: &[u8] = b"medfed nats v1";

/// Names a session: a hash of what both sides said to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct SessionId(pub(super) [u8; 16]);

/// Which way something travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the coordinator.
    Up,
    /// To a site.
    Down,
}

/// What is sealed. Each has a key of its own, so that each counts for itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// What the stream carries.
    Message,
    /// What the object store carries.
    Object,
    /// Beats and farewells.
    Sign,
}

/// A key of one use. Wiped on drop.
pub(super) struct Ephemeral(StaticSecret);

impl Ephemeral {
    /// A new one.
    pub(super) fn generate() -> Result<Self, rand::rngs::SysError> {
        Ok(Self(StaticSecret::from(*SecretKey::generate()?.expose())))
    }

    /// Its public half.
    pub(super) fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }
}

/// The keys of a session. Wiped on drop, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Keys([[u8; 32]; 6]);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The hash of what was said to open a session.
pub(super) fn transcript(hello: &[u8], answer: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    for part in [hello, answer] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// What both sides have in common after the hello and its answer. Nothing when the other's key is one that
/// every secret agrees with.
pub(super) fn agree(own: &Ephemeral, other: [u8; 32], transcript: &[u8; 32]) -> Option<(SessionId, Keys)> {
    let shared = own.0.diffie_hellman(&PublicKey::from(other));
    if !shared.was_contributory() {
        return None;
    }
    let derived = Hkdf::<Sha256>::new(Some(transcript), shared.as_bytes());
    let mut keys = Keys([[0; 32]; 6]);
    for (place, key) in (0_u8..).zip(&mut keys.0) {
        derived.expand_multi_info(&[DOMAIN, &[place]], key).expect("32 bytes are one block of HKDF");
    }
    let mut id = [0; 16];
    derived.expand_multi_info(&[DOMAIN, b"session"], &mut id).expect("16 bytes are one block of HKDF");
    Some((SessionId(id), keys))
}

impl Keys {
    fn cipher(&self, way: Way, purpose: Purpose) -> ChaCha20Poly1305 {
        let place = match purpose {
            Purpose::Message => 0,
            Purpose::Object => 1,
            Purpose::Sign => 2,
        };
        let key = &self.0[place + if way == Way::Up { 0 } else { 3 }];
        ChaCha20Poly1305::new(key.into())
    }

    /// Seals; `number` counts up and is used once for a way and purpose.
    pub(super) fn seal(&self, way: Way, purpose: Purpose, number: u64, mut content: Vec<u8>) -> Vec<u8> {
        let cipher = self.cipher(way, purpose);
        let tag = cipher.encrypt_inout_detached(&nonce(number), &[], content.as_mut_slice().into());
        content.extend_from_slice(&tag.expect("a message is far below the limit of 256 GiB"));
        content
    }

    /// Opens what was sealed; nothing when it was not, or with another number.
    pub(super) fn open(
        &self,
        way: Way,
        purpose: Purpose,
        number: u64,
        mut sealed: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let content = sealed.len().checked_sub(TAG)?;
        let tag: [u8; TAG] = sealed[content..].try_into().ok()?;
        sealed.truncate(content);
        let cipher = self.cipher(way, purpose);
        let opened =
            cipher.decrypt_inout_detached(&nonce(number), &[], sealed.as_mut_slice().into(), &Tag::from(tag));
        opened.ok().map(|()| sealed)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> ((SessionId, Keys), (SessionId, Keys)) {
        let (a, b) = (Ephemeral::generate().unwrap(), Ephemeral::generate().unwrap());
        let said = transcript(b"hello", b"answer");
        (agree(&a, b.public(), &said).unwrap(), agree(&b, a.public(), &said).unwrap())
    }

    #[test]
    fn both_sides_have_the_same_keys_and_each_key_one_use() {
        let ((id, a), (same, b)) = pair();
        assert_eq!(id, same);
        let sealed = a.seal(Way::Up, Purpose::Message, 7, b"content".to_vec());
        assert_eq!(sealed.len(), 7 + TAG);
        let open = |way, purpose, number| b.open(way, purpose, number, sealed.clone());
        assert_eq!(open(Way::Up, Purpose::Message, 7).as_deref(), Some(&b"content"[..]));
        assert_eq!(open(Way::Up, Purpose::Message, 8), None);
        assert_eq!(open(Way::Down, Purpose::Message, 7), None);
        assert_eq!(open(Way::Up, Purpose::Object, 7), None);
        assert_eq!(open(Way::Up, Purpose::Sign, 7), None);
        assert_eq!(pair().0.1.open(Way::Up, Purpose::Message, 7, sealed.clone()), None);
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(b.open(Way::Up, Purpose::Message, 7, changed), None);
        }
        assert_eq!(b.open(Way::Up, Purpose::Message, 7, vec![0; TAG - 1]), None);
    }

    #[test]
    fn a_key_that_agrees_with_every_secret_is_refused() {
        let own = Ephemeral::generate().unwrap();
        assert!(agree(&own, [0; 32], &transcript(b"", b"")).is_none());
    }

    #[test]
    fn where_the_hello_ends_is_part_of_the_hash() {
        assert_ne!(transcript(b"ab", b"c"), transcript(b"a", b"bc"));
    }
}
