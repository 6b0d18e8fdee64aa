//! Files, events and the display of a run between machines, while it goes on.

use super::{Coordinated, Founded, Prepared, RoundModels, lock, metadata};
use crate::failure::Failure;
use crate::run::live::Live;
use crate::run::orchestrator_log::OrchestratorLog;
use medfed_federation::report::{RoundReport, Timing};
use medfed_federation::{Coordinator, Observer as _, Progress, Snapshot};
use medfed_net::runtime::{CoordinatorKeeper, KeeperError};
use medfed_protocol::Payload;
use medfed_protocol::coordinator::{Finished, Notice};
use medfed_store::{Store, Timestamp};
use medfed_types::{Epsilon, RoundId, RunId, SiteId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Name of the document with the times of the rounds.
pub(super) const TIMING: &str = "timing";

/// What the keeper leaves for the end of the sitting.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) finished: Option<Finished>,
    pub(super) reports: Vec<RoundReport>,
    pub(super) timing: Timing,
}

/// Keeps the run's files.
pub(super) struct Keeper {
    store: Store,
    run: RunId,
    live: Live,
    announce: Box<dyn Fn(&str) + Send>,
    kept: Arc<Mutex<Kept>>,
    decisions: Option<OrchestratorLog>,
    models: Option<PathBuf>,
    /// For the models of single rounds.
    about: Arc<Mutex<Option<Founded>>>,
    describe: Box<dyn Fn(&Founded) -> medfed_nn::checkpoint::CheckpointMetadata + Send>,
    /// Seconds of earlier sittings.
    before: f64,
    started: Instant,
    mark: Instant,
}

impl Keeper {
    pub(super) fn new(
        run: &Coordinated,
        reports: Vec<RoundReport>,
        timing: Timing,
        decisions: Option<OrchestratorLog>,
    ) -> Self {
        let Prepared { id, config, .. } = &run.prepared;
        let progress = run.folders.results.join("progress.json");
        let rounds = config.federated.num_rounds;
        let live = Live::new(Arc::clone(&run.display), progress, id.clone(), reports.len() as u32, rounds);
        let before = timing.total;
        *lock(&run.kept) = Kept { finished: None, reports, timing };
        let prepared = run.prepared.for_models();
        Self {
            store: run.store.clone(),
            run: id.clone(),
            live,
            announce: Box::new(run.display.announcer()),
            kept: Arc::clone(&run.kept),
            decisions,
            models: config.output.save_model_each_round.then(|| run.folders.checkpoints.clone()),
            about: Arc::clone(&run.founded),
            describe: Box::new(move |founded| metadata(&prepared, founded, Epsilon::ZERO, None)),
            before,
            started: run.started,
            mark: Instant::now(),
        }
    }

    fn event(&self, round: Option<RoundId>, kind: &str, detail: &Value) -> Result<(), KeeperError> {
        Ok(self.store.event(&self.run, round, Timestamp::now(), kind, detail)?)
    }
}

impl CoordinatorKeeper for Keeper {
    fn seal(&mut self, _: &RoundReport) -> Result<Payload, KeeperError> {
        Ok(Payload::default())
    }

    fn commit(
        &mut self,
        report: &RoundReport,
        state: &[Snapshot],
        _: &BTreeMap<SiteId, Payload>,
    ) -> Result<Vec<(String, String)>, KeeperError> {
        let founded = lock(&self.about).clone();
        if let (Some(folder), Some(founded), Some(parameters)) =
            (&self.models, founded, Coordinator::saved_parameters(state))
        {
            let models = RoundModels {
                folder: folder.clone(),
                metadata: (self.describe)(&founded),
                network: founded.network,
            };
            models.write(report, &parameters).map_err(Failure::into_error)?;
        }
        if let Some(log) = &mut self.decisions {
            log.round(report).map_err(Failure::into_error)?;
        }
        let mut kept = lock(&self.kept);
        kept.timing.rounds.truncate(report.round_num.saturating_sub(1) as usize);
        kept.timing.rounds.push(self.mark.elapsed().as_secs_f64());
        kept.timing.total = self.before + self.started.elapsed().as_secs_f64();
        self.mark = Instant::now();
        Ok(vec![(TIMING.to_owned(), serde_json::to_string(&kept.timing)?)])
    }

    fn committed(&mut self, report: &RoundReport) {
        let mut kept = lock(&self.kept);
        kept.reports.truncate(report.round_num.saturating_sub(1) as usize);
        kept.reports.push(report.clone());
        drop(kept);
        self.live.notice(&Progress::RoundFinished { report });
    }

    fn notice(&mut self, notice: &Notice) -> Result<(), KeeperError> {
        let round = match notice {
            Notice::Decided { round, decision } => {
                self.live.notice(&Progress::Budget { round: *round, decision });
                if decision.decision.is_notable() {
                    self.event(Some(*round), "budget_decision", &serde_json::to_value(decision)?)?;
                }
                return Ok(());
            }
            Notice::RoundStarted { round, sites, attempt } => {
                // How many steps a site has done is not told: its training is one.
                let sites: Vec<(SiteId, u64)> = sites.iter().map(|site| (site.clone(), 1)).collect();
                self.live.notice(&Progress::RoundStarted { round: *round, sites: &sites });
                tracing::info!(round = round.0, attempt, hospitals = sites.len(), "hospitals train");
                return Ok(());
            }
            Notice::Trained { round, site } => {
                self.live.notice(&Progress::Step { round: *round, site, done: 1, of: 1 });
                tracing::info!(round = round.0, hospital = site.as_str(), "trained");
                return Ok(());
            }
            Notice::Evaluating { round } => {
                self.live.notice(&Progress::Evaluating { round: *round });
                return Ok(());
            }
            Notice::Masking { .. } => {
                tracing::info!("{notice}");
                return Ok(());
            }
            Notice::Joined { .. } | Notice::Returned { .. } => {
                tracing::info!("{notice}");
                (self.announce)(&notice.to_string());
                None
            }
            Notice::Declined { round, .. } => {
                self.live.notice(&Progress::Notice { text: &notice.to_string() });
                *round
            }
            Notice::UpdateRefused { round, .. }
            | Notice::Security { round, .. }
            | Notice::RoundAborted { round, .. } => {
                self.live.notice(&Progress::Notice { text: &notice.to_string() });
                Some(*round)
            }
            _ => {
                self.live.notice(&Progress::Notice { text: &notice.to_string() });
                None
            }
        };
        let mut detail = serde_json::to_value(notice)?;
        let kind = detail.as_object_mut().and_then(|detail| detail.remove("kind"));
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("notice").to_owned();
        self.event(round, &kind, &detail)
    }

    fn link(&mut self, site: &SiteId, connected: bool, detail: &str) {
        if connected {
            tracing::info!(hospital = site.as_str(), "connected");
            (self.announce)(&format!("{site} is connected"));
        } else {
            tracing::info!(hospital = site.as_str(), "disconnected: {detail}");
            (self.announce)(&format!("{site} is gone: {detail}"));
        }
    }

    fn finished(&mut self, finished: &Finished) -> Result<(), KeeperError> {
        let mut kept = lock(&self.kept);
        kept.timing.total = self.before + self.started.elapsed().as_secs_f64();
        kept.finished = Some(finished.clone());
        Ok(())
    }
}
