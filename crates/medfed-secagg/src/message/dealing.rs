//! Round 1: the shares of a site's two seeds, sealed for their holders, with commitments that let anyone
//! tell later who lied.

use zeroize::Zeroizing;

use super::MessageKind;
use crate::agreement::TAG_BYTES;
use crate::context::SessionContext;
use crate::digest::Digest;
use crate::error::Fault;
use crate::roster::{Members, SiteIndex};
use crate::shamir::{SEED_BYTES, Seed};
use crate::signed::Body;
use crate::wire::Reader;

/// Bytes of two sealed shares.
pub(crate) const SEALED_BYTES: usize = 2 * SEED_BYTES + TAG_BYTES;

/// A share of the self-mask seed and one of the mask key's seed, sealed for one holder.
pub(crate) type Sealed = [u8; SEALED_BYTES];

/// Commitments to the two shares of one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    /// To the share of the self-mask seed.
    pub(crate) self_mask: Digest,
    /// To the share of the mask key's seed.
    pub(crate) mask_key: Digest,
}

/// Everything a site deals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealing {
    /// Everyone who sent keys.
    pub(crate) holders: Members,
    /// Commitment to the seed of the self-mask. The public mask key commits to the other seed.
    pub(crate) seed: Digest,
    /// By ascending holder, the dealer included.
    pub(crate) committed: Vec<Committed>,
    /// By ascending holder, the dealer left out.
    pub(crate) sealed: Vec<Sealed>,
}

/// The commitment to a share. A share has 305 random bits, so its hash hides it.
pub(crate) fn share_commitment(
    transcript: Digest,
    kind: &str,
    dealer: SiteIndex,
    holder: SiteIndex,
    share: &Seed,
) -> Digest {
    let bytes = Zeroizing::new(share.to_bytes());
    let pair = [dealer.byte(), holder.byte()];
    Digest::of("share", &[transcript.as_bytes(), kind.as_bytes(), &pair, bytes.as_slice()])
}

impl Dealing {
    /// What was committed to for one holder.
    pub(crate) fn committed(&self, holder: SiteIndex) -> Option<&Committed> {
        self.holders.iter().position(|it| it == holder).and_then(|at| self.committed.get(at))
    }

    /// What was sealed for one holder other than the dealer.
    pub(crate) fn sealed(&self, dealer: SiteIndex, holder: SiteIndex) -> Option<&Sealed> {
        let others = self.holders.iter().filter(|it| *it != dealer);
        others.zip(&self.sealed).find(|(it, _)| *it == holder).map(|(_, sealed)| sealed)
    }
}

impl Body for Dealing {
    const KIND: MessageKind = MessageKind::Dealing;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.holders.bits().to_le_bytes());
        out.extend_from_slice(self.seed.as_bytes());
        for Committed { self_mask, mask_key } in &self.committed {
            out.extend_from_slice(self_mask.as_bytes());
            out.extend_from_slice(mask_key.as_bytes());
        }
        for sealed in &self.sealed {
            out.extend_from_slice(sealed);
        }
    }

    fn read(reader: &mut Reader<'_>, context: &SessionContext) -> Result<Self, Fault> {
        let holders = Members::from_bits(reader.u128()?, context.sites())?;
        let others = holders.len().checked_sub(1).ok_or(Fault::Value)?;
        let seed = Digest::new(reader.array()?);
        let committed = |_| {
            let self_mask = Digest::new(reader.array()?);
            Ok(Committed { self_mask, mask_key: Digest::new(reader.array()?) })
        };
        let committed = (0..holders.len()).map(committed).collect::<Result<_, Fault>>()?;
        let sealed = (0..others).map(|_| reader.array()).collect::<Result<_, Fault>>()?;
        Ok(Self { holders, seed, committed, sealed })
    }
}
