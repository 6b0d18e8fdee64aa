//! Round 4: rebuilds the masks of one sum and takes them away.

use std::collections::BTreeMap;

use subtle::ConstantTimeEq;

use super::{OpenedSum, Session, enough};
use crate::agreement::{AgreementSecret, DerivedKey};
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::field::Fe;
use crate::mask::{Sign, fold};
use crate::message::{Dealing, MessageKind, Unmasking, share_commitment};
use crate::roster::{Members, SiteIndex};
use crate::selection::{Gram, check_sum};
use crate::shamir::{Seed, point, rebuild, weights};
use crate::signed::Signed;
use crate::site::{pairwise, seed_commitment, self_mask_key};

/// Waits for the shares that unmask the sum.
#[derive(Debug)]
pub struct CollectingUnmaskings {
    session: Session,
    sum: Vec<u32>,
    summed: Members,
    /// In a selection: the inner products and the coin of the final check.
    selected: Option<(Gram, Digest)>,
    /// By holder.
    released: BTreeMap<SiteIndex, Unmasking>,
}

impl CollectingUnmaskings {
    pub(super) fn new(
        session: Session,
        sum: Vec<u32>,
        summed: Members,
        selected: Option<(Gram, Digest)>,
    ) -> Self {
        Self { session, sum, summed, selected, released: BTreeMap::new() }
    }

    /// Takes the shares of one site. Refused are shares that are not signed under this transcript, for
    /// another set of survivors, sent twice, or not those that their dealers committed to: the sender of
    /// these is named.
    pub fn receive(&mut self, message: Signed<Unmasking>) -> Result<(), SecaggError> {
        let Session { context, ring, dealings, transcript } = &self.session;
        let dealers = self.session.dealers();
        message.verify(context, *transcript, dealers)?;
        let holder = message.sender();
        let site = || context.name(holder);
        if self.released.contains_key(&holder) {
            return Err(SecaggError::Duplicate { message: MessageKind::Unmasking, site: site() });
        }
        let unmasking = message.into_body();
        if unmasking.summed != self.summed || unmasking.dealers != dealers {
            return Err(SecaggError::OtherSurvivors { site: site() });
        }
        for ((dealer, dealing), share) in dealings.iter().zip(&unmasking.shares) {
            if !self.is_committed(ring.transcript(), *dealer, dealing, holder, share) {
                return Err(SecaggError::ReleasedShare { site: site(), dealer: context.name(*dealer) });
            }
        }
        self.released.insert(holder, unmasking);
        Ok(())
    }

    fn is_committed(
        &self,
        transcript: Digest,
        dealer: SiteIndex,
        dealing: &Dealing,
        holder: SiteIndex,
        share: &Seed,
    ) -> bool {
        dealing.committed(holder).is_some_and(|committed| {
            let (kind, expected) = if self.summed.contains(dealer) {
                ("self-mask", &committed.self_mask)
            } else {
                ("mask key", &committed.mask_key)
            };
            share_commitment(transcript, kind, dealer, holder, share) == *expected
        })
    }

    /// Who has released shares.
    pub fn received(&self) -> Members {
        self.released.keys().copied().collect()
    }

    /// Ends the session: rebuilds the self-masks of the survivors and the pairwise masks of the dropped,
    /// and opens the sum.
    ///
    /// A dealer whose shares rebuild another secret than the one it committed to is named. In a
    /// selection, the sum must be that of the vectors whose inner products were opened.
    pub fn close(mut self) -> Result<OpenedSum, SecaggError> {
        let threshold = self.session.context.terms().threshold;
        enough(MessageKind::Unmasking, self.released.len(), threshold)?;
        let masks = self.rebuild_masks(threshold)?;
        fold(&mut self.sum, &masks);
        let Self { session, sum, summed, selected, released } = self;
        if let Some((gram, coin)) = selected {
            let share = |(holder, it): (&SiteIndex, &Unmasking)| it.combination.map(|share| (*holder, share));
            let shares: Vec<_> = released.iter().filter_map(share).collect();
            check_sum(&session.context, &gram, summed, coin, &shares, &sum)?;
        }
        OpenedSum::new(session.context, summed, sum)
    }

    /// The keys of all masks in the sum, with the signs that take them away.
    fn rebuild_masks(&self, threshold: usize) -> Result<Vec<(DerivedKey, Sign)>, SecaggError> {
        let Session { context, ring, dealings, .. } = &self.session;
        let transcript = ring.transcript();
        let holders: Vec<_> = self.released.iter().take(threshold).collect();
        let points: Vec<Fe> = holders.iter().map(|(holder, _)| point(**holder)).collect();
        let at_zero = weights(&points, Fe::ZERO);
        let mut masks = Vec::new();
        for (rank, (dealer, dealing)) in dealings.iter().enumerate() {
            let shares: Vec<_> = holders.iter().map(|(holder, it)| (**holder, &it.shares[rank])).collect();
            let seed = rebuild(&shares, &at_zero);
            let lied = || SecaggError::RebuiltSecret { dealer: context.name(*dealer) };
            if self.summed.contains(*dealer) {
                let found = seed_commitment(transcript, *dealer, &seed);
                if !bool::from(found.as_bytes().ct_eq(dealing.seed.as_bytes())) {
                    return Err(lied());
                }
                masks.push((self_mask_key(&seed, transcript, *dealer), Sign::Minus));
                continue;
            }
            let secret = AgreementSecret::of_seed(&seed, context.digest());
            let published = ring.get(*dealer).ok_or_else(lied)?;
            if !bool::from(secret.public().ct_eq(&published.mask)) {
                return Err(lied());
            }
            for survivor in self.summed.iter() {
                let keys = ring.get(survivor).ok_or_else(lied)?;
                let shared = secret.agree(&keys.mask);
                let shared =
                    shared.ok_or_else(|| SecaggError::LowOrderPoint { site: context.name(survivor) })?;
                let (key, sign) = pairwise(&shared, transcript, survivor, *dealer);
                masks.push((key, sign.flip()));
            }
        }
        Ok(masks)
    }
}

#[cfg(test)]
impl CollectingUnmaskings {
    /// What takes the pairwise masks of a dropped site off its own input.
    pub(crate) fn pairwise_masks_for_tests(&self, dropped: SiteIndex) -> Vec<(DerivedKey, Sign)> {
        let Session { context, ring, dealings, .. } = &self.session;
        let points: Vec<Fe> = self.released.keys().map(|holder| point(*holder)).collect();
        let rank = dealings.keys().position(|dealer| *dealer == dropped).unwrap();
        let shares: Vec<_> = self.released.iter().map(|(holder, it)| (*holder, &it.shares[rank])).collect();
        let seed = rebuild(&shares, &weights(&points, Fe::ZERO));
        let secret = AgreementSecret::of_seed(&seed, context.digest());
        assert_eq!(secret.public(), ring.get(dropped).unwrap().mask, "the key is rebuilt");
        let others = self.summed.iter().map(|other| {
            let shared = secret.agree(&ring.get(other).unwrap().mask).unwrap();
            let (key, sign) = pairwise(&shared, ring.transcript(), dropped, other);
            (key, sign.flip())
        });
        others.collect()
    }
}
