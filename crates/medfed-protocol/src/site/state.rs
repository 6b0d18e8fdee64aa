//! What a site's machine keeps between two rounds.

use super::{Joined, SiteMachine, Talk};
use crate::envelope::Packet;
use crate::error::ProtocolError;
use crate::policy::Paid;
use medfed_federation::Snapshot;
use medfed_federation::masking::Record;
use medfed_types::RoundId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name under which the machine's own state is kept, beside the hospital's.
const OWNER: &str = "protocol";
/// The message that waits.
const NEXT: &str = "next";

#[derive(Serialize, Deserialize)]
struct Meta {
    committed_ms: u64,
    talk: Talk,
    policy: Option<(String, Vec<Paid>)>,
    joined: Option<Joined>,
    paid: Vec<Paid>,
    done: RoundId,
    masked: Record,
}

impl SiteMachine {
    /// The state after a round, at `now`, with the message that waits.
    pub(super) fn snapshot(&self, now: u64) -> Vec<Snapshot> {
        let meta = Meta {
            committed_ms: now,
            talk: self.talk.clone(),
            policy: self.policy().map(|(text, past)| (text.to_owned(), past.to_vec())),
            joined: self.joined.clone(),
            paid: self.paid.clone(),
            done: self.done,
            masked: self.party.record().clone(),
        };
        let meta = serde_json::to_value(meta).expect("names and finite numbers are JSON");
        let next = self.next.iter().map(|(_, packet)| (NEXT.to_owned(), packet.to_bytes()));
        let own = Snapshot { owner: OWNER.to_owned(), meta, blobs: next.collect::<BTreeMap<_, _>>() };
        [own].into_iter().chain(self.hospital.clone()).collect()
    }

    /// Puts a new machine back to right after a commit. Then come the events of the log.
    pub fn restore(&mut self, state: &[Snapshot]) -> Result<(), ProtocolError> {
        let refuse = |problem: String| ProtocolError::Saved { owner: OWNER.to_owned(), problem };
        let own = state.iter().find(|snapshot| snapshot.owner == OWNER);
        let own = own.ok_or_else(|| refuse("it is missing".to_owned()))?;
        let meta = serde_json::from_value::<Meta>(own.meta.clone());
        let Meta { committed_ms, talk, policy, joined, paid, done, masked } =
            meta.map_err(|error| refuse(error.to_string()))?;
        if let Some((text, past)) = policy {
            self.agree(text, past)?;
        }
        if let Some(joined) = joined.as_ref().filter(|joined| joined.declined.is_none()) {
            let read = Self::read(&joined.offer, &joined.keys);
            self.reading = Some(read.map_err(|refusal| refuse(refusal.reason))?);
        }
        (self.talk, self.joined, self.paid, self.done) = (talk, joined, paid, done);
        self.party.restore(masked);
        self.hospital = state.iter().find(|snapshot| snapshot.owner != OWNER).cloned();
        if let Some(next) = own.blobs.get(NEXT) {
            let packet = Packet::from_bytes(next)?;
            let envelope = self.open_packet(&packet).map_err(|error| refuse(error.to_string()))?;
            self.next = Some((envelope, packet));
        }
        self.go_on(committed_ms, &mut Vec::new());
        Ok(())
    }
}
