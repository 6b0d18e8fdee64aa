//! The coordinator's proposal: whose inputs are summed.

use super::MessageKind;
use crate::context::SessionContext;
use crate::error::{Fault, SecaggError};
use crate::roster::Members;
use crate::wire::Reader;

/// A set of survivors, U₃. It carries no signature: the sites sign what they were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    pub(crate) summed: Members,
}

impl Proposal {
    /// Whose inputs are to be summed.
    pub fn summed(&self) -> Members {
        self.summed
    }

    /// The canonical bytes.
    pub fn encode(&self, context: &SessionContext) -> Vec<u8> {
        let mut out = vec![1, MessageKind::Proposal as u8];
        out.extend_from_slice(context.digest().as_bytes());
        out.extend_from_slice(&self.summed.bits().to_le_bytes());
        out
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8], context: &SessionContext) -> Result<Self, SecaggError> {
        let mut reader = Reader::new(bytes);
        let read = || -> Result<Self, Fault> {
            if reader.array()? != [1, MessageKind::Proposal as u8] {
                return Err(Fault::Kind);
            }
            if reader.array()? != *context.digest().as_bytes() {
                return Err(Fault::Value);
            }
            let summed = Members::from_bits(reader.u128()?, context.sites())?;
            reader.finish()?;
            Ok(Self { summed })
        };
        read().map_err(|fault| SecaggError::Malformed { message: MessageKind::Proposal, fault })
    }
}
