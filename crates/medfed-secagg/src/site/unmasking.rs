//! Round 4: the shares that unmask one sum.

use super::selection::SharedVectors;
use super::{Holdings, Me};
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::message::{Consent, MessageKind, Unmasking};
use crate::roster::Members;
use crate::signed::{Broadcast, Signed};

/// The site has signed a set of survivors and waits for enough others to have signed the same.
#[derive(Debug)]
pub struct AwaitingAgreement {
    pub(super) me: Me,
    pub(super) transcript: Digest,
    pub(super) dealers: Members,
    pub(super) holdings: Holdings,
    pub(super) summed: Members,
    /// In a selection, the shares of everyone's vector.
    pub(super) vectors: Option<SharedVectors>,
}

impl AwaitingAgreement {
    /// Takes the signatures of others; releases, for every dealer, the share of its self-mask if it
    /// survived *or* that of its mask key if it did not. Everything else that this site held is wiped.
    ///
    /// Refused are fewer signatures than the threshold, and any signature under another set of
    /// survivors. Nothing can be released twice:
    ///
    /// ```compile_fail,E0382
    /// use medfed_secagg::{Broadcast, message::Consent, site::AwaitingAgreement};
    ///
    /// fn both(state: AwaitingAgreement, one: &Broadcast<Consent>, other: &Broadcast<Consent>) {
    ///     let self_masks = state.unmask(one);
    ///     let mask_keys = state.unmask(other);
    /// }
    /// ```
    pub fn unmask(self, agreement: &Broadcast<Consent>) -> Result<Signed<Unmasking>, SecaggError> {
        let Self { me, transcript, dealers, holdings, summed, vectors } = self;
        let found = verify_agreement(&me.context, transcript, dealers, summed, agreement)?;
        let expected = me.context.terms().threshold;
        if found < expected {
            return Err(SecaggError::TooFew { message: MessageKind::Consent, expected, found });
        }
        let combination = vectors.map(|vectors| {
            let coin = agreement.transcript(transcript);
            vectors.combine(coin, summed)
        });
        let release = |(dealer, held): (_, super::Held)| {
            if summed.contains(dealer) { held.self_mask } else { held.mask_key }
        };
        let shares = holdings.into_iter().map(release).collect();
        let unmasking = Unmasking { summed, dealers, shares, combination };
        Ok(Signed::new(&me.context, transcript, &me.identity, me.index, unmasking))
    }
}

#[cfg(test)]
impl AwaitingAgreement {
    pub(crate) fn holdings_for_tests(
        &self,
    ) -> impl Iterator<Item = (crate::SiteIndex, &crate::shamir::Seed, &crate::shamir::Seed)> {
        self.holdings.iter().map(|(dealer, held)| (*dealer, &held.self_mask, &held.mask_key))
    }

    pub(crate) fn transcript_for_tests(&self) -> Digest {
        self.transcript
    }
}

/// How many sites signed this set of survivors; refuses anything else that was signed.
fn verify_agreement(
    context: &crate::SessionContext,
    transcript: Digest,
    dealers: Members,
    summed: Members,
    agreement: &Broadcast<Consent>,
) -> Result<usize, SecaggError> {
    let signers = agreement.verify(context, transcript, dealers)?;
    if let Some(other) = agreement.messages().iter().find(|it| it.body().summed != summed) {
        return Err(SecaggError::OtherSurvivors { site: context.name(other.sender()) });
    }
    Ok(signers.len())
}
