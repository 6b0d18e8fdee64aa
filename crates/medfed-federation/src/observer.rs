//! Watching a run from outside: progress bars, logs, a dashboard.

use crate::report::{RoundReport, SiteDecision};
use medfed_types::{RoundId, SiteId};

/// Something that just happened. Observers must be quick: they are called between steps.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The orchestrator decided about a hospital's next round.
    Budget {
        /// The round.
        round: RoundId,
        /// The decision.
        decision: &'a SiteDecision,
    },
    /// Hospitals begin local training.
    RoundStarted {
        /// The round.
        round: RoundId,
        /// Each selected hospital with its planned local steps.
        sites: &'a [(SiteId, u64)],
    },
    /// A hospital finished a local step.
    Step {
        /// The round.
        round: RoundId,
        /// The hospital.
        site: &'a SiteId,
        /// Steps done in this round.
        done: u64,
        /// Steps planned in this round.
        of: u64,
    },
    /// The new global model is being evaluated.
    Evaluating {
        /// The round.
        round: RoundId,
    },
    /// A round is committed.
    RoundFinished {
        /// Its report.
        report: &'a RoundReport,
    },
    /// Something that people should know: a site left, an update was refused, a warning.
    Notice {
        /// One sentence.
        text: &'a str,
    },
}

/// Receives progress, from several threads at once.
pub trait Observer: Sync {
    /// Called for each event.
    fn notice(&self, progress: &Progress<'_>);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn notice(&self, _: &Progress<'_>) {}
}
