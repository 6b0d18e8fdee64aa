//! What happens to a site: everything that its machine depends on, in an order, with times.

use crate::envelope::Packet;
use crate::error::DecodeError;
use crate::message::{DeclineCode, decode, encode};
use crate::payload::Payload;
use crate::policy::Paid;
use medfed_federation::report::PrivacySpent;
use medfed_federation::site::{LocalReport, RawUpdate, SiteReply};
use medfed_federation::{Announcement, SiteEvaluation, Snapshot};
use medfed_types::RoundId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that happened. It is durable before the machine hears of it.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteEvent {
    /// The hospital's policy, before everything else and whenever it or the payments have changed.
    Policy {
        /// The file's text, which can be read as a [`Policy`](crate::Policy).
        text: String,
        /// What the site paid for in other runs.
        past: Vec<Paid>,
    },
    /// The coordinator sent a packet that [`admit`](super::SiteMachine::admit) found fresh.
    Message {
        /// The packet.
        packet: Packet,
    },
    /// The site has its data and its plan, as [`SiteEffect::Prepare`](super::SiteEffect::Prepare) asked.
    Prepared {
        /// What it would announce, counts included; the policy decides what of it leaves.
        announcement: Box<Announcement>,
    },
    /// The site trained, as [`SiteEffect::Train`](super::SiteEffect::Train) asked.
    Trained {
        /// The round.
        round: RoundId,
        /// What came of it.
        result: LocalResult,
        /// The hospital's state after it.
        state: Box<Snapshot>,
    },
    /// Training was stopped, or there was none to stop, as [`SiteEffect::Stop`](super::SiteEffect::Stop)
    /// asked.
    Stopped {
        /// The hospital's state after it.
        state: Box<Snapshot>,
    },
    /// The site measured, as [`SiteEffect::Evaluate`](super::SiteEffect::Evaluate) asked.
    Evaluated {
        /// Nothing without validation images.
        evaluation: Option<Box<SiteEvaluation>>,
    },
    /// The site signed, as [`SiteEffect::Cosign`](super::SiteEffect::Cosign) asked.
    Cosigned {
        /// The signed note.
        note: Payload,
    },
    /// The site could not do what the newest effect asked.
    Unable {
        /// The code that the coordinator gets.
        code: DeclineCode,
        /// Why, in a sentence without full stop and without anything about patients.
        reason: String,
        /// The hospital's state, where it may have changed.
        state: Option<Box<Snapshot>>,
    },
}

/// What local training came to, complete: it stays at the site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LocalResult {
    /// An update.
    Update {
        /// Its values.
        delta: Payload,
        /// Images that it comes from.
        weight: f64,
        /// About the training.
        report: LocalReport,
    },
    /// The budget allows no step.
    BudgetExhausted {
        /// What was spent before.
        privacy: PrivacySpent,
    },
    /// Something that is no update.
    Failed {
        /// Why.
        reason: String,
        /// About the training.
        report: LocalReport,
    },
}

impl From<SiteReply> for LocalResult {
    fn from(reply: SiteReply) -> Self {
        match reply {
            SiteReply::Trained { update: RawUpdate { delta, weight, .. }, report } => {
                Self::Update { delta: Payload::of_values(&delta), weight, report }
            }
            // A site withholds nothing from itself.
            SiteReply::Withheld { report } => {
                Self::Failed { reason: "the update is not there".to_owned(), report }
            }
            SiteReply::BudgetExhausted { privacy } => Self::BudgetExhausted { privacy },
            SiteReply::Failed { reason, report } => Self::Failed { reason, report },
        }
    }
}

/// The event as it is kept, but for packets, which have bytes of their own.
#[derive(Serialize, Deserialize)]
enum Kept {
    Policy { text: String, past: Vec<Paid> },
    Prepared { announcement: Announcement },
    Trained { round: RoundId, result: LocalResult, state: KeptState },
    Stopped { state: KeptState },
    Evaluated { evaluation: Option<SiteEvaluation> },
    Cosigned { note: Payload },
    Unable { code: DeclineCode, reason: String, state: Option<KeptState> },
}

#[derive(Serialize, Deserialize)]
struct KeptState {
    owner: String,
    meta: String,
    blobs: BTreeMap<String, Payload>,
}

const MESSAGE: u8 = 1;
const OTHER: u8 = 2;

impl SiteEvent {
    /// The event as it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kept = match self {
            Self::Message { packet } => {
                let mut bytes = vec![MESSAGE];
                bytes.extend(packet.to_bytes());
                return bytes;
            }
            Self::Policy { text, past } => Kept::Policy { text: text.clone(), past: past.clone() },
            Self::Prepared { announcement } => Kept::Prepared { announcement: (**announcement).clone() },
            Self::Trained { round, result, state } => {
                Kept::Trained { round: *round, result: result.clone(), state: KeptState::new(state) }
            }
            Self::Stopped { state } => Kept::Stopped { state: KeptState::new(state) },
            Self::Evaluated { evaluation } => Kept::Evaluated { evaluation: evaluation.as_deref().cloned() },
            Self::Cosigned { note } => Kept::Cosigned { note: note.clone() },
            Self::Unable { code, reason, state } => Kept::Unable {
                code: *code,
                reason: reason.clone(),
                state: state.as_deref().map(KeptState::new),
            },
        };
        let mut bytes = vec![OTHER];
        bytes.extend(encode(&kept));
        bytes
    }

    /// The event whose bytes these are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let kept = match bytes.split_first() {
            Some((&MESSAGE, packet)) => return Ok(Self::Message { packet: Packet::from_bytes(packet)? }),
            Some((&OTHER, kept)) => decode::<Kept>(kept, "the event")?,
            _ => return Err(DecodeError::Malformed { what: "the event" }),
        };
        Ok(match kept {
            Kept::Policy { text, past } => Self::Policy { text, past },
            Kept::Prepared { announcement } => Self::Prepared { announcement: Box::new(announcement) },
            Kept::Trained { round, result, state } => {
                Self::Trained { round, result, state: Box::new(state.restore()?) }
            }
            Kept::Stopped { state } => Self::Stopped { state: Box::new(state.restore()?) },
            Kept::Evaluated { evaluation } => Self::Evaluated { evaluation: evaluation.map(Box::new) },
            Kept::Cosigned { note } => Self::Cosigned { note },
            Kept::Unable { code, reason, state } => {
                let state = state.map(KeptState::restore).transpose()?;
                Self::Unable { code, reason, state: state.map(Box::new) }
            }
        })
    }
}

impl KeptState {
    fn new(snapshot: &Snapshot) -> Self {
        let blobs = snapshot.blobs.iter();
        Self {
            owner: snapshot.owner.clone(),
            meta: snapshot.meta.to_string(),
            blobs: blobs.map(|(name, bytes)| (name.clone(), bytes.as_slice().into())).collect(),
        }
    }

    fn restore(self) -> Result<Snapshot, DecodeError> {
        let meta = serde_json::from_str(&self.meta)
            .map_err(|_| DecodeError::Malformed { what: "the hospital's state" })?;
        let blobs = self.blobs.into_iter().map(|(name, bytes)| (name, bytes.as_bytes().to_vec())).collect();
        Ok(Snapshot { owner: self.owner, meta, blobs })
    }
}
