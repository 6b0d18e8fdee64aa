//! SHA-256 under a domain of its own for each purpose.

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// Bytes hashed in one piece by [`Digest::of_words`].
const PIECE: usize = 1 << 16;

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

    /// The hash of a long vector: of the hashes of its pieces, which are made in parallel.
    pub(crate) fn of_words(purpose: &str, words: &[u32]) -> Self {
        let pieces: Vec<[u8; 32]> = words
            .par_chunks(PIECE / 4)
            .map(|piece| {
                let mut hash = Sha256::new();
                let mut bytes = [0; 4096];
                for words in piece.chunks(bytes.len() / 4) {
                    for (out, word) in bytes.chunks_exact_mut(4).zip(words) {
                        out.copy_from_slice(&word.to_le_bytes());
                    }
                    hash.update(&bytes[..4 * words.len()]);
                }
                hash.finalize().into()
            })
            .collect();
        Self::of(purpose, &[&(words.len() as u64).to_le_bytes(), pieces.as_flattened()])
    }
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
