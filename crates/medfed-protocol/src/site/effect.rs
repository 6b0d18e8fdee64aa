//! What a site's machine asks of whoever runs it.

use crate::envelope::Packet;
use crate::message::{DeclineCode, Offer};
use crate::payload::Payload;
use medfed_federation::Snapshot;
use medfed_federation::report::RunStatus;
use medfed_federation::site::TrainRequest;
use medfed_types::RoundId;
use serde::Serialize;
use std::sync::Arc;

/// What is to be done, in the order given. Work that takes long is answered by an event; one piece of work is
/// under way at a time, and a new one comes only after the answer to the one before.
#[derive(Debug)]
pub enum SiteEffect {
    /// Send a packet to the coordinator.
    Send(Packet),
    /// Make a plan of the offer's configuration and the site's data, and answer with
    /// [`SiteEvent::Prepared`](super::SiteEvent::Prepared) or [`SiteEvent::Unable`](super::SiteEvent::Unable).
    Prepare(Box<Offer>),
    /// Train, and answer with [`SiteEvent::Trained`](super::SiteEvent::Trained) or
    /// [`SiteEvent::Unable`](super::SiteEvent::Unable).
    Train(TrainRequest),
    /// Stop training between two steps, and answer with [`SiteEvent::Stopped`](super::SiteEvent::Stopped), or
    /// with [`SiteEvent::Trained`](super::SiteEvent::Trained) where it was done.
    Stop,
    /// Measure, and answer with [`SiteEvent::Evaluated`](super::SiteEvent::Evaluated) or
    /// [`SiteEvent::Unable`](super::SiteEvent::Unable).
    Evaluate {
        /// The parameters.
        parameters: Arc<Vec<f32>>,
    },
    /// Check that the checkpoint goes on from the one signed before, sign it, and answer with
    /// [`SiteEvent::Cosigned`](super::SiteEvent::Cosigned) or [`SiteEvent::Unable`](super::SiteEvent::Unable).
    Cosign {
        /// The round that it ends.
        round: RoundId,
        /// The checkpoint.
        checkpoint: Payload,
    },
    /// The round is over. In one transaction: replace all earlier state by this one, and empty the log up to
    /// and including the event that led here.
    Commit {
        /// The machine's state, and the hospital's.
        state: Vec<Snapshot>,
    },
    /// Tell whoever watches.
    Notice(SiteNotice),
    /// The site's part in the run is over. Keys of the run can be deleted once this is durable.
    Ended {
        /// How the run ended; nothing where the site was refused.
        status: Option<RunStatus>,
        /// Why, where that needs a sentence.
        reason: Option<String>,
        /// The round of the best model.
        best_round: Option<u32>,
        /// Its parameters, as little-endian 32-bit values; empty without.
        best: Payload,
    },
}

/// Something that happened at a site, for people and for its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SiteNotice {
    /// It takes part.
    Joined,
    /// It did not do what it was asked.
    Declined {
        /// The round, where it was asked something of one.
        round: Option<RoundId>,
        /// The code.
        code: DeclineCode,
        /// Why.
        reason: String,
    },
    /// It trains.
    Training {
        /// The round.
        round: RoundId,
    },
    /// It has trained, and its update is on its way or waits to be masked.
    Trained {
        /// The round.
        round: RoundId,
    },
    /// A round is over.
    RoundOver {
        /// The round.
        round: RoundId,
    },
}

impl std::fmt::Display for SiteNotice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined => f.write_str("the hospital takes part"),
            Self::Declined { round: None, code, reason } => write!(f, "declined ({code}): {reason}"),
            Self::Declined { round: Some(round), code, reason } => {
                write!(f, "round {round} declined ({code}): {reason}")
            }
            Self::Training { round } => write!(f, "round {round}: training"),
            Self::Trained { round } => write!(f, "round {round}: trained"),
            Self::RoundOver { round } => write!(f, "round {round} is over"),
        }
    }
}
