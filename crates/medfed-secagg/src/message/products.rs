//! Selection: a site's shares of all inner products.

use super::MessageKind;
use crate::context::SessionContext;
use crate::error::Fault;
use crate::field::Fe;
use crate::roster::Members;
use crate::signed::Body;
use crate::wire::{Reader, put_elements};

/// One share for each pair of vectors, re-randomised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Products {
    /// Whose vectors.
    pub(crate) vectors: Members,
    /// For the pairs (u, v) with u ≤ v, row by row.
    pub(crate) shares: Vec<Fe>,
}

impl Body for Products {
    const KIND: MessageKind = MessageKind::Products;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.vectors.bits().to_le_bytes());
        put_elements(out, &self.shares);
    }

    fn read(reader: &mut Reader<'_>, context: &SessionContext) -> Result<Self, Fault> {
        let vectors = Members::from_bits(reader.u128()?, context.sites())?;
        let shares = reader.elements(vectors.len() * (vectors.len() + 1) / 2)?;
        Ok(Self { vectors, shares })
    }
}
