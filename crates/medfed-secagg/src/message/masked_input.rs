//! Round 2: the input under its masks.

use super::MessageKind;
use crate::context::SessionContext;
use crate::digest::Digest;
use crate::error::Fault;
use crate::signed::Body;
use crate::wire::Reader;

const PURPOSE: &str = "masked input";

/// One 32-bit word for each value: a uniform vector to whoever misses a mask.
#[derive(Debug, PartialEq, Eq)]
pub struct MaskedInput {
    pub(crate) words: Vec<u32>,
}

impl MaskedInput {
    /// The hash that is signed, from those of the pieces.
    pub(crate) fn digest_of(&self, pieces: &[[u8; 32]]) -> Digest {
        Digest::of_pieces(PURPOSE, self.words.len(), pieces)
    }
}

impl Body for MaskedInput {
    const KIND: MessageKind = MessageKind::MaskedInput;

    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // With room for the signature that follows.
        out.reserve(4 * self.words.len() + 64);
        out.resize(start + 4 * self.words.len(), 0);
        let (slots, _) = out[start..].as_chunks_mut();
        for (slot, word) in slots.iter_mut().zip(&self.words) {
            *slot = word.to_le_bytes();
        }
    }

    fn read(reader: &mut Reader<'_>, context: &SessionContext) -> Result<Self, Fault> {
        let bytes = reader.bytes(4 * context.input_words())?;
        let (words, _) = bytes.as_chunks();
        Ok(Self { words: words.iter().map(|word| u32::from_le_bytes(*word)).collect() })
    }

    fn digest(&self) -> Digest {
        Digest::of_words(PURPOSE, &self.words)
    }
}
