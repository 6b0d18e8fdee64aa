//! Canonical bytes: fixed order, little endian, no optional parts. Every length is known from the
//! session's terms before a byte is read, so no length field can make a reader allocate.

use crate::error::Fault;
use crate::field::Fe;

/// Takes values off the front of a message.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Fault> {
        self.array().map(u128::from_le_bytes)
    }

    /// A field element, refused when it is not below the modulus.
    pub(crate) fn element(&mut self) -> Result<Fe, Fault> {
        Fe::from_canonical(self.array().map(u64::from_le_bytes)?).ok_or(Fault::Value)
    }

    /// `count` field elements; memory is taken after the bytes are known to be there.
    pub(crate) fn elements(&mut self, count: usize) -> Result<Vec<Fe>, Fault> {
        let bytes = self.bytes(count.checked_mul(8).ok_or(Fault::Truncated)?)?;
        let (words, _) = bytes.as_chunks();
        words.iter().map(|word| Fe::from_canonical(u64::from_le_bytes(*word)).ok_or(Fault::Value)).collect()
    }

    pub(crate) fn finish(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::TrailingBytes) }
    }
}

/// Appends field elements.
pub(crate) fn put_elements(out: &mut Vec<u8>, elements: &[Fe]) {
    out.reserve(8 * elements.len());
    for element in elements {
        out.extend_from_slice(&element.get().to_le_bytes());
    }
}
