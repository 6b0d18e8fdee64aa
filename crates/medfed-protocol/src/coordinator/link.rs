//! A site as the coordinator's machine knows it: its key, and where the conversation with it stands.

use crate::envelope::{Packet, Party, Signer};
use crate::message::ToSite;
use crate::payload::Payload;
use ed25519_dalek::VerifyingKey;
use medfed_types::{RunId, SiteId};
use serde::{Deserialize, Serialize};

/// The conversation with one site.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) key: VerifyingKey,
    pub(super) talk: Talk,
    /// The newest message to the site, to be sent again.
    pub(super) task: Option<Packet>,
    /// Whether it is to be answered and is not.
    pub(super) awaiting: bool,
}

/// What is kept of a conversation between two rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Talk {
    /// Messages sent.
    pub(super) sent: u64,
    /// Number of the newest message handled.
    pub(super) heard: u64,
    /// SHA-256 of the head of that message.
    pub(super) heard_hash: [u8; 32],
    /// It gave no answer in time and has not been heard since.
    pub(super) away: bool,
    /// It takes no part in the run.
    pub(super) out: bool,
}

impl Link {
    pub(super) fn new(key: VerifyingKey) -> Self {
        Self { key, talk: Talk::default(), task: None, awaiting: false }
    }

    /// The next message to `site`. It replaces the one before.
    pub(super) fn say(
        &mut self,
        signer: &Signer,
        run: &RunId,
        site: &SiteId,
        message: ToSite,
        attachment: Payload,
    ) -> Packet {
        self.talk.sent += 1;
        self.awaiting = !matches!(message, ToSite::RoundOver { .. });
        let packet = signer.seal(run, Party::Site(site.clone()), (self.talk.sent, 0), message, attachment);
        self.task = Some(packet.clone());
        packet
    }
}
