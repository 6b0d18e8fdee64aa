//! What can be wrong with a log, and where.

use crate::error::{EntryProblem, FormatProblem};
use crate::note::KeyName;
use medfed_types::{RoundId, SiteId};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

/// A place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The whole.
    Log,
    /// A file, by its path in the log's folder.
    File(String),
    /// An entry, counted from 0.
    Entry(u64),
    /// Entries from the first to the last.
    Entries(u64, u64),
    /// The checkpoint of so many entries.
    Checkpoint(u64),
    /// A checkpoint of so many entries that the reader kept.
    Kept(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log => f.write_str("the log"),
            Self::File(path) => f.write_str(path),
            Self::Entry(index) => write!(f, "entry {index}"),
            Self::Entries(first, last) => write!(f, "entries {first} to {last}"),
            Self::Checkpoint(size) => write!(f, "checkpoint of {size} entries"),
            Self::Kept(size) => write!(f, "kept checkpoint of {size} entries"),
        }
    }
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A file is not there.
    #[error("it is missing")]
    Missing,
    /// A file, key or checkpoint is not of its form.
    #[error("it cannot be used: {problem}")]
    Malformed {
        /// Why.
        problem: FormatProblem,
    },
    /// An entry cannot be read.
    #[error("it cannot be read: {problem}")]
    Unreadable {
        /// Why.
        problem: EntryProblem,
    },
    /// An entry is not the one that was logged.
    #[error("not what was logged: changed, removed, added or moved")]
    Changed,
    /// A hash in a tile is not that of the entries, which are sound.
    #[error("hash {index} is not that of the entries: the tile was changed")]
    HashChanged {
        /// Its place in the tile.
        index: u64,
    },
    /// A checkpoint under the name of another.
    #[error("it holds the checkpoint of {size} entries: checkpoints were swapped")]
    Swapped {
        /// Entries of the checkpoint.
        size: u64,
    },
    /// `checkpoint` is an older one.
    #[error("it has {size} entries, and there is a checkpoint of {newest}")]
    NotNewest {
        /// Its entries.
        size: u64,
        /// Entries of the newest.
        newest: u64,
    },
    /// Two files that should be equal.
    #[error("it differs from {other}")]
    Differs {
        /// The other file.
        other: String,
    },
    /// The entries do not give the root that was signed.
    #[error("{}", root(*sound, *later))]
    Root {
        /// Entries of the newest earlier checkpoint that agrees.
        sound: u64,
        /// Later checkpoints, which cannot agree either.
        later: usize,
    },
    /// A later checkpoint agrees with the entries, and this one does not.
    #[error("its root is not that of the entries, with which a later checkpoint agrees")]
    ForeignRoot,
    /// Entries are missing at the end.
    #[error("entries are missing: {found} could be read")]
    EntriesMissing {
        /// Entries that are there.
        found: u64,
    },
    /// The log's own signature is missing or forged.
    #[error("it does not have the log's signature")]
    Unsigned,
    /// A hospital's signature does not hold.
    #[error("the signature of {name} is forged or of another checkpoint")]
    Cosignature {
        /// The hospital's key.
        name: KeyName,
    },
    /// A signature by a key that is not on the roster.
    #[error("{name} has signed and is not on the roster")]
    Stranger {
        /// The key.
        name: KeyName,
    },
    /// Too few hospitals have signed.
    #[error("{found} hospitals have signed, {required} have to; missing: {}", names(absent))]
    Cosignatures {
        /// Signatures that hold.
        found: usize,
        /// Signatures that the first entry asks for.
        required: usize,
        /// Hospitals without a signature that holds.
        absent: Vec<KeyName>,
    },
    /// Another log.
    #[error("it is of another log, {name}")]
    OtherLog {
        /// The other log.
        name: KeyName,
    },
    /// The key in the log is not the one that the reader has.
    #[error("the key of {name} in the log is not the one that was given")]
    KeyDiffers {
        /// The key.
        name: KeyName,
    },
    /// A key that was given and that the log does not know.
    #[error("the key of {name} that was given is not in it")]
    KeyUnused {
        /// The key.
        name: KeyName,
    },
    /// The log has fewer entries than a checkpoint that the reader kept.
    #[error("the log has only {size} entries: it was rolled back or cut off")]
    RolledBack {
        /// Entries of the log.
        size: u64,
    },
    /// The log does not continue a checkpoint that the reader kept.
    #[error("the log does not continue it: it was forked or rewritten")]
    Forked,
    /// An entry at a place where it cannot be.
    #[error("{what}")]
    Order {
        /// What is wrong, in words.
        what: &'static str,
    },
    /// A round that does not follow the one before.
    #[error("it is of round {found}, after round {last}")]
    RoundOrder {
        /// The newest round before.
        last: RoundId,
        /// The round.
        found: RoundId,
    },
    /// A number that no hospital has.
    #[error("there is no hospital {number} on the roster")]
    NotEnrolled {
        /// The number.
        number: u16,
    },
    /// Two hospitals with one name.
    #[error("{site} is on the roster twice")]
    Twice {
        /// The name.
        site: SiteId,
    },
    /// A round does not begin with the model that the one before left.
    #[error("round {round} does not begin with the model that was there")]
    ModelChain {
        /// The round.
        round: RoundId,
    },
    /// The saved model is not the one of its round.
    #[error("the saved model is not the one that {round} left")]
    SavedModel {
        /// The round, or the start, in words.
        round: String,
    },
    /// Too few hospitals for a round.
    #[error("{found} hospitals took part, at least {least} have to")]
    TooFew {
        /// Participants.
        found: usize,
        /// Fewest allowed.
        least: u32,
    },
    /// A hospital that is neither among the participants nor among the others.
    #[error("it does not say what {site} did")]
    Unaccounted {
        /// The hospital.
        site: SiteId,
    },
    /// A hospital trained without having paid.
    #[error("{site} took part and has not paid for round {round}")]
    Unpaid {
        /// The hospital.
        site: SiteId,
        /// The round.
        round: RoundId,
    },
    /// A hospital that paid for one round twice.
    #[error("{site} has paid for round {round} already")]
    PaidTwice {
        /// The hospital.
        site: SiteId,
        /// The round.
        round: RoundId,
    },
    /// A selection that does not follow from the inner products.
    #[error(
        "the inner products of round {round} select {}, and it says {}",
        hospitals(computed),
        hospitals(recorded)
    )]
    Selection {
        /// The round.
        round: RoundId,
        /// Who is selected, as recomputed.
        computed: Vec<SiteId>,
        /// Who was selected, as recorded.
        recorded: Vec<SiteId>,
    },
    /// A selection that cannot be recomputed.
    #[error("the selection of round {round} cannot be recomputed: {reason}")]
    NoSelection {
        /// The round.
        round: RoundId,
        /// Why.
        reason: String,
    },
    /// A round whose participants are not those that were selected.
    #[error("round {round} sums the updates of other hospitals than were selected")]
    NotSelected {
        /// The round.
        round: RoundId,
    },
    /// A selection by another rule or search than the configuration has.
    #[error("hospitals are selected in another way than the configuration says")]
    OtherCriterion,
    /// A payment in a run without a promise.
    #[error("it pays for privacy that the run does not promise")]
    NoPromise,
    /// ε is not what the payments give.
    #[error("{site} claims epsilon {claimed} ({accountant}), its payments give {computed}")]
    Epsilon {
        /// The hospital.
        site: SiteId,
        /// `pld` or `rdp`.
        accountant: &'static str,
        /// What the entry says.
        claimed: f64,
        /// What the payments so far give.
        computed: f64,
    },
    /// Noise, rate or steps that no ledger pays for.
    #[error("{site} pays for steps with terms that no plan has")]
    Terms {
        /// The hospital.
        site: SiteId,
    },
    /// ε cannot be computed.
    #[error("epsilon of {site} cannot be computed: {reason}")]
    NoEpsilon {
        /// The hospital.
        site: SiteId,
        /// Why.
        reason: String,
    },
    /// The budget is passed.
    #[error("{site} has spent epsilon {spent}, its budget is {budget}")]
    Budget {
        /// The hospital.
        site: SiteId,
        /// Spent, as recomputed.
        spent: f64,
        /// The budget.
        budget: f64,
    },
}

fn root(sound: u64, later: usize) -> String {
    let before = match sound {
        0 => "; no checkpoint agrees with them".to_owned(),
        sound => format!("; those before entry {sound} agree with an earlier checkpoint"),
    };
    let after = match later {
        0 => String::new(),
        later => format!("; of {later} later checkpoints none agrees either"),
    };
    format!("the entries are not those that it was signed over{before}{after}")
}

fn hospitals(sites: &[SiteId]) -> String {
    if sites.is_empty() {
        return "nobody".to_owned();
    }
    sites.iter().map(SiteId::as_str).collect::<Vec<_>>().join(", ")
}

fn names(absent: &[KeyName]) -> String {
    let names: Vec<_> = absent.iter().map(KeyName::as_str).collect();
    names.join(", ")
}
