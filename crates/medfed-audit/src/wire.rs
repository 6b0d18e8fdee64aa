//! Canonical bytes: little-endian numbers, counted text and lists. What decodes, encodes to the same bytes.

use crate::error::EntryProblem;
use crate::merkle::Digest;

/// Bytes of a text at the most; an entry has 65 535.
pub(crate) const MAX_TEXT: usize = 60_000;
/// Items of a list at the most.
pub(crate) const MAX_ITEMS: usize = 4_096;

/// Bytes in the making.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    pub(crate) fn short(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn int(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn long(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn real(&mut self, value: f64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn digest(&mut self, value: Digest) {
        self.raw(value.as_bytes());
    }

    pub(crate) fn text(&mut self, field: &'static str, text: &str) -> Result<(), EntryProblem> {
        self.count(field, text.len(), MAX_TEXT)?;
        self.raw(text.as_bytes());
        Ok(())
    }

    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T) -> Result<(), EntryProblem>,
    ) -> Result<(), EntryProblem> {
        self.count(field, items.len(), MAX_ITEMS)?;
        items.iter().try_for_each(|item| write(self, item))
    }

    pub(crate) fn option<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Self, &T) -> Result<(), EntryProblem>,
    ) -> Result<(), EntryProblem> {
        self.flag(value.is_some());
        value.map_or(Ok(()), |value| write(self, value))
    }

    fn count(&mut self, field: &'static str, found: usize, limit: usize) -> Result<(), EntryProblem> {
        match u16::try_from(found) {
            Ok(count) if found <= limit => {
                self.short(count);
                Ok(())
            }
            _ => Err(EntryProblem::Long { field, found, limit }),
        }
    }
}

/// Bytes that are being read. Nothing is allocated that the bytes do not hold.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), EntryProblem> {
        if self.0.is_empty() { Ok(()) } else { Err(EntryProblem::Trailing { bytes: self.0.len() }) }
    }

    pub(crate) fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], EntryProblem> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(EntryProblem::Short { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, EntryProblem> {
        self.take::<1>(field).map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, EntryProblem> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EntryProblem::Range { field }),
        }
    }

    pub(crate) fn short(&mut self, field: &'static str) -> Result<u16, EntryProblem> {
        self.take(field).map(u16::from_le_bytes)
    }

    pub(crate) fn int(&mut self, field: &'static str) -> Result<u32, EntryProblem> {
        self.take(field).map(u32::from_le_bytes)
    }

    pub(crate) fn long(&mut self, field: &'static str) -> Result<u64, EntryProblem> {
        self.take(field).map(u64::from_le_bytes)
    }

    /// A number of a checked type.
    pub(crate) fn real<T: TryFrom<f64>>(&mut self, field: &'static str) -> Result<T, EntryProblem> {
        let value = self.take(field).map(f64::from_le_bytes)?;
        T::try_from(value).map_err(|_| EntryProblem::Range { field })
    }

    pub(crate) fn digest(&mut self, field: &'static str) -> Result<Digest, EntryProblem> {
        self.take(field).map(Digest::new)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, EntryProblem> {
        let length = usize::from(self.short(field)?);
        if length > MAX_TEXT {
            return Err(EntryProblem::Long { field, found: length, limit: MAX_TEXT });
        }
        let (text, rest) = self.0.split_at_checked(length).ok_or(EntryProblem::Short { field })?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| EntryProblem::Text { field })
    }

    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, EntryProblem>,
    ) -> Result<Vec<T>, EntryProblem> {
        let count = usize::from(self.short(field)?);
        if count > MAX_ITEMS {
            return Err(EntryProblem::Long { field, found: count, limit: MAX_ITEMS });
        }
        // Grown item by item: a count of items that are not there allocates nothing.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, EntryProblem>,
    ) -> Result<Option<T>, EntryProblem> {
        if self.flag(field)? { read(self).map(Some) } else { Ok(None) }
    }
}
