//! The federation's journal in the store.
//!
//! The report of a round is written before the state that follows it. After a crash between the two
//! the round is done again from the earlier state, to the same bits, and replaces its report.

use super::audit::Audit;
use super::model::RoundModels;
use super::orchestrator_log::OrchestratorLog;
use medfed_federation::report::{RoundReport, Timing};
use medfed_federation::{Coordinator, Journal, Snapshot};
use medfed_store::{ProgressPart, Store, StoreError, Timestamp};
use medfed_types::{RoundId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// Owner of the part that holds the times.
const TIMING: &str = "timing";
/// Between an owner and the name of one of its buffers; no site name has it.
const SEPARATOR: char = '/';

/// Writes a run's rounds, events and state.
#[derive(Debug)]
pub(super) struct StoreJournal {
    store: Store,
    run: RunId,
    timing: Timing,
    /// Seconds of earlier sittings.
    before: f64,
    started: Instant,
    /// The end of the round before.
    mark: Instant,
    /// Writes the model of each round, when asked.
    models: Option<RoundModels>,
    /// Written after each round, while the orchestrator is on.
    pub(super) decisions: Option<OrchestratorLog>,
    /// Written before the state of a round is kept.
    pub(super) audit: Option<Audit>,
}

impl StoreJournal {
    /// A journal of a run whose earlier sittings took `before`.
    pub(super) fn new(
        store: Store,
        run: RunId,
        before: Timing,
        started: Instant,
        models: Option<RoundModels>,
        decisions: Option<OrchestratorLog>,
        audit: Option<Audit>,
    ) -> Self {
        let mark = Instant::now();
        Self { store, run, before: before.total, timing: before, started, mark, models, decisions, audit }
    }

    /// Times so far, this sitting included.
    pub(super) fn timing(&self) -> Timing {
        let total = self.before + self.started.elapsed().as_secs_f64();
        Timing { total, rounds: self.timing.rounds.clone() }
    }

    fn save(&self, state: &[Snapshot]) -> Result<(), StoreError> {
        let meta = serde_json::to_value(self.timing())
            .map_err(|source| StoreError::Json { what: "timing", source })?;
        let mut parts = vec![ProgressPart { owner: TIMING.to_owned(), meta, bytes: Vec::new() }];
        for snapshot in state {
            let (owner, meta) = (snapshot.owner.clone(), snapshot.meta.clone());
            parts.push(ProgressPart { owner, meta, bytes: Vec::new() });
            for (name, bytes) in &snapshot.blobs {
                let owner = format!("{}{SEPARATOR}{name}", snapshot.owner);
                parts.push(ProgressPart { owner, meta: serde_json::Value::Null, bytes: bytes.clone() });
            }
        }
        self.store.save_progress(&self.run, &parts)
    }
}

impl Journal for StoreJournal {
    type Error = JournalError;

    fn commit_round(&mut self, report: &RoundReport, state: &[Snapshot]) -> Result<(), JournalError> {
        let round = RoundId(report.round_num);
        for hospital in &report.hospitals {
            self.store.append_site_round(&self.run, round, &hospital.hospital, hospital)?;
        }
        self.store.append_round(&self.run, round, report)?;
        self.timing.rounds.truncate(report.round_num.saturating_sub(1) as usize);
        self.timing.rounds.push(self.mark.elapsed().as_secs_f64());
        let timing = serde_json::to_string(&self.timing())
            .map_err(|source| StoreError::Json { what: "timing", source })?;
        self.store.put_document(&self.run, TIMING, &timing)?;
        self.mark = Instant::now();
        if let (Some(models), Some(parameters)) = (&self.models, Coordinator::saved_parameters(state)) {
            models.write(report, &parameters).map_err(|failure| JournalError::Model(failure.into_error()))?;
        }
        if let Some(log) = &mut self.decisions {
            log.round(report).map_err(|failure| JournalError::Log(failure.into_error()))?;
        }
        if let Some(audit) = &mut self.audit {
            audit.round(report)?;
        }
        Ok(self.save(state)?)
    }

    fn suspend(&mut self, state: &[Snapshot]) -> Result<(), JournalError> {
        Ok(self.save(state)?)
    }

    fn amend(&mut self, field: &str, values: &[(String, serde_json::Value)]) -> Result<(), JournalError> {
        Ok(self.store.amend_progress(&self.run, field, values)?)
    }

    fn event(&mut self, round: u32, kind: &str, detail: &serde_json::Value) -> Result<(), JournalError> {
        // Decisions about the budget are logged in words, at their own levels.
        if kind != "budget_decision" {
            tracing::warn!(round, kind, %detail, "event");
        }
        Ok(self.store.event(&self.run, Some(RoundId(round)), Timestamp::now(), kind, detail)?)
    }
}

/// How a run's journal fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// The store did.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model of the round could not be written.
    #[error("the round's model could not be written")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The audit log could not be written.
    #[error("the round is not in the audit log")]
    Audit(#[from] medfed_audit::AuditError),
    /// The orchestrator's log could not be written.
    #[error("the orchestrator's log could not be written")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where an unfinished run stands.
#[derive(Debug)]
pub(super) struct Saved {
    /// Everyone's state.
    pub(super) state: Vec<Snapshot>,
    /// The reports of the stored rounds.
    pub(super) reports: Vec<RoundReport>,
    /// Times of the earlier sittings.
    pub(super) timing: Timing,
}

impl Saved {
    /// Rounds after which the state goes on. There may be a report more than that.
    pub(super) fn done(&self) -> RoundId {
        Coordinator::saved_round(&self.state).unwrap_or(RoundId(0))
    }

    /// Reads the state of a run back.
    pub(super) fn load(store: &Store, run: &RunId) -> Result<Self, StoreError> {
        let json = |source| StoreError::Json { what: "saved state", source };
        let mut timing = Timing::default();
        let mut snapshots: BTreeMap<String, Snapshot> = BTreeMap::new();
        for part in store.load_progress(run)? {
            let empty = |owner: &str| Snapshot {
                owner: owner.to_owned(),
                meta: serde_json::Value::Null,
                blobs: BTreeMap::new(),
            };
            if part.owner == TIMING {
                timing = serde_json::from_value(part.meta).map_err(json)?;
            } else if let Some((owner, name)) = part.owner.split_once(SEPARATOR) {
                let snapshot = snapshots.entry(owner.to_owned()).or_insert_with(|| empty(owner));
                snapshot.blobs.insert(name.to_owned(), part.bytes);
            } else {
                let owner = part.owner;
                snapshots.entry(owner.clone()).or_insert_with(|| empty(&owner)).meta = part.meta;
            }
        }
        let reports = store
            .rounds(run)?
            .into_iter()
            .map(|round| serde_json::from_value(round.report).map_err(json))
            .collect::<Result<_, _>>()?;
        Ok(Self { state: snapshots.into_values().collect(), reports, timing })
    }
}

/// What is stored about a run besides its rounds, so that it can be resumed as it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The effective configuration.
    pub(crate) config: serde_json::Value,
    /// SHA-256 of pixels, labels and their division, in hexadecimal.
    pub(crate) data: String,
    /// Whether noise and samples follow from the seed.
    pub(super) reproducible_noise: bool,
}
