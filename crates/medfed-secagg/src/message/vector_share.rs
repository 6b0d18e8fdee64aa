//! Selection: one holder's share of one site's vector, sealed.

use super::MessageKind;
use crate::agreement::TAG_BYTES;
use crate::context::SessionContext;
use crate::error::{Fault, SecaggError};
use crate::roster::{Members, SiteIndex};
use crate::selection::pairs;
use crate::wire::Reader;

/// Shares of every value, then shares of zero that re-randomise the products, under one seal.
///
/// It carries no signature: the seal's key is agreed between dealer and holder.
#[derive(Debug, PartialEq, Eq)]
pub struct VectorShare {
    pub(crate) dealer: SiteIndex,
    pub(crate) holder: SiteIndex,
    /// Everyone who dealt seeds: there is a share of zero for each pair of them.
    pub(crate) dealers: Members,
    pub(crate) sealed: Vec<u8>,
    pub(crate) tag: [u8; TAG_BYTES],
}

impl VectorShare {
    /// Who dealt it.
    pub fn dealer(&self) -> SiteIndex {
        self.dealer
    }

    /// Whom it is for.
    pub fn holder(&self) -> SiteIndex {
        self.holder
    }

    /// Field elements under the seal.
    pub(crate) fn elements(context: &SessionContext, dealers: Members) -> usize {
        context.input_words() + pairs(dealers.len())
    }

    /// The canonical bytes.
    pub fn encode(&self, context: &SessionContext) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.sealed.len() + 96);
        out.extend_from_slice(&[1, MessageKind::VectorShare as u8]);
        out.extend_from_slice(context.digest().as_bytes());
        out.extend_from_slice(&[self.dealer.byte(), self.holder.byte()]);
        out.extend_from_slice(&self.dealers.bits().to_le_bytes());
        out.extend_from_slice(&self.sealed);
        out.extend_from_slice(&self.tag);
        out
    }

    /// Reads canonical bytes; their number follows from the terms.
    pub fn decode(bytes: &[u8], context: &SessionContext) -> Result<Self, SecaggError> {
        let mut reader = Reader::new(bytes);
        let read = || -> Result<Self, Fault> {
            if reader.array()? != [1, MessageKind::VectorShare as u8] {
                return Err(Fault::Kind);
            }
            if !context.selects() || reader.array()? != *context.digest().as_bytes() {
                return Err(Fault::Value);
            }
            let mut place = || {
                let place = usize::from(reader.u8()?);
                SiteIndex::new(place).filter(|_| place < context.sites()).ok_or(Fault::Value)
            };
            let (dealer, holder) = (place()?, place()?);
            let dealers = Members::from_bits(reader.u128()?, context.sites())?;
            let sealed = reader.bytes(8 * Self::elements(context, dealers))?.to_vec();
            let tag = reader.array()?;
            reader.finish()?;
            Ok(Self { dealer, holder, dealers, sealed, tag })
        };
        read().map_err(|fault| SecaggError::Malformed { message: MessageKind::VectorShare, fault })
    }
}
