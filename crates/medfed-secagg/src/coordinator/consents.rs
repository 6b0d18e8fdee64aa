//! Round 3: collects signatures under one set of survivors.

use std::collections::BTreeMap;

use super::{CollectingUnmaskings, Session, enough};
use crate::error::SecaggError;
use crate::message::{Consent, MessageKind};
use crate::roster::{Members, SiteIndex};
use crate::selection::Gram;
use crate::signed::{Broadcast, Signed};

/// Waits for the sites' consents.
#[derive(Debug)]
pub struct CollectingConsents {
    session: Session,
    sum: Vec<u32>,
    summed: Members,
    /// In a selection.
    gram: Option<Gram>,
    messages: BTreeMap<SiteIndex, Signed<Consent>>,
}

impl CollectingConsents {
    pub(super) fn new(session: Session, sum: Vec<u32>, summed: Members, gram: Option<Gram>) -> Self {
        Self { session, sum, summed, gram, messages: BTreeMap::new() }
    }

    /// Takes the consent of one site. Refused are one that is not signed under this transcript, one to
    /// another set of survivors, and a second one.
    pub fn receive(&mut self, message: Signed<Consent>) -> Result<(), SecaggError> {
        let context = &self.session.context;
        message.verify(context, self.session.transcript, self.session.dealers())?;
        let site = || context.name(message.sender());
        if self.messages.contains_key(&message.sender()) {
            return Err(SecaggError::Duplicate { message: MessageKind::Consent, site: site() });
        }
        if message.body().summed != self.summed {
            return Err(SecaggError::OtherSurvivors { site: site() });
        }
        self.messages.insert(message.sender(), message);
        Ok(())
    }

    /// Who has consented.
    pub fn received(&self) -> Members {
        self.messages.keys().copied().collect()
    }

    /// Ends the round, with at least as many signatures as the threshold.
    pub fn close(self) -> Result<(CollectingUnmaskings, Broadcast<Consent>), SecaggError> {
        let Self { session, sum, summed, gram, messages } = self;
        enough(MessageKind::Consent, messages.len(), session.context.terms().threshold)?;
        let broadcast = Broadcast::new(messages.into_values());
        let selected = gram.map(|gram| (gram, broadcast.transcript(session.transcript)));
        Ok((CollectingUnmaskings::new(session, sum, summed, selected), broadcast))
    }
}
