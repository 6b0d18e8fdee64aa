//! Round 3: every site signs one set of survivors.

use super::{AwaitingAgreement, Holdings, Me};
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::message::{Consent, MessageKind, Proposal};
use crate::roster::Members;
use crate::signed::Signed;

/// The site has sent its masked input and waits for the set of survivors.
#[derive(Debug)]
pub struct AwaitingProposal {
    pub(super) me: Me,
    pub(super) transcript: Digest,
    pub(super) dealers: Members,
    pub(super) holdings: Holdings,
}

impl AwaitingProposal {
    /// Takes the coordinator's set of survivors and signs it: this one and, as the state is used up, no
    /// other.
    ///
    /// Refused are a set without this site, with sites that dealt no shares, or smaller than the
    /// threshold or `min_clients`.
    pub fn consent(self, proposal: Proposal) -> Result<(AwaitingAgreement, Signed<Consent>), SecaggError> {
        let Self { me, transcript, dealers, holdings } = self;
        let summed = proposal.summed;
        if !summed.contains(me.index) {
            return Err(SecaggError::DeclaredDropped);
        }
        if !summed.is_subset(dealers) {
            let sites = me.context.names(summed.without(dealers));
            return Err(SecaggError::UnknownSurvivors { sites });
        }
        let (found, expected) = (summed.len(), me.context.least_sites());
        if found < expected {
            return Err(SecaggError::TooFew { message: MessageKind::MaskedInput, expected, found });
        }
        let consent = Signed::new(&me.context, transcript, &me.identity, me.index, Consent { summed });
        let next = AwaitingAgreement { me, transcript, dealers, holdings, summed, vectors: None };
        Ok((next, consent))
    }
}
