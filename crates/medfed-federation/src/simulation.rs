//! Coordinator and sites in one process: the same state machines as between machines, without a network.

use crate::coordinator::{Aborted, Coordinator, Selection, Training};
use crate::error::FederationError;
use crate::evaluation::evaluate;
use crate::journal::{Journal, Snapshot};
use crate::observer::{Observer, Progress};
use crate::report::{PrivacySpent, RoundReport, RunStatus, SiteStatus};
use crate::site::{Images, LocalOutcome, Site};
use medfed_dp::LedgerStorage;
use medfed_eval::Performance;
use medfed_nn::Executor;
use medfed_types::{Cancel, SiteId};
use rayon::prelude::*;
use serde_json::json;
use std::sync::Arc;

/// A federation in one process.
#[derive(Debug)]
pub struct Simulation<S> {
    coordinator: Coordinator,
    sites: Vec<Site<S>>,
    executor: Arc<Executor>,
    test: TestSet,
}

/// The common test set.
pub struct TestSet {
    /// The set that holds it.
    pub source: Images,
    /// Its images.
    pub images: Vec<u32>,
}

impl std::fmt::Debug for TestSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestSet({} images)", self.images.len())
    }
}

/// How a run ended and what it leaves.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: RunStatus,
    /// Why, where that needs a sentence.
    pub reason: Option<String>,
    /// The reports of all rounds.
    pub reports: Vec<RoundReport>,
    /// Parameters of the best model, or the initial ones when no round was done.
    pub parameters: Arc<Vec<f32>>,
    /// Its round.
    pub best_round: Option<u32>,
    /// Its performance on the test set; nothing without test images, and before the first round.
    pub test: Option<Performance>,
    /// What each hospital has spent, by its own ledger.
    pub spent: Vec<(SiteId, Option<PrivacySpent>)>,
}

impl<S: LedgerStorage + Send> Simulation<S> {
    /// Puts coordinator and sites together.
    pub fn new(
        coordinator: Coordinator,
        sites: Vec<Site<S>>,
        executor: Arc<Executor>,
        test: TestSet,
    ) -> Self {
        Self { coordinator, sites, executor, test }
    }

    /// Puts everyone back to where the snapshots were taken.
    pub fn restore(&mut self, state: &[Snapshot], reports: Vec<RoundReport>) -> Result<(), FederationError> {
        let find = |owner: &str| {
            state.iter().find(|snapshot| snapshot.owner == owner).ok_or_else(|| FederationError::Saved {
                owner: owner.to_owned(),
                problem: "it is missing".to_owned(),
            })
        };
        self.coordinator.restore(find(crate::coordinator::OWNER)?, reports)?;
        for site in &mut self.sites {
            site.restore(find(&site.owner())?)?;
        }
        Ok(())
    }

    /// Runs round after round until the run ends or `cancel` stops it.
    ///
    /// Every round is durable in `journal` before the observer hears of it. Sites train in parallel on
    /// the current rayon pool.
    pub fn run<J: Journal>(
        self,
        journal: &mut J,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<Outcome, FederationError> {
        let Self { mut coordinator, mut sites, executor, test } = self;
        if coordinator.done().0 == 0 {
            // From here on a run that is killed can be resumed.
            journal.suspend(&snapshots(&coordinator, &sites)).map_err(FederationError::journal)?;
        }
        let (status, reason) = loop {
            if cancel.is_cancelled() && coordinator.has_rounds_left() {
                journal.suspend(&snapshots(&coordinator, &sites)).map_err(FederationError::journal)?;
                break (RunStatus::Interrupted, None);
            }
            let training = match coordinator.select() {
                Selection::Ended(ended, status) => {
                    coordinator = ended;
                    break (status, None);
                }
                Selection::Round(training) => training,
            };
            let training = match train(training, &mut sites, observer, cancel)? {
                Trained::Round(training) => training,
                Trained::Interrupted(suspended) => {
                    coordinator = suspended;
                    journal.suspend(&snapshots(&coordinator, &sites)).map_err(FederationError::journal)?;
                    break (RunStatus::Interrupted, None);
                }
            };
            match training.aggregate() {
                Ok(mut evaluating) => {
                    let round = evaluating.round();
                    observer.notice(&Progress::Evaluating { round });
                    for (site, reason) in evaluating.failures() {
                        let text = format!("{site}: the update was not used: {reason}");
                        observer.notice(&Progress::Notice { text: &text });
                        let detail = json!({ "hospital": site, "reason": reason });
                        journal
                            .event(round.0, "update_refused", &detail)
                            .map_err(FederationError::journal)?;
                    }
                    let parameters = Arc::clone(evaluating.parameters());
                    for site in &sites {
                        if let Some(performance) = site.evaluate(&parameters)? {
                            evaluating.receive(site.id().clone(), performance)?;
                        }
                    }
                    if let Some(performance) = evaluate(&executor, &parameters, &*test.source, &test.images)?
                    {
                        evaluating.receive_test(performance);
                    }
                    let (next, report) = evaluating.commit();
                    coordinator = next;
                    sites.iter_mut().for_each(Site::end_round);
                    journal
                        .commit_round(&report, &snapshots(&coordinator, &sites))
                        .map_err(FederationError::journal)?;
                    for hospital in report.hospitals.iter().filter(|h| coordinator.has_left(&h.hospital)) {
                        if hospital.status == SiteStatus::Trained && coordinator.has_rounds_left() {
                            let text =
                                format!("{} has spent its privacy budget and leaves", hospital.hospital);
                            observer.notice(&Progress::Notice { text: &text });
                        }
                    }
                    observer.notice(&Progress::RoundFinished { report: &report });
                }
                Err(aborted) => {
                    let Aborted { coordinator: unchanged, round, reason, culprits, budget_exhausted } =
                        *aborted;
                    coordinator = unchanged;
                    let detail = json!({ "reason": reason, "culprits": culprits });
                    journal.event(round.0, "round_aborted", &detail).map_err(FederationError::journal)?;
                    let status =
                        if budget_exhausted { RunStatus::BudgetExhausted } else { RunStatus::Aborted };
                    break (status, Some(format!("round {round}: {reason}")));
                }
            }
        };
        let best = coordinator.best();
        let parameters =
            best.map_or_else(|| Arc::clone(coordinator.parameters()), |b| Arc::clone(&b.parameters));
        Ok(Outcome {
            status,
            reason,
            reports: coordinator.reports().to_vec(),
            best_round: best.map(|best| best.round),
            // Before the first round there is no model whose performance would mean anything.
            test: match best {
                Some(_) => evaluate(&executor, &parameters, &*test.source, &test.images)?,
                None => None,
            },
            parameters,
            spent: sites
                .iter()
                .map(|site| Ok((site.id().clone(), site.spent()?)))
                .collect::<Result<_, FederationError>>()?,
        })
    }
}

enum Trained {
    Round(Training),
    Interrupted(Coordinator),
}

/// Lets the selected sites train, side by side.
fn train<S: LedgerStorage + Send>(
    mut training: Training,
    sites: &mut [Site<S>],
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Trained, FederationError> {
    let request = training.request();
    let mut selected: Vec<&mut Site<S>> =
        sites.iter_mut().filter(|site| training.selected().contains(site.id())).collect();
    let planned: Vec<(SiteId, u64)> =
        selected.iter().map(|site| (site.id().clone(), site.planned_steps())).collect();
    observer.notice(&Progress::RoundStarted { round: training.round(), sites: &planned });
    let mut interrupted = false;
    // Each site at work holds a workspace of the executor; no more of them at a time than threads bounds
    // memory however many hospitals there are.
    for group in selected.chunks_mut(rayon::current_num_threads().max(1)) {
        let outcomes: Vec<(SiteId, LocalOutcome)> = group
            .par_iter_mut()
            .map(|site| Ok((site.id().clone(), site.train(&request, cancel, observer)?)))
            .collect::<Result<_, FederationError>>()?;
        for (site, outcome) in outcomes {
            match outcome {
                LocalOutcome::Replied(reply) => training.receive(site, reply)?,
                LocalOutcome::Interrupted => interrupted = true,
            }
        }
    }
    Ok(if interrupted { Trained::Interrupted(training.suspend()) } else { Trained::Round(training) })
}

fn snapshots<S: LedgerStorage>(coordinator: &Coordinator, sites: &[Site<S>]) -> Vec<Snapshot> {
    std::iter::once(coordinator.snapshot()).chain(sites.iter().map(Site::snapshot)).collect()
}
