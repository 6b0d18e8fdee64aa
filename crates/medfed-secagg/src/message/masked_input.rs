//! Round 2: the input under its masks.

use super::MessageKind;
use crate::context::SessionContext;
use crate::digest::Digest;
use crate::error::Fault;
use crate::signed::Body;
use crate::wire::Reader;

/// One 32-bit word for each value: a uniform vector to whoever misses a mask.
#[derive(Debug, PartialEq, Eq)]
pub struct MaskedInput {
    pub(crate) words: Vec<u32>,
}

impl Body for MaskedInput {
    const KIND: MessageKind = MessageKind::MaskedInput;

    fn write(&self, out: &mut Vec<u8>) {
        out.reserve(4 * self.words.len() + 64);
        for word in &self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>, context: &SessionContext) -> Result<Self, Fault> {
        let bytes = reader.bytes(4 * context.input_words())?;
        let (words, _) = bytes.as_chunks();
        Ok(Self { words: words.iter().map(|word| u32::from_le_bytes(*word)).collect() })
    }

    fn digest(&self) -> Digest {
        Digest::of_words("masked input", &self.words)
    }
}
