//! Round 1: seeds are shared.

use medfed_types::SecretRng;
use zeroize::{Zeroize, Zeroizing};

use super::{AwaitingDealings, Held, Me};
use crate::agreement::{AgreementSecret, SharedSecret};
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::keyring::Keyring;
use crate::message::{Committed, Dealing, Keys, MessageKind, SEALED_BYTES, Sealed, share_commitment};
use crate::roster::SiteIndex;
use crate::shamir::{SEED_BYTES, Seed, deal};
use crate::signed::{Broadcast, Signed};

/// The site has sent its keys and waits for everyone's.
#[derive(Debug)]
pub struct AwaitingKeys {
    pub(super) me: Me,
    pub(super) encryption: AgreementSecret,
    pub(super) mask_seed: Seed,
    pub(super) mask: AgreementSecret,
    pub(super) own: Signed<Keys>,
}

impl AwaitingKeys {
    /// Takes everyone's keys; shares the seeds of the self-mask and of the mask key among their owners.
    ///
    /// Refused are keys that are not signed by enrolled sites of the cohort under these very terms, keys
    /// of low order or used by two sites, keys of this site that are not its own, and fewer sites than
    /// the threshold or `min_clients`.
    pub fn deal(
        self,
        keys: &Broadcast<Keys>,
        rng: &mut SecretRng,
    ) -> Result<(AwaitingDealings, Signed<Dealing>), SecaggError> {
        let Self { me, encryption, mask_seed, mask, own } = self;
        let ring = Keyring::new(&me.context, keys)?;
        if !keys.messages().contains(&own) {
            return Err(SecaggError::OwnMessage { message: MessageKind::Keys });
        }
        let transcript = ring.transcript();
        let self_seed = Seed::random(rng);
        let threshold = me.context.terms().threshold;
        let self_shares = deal(&self_seed, threshold, ring.owners().iter(), rng);
        let key_shares = deal(&mask_seed, threshold, ring.owners().iter(), rng);
        drop(mask_seed);

        let mut committed = Vec::with_capacity(self_shares.len());
        let mut sealed = Vec::with_capacity(self_shares.len());
        let mut kept = None;
        let shares = self_shares.into_iter().zip(key_shares);
        for ((holder, keys), (self_mask, mask_key)) in ring.iter().zip(shares) {
            committed.push(commit(transcript, me.index, holder, &self_mask, &mask_key));
            if holder == me.index {
                kept = Some(Held { self_mask, mask_key });
                continue;
            }
            let shared = encryption.agree(&keys.encryption);
            let shared =
                shared.ok_or_else(|| SecaggError::LowOrderPoint { site: me.context.name(holder) })?;
            sealed.push(seal(&shared, transcript, [me.index, holder], &self_mask, &mask_key));
        }
        let kept = kept.ok_or(SecaggError::OwnMessage { message: MessageKind::Keys })?;
        let seed = seed_commitment(transcript, me.index, &self_seed);
        let dealing = Dealing { holders: ring.owners(), seed, committed, sealed };
        let own = Signed::new(&me.context, transcript, &me.identity, me.index, dealing);
        Ok((AwaitingDealings { me, ring, encryption, mask, self_seed, kept, own: own.clone() }, own))
    }
}

/// The commitment to the seed of a self-mask.
pub(crate) fn seed_commitment(transcript: Digest, owner: SiteIndex, seed: &Seed) -> Digest {
    let bytes = Zeroizing::new(seed.to_bytes());
    Digest::of("self-mask seed", &[transcript.as_bytes(), &[owner.byte()], bytes.as_slice()])
}

/// Commitments to the two shares of a holder.
pub(super) fn commit(
    transcript: Digest,
    dealer: SiteIndex,
    holder: SiteIndex,
    self_mask: &Seed,
    mask_key: &Seed,
) -> Committed {
    Committed {
        self_mask: share_commitment(transcript, "self-mask", dealer, holder, self_mask),
        mask_key: share_commitment(transcript, "mask key", dealer, holder, mask_key),
    }
}

fn seal(
    shared: &SharedSecret,
    transcript: Digest,
    pair: [SiteIndex; 2],
    self_mask: &Seed,
    mask_key: &Seed,
) -> Sealed {
    let mut sealed = [0; SEALED_BYTES];
    let (message, tag) = sealed.split_at_mut(2 * SEED_BYTES);
    for (out, share) in message.chunks_exact_mut(SEED_BYTES).zip([self_mask, mask_key]) {
        let mut bytes = share.to_bytes();
        out.copy_from_slice(&bytes);
        bytes.zeroize();
    }
    tag.copy_from_slice(&shared.key(transcript, "share", pair).seal(message));
    sealed
}
