//! The verified public keys of a session: what the keys round leaves behind.

use std::collections::BTreeMap;

use crate::agreement::has_low_order;
use crate::context::SessionContext;
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::message::{Keys, MessageKind};
use crate::roster::{Members, SiteIndex};
use crate::signed::{Broadcast, Signed};

/// Public keys by owner, and the transcript that they make.
#[derive(Debug, Clone)]
pub(crate) struct Keyring {
    keys: BTreeMap<SiteIndex, Keys>,
    transcript: Digest,
}

impl Keyring {
    /// Checks everyone's keys, and that there are enough.
    pub(crate) fn new(context: &SessionContext, broadcast: &Broadcast<Keys>) -> Result<Self, SecaggError> {
        let mut keys = BTreeMap::new();
        for message in broadcast.messages() {
            admit(context, message, &keys)?;
            keys.insert(message.sender(), message.body().clone());
        }
        let (found, expected) = (keys.len(), context.least_sites());
        if found < expected {
            return Err(SecaggError::TooFew { message: MessageKind::Keys, expected, found });
        }
        Ok(Self::admitted(context, keys, broadcast))
    }

    /// Keys that were admitted one by one.
    pub(crate) fn admitted(
        context: &SessionContext,
        keys: BTreeMap<SiteIndex, Keys>,
        broadcast: &Broadcast<Keys>,
    ) -> Self {
        Self { keys, transcript: broadcast.transcript(context.digest()) }
    }

    /// The hash of the keys round.
    pub(crate) fn transcript(&self) -> Digest {
        self.transcript
    }

    /// Everyone who sent keys.
    pub(crate) fn owners(&self) -> Members {
        self.keys.keys().copied().collect()
    }

    /// The keys of a site.
    pub(crate) fn get(&self, owner: SiteIndex) -> Option<&Keys> {
        self.keys.get(&owner)
    }

    /// Owners in ascending order with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SiteIndex, &Keys)> {
        self.keys.iter().map(|(owner, keys)| (*owner, keys))
    }
}

/// Checks the keys of one site against those that are there already.
pub(crate) fn admit(
    context: &SessionContext,
    message: &Signed<Keys>,
    others: &BTreeMap<SiteIndex, Keys>,
) -> Result<(), SecaggError> {
    message.verify(context, context.digest(), Members::all(context.sites()))?;
    let (sender, keys) = (message.sender(), message.body());
    let site = || context.name(sender);
    if others.contains_key(&sender) {
        return Err(SecaggError::Duplicate { message: MessageKind::Keys, site: site() });
    }
    if has_low_order(&keys.encryption) || has_low_order(&keys.mask) {
        return Err(SecaggError::LowOrderPoint { site: site() });
    }
    let same = |other: &Keys| {
        [other.encryption, other.mask].iter().any(|key| *key == keys.encryption || *key == keys.mask)
    };
    if let Some((first, _)) = others.iter().find(|(_, other)| same(other)) {
        return Err(SecaggError::SharedKey { first: context.name(*first), second: site() });
    }
    Ok(())
}
