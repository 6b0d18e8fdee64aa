//! Whole federations on small synthetic radiographs: interruption, crash, threads, budgets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_config::{Config, Override};
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, DatasetParts, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::{Ledger, LedgerStorage};
use medfed_federation::Site;
use medfed_federation::report::{RoundReport, RunStatus, SiteStatus};
use medfed_federation::site::{LocalOutcome, Protection, SiteReply, TrainRequest};
use medfed_federation::{
    FederationError, Journal, Observer, Outcome, Progress, Setup, Silent, Simulation, Snapshot,
};
use medfed_types::random::danger;
use medfed_types::{Cancel, ImageSource, NoiseMultiplier, RoundId, RunId, Seed, SiteId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

const SEED: Seed = Seed(5);

/// One small data set for all tests.
static DATA: LazyLock<(Arc<Dataset>, Sites)> = LazyLock::new(|| {
    let options = SyntheticOptions { image_size: 28, ..SyntheticOptions::hospitals(3, 40) };
    let dataset = generate(&options, SEED).unwrap();
    let sites = options.sites.iter().map(|site| SiteRequest { id: site.id.clone(), samples: None });
    let plan = SitePlan {
        sites: sites.collect(),
        kind: SplitKind::Column("site".into()),
        minimum: None,
        keep_patients_together: true,
        train_fraction: 0.8,
        test_fraction: 0.15,
    };
    let sites = split_sites(&dataset, &plan, SEED).unwrap();
    (Arc::new(dataset), sites)
});

/// The configuration with some keys changed.
fn changed(config: &Config, set: &[&str]) -> Config {
    let set: Vec<_> = set.iter().map(|text| Override::parse(text).unwrap()).collect();
    Config::from_yaml(&config.to_yaml(), "test", &set)
        .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn config() -> Config {
    let text = "federated: {num_clients: 3, num_rounds: 3}
model: {channels: [8, 8], dropout: 0.1}
training: {batch_size: 8, local_steps: 4, learning_rate: 0.1}
privacy: {epsilon_budget: 20, noise_multiplier: 1.0}";
    Config::from_yaml(text, "test", &[]).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// Ledger records that outlive the run, as a hospital's disk would.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<BTreeMap<SiteId, Vec<Vec<u8>>>>>);

#[derive(Debug)]
struct DiskLedger(Disk, SiteId);

#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
struct DiskFull;

impl LedgerStorage for DiskLedger {
    type Error = DiskFull;
    fn records(&mut self) -> Result<Vec<Vec<u8>>, DiskFull> {
        Ok(self.0.0.lock().unwrap().get(&self.1).cloned().unwrap_or_default())
    }
    fn append(&mut self, position: usize, record: &[u8]) -> Result<(), DiskFull> {
        let mut disk = self.0.0.lock().unwrap();
        let records = disk.entry(self.1.clone()).or_default();
        assert_eq!(position, records.len());
        records.push(record.to_vec());
        Ok(())
    }
}

/// Keeps what a store would keep, and can fail at a chosen write.
#[derive(Debug, Default)]
struct Memory {
    reports: Vec<RoundReport>,
    state: Vec<Snapshot>,
    events: Vec<String>,
    writes_left: Option<u32>,
}

impl Memory {
    fn write(&mut self) -> Result<(), DiskFull> {
        match &mut self.writes_left {
            Some(0) => Err(DiskFull),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Journal for Memory {
    type Error = DiskFull;
    fn commit_round(&mut self, report: &RoundReport, state: &[Snapshot]) -> Result<(), DiskFull> {
        self.write()?;
        self.reports.truncate(report.round_num as usize - 1);
        self.reports.push(report.clone());
        self.state = state.to_vec();
        Ok(())
    }
    fn suspend(&mut self, state: &[Snapshot]) -> Result<(), DiskFull> {
        self.write()?;
        self.state = state.to_vec();
        Ok(())
    }
    fn amend(&mut self, field: &str, values: &[(String, serde_json::Value)]) -> Result<(), DiskFull> {
        self.write()?;
        for (owner, value) in values {
            let snapshot = self.state.iter_mut().find(|snapshot| snapshot.owner == *owner).unwrap();
            snapshot.meta[field] = value.clone();
        }
        Ok(())
    }
    fn event(&mut self, _: u32, kind: &str, _: &serde_json::Value) -> Result<(), DiskFull> {
        self.events.push(kind.to_owned());
        Ok(())
    }
}

fn simulation(config: &Config, disk: &Disk) -> Simulation<DiskLedger> {
    on_data(config, disk, SEED, [0; 32])
}

/// A simulation whose public seed is `seed` and whose data have the digest `data`; keys are the same.
fn on_data(config: &Config, disk: &Disk, seed: Seed, data: [u8; 32]) -> Simulation<DiskLedger> {
    let (dataset, sites) = &*DATA;
    let parameters = Setup::new(config, dataset, sites, SEED, data).unwrap().initial_parameters();
    Setup::new(config, dataset, sites, seed, data)
        .unwrap()
        .simulation(parameters, |site| {
            let storage = DiskLedger(disk.clone(), site.clone());
            let run = RunId::try_from("run").unwrap();
            let ledger = Ledger::open(run, site.clone(), storage).map_err(FederationError::from)?;
            Ok::<_, FederationError>((ledger, danger::reproducible_key(SEED).subkey(site.as_str(), &[])))
        })
        .unwrap()
        .enrolled(&danger::reproducible_key(SEED).subkey("naming", &[]), |site| {
            Ok::<_, FederationError>(danger::reproducible_key(SEED).subkey(&format!("signing {site}"), &[]))
        })
        .unwrap()
}

fn resumed(config: &Config, disk: &Disk, memory: &Memory) -> Simulation<DiskLedger> {
    let mut simulation = simulation(config, disk);
    simulation.restore(&memory.state, memory.reports.clone()).unwrap();
    simulation
}

fn whole(config: &Config) -> Outcome {
    simulation(config, &Disk::default()).run(&mut Memory::default(), &Silent, &Cancel::default()).unwrap()
}

/// Cancels after a number of steps, over all hospitals.
struct StopAfter(AtomicU64, Cancel);

impl Observer for StopAfter {
    fn notice(&self, progress: &Progress<'_>) {
        if matches!(progress, Progress::Step { .. }) && self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.1.cancel();
        }
    }
}

fn same(a: &Outcome, b: &Outcome) {
    assert_eq!(a.status, b.status);
    assert_eq!(a.parameters, b.parameters);
    assert_eq!(a.reports, b.reports);
    assert_eq!(a.spent, b.spent);
    assert_eq!(a.test, b.test);
}

#[test]
fn an_interrupted_run_ends_like_one_that_was_left_alone() {
    let (some, all) = (&[5, 13][..], &[1, 5, 12, 13, 30][..]);
    for (config, stops) in [
        (config(), all),
        (without_privacy(), all),
        (orchestrated("fit"), some),
        (orchestrated("step"), some),
        (masked(&config()), some),
    ] {
        let expected = whole(&config);
        assert_eq!(expected.status, RunStatus::Completed);
        assert_eq!(expected.reports.len(), 3);
        for steps in stops.iter().copied() {
            let (disk, mut memory) = (Disk::default(), Memory::default());
            let cancel = Cancel::default();
            let observer = StopAfter(AtomicU64::new(steps), cancel.clone());
            let stopped = simulation(&config, &disk).run(&mut memory, &observer, &cancel).unwrap();
            assert_eq!(stopped.status, RunStatus::Interrupted, "after {steps} steps");
            let outcome =
                resumed(&config, &disk, &memory).run(&mut memory, &Silent, &Cancel::default()).unwrap();
            same(&outcome, &expected);
        }
    }
}

fn without_privacy() -> Config {
    Config::from_yaml(
        "federated: {num_clients: 3, num_rounds: 3}
model: {channels: [8, 8], dropout: 0.1}
training: {batch_size: 8, local_epochs: 1, learning_rate: 0.05, scheduler: cosine, ema_decay: 0.5, grad_clip_norm: 1.0}
privacy: {enabled: false}",
        "test",
        &[],
    )
    .unwrap()
}

/// A budget that makes the orchestrator raise the noise, and rules and a detector that remember.
fn orchestrated(strategy: &str) -> Config {
    changed(
        &config(),
        &[
            "privacy.epsilon_budget=6",
            &format!(
                "orchestrator={{enabled: true, strategy: {strategy}, budget_warning_threshold: 0.3, budget_critical_threshold: 0.6}}"
            ),
            "robust_aggregation={enabled: true, method: foolsgold, enable_detection: true}",
        ],
    )
}

fn masked(config: &Config) -> Config {
    changed(config, &["secure_aggregation.enabled=true"])
}

#[test]
fn masks_change_nothing_but_who_sees_the_updates() {
    // Noise follows from the configuration too, so that open and masked runs compare without it.
    let open = without_privacy();
    let trimmed = changed(&open, &["robust_aggregation={enabled: true, method: trimmed_mean}"]);
    for open in [open, trimmed] {
        let (with, without) = (whole(&masked(&open)), whole(&open));
        assert_eq!(with.status, RunStatus::Completed, "{:?}", with.reason);
        for (a, b) in with.parameters.iter().zip(without.parameters.iter()) {
            assert!((a - b).abs() <= 1e-6, "{a} and {b}");
        }
        assert_eq!(with.spent, without.spent);
        for report in &with.reports {
            let masking = report.security.masking.as_ref().unwrap();
            assert_eq!((masking.survivors.len(), masking.threshold, report.num_clients), (3, 3, 3));
            assert!(masking.lost.is_empty() && masking.error_bound < 1e-7, "{masking:?}");
            assert!(report.hospitals.iter().all(|hospital| hospital.update_norm.is_none()));
            assert!(report.security.weights.iter().all(|weight| weight.weight.is_none()));
            let parameters = with.parameters.len() as u64;
            let sent = masking.traffic.values().map(|traffic| traffic.sent_bytes);
            assert!(sent.into_iter().all(|sent| (4 * parameters..4 * parameters + 20_000).contains(&sent)));
        }
    }
}

#[test]
fn an_update_beyond_the_range_stays_at_its_hospital() {
    let narrow = changed(&masked(&config()), &["secure_aggregation.clip_range=1e-6"]);
    let outcome = whole(&narrow);
    assert_eq!((outcome.status, outcome.reports.len()), (RunStatus::Aborted, 0));
    let reason = outcome.reason.unwrap();
    assert!(reason.contains("beyond ±") && reason.contains("secure_aggregation.clip_range"), "{reason}");
    let masking = outcome.aborted.unwrap().masking.unwrap();
    assert_eq!((masking.lost.len(), masking.survivors.len()), (3, 0));
}

#[test]
fn masks_need_keys() {
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(&masked(&without_privacy()), dataset, sites, SEED, [0; 32]).unwrap();
    let parameters = setup.initial_parameters();
    let simulation = setup
        .simulation(parameters, |_| -> Result<(Ledger<DiskLedger>, _), FederationError> { unreachable!() })
        .unwrap();
    let error = simulation.run(&mut Memory::default(), &Silent, &Cancel::default()).unwrap_err();
    assert!(matches!(error, FederationError::NotEnrolled));
}

#[test]
fn a_crash_at_any_write_costs_nothing() {
    // The state before the first round, then after each.
    for config in [config(), orchestrated("step")] {
        assert_eq!(crash_at_any_write(&config), 4);
    }
    // Numbers of samples, then updates: masked inputs and consents leave once what left is durable.
    assert_eq!(crash_at_any_write(&changed(&masked(&config()), &["federated.num_rounds=2"])), 11);
}

/// Gives how often a run writes.
fn crash_at_any_write(config: &Config) -> u32 {
    let expected = whole(config);
    for writes in 1.. {
        let disk = Disk::default();
        let mut memory = Memory { writes_left: Some(writes), ..Memory::default() };
        let crashed = simulation(config, &disk).run(&mut memory, &Silent, &Cancel::default());
        if crashed.is_ok() {
            return writes;
        }
        assert!(matches!(crashed, Err(FederationError::Journal(_))));
        // The round after the last write is paid for, and its result is lost.
        memory.writes_left = None;
        let outcome = resumed(config, &disk, &memory).run(&mut memory, &Silent, &Cancel::default()).unwrap();
        same(&outcome, &expected);
    }
    unreachable!("a run ends");
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let config = config();
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| whole(&config))
    };
    let one = with_threads(1);
    same(&one, &with_threads(2));
    same(&one, &with_threads(5));
}

#[test]
fn the_budget_ends_the_run_and_is_never_passed() {
    // 0.8 ε more than two rounds cost.
    let two_rounds = whole(&config()).reports[1].epsilon_total.unwrap();
    let budget = two_rounds + 0.8;
    let budget_key = format!("privacy.epsilon_budget={budget}");
    let config = changed(&config(), &["federated.num_rounds=50", &budget_key]);
    let disk = Disk::default();
    let mut memory = Memory::default();
    let outcome = simulation(&config, &disk).run(&mut memory, &Silent, &Cancel::default()).unwrap();
    assert_eq!(outcome.status, RunStatus::BudgetExhausted);
    assert!(outcome.reports.len() >= 2 && outcome.reports.len() < 50, "{} rounds", outcome.reports.len());
    for (site, spent) in &outcome.spent {
        let spent = spent.unwrap();
        assert!(spent.epsilon_total <= budget, "{site} spent {} of {budget}", spent.epsilon_total);
        assert!(
            spent.epsilon_total > two_rounds - 1e-9,
            "{site} left {} unused",
            budget - spent.epsilon_total
        );
        assert_eq!(spent.epsilon_total, spent.epsilon_pld);
        assert!(spent.epsilon_rdp >= spent.epsilon_pld * 0.999);
    }
    let rounds: f64 = outcome.reports.iter().map(|r| r.hospitals[0].privacy.unwrap().epsilon_round).sum();
    assert!((rounds - outcome.spent[0].1.unwrap().epsilon_total).abs() < 1e-9);
}

#[test]
fn the_announced_noise_is_the_one_that_is_applied_and_accounted() {
    for strategy in ["fit", "step"] {
        let config = orchestrated(strategy);
        let mut memory = Memory::default();
        let outcome =
            simulation(&config, &Disk::default()).run(&mut memory, &Silent, &Cancel::default()).unwrap();
        assert_eq!(outcome.status, RunStatus::Completed, "{:?}", outcome.reason);
        assert!(memory.events.contains(&"budget_decision".to_owned()));
        let mut raised = false;
        for report in &outcome.reports {
            let watch = report.orchestrator.as_ref().unwrap();
            assert_eq!(watch.decisions.len(), 3);
            for (made, hospital) in watch.decisions.iter().zip(&report.hospitals) {
                assert_eq!(made.hospital, hospital.hospital);
                let spent = hospital.privacy.unwrap().spent;
                assert_eq!(spent.noise_multiplier, made.decision.noise.get());
                assert_eq!(spent.epsilon_total, made.decision.after_round.get());
                assert!(spent.epsilon_total <= 6.0);
                raised |= made.decision.noise.get() > 1.0;
            }
        }
        assert!(raised, "{strategy}");
        // Another noise is another model.
        let constant = changed(&config, &["orchestrator.enabled=false", "privacy.epsilon_budget=90"]);
        assert_ne!(outcome.parameters, whole(&constant).parameters);
    }
}

#[test]
fn a_hospital_trains_with_no_less_noise_than_its_plan_has() {
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(&config(), dataset, sites, SEED, [0; 32]).unwrap();
    let parameters = Arc::new(setup.initial_parameters());
    let hospital = setup.hospitals().first().unwrap();
    let storage = DiskLedger(Disk::default(), hospital.id.clone());
    let ledger = Ledger::open(RunId::try_from("run").unwrap(), hospital.id.clone(), storage).unwrap();
    let key = danger::reproducible_key(SEED);
    let plan = hospital.plan.clone().unwrap();
    let mut site = Site::new(
        hospital.id.clone(),
        Arc::clone(setup.executor()),
        hospital.images.clone(),
        hospital.training.clone(),
        Protection::Private { plan, ledger, key },
    );
    let mut ask = |round, noise: f64| {
        let noise = Some(NoiseMultiplier::new(noise).unwrap());
        let request = TrainRequest { round: RoundId(round), parameters: Arc::clone(&parameters), noise };
        site.train(&request, &Cancel::default(), &Silent)
    };
    assert!(matches!(ask(1, 0.999), Err(FederationError::LessNoise { .. })));
    let LocalOutcome::Replied(SiteReply::Trained { report, .. }) = ask(1, 1.5).unwrap() else {
        panic!("more noise is welcome");
    };
    assert_eq!(report.privacy.unwrap().noise_multiplier, 1.5);
    // The round is paid for: its noise cannot change any more.
    assert!(matches!(ask(1, 1.6), Err(FederationError::Privacy(_))));
}

#[test]
fn a_rule_that_needs_more_hospitals_is_refused_before_anything_runs() {
    let (dataset, sites) = &*DATA;
    let refused = |set: &[&str]| {
        let error = Setup::new(&changed(&config(), set), dataset, sites, SEED, [0; 32]).unwrap_err();
        match error {
            FederationError::Setting { key, problem } => (key, problem),
            error => panic!("{error}"),
        }
    };
    let (key, problem) = refused(&["robust_aggregation={enabled: true, method: bulyan, num_byzantine: 1}"]);
    assert_eq!(key, "robust_aggregation.method");
    assert!(problem.contains("bulyan (f = 1) needs 7 hospitals, the data give 3"), "{problem}");
    let (key, problem) =
        refused(&["robust_aggregation={enabled: true, method: krum}", "federated.fraction_fit=0.5"]);
    assert_eq!(key, "federated.fraction_fit");
    assert!(problem.contains("needs 3 hospitals in every round, 2 of 3 are drawn"), "{problem}");
}

#[test]
fn forecasts_come_true() {
    let (dataset, sites) = &*DATA;
    for config in [config(), orchestrated("fit"), orchestrated("step"), orchestrated("calibrated")] {
        let forecasts = Setup::new(&config, dataset, sites, SEED, [0; 32]).unwrap().forecast().unwrap();
        let outcome = whole(&config);
        for (forecast, spent) in forecasts.iter().zip(&outcome.spent) {
            assert_eq!(forecast.hospital, spent.0);
            assert_eq!(forecast.rounds.last().unwrap().epsilon.get(), spent.1.unwrap().epsilon_total);
        }
    }
    let open = Setup::new(&without_privacy(), dataset, sites, SEED, [0; 32]).unwrap();
    assert_eq!(open.forecast().unwrap(), []);
}

#[test]
fn only_some_hospitals_train_when_asked() {
    let config = changed(&config(), &["federated.fraction_fit=0.67"]);
    let outcome = whole(&config);
    for report in &outcome.reports {
        assert_eq!(report.num_clients, 2);
        let idle: Vec<_> = report.hospitals.iter().filter(|h| h.status == SiteStatus::NotSelected).collect();
        assert_eq!(idle.len(), 1);
        assert_eq!((idle[0].steps, idle[0].update_norm), (0, None));
        assert!(idle[0].val_loss.is_some(), "it still evaluates the global model");
    }
}

#[test]
fn a_diverging_run_stops_and_keeps_the_last_good_model() {
    let diverging = [
        "training.learning_rate=100",
        "training.scheduler=none",
        "training.grad_clip_norm=null",
        "training.weight_decay=1",
        "training.local_epochs=40",
    ];
    let config = changed(&without_privacy(), &diverging);
    let mut memory = Memory::default();
    let outcome =
        simulation(&config, &Disk::default()).run(&mut memory, &Silent, &Cancel::default()).unwrap();
    assert_eq!(outcome.status, RunStatus::Aborted);
    assert!(outcome.parameters.iter().all(|p| p.is_finite()));
    assert!(outcome.reason.unwrap().contains("usable update"));
    assert!(memory.events.contains(&"round_aborted".to_owned()));
}

#[test]
fn state_of_another_model_is_refused() {
    let config = config();
    let (disk, mut memory) = (Disk::default(), Memory::default());
    simulation(&config, &disk).run(&mut memory, &Silent, &Cancel::default()).unwrap();
    let other = changed(&config, &["model.channels=[8]"]);
    let error =
        simulation(&other, &Disk::default()).restore(&memory.state, memory.reports.clone()).unwrap_err();
    assert!(matches!(error, FederationError::Saved { .. }), "{error}");
}

/// Masks of dropout follow the places of images in a batch. If a public seed decided them, one unit more
/// would change everyone else's gradients, and the sum would move by more than the clipping norm.
#[test]
fn nothing_public_decides_a_private_step() {
    let run = |config: &Config, seed| {
        on_data(config, &Disk::default(), seed, [0; 32])
            .run(&mut Memory::default(), &Silent, &Cancel::default())
            .unwrap()
    };
    let strong = changed(&config(), &["model.dropout=0.5"]);
    same(&run(&strong, Seed(6)), &run(&strong, SEED));
    assert_ne!(run(&strong, SEED).parameters, whole(&config()).parameters);
    let open = without_privacy();
    assert_ne!(run(&open, Seed(6)).parameters, run(&open, SEED).parameters);
}

/// The noise of a paid round is fixed: steps to come under other settings or on other data would be other
/// sums under it.
#[test]
fn a_paid_round_goes_on_under_the_same_settings_and_data_only() {
    let (disk, mut memory, cancel) = (Disk::default(), Memory::default(), Cancel::default());
    let observer = StopAfter(AtomicU64::new(5), cancel.clone());
    simulation(&config(), &disk).run(&mut memory, &observer, &cancel).unwrap();
    let restore = |config: &Config, data| {
        on_data(config, &disk, SEED, data).restore(&memory.state, memory.reports.clone())
    };
    restore(&config(), [0; 32]).unwrap();
    let faster = changed(&config(), &["training.learning_rate=0.2"]);
    for refused in [restore(&config(), [1; 32]), restore(&faster, [0; 32])] {
        assert!(matches!(refused, Err(FederationError::Saved { .. })), "{refused:?}");
    }
}

#[test]
fn patients_are_protected_only_where_they_are_known() {
    let (dataset, sites) = &*DATA;
    let config = changed(&config(), &["privacy.unit=patient"]);
    let setup = Setup::new(&config, dataset, sites, SEED, [0; 32]).unwrap();
    for hospital in setup.hospitals() {
        let train = &hospital.images.train;
        assert!(train.len() < train.images().len(), "{}", hospital.id);
        let terms = hospital.plan.as_ref().unwrap().terms();
        assert!((terms.rate.get() * train.len() as f64 - 8.0).abs() < 1e-9);
    }
    let mut scans = dataset.scans().to_vec();
    for scan in &mut scans {
        scan.patient = None;
    }
    let shape = dataset.shape();
    let anonymous = Dataset::new(DatasetParts {
        name: "anonymous".into(),
        shape,
        classes: dataset.classes().to_vec(),
        pixels: (0..scans.len()).flat_map(|image| dataset.pixels(image).to_vec()).collect(),
        scans,
        attributes: Vec::new(),
        warnings: Vec::new(),
    });
    let refused = Setup::new(&config, &Arc::new(anonymous.unwrap()), sites, SEED, [0; 32]);
    assert!(matches!(refused, Err(FederationError::Setting { key: "privacy.unit", .. })), "{refused:?}");
}
