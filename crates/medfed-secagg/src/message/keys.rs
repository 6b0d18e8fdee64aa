//! Round 0: a site's fresh public keys.

use super::MessageKind;
use crate::context::SessionContext;
use crate::error::Fault;
use crate::signed::Body;
use crate::wire::Reader;

/// Two X25519 public keys, made for this session alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Shares for this site are sealed under it.
    pub(crate) encryption: [u8; 32],
    /// Pairwise masks are agreed with it.
    pub(crate) mask: [u8; 32],
}

impl Body for Keys {
    const KIND: MessageKind = MessageKind::Keys;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encryption);
        out.extend_from_slice(&self.mask);
    }

    fn read(reader: &mut Reader<'_>, _: &SessionContext) -> Result<Self, Fault> {
        Ok(Self { encryption: reader.array()?, mask: reader.array()? })
    }
}
