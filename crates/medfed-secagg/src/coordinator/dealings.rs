//! Round 1: collects sealed shares and commitments.

use std::collections::BTreeMap;

use super::{CollectingInputs, CollectingVectors, Session, enough};
use crate::context::SessionContext;
use crate::error::SecaggError;
use crate::keyring::Keyring;
use crate::message::{Dealing, MessageKind};
use crate::roster::{Members, SiteIndex};
use crate::signed::{Broadcast, Signed};
use crate::site::admit_dealing;

/// Waits for the sites' dealings.
#[derive(Debug)]
pub struct CollectingDealings {
    context: SessionContext,
    ring: Keyring,
    messages: BTreeMap<SiteIndex, Signed<Dealing>>,
}

impl CollectingDealings {
    pub(super) fn new(context: SessionContext, ring: Keyring) -> Self {
        Self { context, ring, messages: BTreeMap::new() }
    }

    /// Takes the dealing of one site. Refused are one that is not signed under this transcript by a site
    /// that sent keys, one that leaves out a holder, and a second one.
    pub fn receive(&mut self, message: Signed<Dealing>) -> Result<(), SecaggError> {
        admit_dealing(&self.context, &message, &self.ring, self.received())?;
        self.messages.insert(message.sender(), message);
        Ok(())
    }

    /// Who has dealt.
    pub fn received(&self) -> Members {
        self.messages.keys().copied().collect()
    }

    /// Ends the round of a session that opens one sum: everyone's dealings, for every site that dealt.
    pub fn close(self) -> Result<(CollectingInputs, Broadcast<Dealing>), SecaggError> {
        if self.context.selects() {
            let (expected, found) = ("selected updates", "updates that are not shared");
            return Err(SecaggError::OtherContribution { expected, found });
        }
        let (session, broadcast) = self.finish()?;
        Ok((CollectingInputs::new(session), broadcast))
    }

    /// Ends the round of a session that selects before it opens a sum.
    pub fn close_for_selection(self) -> Result<(CollectingVectors, Broadcast<Dealing>), SecaggError> {
        if !self.context.selects() {
            let (expected, found) = ("updates that are not selected", "selected updates");
            return Err(SecaggError::OtherContribution { expected, found });
        }
        let (session, broadcast) = self.finish()?;
        Ok((CollectingVectors::new(session), broadcast))
    }

    fn finish(self) -> Result<(Session, Broadcast<Dealing>), SecaggError> {
        let Self { context, ring, messages } = self;
        enough(MessageKind::Dealing, messages.len(), context.least_sites())?;
        let dealings = messages.iter().map(|(dealer, it)| (*dealer, it.body().clone())).collect();
        let broadcast = Broadcast::new(messages.into_values());
        let transcript = broadcast.transcript(ring.transcript());
        Ok((Session { context, ring, dealings, transcript }, broadcast))
    }
}
