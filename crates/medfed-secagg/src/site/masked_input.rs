//! Round 2: the input leaves under its masks.

use zeroize::Zeroizing;

use super::dealing::commit;
use super::{AwaitingProposal, Held, Holdings, Me, Participation};
use crate::agreement::{AgreementSecret, DerivedKey, SharedSecret, derive};
use crate::context::SessionContext;
use crate::digest::{Digest, piece_hash};
use crate::error::SecaggError;
use crate::input::{Checked, Input};
use crate::keyring::Keyring;
use crate::mask::{Masks, Sign, fold};
use crate::message::{Dealing, MaskedInput, MessageKind};
use crate::roster::{Members, SiteIndex};
use crate::shamir::{SEED_BYTES, Seed};
use crate::signed::{Broadcast, Signed};
use crate::wire::Reader;

/// The site has dealt its seeds and waits for the shares of others.
#[derive(Debug)]
pub struct AwaitingDealings {
    pub(super) me: Me,
    pub(super) ring: Keyring,
    pub(super) encryption: AgreementSecret,
    pub(super) mask: AgreementSecret,
    pub(super) self_seed: Seed,
    pub(super) kept: Held,
    pub(super) own: Signed<Dealing>,
}

/// What the dealings left behind, and the keys of all masks.
pub(super) struct Dealt {
    pub(super) me: Me,
    pub(super) transcript: Digest,
    pub(super) dealers: Members,
    pub(super) holdings: Holdings,
    pub(super) masks: Vec<(DerivedKey, Sign)>,
    /// With every other dealer.
    pub(super) shared: Vec<(SiteIndex, SharedSecret)>,
    pub(super) keys_transcript: Digest,
}

impl AwaitingDealings {
    /// Takes everyone's dealings and masks the input with the self-mask and one mask for every other
    /// dealer.
    ///
    /// Refused are dealings that are not signed under this transcript, that leave out a holder, or whose
    /// share for this site does not open or is not the one committed to; a dealing of this site that is
    /// not its own; fewer dealers than the threshold or `min_clients`; an input that does not fit the
    /// terms; and another input for a round than has left already. `participation` must be durable
    /// before the message is sent.
    pub fn mask(
        self,
        dealings: &Broadcast<Dealing>,
        input: Input<'_>,
        participation: &mut Participation,
    ) -> Result<(AwaitingProposal, Signed<MaskedInput>), SecaggError> {
        if self.me.context.selects() {
            let (expected, found) = ("selected updates", "updates that are not shared");
            return Err(SecaggError::OtherContribution { expected, found });
        }
        let context = self.me.context.clone();
        let input = input.check(&context)?;
        let dealt = self.receive(dealings)?;
        let message = dealt.masked(&input)?;
        participation.claim(&context, &message)?;
        let Dealt { me, transcript, dealers, holdings, .. } = dealt;
        Ok((AwaitingProposal { me, transcript, dealers, holdings }, message))
    }

    /// Checks all dealings, opens the shares for this site and derives the keys of its masks.
    pub(super) fn receive(self, dealings: &Broadcast<Dealing>) -> Result<Dealt, SecaggError> {
        let Self { me, ring, encryption, mask, self_seed, kept, own } = self;
        let keys_transcript = ring.transcript();
        let mut dealers = Members::default();
        let mut holdings = Holdings::new();
        let mut masks = vec![(self_mask_key(&self_seed, keys_transcript, me.index), Sign::Plus)];
        let mut shared = Vec::new();
        let mut kept = Some(kept);
        for message in dealings.messages() {
            admit(&me.context, message, &ring, dealers)?;
            let dealer = message.sender();
            dealers.insert(dealer);
            if dealer == me.index {
                if *message != own {
                    return Err(SecaggError::OwnMessage { message: MessageKind::Dealing });
                }
                holdings.extend(kept.take().map(|held| (dealer, held)));
                continue;
            }
            let low_order = || SecaggError::LowOrderPoint { site: me.context.name(dealer) };
            let keys = ring.get(dealer).ok_or_else(|| SecaggError::Uninvited {
                message: MessageKind::Dealing,
                site: me.context.name(dealer),
            })?;
            let secret = encryption.agree(&keys.encryption).ok_or_else(low_order)?;
            let held = open(message.body(), &secret, keys_transcript, dealer, me.index);
            let held = held.ok_or_else(|| SecaggError::DealtShare { dealer: me.context.name(dealer) })?;
            holdings.insert(dealer, held);
            shared.push((dealer, secret));
            let pair = mask.agree(&keys.mask).ok_or_else(low_order)?;
            masks.push(pairwise(&pair, keys_transcript, me.index, dealer));
        }
        if !dealers.contains(me.index) {
            return Err(SecaggError::OwnMessage { message: MessageKind::Dealing });
        }
        let (found, expected) = (dealers.len(), me.context.least_sites());
        if found < expected {
            return Err(SecaggError::TooFew { message: MessageKind::Dealing, expected, found });
        }
        let transcript = dealings.transcript(keys_transcript);
        Ok(Dealt { me, transcript, dealers, holdings, masks, shared, keys_transcript })
    }
}

impl Dealt {
    /// Masks an input and signs it, in one pass over memory: each piece becomes integers, takes its masks and
    /// is hashed while it is in the cache.
    fn masked(&self, input: &Checked<'_>) -> Result<Signed<MaskedInput>, SecaggError> {
        let masks = Masks::new(&self.masks);
        let mut words = vec![0; input.len()];
        let pieces = input.work(&mut words, |piece, words| {
            masks.fold(piece, words);
            piece_hash(words)
        })?;
        let body = MaskedInput { words };
        let digest = body.digest_of(&pieces);
        let Me { context, identity, index } = &self.me;
        Ok(Signed::with_digest(context, self.transcript, identity, *index, body, digest))
    }

    /// Masks words in place and signs them.
    pub(super) fn masked_input(&self, mut words: Vec<u32>) -> Signed<MaskedInput> {
        fold(&mut words, &self.masks);
        let Me { context, identity, index } = &self.me;
        Signed::new(context, self.transcript, identity, *index, MaskedInput { words })
    }
}

/// Checks one dealing against the keys round and those that are there already.
pub(crate) fn admit(
    context: &SessionContext,
    message: &Signed<Dealing>,
    ring: &Keyring,
    others: Members,
) -> Result<(), SecaggError> {
    message.verify(context, ring.transcript(), ring.owners())?;
    let site = || context.name(message.sender());
    if others.contains(message.sender()) {
        return Err(SecaggError::Duplicate { message: MessageKind::Dealing, site: site() });
    }
    // The reader has matched the numbers of commitments and shares with the holders.
    if message.body().holders == ring.owners() {
        return Ok(());
    }
    Err(SecaggError::DealtShare { dealer: site() })
}

fn open(
    dealing: &Dealing,
    shared: &SharedSecret,
    transcript: Digest,
    dealer: SiteIndex,
    holder: SiteIndex,
) -> Option<Held> {
    let mut message = Zeroizing::new(*dealing.sealed(dealer, holder)?);
    let (shares, tag) = message.split_at_mut(2 * SEED_BYTES);
    let tag = (&*tag).try_into().ok()?;
    if !shared.key(transcript, "share", [dealer, holder]).open(shares, tag) {
        return None;
    }
    let mut reader = Reader::new(shares);
    let held = Held { self_mask: Seed::read(&mut reader).ok()?, mask_key: Seed::read(&mut reader).ok()? };
    let found = commit(transcript, dealer, holder, &held.self_mask, &held.mask_key);
    (dealing.committed(holder) == Some(&found)).then_some(held)
}

/// The key of a self-mask.
pub(crate) fn self_mask_key(seed: &Seed, transcript: Digest, owner: SiteIndex) -> DerivedKey {
    let bytes = Zeroizing::new(seed.to_bytes());
    derive(bytes.as_slice(), transcript, "self-mask", &[owner])
}

/// The key of a pairwise mask, and the sign with which `me` adds it.
pub(crate) fn pairwise(
    shared: &SharedSecret,
    transcript: Digest,
    me: SiteIndex,
    other: SiteIndex,
) -> (DerivedKey, Sign) {
    let sign = if me < other { Sign::Plus } else { Sign::Minus };
    (shared.key(transcript, "pairwise mask", [me.min(other), me.max(other)]), sign)
}
