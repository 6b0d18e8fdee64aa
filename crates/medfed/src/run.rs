//! A training run from the command line: data in, federation through, results out.
//!
//! `simulate` and `demo` differ in where the configuration comes from; the rest is here.

mod audit;
mod coordinated;
mod dataset;
mod description;
mod display;
mod evaluation;
mod hospital;
pub(crate) mod interrupt;
mod journal;
mod live;
mod log;
mod model;
mod orchestrator_log;
mod prepare;
mod privacy_audit;
mod results;
mod summary;

use crate::failure::Failure;
use crate::output;
pub(crate) use coordinated::{Coordinated, CoordinatedOrder, require_built};
pub(crate) use dataset::{data_failure, describe, divide, fingerprint, load};
pub(crate) use hospital::{Data, Kept, SiteFolder};
pub(crate) use journal::Terms;
pub(crate) use model::pretrained;
pub(crate) use prepare::{hex, shell_word};
pub(crate) use privacy_audit::replant;

use display::Display;
use journal::StoreJournal;
use medfed_config::Config;
use medfed_dp::Ledger;
use medfed_federation::report::{RunStatus, Timing};
use medfed_federation::{FederationError, Setup, Simulation};
use medfed_store::{SqliteLedger, Store, StoreError};
use medfed_types::random::danger;
use medfed_types::{Epsilon, SecretKey, SiteId};
use orchestrator_log::OrchestratorLog;
use prepare::{Folders, Prepared};
use results::Results;
pub(crate) use results::replace_file;
use std::sync::Arc;
use std::time::Instant;

/// What a run is to do.
#[derive(Debug)]
pub(crate) struct Order {
    /// `simulate` or `demo`, for the sentence that says how to resume.
    pub(crate) command: &'static str,
    /// The configuration with every override applied.
    pub(crate) config: Config,
    /// Continue the newest unfinished run, or start one.
    pub(crate) start: Start,
    /// Print one JSON object instead of text.
    pub(crate) json: bool,
    /// Threads; nothing means one per core.
    pub(crate) threads: Option<usize>,
}

/// Which run it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// A new one.
    New,
    /// The newest unfinished one, with its own settings.
    Resume,
    /// The newest unfinished one, provided that its settings are those of the order.
    ResumeSame,
}

/// Runs the order from start to end.
pub(crate) fn execute(order: &Order) -> Result<(), Failure> {
    let started = Instant::now();
    if let Some(threads) = order.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(Failure::internal)?;
    }
    let store = prepare::open(order)?;
    let prepared = prepare::prepare(order, &store)?;
    let folders = Folders::of(order, &prepared);
    log::start(&folders.logs, &prepared.id)?;
    let done = run(order, &store, &prepared, &folders, started);
    if let Err(failure) = &done {
        failure.log();
    }
    done
}

fn run(
    order: &Order,
    store: &Store,
    prepared: &Prepared,
    folders: &Folders,
    started: Instant,
) -> Result<(), Failure> {
    let display = Arc::new(Display::new(
        prepared.config.output.save_round_logs,
        prepared.config.orchestrator.log_level,
    ));
    let cancel = interrupt::watch(display.announcer())?;

    display.say(&format!("run {}: {}", prepared.id, dataset::describe(&prepared.config)));
    let dataset = Arc::new(dataset::load(&prepared.config, prepared.seed)?);
    let mut sites = dataset::divide(&prepared.config, &dataset, prepared.seed)?;
    for warning in dataset.warnings().iter().chain(&sites.warnings) {
        display.warn(&warning.to_string());
    }
    let fingerprint = dataset::fingerprint(&dataset, &sites);
    prepared.check_data(&fingerprint)?;
    let canaries = privacy_audit::plant(store, prepared, &dataset, &mut sites, &display)?;
    let mut setup =
        Setup::new(&prepared.config, &dataset, &sites, prepared.seed, fingerprint).map_err(run_failure)?;
    if let Some(canaries) = &canaries {
        setup = setup.with_canaries(canaries);
    }
    let executor = Arc::clone(setup.executor());
    let initial = model::initial_parameters(&prepared.config, &setup, &display)?;
    let given = privacy_audit::given_initial(&prepared.config, &initial);
    display.begin(prepared, &setup);
    let network = Arc::clone(setup.network());
    prepared.record(store, &fingerprint)?;
    description::keep(store, prepared, &dataset, &sites)?;
    privacy_audit::keep(store, prepared, canaries.as_ref())?;
    let audit = audit::Audit::open(store, prepared, &setup, &initial, &fingerprint)?;
    let mut simulation: Simulation<SqliteLedger> =
        setup.simulation(initial, |site| protect(store, prepared, site))?;
    let naming = naming_key(store, prepared)?;
    simulation = simulation.enrolled(&naming, |site| signing_key(store, prepared, site))?;
    let mut before = Timing::default();
    if let Some(saved) = &prepared.resumed {
        display.resumed(saved.reports.len() as u32);
        before = saved.timing.clone();
        simulation.restore(&saved.state, saved.reports.clone()).map_err(run_failure)?;
    }
    let models = prepared.config.output.save_model_each_round.then(|| model::RoundModels {
        folder: folders.checkpoints.clone(),
        network: Arc::clone(&network),
        metadata: model::metadata(&network, &dataset, prepared, Epsilon::ZERO, None),
    });
    let reports = prepared.resumed.as_ref().map_or(&[][..], |saved| &saved.reports);
    let decisions = OrchestratorLog::new(
        folders.logs.join("orchestrator_logs.json"),
        prepared.id.clone(),
        &prepared.config,
        reports,
    );
    let mut journal =
        StoreJournal::new(store.clone(), prepared.id.clone(), before, started, models, decisions, audit);
    let outcome = {
        let path = folders.results.join("progress.json");
        let done = prepared.resumed.as_ref().map_or(0, |saved| saved.reports.len() as u32);
        let rounds = prepared.config.federated.num_rounds;
        let live = live::Live::new(Arc::clone(&display), path, prepared.id.clone(), done, rounds);
        simulation.run(&mut journal, &live, &cancel)
    };
    display.end();
    let outcome = outcome.map_err(|error| {
        let hint = format!("what was done is kept; continue with `{}`", folders.resume_command(order));
        run_failure(error).hint(hint)
    })?;
    if let Some(log) = &mut journal.decisions {
        log.close(&outcome)?;
    }
    let results = Results::new(prepared, &outcome, journal.timing());
    let checkpoint = model::checkpoint(&network, &dataset, prepared, &outcome)?;
    folders.write(&results, prepared.config.evaluation.save_best_model.then_some(&checkpoint), &outcome)?;
    evaluation::keep(store, prepared, folders, &outcome, dataset.classes())?;
    if let Some(audit) = &mut journal.audit {
        audit.close(&outcome, &checkpoint)?;
    }
    prepared.finish(store, &results, &checkpoint, outcome.status)?;
    results.log();
    if order.json {
        output::print(&results.to_json()?)?;
    } else {
        summary::print(&results, &outcome, Some(folders), &prepared.config.evaluation.metrics)?;
    }
    ended(&folders.resume_command(order), &results)?;
    let finished = privacy_audit::Finished {
        prepared,
        dataset: &dataset,
        sites: &sites,
        canaries: canaries.as_ref(),
        executor: &executor,
        initial: given,
        outcome: &outcome,
    };
    privacy_audit::audit(store, folders, finished, order.json, &cancel, &display)
}

/// A run that did not reach its end is a failure for whoever waits for it.
fn ended(resume: &str, results: &Results) -> Result<(), Failure> {
    match results.summary.status {
        RunStatus::BudgetExhausted if results.summary.total_rounds == 0 => {
            Err(Failure::user(anyhow::anyhow!("the privacy budget does not pay for one round; there is no model"))
                .hint("privacy.noise_multiplier=auto takes as much noise as the budget asks for; `medfed dp plan` shows what a configuration would spend"))
        }
        RunStatus::Completed | RunStatus::BudgetExhausted => Ok(()),
        RunStatus::Interrupted => {
            let done = summary::rounds(results.summary.total_rounds);
            let stopped = anyhow::anyhow!("interrupted after {done}; everything done is saved");
            Err(Failure::interrupted(stopped).hint(format!("continue with `{resume}`")))
        }
        RunStatus::Halted => Err(Failure::user(anyhow::anyhow!("the model is unfair by the configured thresholds"))
            .hint("fairness_report.json says to whom; fairness.on_violation.halt_training=false goes on all the same")),
        RunStatus::Aborted => {
            let summary = &results.summary;
            let stopped = match &summary.reason {
                Some(reason) => anyhow::anyhow!("the run was aborted: {reason}"),
                None => anyhow::anyhow!("the run was aborted"),
            };
            Err(Failure::user(stopped).hint(if summary.security.byzantine_detected {
                "results.json says under summary.security what was wrong with whose updates; robust_aggregation decides what follows from it"
            } else {
                "the log says which hospitals' updates were unusable; a lower learning rate often helps"
            }))
        }
    }
}

/// Opens a hospital's ledger and gives its key for noise and samples.
fn protect(
    store: &Store,
    prepared: &Prepared,
    site: &SiteId,
) -> Result<(Ledger<SqliteLedger>, SecretKey), Failure> {
    let given = prepared
        .reproducible_noise
        .then(|| danger::reproducible_key(prepared.seed).subkey(&format!("site {site}"), &[]));
    let key = store.site_key(&prepared.id, site, given).map_err(store_failure)?;
    let storage = store.ledger_storage(&prepared.id, site).map_err(store_failure)?;
    let ledger = Ledger::open(prepared.id.clone(), site.clone(), storage)
        .map_err(|error| run_failure(FederationError::Privacy(error)))?;
    Ok((ledger, key))
}

/// The key with which a hospital signs its messages of secure aggregation: the same until the run ends.
fn signing_key(store: &Store, prepared: &Prepared, site: &SiteId) -> Result<SecretKey, Failure> {
    // The coins of random groups follow from it, and a reproducible run has the same groups.
    let key = if prepared.reproducible_noise {
        danger::reproducible_key(prepared.seed).subkey(&format!("site {site}"), &[])
    } else {
        store.audit_key(&prepared.id, Some(site)).map_err(store_failure)?
    };
    Ok(key.subkey("secure aggregation", &[]))
}

/// The coordinator's key of the run, from which the names of its sessions of secure aggregation follow: a
/// round that is done again after a stop repeats them.
fn naming_key(store: &Store, prepared: &Prepared) -> Result<SecretKey, Failure> {
    let key = store.audit_key(&prepared.id, None).map_err(store_failure)?;
    Ok(key.subkey("secure aggregation", &[]))
}

/// What a failure of the store asks of the user.
pub(crate) fn store_failure(error: StoreError) -> Failure {
    let hint = match &error {
        StoreError::InUse { .. } => "wait until it ends, or choose another folder with --out",
        StoreError::DiskFull { .. } => {
            "free some space and run the command again; nothing acknowledged is lost"
        }
        StoreError::Unwritable { .. } | StoreError::Io { .. } => {
            "check the folder's owner and permissions, or choose another with --out"
        }
        StoreError::Corrupt { .. } | StoreError::Damaged { .. } | StoreError::MissingModel { .. } => {
            "restore the results folder from a backup, or choose another with --out"
        }
        StoreError::NewerVersion { .. } => {
            "use the newer medfed that wrote it, or choose another folder with --out"
        }
        StoreError::Missing { .. } => {
            "give the folder of a run with --results, or start one with `medfed simulate`"
        }
        _ => return Failure::user(error),
    };
    Failure::user(error).hint(hint)
}

/// What a failure of the federation asks of the user.
fn run_failure(error: FederationError) -> Failure {
    match error {
        FederationError::Setting { .. }
        | FederationError::Saved { .. }
        | FederationError::Journal(_)
        | FederationError::Privacy(_)
        | FederationError::Optimizer(_)
        | FederationError::Aggregation(_)
        | FederationError::Engine(_) => Failure::user(error),
        other => Failure::internal(other),
    }
}

impl From<FederationError> for Failure {
    fn from(error: FederationError) -> Self {
        run_failure(error)
    }
}
