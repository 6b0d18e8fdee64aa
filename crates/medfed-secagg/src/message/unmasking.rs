//! Round 4: one share for each dealer: of its self-mask if it survived, of its mask key if it did not.

use super::MessageKind;
use crate::context::SessionContext;
use crate::error::Fault;
use crate::field::Fe;
use crate::roster::Members;
use crate::shamir::Seed;
use crate::signed::Body;
use crate::wire::{Reader, put_elements};

/// The shares that a site releases, once.
#[derive(Debug)]
pub struct Unmasking {
    /// The survivors that the site signed.
    pub(crate) summed: Members,
    /// Everyone who dealt shares.
    pub(crate) dealers: Members,
    /// By ascending dealer.
    pub(crate) shares: Vec<Seed>,
    /// In a selection, the share of a random combination of the selected vectors.
    pub(crate) combination: Option<Fe>,
}

impl Body for Unmasking {
    const KIND: MessageKind = MessageKind::Unmasking;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.summed.bits().to_le_bytes());
        out.extend_from_slice(&self.dealers.bits().to_le_bytes());
        for share in &self.shares {
            out.extend_from_slice(&share.to_bytes());
        }
        put_elements(out, self.combination.as_slice());
    }

    fn read(reader: &mut Reader<'_>, context: &SessionContext) -> Result<Self, Fault> {
        let summed = Members::from_bits(reader.u128()?, context.sites())?;
        let dealers = Members::from_bits(reader.u128()?, context.sites())?;
        let shares = (0..dealers.len()).map(|_| Seed::read(reader)).collect::<Result<_, Fault>>()?;
        let combination = if context.selects() { Some(reader.element()?) } else { None };
        Ok(Self { summed, dealers, shares, combination })
    }
}
