//! A hospital's part in the protocol: its signing key, the key of the run, and what it has answered.

use super::MaskingError;
use super::error::Peer;
use super::wire::{Phase, Place};
use medfed_secagg::site::{Left, Participation};
use medfed_secagg::{Digest, Identity};
use medfed_types::{RoundId, SecretKey, SecretRng, SiteId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a hospital brings to every session of a run.
#[derive(Debug)]
pub struct Party {
    pub(super) identity: Arc<Identity>,
    /// Of this run alone. All randomness of its sessions follows from it, so that the same calls get the
    /// same answers after a restart.
    key: SecretKey,
    pub(super) record: Record,
}

impl Party {
    /// With the hospital's signing key, and a key of this run alone that the hospital keeps until the run
    /// ends. Whoever has the second one can take off the hospital's masks.
    pub fn new(identity: Identity, key: SecretKey) -> Self {
        Self { identity: Arc::new(identity), key, record: Record::default() }
    }

    /// Its name.
    pub fn site(&self) -> &SiteId {
        self.identity.site()
    }

    /// The public half of its signing key.
    pub fn verifying_key(&self) -> [u8; 32] {
        self.identity.verifying_key()
    }

    /// What it must remember. It must be durable before an answer leaves.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Puts it back to where the record was taken.
    pub fn restore(&mut self, record: Record) {
        self.record = record;
    }

    /// Randomness of one step of one session, for one call: other terms or another call give other keys.
    pub(super) fn random(&self, context: Digest, call: [u8; 32]) -> SecretRng {
        let words = |bytes: &[u8; 32]| {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>()
        };
        let numbers = [words(context.as_bytes()), words(&call)].concat();
        self.key.generator("masked round", &numbers)
    }

    /// The hospital's part of the coin of an attempt.
    pub(super) fn coin(&self, place: Place) -> SecretRng {
        let numbers = [u64::from(place.round.0), u64::from(place.attempt)];
        self.key.generator("coin", if place.attempt == 0 { &numbers[..1] } else { &numbers })
    }
}

/// What a hospital must remember of a run's sessions, over restarts: what left it under masks, and which
/// calls of the newest round it answered. An answer repeats bit for bit, or is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    counts: Option<Sent>,
    updates: Option<Sent>,
    /// The newest session of the newest round.
    begun: Option<Begun>,
    /// The calls of the newest round, with the hash of each.
    answered: Vec<(Place, [u8; 32])>,
}

/// A masked input that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    round: RoundId,
    message: [u8; 32],
}

/// A session that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    place: Place,
    cohort: Vec<SiteId>,
}

impl Record {
    /// Notes a call; refuses one of an earlier round, and another one for a step that was answered. Says
    /// whether the very call was answered before.
    pub(super) fn admit(&mut self, place: Place, call: [u8; 32]) -> Result<bool, MaskingError> {
        let newest = self.answered.last().map(|(place, _)| place.round);
        if newest.is_some_and(|newest| newest > place.round) {
            return Err(MaskingError::OutOfTurn { from: Peer::Coordinator, found: place.step });
        }
        if newest.is_some_and(|newest| newest < place.round) {
            self.answered.clear();
            self.begun = None;
        }
        match self.answered.iter().find(|(answered, _)| *answered == place) {
            Some((_, answered)) if *answered == call => Ok(true),
            Some(_) => Err(MaskingError::Second { from: Peer::Coordinator, step: place.step }),
            None => {
                self.answered.push((place, call));
                Ok(false)
            }
        }
    }

    /// Notes that a session begins. An attempt leaves out a hospital of the one before, so that there are
    /// fewer of them than hospitals; updates follow numbers of samples, from those whose numbers were
    /// summed.
    pub(super) fn begin(&mut self, place: Place, cohort: &[SiteId]) -> Result<(), MaskingError> {
        let follows = match &self.begun {
            None => place.attempt == 0,
            Some(last) => {
                let within = cohort.iter().all(|site| last.cohort.contains(site));
                let (before, attempt) = (last.place.attempt, place.attempt);
                let next = before.checked_add(1) == Some(attempt) && cohort.len() < last.cohort.len();
                let updates = last.place.phase == Phase::Counts && place.phase == Phase::Updates;
                within && last.place.phase <= place.phase && (next || (attempt == before && updates))
            }
        };
        if !follows {
            return Err(MaskingError::Attempt { round: place.round, attempt: place.attempt });
        }
        self.begun = Some(Begun { place, cohort: cohort.to_vec() });
        Ok(())
    }

    /// What left under masks.
    pub(super) fn participation(&self) -> Participation {
        let left = |sent: Sent| Left { round: sent.round, message: Digest::new(sent.message) };
        Participation { counts: self.counts.map(left), updates: self.updates.map(left) }
    }

    /// Notes what left under masks.
    pub(super) fn participated(&mut self, participation: Participation) {
        let sent = |left: Left| Sent { round: left.round, message: *left.message.as_bytes() };
        let Participation { counts, updates } = participation;
        (self.counts, self.updates) = (counts.map(sent), updates.map(sent));
    }
}
