//! Whether a model serves every hospital and every group of patients.
//!
//! ```text
//! at a hospital:   Predictions + Partition ─► GroupTally ── suppress ─► what leaves: counts or nothing
//! at the centre:   tallies of all hospitals ─► sum ─► AttributeFairness (intervals from the counts)
//! on a test set:   Predictions + Partition ─► AttributeFairness (intervals by bootstrap over patients)
//! hospitals + attributes + Thresholds ─► FairnessReport (score, violations)
//! ```
//!
//! With two classes, class 1 is the favourable or unfavourable outcome that is compared ("positive"). With
//! more, every class is compared against the rest and the largest difference counts. The rates of a group:
//! *accuracy*; *selection rate*, the share predicted positive; *true positive rate* (sensitivity) and
//! *false positive rate*. A rate whose denominator is empty is not defined and left out.
//!
//! | measure | definition |
//! |---|---|
//! | demographic parity difference, ratio | largest selection rate minus, or under, the smallest (Dwork et al. 2012; Fairlearn's definition) |
//! | equalised odds difference | the larger of the spreads of true and of false positive rates (Hardt, Price, Srebro 2016) |
//! | disparate impact | selection rate of a group over that of the largest group; the one furthest from 1 |
//! | accuracy parity | largest accuracy minus the smallest |
//!
//! *Not* covered by differential privacy: counts that leave a hospital are exact. Groups with few patients
//! are held back there ([`GroupTally::suppress`]); a count of a large group may still be small.

mod attribute;
mod gap;
mod partition;
mod report;
mod reweight;
mod tally;

pub use attribute::{AttributeFairness, GroupFairness, GroupRates};
pub use gap::{Gap, Rate};
pub use partition::{MOST_GROUPS, Partition};
pub use report::{
    Criterion, FairnessReport, HospitalFairness, HospitalMeasurement, HospitalResult, Thresholds, Violation,
};
pub use reweight::reweighted;
pub use tally::{Cells, GroupCounts, GroupTally, ReportedTally};

#[cfg(test)]
mod tests;
