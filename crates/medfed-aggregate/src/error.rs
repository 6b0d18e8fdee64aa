//! What can go wrong between site updates and the global step.

use medfed_types::{RoundId, SiteId};

/// Updates that cannot be aggregated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// A value is NaN or infinite.
    #[error("the update of {site} is not finite at parameter {index}")]
    NotFinite {
        /// The culprit.
        site: SiteId,
        /// The first such parameter.
        index: usize,
    },
    /// The weight is not a positive, finite number.
    #[error("the weight of {site} must be finite and above 0, not {weight}")]
    Weight {
        /// The culprit.
        site: SiteId,
        /// What it claimed.
        weight: f64,
    },
    /// An update has another length than the model.
    #[error("the update of {site} has {found} values, the model has {expected} parameters")]
    Length {
        /// The culprit.
        site: SiteId,
        /// Parameters of the model.
        expected: usize,
        /// Values received.
        found: usize,
    },
    /// An update belongs to another round.
    #[error("the update of {site} is for round {found}, not {expected}")]
    Round {
        /// The culprit.
        site: SiteId,
        /// The round being aggregated.
        expected: RoundId,
        /// The round the update names.
        found: RoundId,
    },
    /// A site sent two updates for one round.
    #[error("{site} sent a second update for the round")]
    Duplicate {
        /// The culprit.
        site: SiteId,
    },
    /// There is nothing to aggregate.
    #[error("no update to aggregate")]
    Empty,
    /// The rule's guarantee needs more hospitals.
    #[error("{rule} needs {needed} hospitals, there are {found}")]
    TooFew {
        /// The rule, with its parameters.
        rule: String,
        /// Hospitals that the rule needs.
        needed: usize,
        /// Hospitals that sent an update.
        found: usize,
    },
    /// The rule gives every hospital the weight 0.
    #[error("{rule} excludes all hospitals")]
    NobodyLeft {
        /// The rule, with its parameters.
        rule: String,
        /// The hospitals that sent an update.
        sites: Vec<SiteId>,
    },
    /// The share to be trimmed is out of range.
    #[error("the share trimmed at either end must be at least 0 and below 0.5, not {found}")]
    TrimRatio {
        /// The share found.
        found: f64,
    },
    /// The radius of centred clipping is out of range.
    #[error("the clipping radius must be finite and above 0, not {found}")]
    Radius {
        /// The radius found.
        found: f64,
    },
    /// A count that must be at least 1 is 0.
    #[error("{what} must be at least 1")]
    Zero {
        /// The count, in words.
        what: &'static str,
    },
    /// Nearest-neighbour mixing makes hospitals alike, and FoolsGold takes hospitals that are alike for Sybils.
    #[error("nearest-neighbour mixing cannot precede foolsgold, which excludes hospitals that are alike")]
    MixedSybils,
    /// The rule does not select updates, so it cannot be followed where only distances are known.
    #[error("{rule} does not select among updates by their distances")]
    NotSelecting {
        /// The rule, with its parameters.
        rule: String,
    },
    /// The sum of so few updates would show them.
    #[error("{rule} selects {selected} updates, and a sum of fewer than {needed} is not opened")]
    TooFewSelected {
        /// The rule, with its parameters.
        rule: String,
        /// Updates that it selects.
        selected: usize,
        /// Updates that a sum must have.
        needed: usize,
    },
    /// Updates are out of line, and the run is to stop then.
    #[error("updates are out of line: {}", names(sites))]
    OutOfLine {
        /// Whose.
        sites: Vec<SiteId>,
    },
    /// Hospitals are not in the order of their names, or one comes twice.
    #[error("{first} stands before {second}: hospitals stand in the order of their names, each once")]
    Unordered {
        /// The one before.
        first: SiteId,
        /// The one after.
        second: SiteId,
    },
    /// A matrix of distances or products is not what it claims to be.
    #[error("the matrix of {what} is wrong at row {row}, column {column}: {expected}")]
    Matrix {
        /// What the matrix holds.
        what: &'static str,
        /// Row of the first wrong entry.
        row: usize,
        /// Column of the first wrong entry.
        column: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// A matrix has not n² entries.
    #[error("a matrix over {rows} hospitals has {rows}² entries, not {found}")]
    MatrixSize {
        /// Hospitals.
        rows: usize,
        /// Entries found.
        found: usize,
    },
    /// The state kept from the last round belongs to a model of another size.
    #[error("the state of the rule is for {found} parameters, the model has {expected}")]
    StateLength {
        /// Parameters of the model.
        expected: usize,
        /// Parameters in the state.
        found: usize,
    },
    /// The threshold of the detector is out of range.
    #[error("the threshold of the detector must be finite and above 0, not {found}")]
    Threshold {
        /// The threshold found.
        found: f64,
    },
    /// A norm that an update is expected to have is out of range.
    #[error("the norm of an expected update must be finite and above 0, not {found}")]
    Expected {
        /// The norm found.
        found: f64,
    },
    /// The stored history of the detector cannot be read.
    #[error("the stored history of the detector cannot be restored: {0}")]
    DetectorState(#[source] StateFault),
    /// Stored state cannot be read.
    #[error("the stored state of the rule cannot be restored: {0}")]
    State(#[from] StateFault),
}

fn names(sites: &[SiteId]) -> String {
    sites.iter().map(SiteId::as_str).collect::<Vec<_>>().join(", ")
}

/// What is wrong with stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateFault {
    /// The bytes do not begin with the mark of this format.
    #[error("it is of another kind or version")]
    Format,
    /// The state was written by another rule.
    #[error("it belongs to another rule")]
    OtherRule,
    /// Bytes are missing or left over.
    #[error("it has {found} bytes, its header announces another length")]
    Length {
        /// Bytes found.
        found: usize,
    },
    /// A site's name is not a name, or the names are not in order.
    #[error("entry {entry} has no valid name or is out of order")]
    Name {
        /// Which entry, from 0.
        entry: usize,
    },
    /// A value is NaN or infinite.
    #[error("entry {entry} is not finite")]
    NotFinite {
        /// Which entry, from 0.
        entry: usize,
    },
}
