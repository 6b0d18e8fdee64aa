//! Round 0: collects keys.

use std::collections::BTreeMap;

use super::{CollectingDealings, enough};
use crate::context::SessionContext;
use crate::error::SecaggError;
use crate::keyring::{Keyring, admit};
use crate::message::{Keys, MessageKind};
use crate::roster::{Members, SiteIndex};
use crate::signed::{Broadcast, Signed};

/// Waits for the sites' keys.
#[derive(Debug)]
pub struct CollectingKeys {
    context: SessionContext,
    keys: BTreeMap<SiteIndex, Keys>,
    messages: BTreeMap<SiteIndex, Signed<Keys>>,
}

impl CollectingKeys {
    /// Starts a session.
    pub fn new(context: SessionContext) -> Self {
        Self { context, keys: BTreeMap::new(), messages: BTreeMap::new() }
    }

    /// Takes the keys of one site. Refused are keys that are not signed by a site of the cohort under
    /// these terms, a second pair, keys of low order, and keys that another site has sent.
    pub fn receive(&mut self, message: Signed<Keys>) -> Result<(), SecaggError> {
        admit(&self.context, &message, &self.keys)?;
        self.keys.insert(message.sender(), message.body().clone());
        self.messages.insert(message.sender(), message);
        Ok(())
    }

    /// Who has sent keys.
    pub fn received(&self) -> Members {
        self.messages.keys().copied().collect()
    }

    /// Ends the round: everyone's keys, for every site that sent some.
    pub fn close(self) -> Result<(CollectingDealings, Broadcast<Keys>), SecaggError> {
        enough(MessageKind::Keys, self.keys.len(), self.context.least_sites())?;
        let broadcast = Broadcast::new(self.messages.into_values());
        let ring = Keyring::admitted(&self.context, self.keys, &broadcast);
        Ok((CollectingDealings::new(self.context, ring), broadcast))
    }
}
