//! Coordinator and sites in one process: the same state machines as between machines, without a network.

mod chronicle;

use crate::attack::{Attack, AttackReport, Attackers};
use crate::coordinator::{Aborted, Coordinator, Ended, Evaluating, Selection, Training};
use crate::error::FederationError;
use crate::evaluation::{SiteEvaluation, evaluate, predict};
use crate::grouping::Grouping;
use crate::journal::{Journal, Snapshot};
use crate::masking::{Order, Party, unmask};
use crate::observer::{Observer, Progress};
use crate::report::{
    FinalEvaluation, FinalFairness, HospitalPerformance, PrivacySpent, RoundReport, RunStatus,
    SecurityReport, SiteDecision,
};
use crate::site::{Images, LocalOutcome, RawUpdate, Site, SiteReply};
use chronicle::Chronicle;
use medfed_dp::LedgerStorage;
use medfed_eval::fairness::FairnessReport;
use medfed_eval::{Details, Performance, Resampling};
use medfed_nn::Executor;
use medfed_secagg::Identity;
use medfed_types::{Cancel, SecretKey, SiteId};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A federation in one process.
#[derive(Debug)]
pub struct Simulation<S> {
    coordinator: Coordinator,
    sites: Vec<Site<S>>,
    executor: Arc<Executor>,
    test: TestSet,
    attack: Option<Attack>,
    /// The coordinator's, for this run: names sessions.
    key: Option<SecretKey>,
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
        Self { coordinator, sites, executor, test, attack, key: None }
    }

    /// Gives every hospital its key where updates are masked; `signing` is not asked otherwise.
    /// `coordinator` and the hospitals' keys are of this run alone, and the same in every sitting: a round
    /// that is done again repeats its sessions. Call it before [`restore`](Self::restore).
    pub fn enrolled<E>(
        mut self,
        coordinator: &SecretKey,
        mut signing: impl FnMut(&SiteId) -> Result<SecretKey, E>,
    ) -> Result<Self, E> {
        if self.coordinator.is_masked() {
            for site in &mut self.sites {
                let key = signing(site.id())?;
                let identity = Identity::new(site.id().clone(), &key.subkey("identity", &[]));
                site.enrol(Party::new(identity, key.subkey("coins", &[])));
            }
            self.key = Some(coordinator.subkey("coordinator", &[]));
        }
        Ok(self)
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
        let Self { mut coordinator, mut sites, executor, test, attack, key } = self;
        let attackers = attack.as_ref().map(|attack| &attack.attackers);
        let mut chronicle = Chronicle::new(journal, observer);
        if coordinator.done().0 == 0 {
            // From here on a run that is killed can be resumed.
            chronicle.suspend(&snapshots(&coordinator, &sites))?;
            if let Some(attackers) = attackers {
                chronicle.attack(attackers)?;
            }
        }
        let mut last_decisions = Vec::new();
        let mut aborted_round = None;
        let (status, reason) = loop {
            if cancel.is_cancelled() && coordinator.has_rounds_left() {
                chronicle.suspend(&snapshots(&coordinator, &sites))?;
                break (RunStatus::Interrupted, None);
            }
            let training = match coordinator.select()? {
                Selection::Ended(ended) => {
                    let Ended { coordinator: last, status, reason, decisions } = ended;
                    coordinator = last;
                    chronicle.decisions(coordinator.done().next(), &decisions)?;
                    last_decisions = decisions;
                    break (status, reason);
                }
                Selection::Round(training) => training,
            };
            chronicle.decisions(training.round(), training.decisions())?;
            let training = match train(training, &mut sites, attackers, observer, cancel)? {
                Trained::Open(training) => training,
                Trained::Withheld(mut training, order, held) => {
                    let key = key.as_ref().ok_or(FederationError::NotEnrolled)?;
                    let unmasked = unmask(order, &mut sites, held, key, |sites| chronicle.masked(sites))?;
                    training.open(unmasked);
                    training
                }
                Trained::Interrupted(suspended) => {
                    coordinator = suspended;
                    chronicle.suspend(&snapshots(&coordinator, &sites))?;
                    break (RunStatus::Interrupted, None);
                }
            };
            match training.aggregate() {
                Ok(mut evaluating) => {
                    chronicle.aggregated(&evaluating)?;
                    evaluate_round(&mut evaluating, &sites, &executor, &test)?;
                    let (next, report) = evaluating.commit();
                    coordinator = next;
                    sites.iter_mut().for_each(Site::end_round);
                    chronicle.commit(&coordinator, &report, &snapshots(&coordinator, &sites))?;
                }
                Err(aborted) => {
                    chronicle.aborted(&aborted)?;
                    let Aborted { coordinator: last, round, reason, budget_exhausted, security, .. } =
                        *aborted;
                    coordinator = last;
                    aborted_round = Some(security);
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

/// Measures the new global model where that is due.
fn evaluate_round<S: LedgerStorage>(
    evaluating: &mut Evaluating,
    sites: &[Site<S>],
    executor: &Executor,
    test: &TestSet,
) -> Result<(), FederationError> {
    let parameters = Arc::clone(evaluating.parameters());
    let evaluators = evaluating.evaluators();
    for site in sites.iter().filter(|site| evaluators.contains(site.id())) {
        if let Some(evaluation) = site.evaluate(&parameters)? {
            evaluating.receive(site.id().clone(), evaluation)?;
        }
    }
    if evaluating.is_due()
        && let Some(performance) = evaluate(executor, &parameters, &*test.source, &test.images)?
    {
        evaluating.receive_test(performance);
    }
    Ok(())
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

#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Trained {
    /// The coordinator has the updates.
    Open(Training),
    /// Each hospital has its own, and is asked to sum them.
    Withheld(Training, Order, BTreeMap<SiteId, RawUpdate>),
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
    let Some(order) = training.order()? else {
        for (site, reply) in replies {
            training.receive(site, reply)?;
        }
        return Ok(Trained::Open(training));
    };
    // Updates stay with their hospitals.
    let mut held: BTreeMap<SiteId, RawUpdate> = BTreeMap::new();
    for (site, reply) in replies {
        let reply = match reply {
            SiteReply::Trained { update, report } => {
                held.insert(site.clone(), update);
                SiteReply::Withheld { report }
            }
            other => other,
        };
        training.receive(site, reply)?;
    }
    Ok(Trained::Withheld(training, order, held))
}

fn snapshots<S: LedgerStorage>(coordinator: &Coordinator, sites: &[Site<S>]) -> Vec<Snapshot> {
    std::iter::once(coordinator.snapshot()).chain(sites.iter().map(Site::snapshot)).collect()
}
