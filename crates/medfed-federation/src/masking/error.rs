//! Why a message of a masked round is refused.

use super::wire::{Fault, Step};
use medfed_secagg::SecaggError;
use medfed_types::{RoundId, SiteId};

/// Who sent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The coordinator.
    Coordinator,
    /// A hospital.
    Site(SiteId),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Coordinator => f.write_str("the coordinator"),
            Self::Site(site) => site.fmt(f),
        }
    }
}

/// A message that is refused. It changes nothing but, where a hospital broke the protocol, that it is out of
/// the session.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MaskingError {
    /// Bytes that are no message of a masked round.
    #[error("the message from {from} cannot be read: {fault}")]
    Malformed {
        /// The sender.
        from: Peer,
        /// What is wrong.
        fault: Fault,
    },
    /// A hospital that is not asked anything now.
    #[error("{site} is not asked anything now")]
    NotAsked {
        /// The hospital.
        site: SiteId,
    },
    /// A message for another round, attempt or step than the one that is due: early, late, or invented.
    #[error("the {found} message from {from} is not due now")]
    OutOfTurn {
        /// The sender.
        from: Peer,
        /// What it is about.
        found: Step,
    },
    /// A second message for a step that differs from the first.
    #[error("{from} sent a second {step} message that differs from the first")]
    Second {
        /// The sender.
        from: Peer,
        /// The step.
        step: Step,
    },
    /// An answer that its hospital did not make.
    #[error("the {step} message from {site} names another sender")]
    Sender {
        /// The hospital that sent it.
        site: SiteId,
        /// The step.
        step: Step,
    },
    /// An attempt that does not follow from the one before: it must leave somebody out, and come after one
    /// in which no input left.
    #[error(
        "the coordinator begins attempt {attempt} of round {round}, which does not follow from the one before with a hospital less"
    )]
    Attempt {
        /// The round.
        round: RoundId,
        /// The attempt, counted from 0.
        attempt: u8,
    },
    /// The coordinator asks for something else than this hospital trained for.
    #[error("the coordinator asks for another {what} than this hospital has")]
    Other {
        /// What differs.
        what: &'static str,
    },
    /// The protocol refused it.
    #[error("the {step} message from {from} is refused")]
    Refused {
        /// The sender.
        from: Peer,
        /// The step.
        step: Step,
        /// Why.
        #[source]
        source: SecaggError,
    },
}
