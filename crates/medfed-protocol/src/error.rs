//! What cannot be read, is refused, or stops a run.

use medfed_federation::FederationError;
use medfed_types::{RunId, SiteId};

/// Bytes that are no message, event or state of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Another version of the format.
    #[error("format version {found} is not known, {expected} is")]
    Version {
        /// The version found.
        found: u8,
        /// The version of this build.
        expected: u8,
    },
    /// More bytes than are taken.
    #[error("{found} bytes of {what}, {most} at the most are taken")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes taken.
        most: usize,
    },
    /// The bytes end too early, go on too long, or say nothing.
    #[error("{what} cannot be read")]
    Malformed {
        /// What was to be read.
        what: &'static str,
    },
    /// Bytes that are no list of 32-bit values.
    #[error("{bytes} bytes are no list of 32-bit values")]
    Values {
        /// How many.
        bytes: usize,
    },
}

/// A message that is not accepted. Nothing changes because of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// It cannot be read.
    #[error("the message cannot be read")]
    Unreadable(#[from] DecodeError),
    /// It belongs to another run.
    #[error("the message belongs to the run {found}")]
    Run {
        /// That run.
        found: RunId,
    },
    /// It names another sender than the connection has, or another receiver.
    #[error("the message is from {from} to {to}, which does not fit the connection")]
    Address {
        /// Its sender, as it says.
        from: String,
        /// Its receiver.
        to: String,
    },
    /// Its sender is not in the cohort.
    #[error("{site} is not in the cohort")]
    Unknown {
        /// The sender.
        site: SiteId,
    },
    /// Its signature is not the sender's.
    #[error("the signature is not that of {from}")]
    Signature {
        /// The sender, as it says.
        from: String,
    },
    /// What travels beside it is not what it was signed with.
    #[error("the attachment of the message from {from} is not what was signed")]
    Attachment {
        /// The sender.
        from: String,
    },
    /// The same number with other content: an older message is never said differently.
    #[error("{from} sent message {number} a second time with other content")]
    Changed {
        /// The sender.
        from: String,
        /// The message's number.
        number: u64,
    },
}

/// What stops a machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The cohort cannot work.
    #[error("the cohort cannot be used: {problem}")]
    Cohort {
        /// Why, in a sentence without full stop.
        problem: String,
    },
    /// Saved state or a logged event that does not belong to this run.
    #[error("the saved state of {owner} does not fit this run: {problem}")]
    Saved {
        /// Whose.
        owner: String,
        /// What does not fit.
        problem: String,
    },
    /// The federation cannot go on.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// Stored bytes that cannot be read.
    #[error("stored bytes cannot be read")]
    Decode(#[from] DecodeError),
}
