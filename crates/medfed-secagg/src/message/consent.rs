//! Round 3: a site's signature under one set of survivors.

use super::MessageKind;
use crate::context::SessionContext;
use crate::error::Fault;
use crate::roster::Members;
use crate::signed::Body;
use crate::wire::Reader;

/// The set of survivors that a site was shown and holds itself to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    pub(crate) summed: Members,
}

impl Consent {
    /// Whose inputs are to be summed.
    pub fn summed(&self) -> Members {
        self.summed
    }
}

impl Body for Consent {
    const KIND: MessageKind = MessageKind::Consent;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.summed.bits().to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>, context: &SessionContext) -> Result<Self, Fault> {
        Ok(Self { summed: Members::from_bits(reader.u128()?, context.sites())? })
    }
}
