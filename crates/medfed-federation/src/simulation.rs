//! Coordinator and sites in one process: the same state machines as between machines, without a network.

use crate::attack::{Attack, AttackReport, Attackers};
use crate::coordinator::{Aborted, Coordinator, Ended, Selection, Training};
use crate::error::FederationError;
use crate::evaluation::{SiteEvaluation, evaluate, predict};
use crate::grouping::Grouping;
use crate::journal::{Journal, Snapshot};
use crate::observer::{Observer, Progress};
use crate::report::{
    FinalEvaluation, FinalFairness, HospitalPerformance, PrivacySpent, RoundReport, RunStatus,
    SecurityReport, SiteDecision, SiteStatus,
};
use crate::site::{Images, LocalOutcome, Site, SiteReply};
use medfed_dp::LedgerStorage;
use medfed_eval::fairness::FairnessReport;
use medfed_eval::{Details, Performance, Resampling};
use medfed_nn::Executor;
use medfed_types::{Cancel, RoundId, SiteId};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A federation in one process.
#[derive(Debug)]
pub struct Simulation<S> {
    coordinator: Coordinator,
    sites: Vec<Site<S>>,
    executor: Arc<Executor>,
    test: TestSet,
    attack: Option<Attack>,
}

/// The common test set.
pub(crate) struct TestSet {
    /// The set that holds it.
    pub(crate) source: Images,
    /// Its images.
    pub(crate) images: Vec<u32>,
    /// Groups of patients of the set, when fairness is measured.
    pub(crate) grouping: Option<Grouping>,
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
    /// The decisions by which hospitals left before a round that did not come.
    pub last_decisions: Vec<SiteDecision>,
    /// What was wrong with the updates of the round that was aborted, if one was.
    pub aborted: Option<SecurityReport>,
    /// Parameters of the best model, or the initial ones when no round was done.
    pub parameters: Arc<Vec<f32>>,
    /// Its round.
    pub best_round: Option<u32>,
    /// Its performance on the test set; nothing without test images, and before the first round.
    pub test: Option<Performance>,
    /// Everything measured about the best model at the end; nothing before the first round, and when the run
    /// was interrupted.
    pub evaluation: Option<FinalEvaluation>,
    /// What each hospital has spent, by its own ledger.
    pub spent: Vec<(SiteId, Option<PrivacySpent>)>,
    /// The attack that was simulated.
    pub attack: Option<AttackReport>,
}

impl<S: LedgerStorage + Send> Simulation<S> {
    /// Puts coordinator and sites together; `attack` says which of the sites misbehave.
    pub(crate) fn new(
        coordinator: Coordinator,
        sites: Vec<Site<S>>,
        executor: Arc<Executor>,
        test: TestSet,
        attack: Option<Attack>,
    ) -> Self {
        Self { coordinator, sites, executor, test, attack }
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
        let Self { mut coordinator, mut sites, executor, test, attack } = self;
        let attackers = attack.as_ref().map(|attack| &attack.attackers);
        if coordinator.done().0 == 0 {
            // From here on a run that is killed can be resumed.
            journal.suspend(&snapshots(&coordinator, &sites)).map_err(FederationError::journal)?;
            if let Some(attackers) = attackers {
                let detail = json!({ "attack": attackers.attack(), "attackers": attackers.sites() });
                journal.event(0, "attack_simulated", &detail).map_err(FederationError::journal)?;
            }
        }
        let mut last_decisions = Vec::new();
        let mut aborted_round = None;
        let mut said = BTreeSet::new();
        let (status, reason) = loop {
            if cancel.is_cancelled() && coordinator.has_rounds_left() {
                journal.suspend(&snapshots(&coordinator, &sites)).map_err(FederationError::journal)?;
                break (RunStatus::Interrupted, None);
            }
            let training = match coordinator.select()? {
                Selection::Ended(ended) => {
                    let Ended { coordinator: last, status, reason, decisions } = *ended;
                    coordinator = last;
                    announce(coordinator.done().next(), &decisions, journal, observer)?;
                    last_decisions = decisions;
                    break (status, reason);
                }
                Selection::Round(training) => training,
            };
            announce(training.round(), training.decisions(), journal, observer)?;
            let training = match train(training, &mut sites, attackers, observer, cancel)? {
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
                    tell(round, evaluating.security(), &mut said, journal, observer)?;
                    if let Some(watch) = evaluating.orchestration() {
                        for anomaly in &watch.anomalies {
                            notice(observer, &format!("round {round}: {anomaly}"));
                            record(journal, round, "measurement_out_of_line", anomaly)?;
                        }
                        say_once(watch.warnings.iter(), &mut said, observer);
                    }
                    let parameters = Arc::clone(evaluating.parameters());
                    let evaluators = evaluating.evaluators();
                    for site in sites.iter().filter(|site| evaluators.contains(site.id())) {
                        if let Some(evaluation) = site.evaluate(&parameters)? {
                            evaluating.receive(site.id().clone(), evaluation)?;
                        }
                    }
                    if evaluating.is_due()
                        && let Some(performance) =
                            evaluate(&executor, &parameters, &*test.source, &test.images)?
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
                    judge(&coordinator, &report, &mut said, journal, observer)?;
                }
                Err(aborted) => {
                    let Aborted { coordinator: last, round, reason, culprits, budget_exhausted, security } =
                        *aborted;
                    coordinator = last;
                    tell(round, &security, &mut said, journal, observer)?;
                    aborted_round = Some(security);
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
            last_decisions,
            aborted: aborted_round,
            best_round: best.map(|best| best.round),
            attack: match &attack {
                Some(attack) => {
                    Some(attack.report(&executor, best.map(|best| best.parameters.as_slice()), &test)?)
                }
                None => None,
            },
            evaluation: match best {
                Some(best) if status != RunStatus::Interrupted => {
                    Some(measure(&coordinator, &sites, &executor, &best.parameters, &test)?)
                }
                _ => None,
            },
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

/// Measures the model that the run leaves: at every hospital and on the test set.
fn measure<S: LedgerStorage>(
    coordinator: &Coordinator,
    sites: &[Site<S>],
    executor: &Executor,
    parameters: &[f32],
    test: &TestSet,
) -> Result<FinalEvaluation, FederationError> {
    let mut evaluations: BTreeMap<SiteId, SiteEvaluation> = BTreeMap::new();
    for site in sites {
        if let Some(evaluation) = site.evaluate(parameters)? {
            evaluations.insert(site.id().clone(), evaluation);
        }
    }
    let resampling = Resampling::new(coordinator.seed());
    let predictions = predict(executor, parameters, &*test.source, &test.images)?;
    let alone = || (0..test.images.len() as u32).collect();
    let patients = test.grouping.as_ref().map_or_else(alone, |groups| groups.patients(&test.images));
    let details = predictions.as_ref().map(|found| Details::of(found, &patients, resampling)).transpose()?;
    let fairness = match &coordinator.evaluation().fairness {
        Some(plan) => {
            let on_test = match (&predictions, &test.grouping) {
                (Some(found), Some(groups)) => {
                    let attributes = groups.measure(found, &test.images, resampling)?;
                    Some(FairnessReport::of(&[], false, attributes, &plan.thresholds, plan.least))
                }
                _ => None,
            };
            let validation = if evaluations.is_empty() { None } else { Some(plan.measure(&evaluations)?) };
            Some(FinalFairness { validation, test: on_test })
        }
        None => None,
    };
    let hospitals =
        evaluations.into_iter().map(|(hospital, SiteEvaluation { performance, patients, .. })| {
            HospitalPerformance { hospital, patients, performance }
        });
    Ok(FinalEvaluation { hospitals: hospitals.collect(), test: details, fairness })
}

/// Records and tells what is unfair about the model of a round, and what follows.
fn judge<J: Journal>(
    coordinator: &Coordinator,
    report: &RoundReport,
    said: &mut BTreeSet<String>,
    journal: &mut J,
    observer: &dyn Observer,
) -> Result<(), FederationError> {
    let (Some(plan), Some(fairness)) = (&coordinator.evaluation().fairness, &report.fairness) else {
        return Ok(());
    };
    let round = RoundId(report.round_num);
    let violations = &fairness.measured.violations;
    if plan.warns && !violations.is_empty() {
        violations.iter().try_for_each(|found| record(journal, round, "fairness_violation", found))?;
        let certain = violations.iter().filter(|found| found.confirmed).count();
        let first = violations.iter().find(|found| found.confirmed).unwrap_or(&violations[0]);
        let count = violations.len();
        let text = format!("fairness: thresholds passed: {count}, of them with certainty {certain}; {first}");
        say_once([text].iter(), said, observer);
    }
    if !fairness.weight_factors.is_empty() {
        record(journal, round, "weights_adjusted", &fairness.weight_factors)?;
    }
    Ok(())
}

enum Trained {
    Round(Training),
    Interrupted(Coordinator),
}

/// Lets the selected sites train, side by side.
fn train<S: LedgerStorage + Send>(
    mut training: Training,
    sites: &mut [Site<S>],
    attackers: Option<&Attackers>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Trained, FederationError> {
    let mut selected: Vec<&mut Site<S>> =
        sites.iter_mut().filter(|site| training.selected().contains(site.id())).collect();
    let planned: Vec<(SiteId, u64)> =
        selected.iter().map(|site| (site.id().clone(), site.planned_steps())).collect();
    observer.notice(&Progress::RoundStarted { round: training.round(), sites: &planned });
    let mut interrupted = false;
    let mut replies: Vec<(SiteId, SiteReply)> = Vec::with_capacity(selected.len());
    // Each site at work holds a workspace of the executor; no more of them at a time than threads bounds
    // memory however many hospitals there are.
    for group in selected.chunks_mut(rayon::current_num_threads().max(1)) {
        let outcomes: Vec<(SiteId, LocalOutcome)> = group
            .par_iter_mut()
            .map(|site| Ok((site.id().clone(), site.train(&training.request(site.id()), cancel, observer)?)))
            .collect::<Result<_, FederationError>>()?;
        for (site, outcome) in outcomes {
            match outcome {
                LocalOutcome::Replied(reply) => replies.push((site, reply)),
                LocalOutcome::Interrupted => interrupted = true,
            }
        }
    }
    if interrupted {
        return Ok(Trained::Interrupted(training.suspend()));
    }
    if let Some(attackers) = attackers {
        attackers.replace(training.round(), &mut replies);
    }
    for (site, reply) in replies {
        training.receive(site, reply)?;
    }
    Ok(Trained::Round(training))
}

/// Records what the orchestrator decided and tells of it.
fn announce<J: Journal>(
    round: RoundId,
    decisions: &[SiteDecision],
    journal: &mut J,
    observer: &dyn Observer,
) -> Result<(), FederationError> {
    for decision in decisions {
        if decision.decision.is_notable() {
            record(journal, round, "budget_decision", decision)?;
        }
        observer.notice(&Progress::Budget { round, decision });
    }
    Ok(())
}

/// Records what was wrong with the updates of a round and tells of it.
fn tell<J: Journal>(
    round: RoundId,
    security: &SecurityReport,
    said: &mut BTreeSet<String>,
    journal: &mut J,
    observer: &dyn Observer,
) -> Result<(), FederationError> {
    for exclusion in &security.exclusions {
        record(journal, round, "update_excluded", exclusion)?;
    }
    for anomaly in &security.anomalies {
        record(journal, round, "update_out_of_line", anomaly)?;
    }
    if let Some(sentence) = security.sentence() {
        notice(observer, &format!("round {round}: {sentence}"));
    }
    say_once(security.warnings.iter(), said, observer);
    Ok(())
}

/// Says each warning once, not again whenever its numbers change.
fn say_once<'a>(
    warnings: impl Iterator<Item = &'a String>,
    said: &mut BTreeSet<String>,
    observer: &dyn Observer,
) {
    for warning in warnings {
        if said.insert(warning.chars().filter(|c| !c.is_ascii_digit()).collect()) {
            notice(observer, warning);
        }
    }
}

fn notice(observer: &dyn Observer, text: &str) {
    observer.notice(&Progress::Notice { text });
}

fn record<J: Journal>(
    journal: &mut J,
    round: RoundId,
    kind: &str,
    detail: &impl Serialize,
) -> Result<(), FederationError> {
    let detail = serde_json::to_value(detail).expect("reports are JSON with text keys");
    journal.event(round.0, kind, &detail).map_err(FederationError::journal)
}

fn snapshots<S: LedgerStorage>(coordinator: &Coordinator, sites: &[Site<S>]) -> Vec<Snapshot> {
    std::iter::once(coordinator.snapshot()).chain(sites.iter().map(Site::snapshot)).collect()
}
