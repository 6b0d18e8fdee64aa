//! How the audit log fails, and what is wrong with bytes that claim to be part of one.

use crate::merkle::Digest;
use crate::note::KeyName;
use medfed_types::{RoundId, SiteId};

/// Bytes that are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// A format or a kind that this version does not know.
    #[error("its {what} {found} is unknown; a newer medfed may have written it")]
    Unknown {
        /// `format` or `kind`.
        what: &'static str,
        /// What was found.
        found: u8,
    },
    /// The bytes end within a field.
    #[error("it ends within {field}")]
    Short {
        /// The field.
        field: &'static str,
    },
    /// Bytes follow the last field.
    #[error("{bytes} bytes follow its end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A value outside its range.
    #[error("{field} is out of range")]
    Range {
        /// The field.
        field: &'static str,
    },
    /// Text that is not UTF-8 or not of its form.
    #[error("{field} is not well formed")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// A text or a list above its limit.
    #[error("{field} has a length of {found}, at most {limit} is allowed")]
    Long {
        /// The field.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A list that is not strictly ascending.
    #[error("{field} is not in order")]
    Order {
        /// The field.
        field: &'static str,
    },
}

/// Text that is no key, checkpoint, proof or bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatProblem {
    /// Larger than anything of its kind.
    #[error("it has {found} bytes, at most {limit} are read")]
    TooLarge {
        /// Its bytes.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Not of its form.
    #[error("its {part} is not well formed")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// A name that cannot stand in a signature line.
    #[error("a key's name has 1 to 400 bytes, without space, control character and plus sign")]
    Name,
    /// A key whose own identifier is another.
    #[error("the identifier of the key {name} does not fit it")]
    KeyId {
        /// The key's name.
        name: KeyName,
    },
    /// A point under which anyone can forge.
    #[error("the key {name} is not a sound Ed25519 key")]
    WeakKey {
        /// The key's name.
        name: KeyName,
    },
}

/// Why a hospital does not sign a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The log's own signature is missing or wrong.
    #[error("the checkpoint of {size} entries is not signed by {log}")]
    Unsigned {
        /// The log.
        log: KeyName,
        /// Entries of the checkpoint.
        size: u64,
    },
    /// The checkpoint of another log.
    #[error("the checkpoint is of {found}, not of {expected}")]
    OtherLog {
        /// The log that the hospital follows.
        expected: KeyName,
        /// The log of the checkpoint.
        found: KeyName,
    },
    /// Fewer entries than signed before.
    #[error("the log was rolled back: {found} entries, {seen} were signed before")]
    RolledBack {
        /// Entries signed before.
        seen: u64,
        /// Entries now.
        found: u64,
    },
    /// The entries signed before are not at its beginning.
    #[error("the log of {found} entries does not continue the {seen} entries signed before")]
    Forked {
        /// Entries signed before.
        seen: u64,
        /// Entries now.
        found: u64,
    },
}

/// A failure of the log itself: of its storage, or of what it was asked to write. Faults that a verifier
/// finds are [`Fault`](crate::verify::Fault)s.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Storage failed.
    #[error("the audit log cannot be read or written")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An entry that cannot be written.
    #[error("the entry cannot be written: {problem}")]
    Unwritable {
        /// Why.
        problem: EntryProblem,
    },
    /// An entry of the log that cannot be read.
    #[error("entry {index} cannot be read: {problem}")]
    Unreadable {
        /// Counted from 0.
        index: u64,
        /// Why.
        problem: EntryProblem,
    },
    /// A file of the log that is not there.
    #[error("{path} is missing")]
    Missing {
        /// Its path in the log's folder.
        path: String,
    },
    /// A file of the log that is not well formed.
    #[error("{path} cannot be used: {problem}")]
    Malformed {
        /// Its path in the log's folder.
        path: String,
        /// What is wrong.
        problem: FormatProblem,
    },
    /// The entries are not those that were signed.
    #[error("the entries are not those that the checkpoint of {size} entries was signed over")]
    Altered {
        /// Entries of the checkpoint.
        size: u64,
        /// The root that was signed.
        signed: Digest,
        /// The root of the entries.
        found: Digest,
    },
    /// The newest checkpoint does not have the log's signature.
    #[error("the checkpoint of {size} entries is not signed by {log}")]
    Unsigned {
        /// The log.
        log: KeyName,
        /// Entries of the checkpoint.
        size: u64,
    },
    /// A log where a new one was to begin.
    #[error("there is a log already")]
    Exists,
    /// An entry that is not there.
    #[error("there is no entry {index}; the newest checkpoint has {size} entries")]
    NoEntry {
        /// The entry asked for.
        index: u64,
        /// Entries there are.
        size: u64,
    },
    /// A round out of order.
    #[error("round {found} cannot be recorded after round {last}")]
    RoundOrder {
        /// The newest recorded round.
        last: RoundId,
        /// The round asked for.
        found: RoundId,
    },
    /// A repeated round that is not the recorded one.
    #[error("round {round} is recorded with another course or another result")]
    RoundDiffers {
        /// The round.
        round: RoundId,
    },
    /// The kept state of a run and its log do not belong together: one of them was rolled back.
    #[error("the log ends with round {logged}, the run goes on after round {done}")]
    Apart {
        /// The newest recorded round.
        logged: RoundId,
        /// Rounds done by the run's state.
        done: RoundId,
    },
    /// A hospital that is not on the roster.
    #[error("{site} is not on the roster")]
    NotEnrolled {
        /// The hospital.
        site: SiteId,
    },
    /// A hospital refused its signature.
    #[error("{site} does not sign")]
    Refused {
        /// The hospital.
        site: SiteId,
        /// Why.
        #[source]
        refusal: Refusal,
    },
}

impl AuditError {
    /// A failure of the storage.
    pub fn storage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Storage(Box::new(error))
    }
}
