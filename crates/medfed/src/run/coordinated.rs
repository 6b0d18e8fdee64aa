//! A run between machines, as the coordinator keeps it: which run it is, and what it leaves behind.
//!
//! The files are those of a simulation, so that reports, the pages and `medfed runs` know them. What only a
//! simulation has is missing: a common test set, numbers that hospitals do not release.

mod keeper;

use super::display::Display;
use super::model::{RoundModels, plain_metadata};
use super::orchestrator_log::OrchestratorLog;
use super::prepare::{Folders, Prepared};
use super::results::Results;
use super::{ended, evaluation, log, store_failure, summary};
use crate::failure::Failure;
use crate::output;
use keeper::{Keeper, Kept};
use medfed_config::{Config, section};
use medfed_federation::report::{PrivacySpent, RoundReport};
use medfed_federation::{Announcement, Coordinator, CoordinatorSetup, FederationError, Outcome};
use medfed_net::runtime::CoordinatorKeeper;
use medfed_nn::Network;
use medfed_nn::checkpoint::{Checkpoint, CheckpointMetadata, PrivacyStatement, adapt, read_weights};
use medfed_protocol::coordinator::{Finished, Founding};
use medfed_protocol::message::{Certified, Offer};
use medfed_protocol::{CoordinatorMachine, CoordinatorTerms, Patience};
use medfed_store::Store;
use medfed_types::{Epsilon, RunId, SecretKey, Seed, SiteId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Name of the document that holds what sites were offered.
const OFFER: &str = "offer";
/// Name of the secret from which sessions of secure aggregation follow.
const SESSIONS: &str = "sessions";

/// What a coordinator is to run.
#[derive(Debug)]
pub(crate) struct CoordinatedOrder {
    /// The configuration; results and logs go where it says.
    pub(crate) config: Config,
    /// Print one JSON object instead of text.
    pub(crate) json: bool,
    /// Sites add noise that follows from the seed.
    pub(crate) reproducible_noise: bool,
    /// The folder goes when the run is over: where files are is not said.
    pub(crate) temporary: bool,
}

/// A run between machines.
#[derive(Debug)]
pub(crate) struct Coordinated {
    order: CoordinatedOrder,
    store: Store,
    prepared: Prepared,
    folders: Folders,
    display: Arc<Display>,
    started: Instant,
    founded: Arc<Mutex<Option<Founded>>>,
    kept: Arc<Mutex<Kept>>,
    resumed: bool,
}

/// What is known once hospitals have joined.
#[derive(Debug, Clone)]
struct Founded {
    network: Arc<Network>,
    classes: Vec<String>,
}

impl Coordinated {
    /// Goes on with the folder's unfinished run, or begins one.
    pub(crate) fn open(mut order: CoordinatedOrder) -> Result<Self, Failure> {
        let started = Instant::now();
        require_built(&order.config)?;
        order.config.require_available().map_err(Failure::user)?;
        let store = Store::open(&order.config.output.results_dir).map_err(store_failure)?;
        let unfinished = store.newest_logged_run().map_err(store_failure)?;
        let resumed = unfinished.is_some();
        let mut prepared = Prepared::between_machines(unfinished, order.config.clone())?;
        if resumed {
            store.resume_run(&prepared.id).map_err(store_failure)?;
            order.reproducible_noise = prepared.reproducible_noise;
        } else {
            prepared.reproducible_noise = order.reproducible_noise;
            prepared.record(&store, &[0; 32])?;
        }
        let folders = Folders::under(&order.config);
        log::start(&folders.logs, &prepared.id)?;
        let display =
            Arc::new(Display::new(order.config.output.save_round_logs, order.config.orchestrator.log_level));
        let doing = if resumed { "goes on" } else { "begins" };
        display.say(&format!(
            "run {} {doing}: {}",
            prepared.id,
            super::summary::rounds(order.config.federated.num_rounds)
        ));
        for note in order.config.notes() {
            display.say(&format!("note: {}: {}", note.key, note.text));
        }
        if !order.config.privacy.enabled {
            display
                .warn("privacy is off: updates and model are functions of the images, nothing protects them");
        }
        Ok(Self {
            order,
            store,
            prepared,
            folders,
            display,
            started,
            founded: Arc::default(),
            kept: Arc::default(),
            resumed,
        })
    }

    /// The run.
    pub(crate) fn id(&self) -> &RunId {
        &self.prepared.id
    }

    /// Its store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Says something to whoever watches, also while bars are shown.
    pub(crate) fn announcer(&self) -> impl Fn(&str) + Send + 'static {
        self.display.announcer()
    }

    /// The machine before anything happened. The cohort is that of the run's beginning: `invited` and
    /// `revocations` count for a new run only.
    pub(crate) fn machine(
        &self,
        key: &SecretKey,
        invited: &[Certified],
        revocations: Vec<u8>,
        keys: impl Fn(&Certified) -> Result<[u8; 32], Failure>,
    ) -> Result<CoordinatorMachine, Failure> {
        let config = &self.prepared.config;
        let kept = self.store.document(&self.prepared.id, OFFER).map_err(store_failure)?;
        let offer = if let Some(text) = kept {
            serde_json::from_str(&text).map_err(Failure::internal)?
        } else {
            let offer = Offer {
                configuration: config.to_yaml(),
                rounds: config.federated.num_rounds,
                cohort: invited.to_vec(),
                revocations,
            };
            let text = serde_json::to_string(&offer).map_err(Failure::internal)?;
            self.store.put_document(&self.prepared.id, OFFER, &text).map_err(store_failure)?;
            offer
        };
        let mut known = BTreeMap::new();
        for certified in &offer.cohort {
            known.insert(certified.site.clone(), keys(certified)?);
        }
        let terms = CoordinatorTerms {
            run: self.prepared.id.clone(),
            offer,
            keys: known,
            patience: Patience::from(&config.network),
            audited: false,
        };
        let secret = if self.prepared.reproducible_noise {
            medfed_types::random::danger::reproducible_key(self.prepared.seed).subkey(SESSIONS, &[])
        } else {
            self.store.run_secret(&self.prepared.id, SESSIONS).map_err(store_failure)?
        };
        let founding =
            Founder { config: config.clone(), seed: self.prepared.seed, founded: Arc::clone(&self.founded) };
        CoordinatorMachine::new(terms, key, secret, Box::new(founding)).map_err(Failure::user)
    }

    /// What keeps the run's files up to date while it goes on.
    pub(crate) fn keeper(&self) -> Result<Box<dyn CoordinatorKeeper>, Failure> {
        let stored = self.store.rounds(&self.prepared.id).map_err(store_failure)?;
        let reports: Vec<RoundReport> = stored
            .into_iter()
            .map(|round| serde_json::from_value(round.report))
            .collect::<Result<_, _>>()
            .map_err(Failure::internal)?;
        let timing = self.store.document(&self.prepared.id, keeper::TIMING).map_err(store_failure)?;
        let timing = timing.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        self.display.plan(self.prepared.config.federated.num_rounds);
        if self.resumed {
            self.display.resumed(reports.len() as u32);
        }
        let decisions = OrchestratorLog::new(
            self.folders.logs.join("orchestrator_logs.json"),
            self.prepared.id.clone(),
            &self.prepared.config,
            &reports,
        );
        Ok(Box::new(Keeper::new(self, reports, timing, decisions)))
    }

    /// Ends the run, if it is over, and says what it leaves; a run that was stopped says how to go on.
    pub(crate) fn close(self, over: bool, resume: &str) -> Result<(), Failure> {
        self.display.end();
        let kept = std::mem::take(&mut *lock(&self.kept));
        let (Some(finished), true) = (kept.finished, over) else {
            let done = summary::rounds(kept.reports.len() as u32);
            let stopped = anyhow::anyhow!("stopped after {done}; everything done is saved");
            return Err(Failure::interrupted(stopped).hint(format!("continue with `{resume}`")));
        };
        let outcome = outcome(&finished, kept.reports);
        let results = Results::new(&self.prepared, &outcome, kept.timing);
        let checkpoint = match self.founded() {
            Some(founded) => {
                let metadata = self.metadata(&founded, spent(&outcome)?, outcome.best_round);
                Checkpoint::write(founded.network.layout(), &outcome.parameters, &metadata)
                    .map_err(Failure::internal)?
            }
            None => Vec::new(),
        };
        let saved = self.prepared.config.evaluation.save_best_model.then_some(&checkpoint);
        self.folders.write(&results, saved, &outcome)?;
        let classes = self.founded().map(|founded| founded.classes).unwrap_or_default();
        evaluation::keep(&self.store, &self.prepared, &self.folders, &outcome, &classes)?;
        self.prepared.finish(&self.store, &results, &checkpoint, outcome.status)?;
        results.log();
        if self.order.json {
            output::print(&results.to_json()?)?;
        } else {
            let folders = (!self.order.temporary).then_some(&self.folders);
            summary::print(&results, &outcome, folders, &self.prepared.config.evaluation.metrics)?;
        }
        ended(resume, &results)
    }

    fn founded(&self) -> Option<Founded> {
        lock(&self.founded).clone()
    }

    fn metadata(&self, founded: &Founded, spent: Epsilon, round: Option<u32>) -> CheckpointMetadata {
        metadata(&self.prepared, founded, spent, round)
    }
}

/// What is said about a model of this run.
fn metadata(
    prepared: &Prepared,
    founded: &Founded,
    spent: Epsilon,
    round: Option<u32>,
) -> CheckpointMetadata {
    let plain = plain_metadata(&founded.network, &founded.classes, &prepared.config, spent, &prepared.id);
    CheckpointMetadata {
        privacy: plain.privacy.map(|statement| PrivacyStatement {
            reproducible_noise: prepared.reproducible_noise,
            ..statement
        }),
        round: round.map(medfed_types::RoundId),
        ..plain
    }
}

/// The largest ε that a hospital has spent.
fn spent(outcome: &Outcome) -> Result<Epsilon, Failure> {
    let spent = outcome.spent.iter().filter_map(|(_, spent)| spent.as_ref());
    let spent = spent.map(|spent| spent.epsilon_total).fold(0.0, f64::max);
    Epsilon::new(spent).map_err(Failure::internal)
}

/// The end of the run in the terms of a simulation's.
fn outcome(finished: &Finished, reports: Vec<RoundReport>) -> Outcome {
    let mut spent: BTreeMap<SiteId, Option<PrivacySpent>> = BTreeMap::new();
    for hospital in reports.iter().flat_map(|report| &report.hospitals) {
        let newest = spent.entry(hospital.hospital.clone()).or_default();
        *newest = hospital.privacy.map(|privacy| privacy.spent).or(*newest);
    }
    Outcome {
        status: finished.status,
        reason: finished.reason.clone(),
        last_decisions: finished.last_decisions.clone(),
        aborted: finished.aborted.clone(),
        parameters: Arc::clone(&finished.parameters),
        best_round: finished.best.as_ref().map(|best| best.round),
        test: None,
        evaluation: finished.evaluation.clone(),
        spent: spent.into_iter().collect(),
        attack: None,
        reports,
    }
}

/// What belongs to a simulation alone is refused, so that nobody takes it for real; so is the audit log, which
/// hospitals cannot sign over a network, so that nobody relies on one that is not there.
pub(crate) fn require_built(config: &Config) -> Result<(), Failure> {
    let refused = |key: &str, hint: &str| {
        Err(Failure::user(anyhow::anyhow!("{key} is for simulations, not for a federation between machines"))
            .hint(hint.to_owned()))
    };
    if config.simulation.attack != section::SimulatedAttack::None {
        return refused("simulation.attack", "`medfed simulate --attack` tries attacks out");
    }
    if config.privacy_audit.canaries > 0 {
        return refused("privacy_audit.canaries", "`medfed simulate` trains with canaries");
    }
    if config.secure_aggregation.audit_enabled {
        return refused(
            "secure_aggregation.audit_enabled",
            "secure_aggregation.audit_enabled: false in the configuration, or --set secure_aggregation.audit_enabled=false, does without the log; reports, events and every hospital's payments are kept in the stores all the same",
        );
    }
    Ok(())
}

/// Makes the coordinator of announcements, and tells what the network is.
#[derive(Debug)]
struct Founder {
    config: Config,
    seed: Seed,
    founded: Arc<Mutex<Option<Founded>>>,
}

impl Founding for Founder {
    fn least(&self) -> usize {
        let federated = &self.config.federated;
        federated.min_available_clients.max(federated.min_fit_clients).max(1) as usize
    }

    fn check(
        &self,
        announcement: &Announcement,
        joined: &BTreeMap<SiteId, Announcement>,
    ) -> Result<(), FederationError> {
        announcement.check(&self.config, joined.values().next())
    }

    fn found(&self, announcements: &BTreeMap<SiteId, Announcement>) -> Result<Coordinator, FederationError> {
        let setup = CoordinatorSetup::new(&self.config, announcements, self.seed)?;
        let network = Arc::clone(setup.network());
        let parameters = match &self.config.model.pretrained {
            section::Pretrained::File(path) => {
                let unusable = |error: medfed_nn::checkpoint::CheckpointError| FederationError::Setting {
                    key: "model.pretrained",
                    problem: format!("{} cannot be used: {error}", path.display()),
                };
                let weights = read_weights(path).map_err(unusable)?;
                adapt(weights, &network.target(), setup.initial_parameters()).map_err(unusable)?.0
            }
            section::Pretrained::Shipped(_) => setup.initial_parameters(),
        };
        *lock(&self.founded) = Some(Founded { network, classes: setup.classes().to_vec() });
        setup.coordinator(parameters)
    }
}

/// What is shared with the engine's thread is whole whenever the lock is free.
fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
