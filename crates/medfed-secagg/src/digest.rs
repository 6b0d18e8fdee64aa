//! SHA-256 under a domain of its own for each purpose; long vectors by BLAKE3 below it.

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::mask::PIECE;

/// Bytes that BLAKE3 takes at a time: as many of its blocks as the widest vector registers hold.
const STRIDE: usize = 1 << 14;

/// 256 bits of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// A digest computed elsewhere: of a model, of a configuration.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of parts, each with its length, under a purpose.
    pub(crate) fn of(purpose: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(b"medfed secure aggregation v1");
        add(purpose.as_bytes());
        for part in parts {
            add(part);
        }
        Self(hash.finalize().into())
    }

    /// The hash of a long vector: of the hashes of its pieces of [`PIECE`] words, which are made in
    /// parallel.
    pub(crate) fn of_words(purpose: &str, words: &[u32]) -> Self {
        let pieces: Vec<_> = words.par_chunks(PIECE).map(piece_hash).collect();
        Self::of_pieces(purpose, words.len(), &pieces)
    }

    /// The hash of a vector of so many words, from those of its pieces.
    pub(crate) fn of_pieces(purpose: &str, words: usize, pieces: &[[u8; 32]]) -> Self {
        Self::of(purpose, &[&(words as u64).to_le_bytes(), pieces.as_flattened()])
    }
}

/// The BLAKE3 hash of one piece of a vector.
pub(crate) fn piece_hash(piece: &[u32]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let mut bytes = [0; STRIDE];
    for words in piece.chunks(STRIDE / 4) {
        let (slots, _) = bytes.as_chunks_mut();
        for (slot, word) in slots.iter_mut().zip(words) {
            *slot = word.to_le_bytes();
        }
        hash.update(&bytes[..4 * words.len()]);
    }
    *hash.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_purposes_do_not_run_together() {
        let of = |purpose, parts: &[&[u8]]| Digest::of(purpose, parts);
        assert_ne!(of("a", &[b"bc"]), of("ab", &[b"c"]));
        assert_ne!(of("a", &[b"b", b"c"]), of("a", &[b"bc"]));
        assert_ne!(of("a", &[]), of("a", &[b""]));
    }

    #[test]
    fn pieces_are_hashed_as_their_bytes() {
        let words: Vec<u32> = (0..5000_u32).map(|i| i.wrapping_mul(0x0100_0193)).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(piece_hash(&words), *blake3::hash(&bytes).as_bytes());
    }

    #[test]
    fn long_vectors_are_hashed_to_the_last_word() {
        let mut words = vec![7; 40_000];
        let before = Digest::of_words("x", &words);
        words[39_999] = 8;
        assert_ne!(before, Digest::of_words("x", &words));
        words[39_999] = 7;
        assert_eq!(before, Digest::of_words("x", &words));
        words.push(0);
        assert_ne!(before, Digest::of_words("x", &words));
    }
}
