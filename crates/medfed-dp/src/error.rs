//! Everything that can go wrong between a plan and its ledger.

use medfed_types::{ClipNorm, Delta, Epsilon, RoundId, SamplingRate, ScalarError, SiteId};

/// A refused plan, sum, step or ledger entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DpError {
    /// A scalar is outside the range that the mechanisms support.
    #[error(transparent)]
    Scalar(#[from] ScalarError),
    /// The sum was clipped to another norm than the plan's, so the noise would not cover it.
    #[error("the sum is clipped to {found}, the plan's noise covers {expected}")]
    ClipNorm {
        /// The plan's clipping norm.
        expected: ClipNorm,
        /// The sum's clipping norm.
        found: ClipNorm,
    },
    /// The step was paid for under another unit, rate, noise, clipping norm, divisor or mode than the plan's.
    #[error("round {round} was paid for under other terms than the plan's")]
    OtherTerms {
        /// The round of the paid step.
        round: RoundId,
    },
    /// The sum has a value that is not finite, so its sensitivity is unknown.
    #[error("value {index} of the clipped sum is not finite")]
    NotFinite {
        /// Position in the flat parameter buffer.
        index: usize,
    },
    /// No further step fits the budget.
    #[error("{site} has spent epsilon {spent} of its budget {budget}: no further step fits")]
    BudgetExhausted {
        /// The hospital.
        site: SiteId,
        /// ε spent so far, by the plan's accountant.
        spent: Epsilon,
        /// The plan's budget.
        budget: Epsilon,
    },
    /// The round is paid for, but under another request.
    #[error("{site} has already paid for round {round} with another {what}")]
    AlreadyPaid {
        /// The hospital.
        site: SiteId,
        /// The round.
        round: RoundId,
        /// The first part of the request that differs, in words.
        what: &'static str,
    },
    /// A round older than the newest paid one was never paid for.
    #[error("{site} cannot pay for round {round} after round {newest}")]
    RoundOrder {
        /// The hospital.
        site: SiteId,
        /// The round asked for.
        round: RoundId,
        /// The newest paid round.
        newest: RoundId,
    },
    /// The privacy unit cannot change within one history: the two guarantees do not compose.
    #[error("the ledger of {site} counts the unit {recorded}, the plan protects the unit {asked}")]
    UnitChanged {
        /// The hospital.
        site: SiteId,
        /// The unit of the recorded steps.
        recorded: crate::PrivacyUnit,
        /// The plan's unit.
        asked: crate::PrivacyUnit,
    },
    /// An entry of the ledger cannot be what was written.
    #[error("entry {position} in the ledger of {site} {problem}")]
    LedgerEntry {
        /// The hospital.
        site: SiteId,
        /// Position of the entry, counted from 0.
        position: usize,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// No accountant has that name.
    #[error("an accountant is pld or rdp, not {found:?}")]
    UnknownAccountant {
        /// The name found.
        found: String,
    },
    /// No noise keeps the planned steps, beside those already taken, within the target.
    #[error(
        "no noise multiplier up to 1e6 keeps {steps} steps at sampling rate {rate} within epsilon {target} at delta {delta}"
    )]
    Unreachable {
        /// The ε to stay within.
        target: Epsilon,
        /// Steps planned.
        steps: u64,
        /// Their sampling rate.
        rate: SamplingRate,
        /// The δ of the guarantee.
        delta: Delta,
    },
    /// The ledger's storage failed; nothing was granted.
    #[error("the ledger's storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is wrong with a ledger entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// Wrong length.
    #[error("has {found} bytes, not {expected}")]
    Length {
        /// Bytes of an entry.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Written by another version.
    #[error("has the unknown format {found}")]
    Format {
        /// The format byte.
        found: u8,
    },
    /// Its own digest does not match its content.
    #[error("was altered: its digest does not match its content")]
    Digest,
    /// It does not continue the entry before it: one is missing, swapped or from another ledger.
    #[error("does not continue the entry before it")]
    Chain,
    /// Its round is not after the round before it.
    #[error("has a round that is not after the one before it")]
    RoundOrder,
    /// A field is out of its range.
    #[error("has {field} out of range")]
    Range {
        /// The field.
        field: &'static str,
    },
}
