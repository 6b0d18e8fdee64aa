//! Thousands of schedules of a federation on a bad network: the run ends as it does on a good one.

mod forged;
mod hospital;
mod world;

use medfed_config::{Config, Override};
use medfed_federation::report::{RoundReport, RoundStatus, RunStatus, SiteStatus};
use medfed_protocol::Patience;
use proptest::prelude::*;
use std::sync::Arc;
use world::{Faults, World};

const LONG: u64 = 3_000_000;

/// Nobody's time is ever up.
const ENDLESS: Patience =
    Patience { join_ms: LONG, train_ms: LONG, phase_ms: LONG, return_ms: LONG, attempts: 3, lost_rounds: 3 };

const HASTY: Patience = Patience {
    join_ms: 20_000,
    train_ms: 1_500,
    phase_ms: 1_000,
    return_ms: 600_000,
    attempts: 2,
    lost_rounds: 1000,
};

fn config(sites: usize, rounds: u32, more: &[&str]) -> Config {
    let sites = format!("federated.num_clients={sites}");
    let rounds = format!("federated.num_rounds={rounds}");
    let set = [
        sites.as_str(),
        rounds.as_str(),
        "privacy.enabled=false",
        "model.channels=[2]",
        "training.batch_size=4",
        "training.local_steps=5",
        "robust_aggregation.enabled=false",
        "orchestrator.enabled=false",
        "fairness.enabled=false",
    ];
    let set: Vec<Override> =
        set.iter().chain(more).map(|text| Override::parse(text).expect("an override")).collect();
    Config::from_yaml("model: {}", "test", &set).expect("a configuration")
}

const OPEN: &[&str] = &["secure_aggregation.enabled=false"];
const MASKED: &[&str] = &["secure_aggregation.enabled=true", "secure_aggregation.mode=sum"];

struct Result {
    reports: Vec<RoundReport>,
    parameters: Arc<Vec<f32>>,
    payments: Vec<usize>,
}

fn run(
    config: &Config,
    sites: usize,
    patience: Patience,
    faults: Faults,
    seed: u64,
    audited: bool,
) -> (World, Result) {
    let mut world = World::new(config.clone(), sites, patience, faults, seed);
    world.audited = audited;
    world.run();
    let finished = world.finished.clone().expect("the run has ended");
    if patience == ENDLESS {
        assert_eq!((finished.status, finished.reason), (RunStatus::Completed, None));
    }
    let result = Result {
        reports: world.reports().to_vec(),
        parameters: finished.parameters,
        payments: world.payments(),
    };
    (world, result)
}

#[test]
fn a_good_network_finishes() {
    for (more, audited) in [(OPEN, false), (MASKED, true)] {
        let (_, result) = run(&config(3, 3, more), 3, ENDLESS, Faults::NONE, 1, audited);
        assert_eq!(result.payments, [3, 3, 3]);
        assert_eq!(result.reports.len(), 3);
        for report in &result.reports {
            assert_eq!((report.status, report.num_clients), (RoundStatus::Completed, 3));
            assert!(report.auc.is_some() && report.hospitals.iter().all(|it| it.accuracy.is_some()));
        }
    }
}

/// What a schedule looks like.
fn faults() -> impl Strategy<Value = (Faults, u64)> {
    let times = 500u64..6_000;
    (times, 0u32..40, 0u32..30, 1u64..400, 0u32..9, 0u32..15, any::<u64>()).prop_map(
        |(until_ms, loss, doubling, delay_ms, crash, partition, seed)| {
            (Faults { until_ms, loss, doubling, delay_ms, crash, partition }, seed)
        },
    )
}

fn schedules(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 200, ..ProptestConfig::default() }
}

/// With enough time for everyone, a run on a bad network gives the reports and the model of a good one.
fn faults_change_nothing(more: &[&str], audited: bool, cases: u32) {
    let (sites, config) = (3, config(3, 2, more));
    let good = run(&config, sites, ENDLESS, Faults::NONE, 0, audited).1;
    proptest!(schedules(cases), |((faults, seed) in faults())| {
        let (_, found) = run(&config, sites, ENDLESS, faults, seed, audited);
        assert_eq!(found.payments, good.payments);
        assert_eq!(found.parameters, good.parameters);
        assert_eq!(found.reports, good.reports);
    });
}

#[test]
fn faults_change_nothing_where_updates_are_open() {
    faults_change_nothing(OPEN, false, 600);
}

#[test]
fn faults_change_nothing_where_rounds_are_signed() {
    faults_change_nothing(OPEN, true, 600);
}

#[test]
fn faults_change_nothing_under_masks() {
    faults_change_nothing(MASKED, false, 300);
}

/// Where time is short, rounds go on without those who are late. Whatever happens: nobody pays twice or
/// answers a step twice (the world watches that), rounds are committed once and in order, what a round says of
/// its hospitals is so, and once the network is well the run is completed.
fn time_is_short(config: &Config, faults: Faults, seed: u64, seen: &mut Seen) {
    let (sites, rounds) = (config.federated.num_clients as usize, config.federated.num_rounds);
    let (world, found) = run(config, sites, HASTY, faults, seed, false);
    let finished = world.finished.expect("the run has ended");
    seen.silences += world.silences;
    seen.late += world.late;
    seen.returned += world.returned;
    seen.crashes += world.crashes;
    seen.rounds += found.reports.iter().filter(|it| it.status == RoundStatus::Completed).count();
    seen.partial += found.reports.iter().filter(|it| (2..4).contains(&it.num_clients)).count();
    // The faults end, and nobody's patience does before.
    assert_eq!((finished.status, finished.reason), (RunStatus::Completed, None));
    assert_eq!(found.reports.len(), rounds as usize);
    for report in &found.reports {
        let used = report.hospitals.iter().filter(|it| it.status == SiteStatus::Trained).count() as u64;
        assert_eq!(report.num_clients, used);
        for hospital in &report.hospitals {
            let explained = matches!(hospital.status, SiteStatus::Absent | SiteStatus::Failed);
            assert_eq!(explained, hospital.reason.is_some(), "{hospital:?}");
        }
        if report.status == RoundStatus::Completed {
            assert!(used >= 2);
        }
    }
    assert!(found.payments.iter().all(|paid| *paid <= rounds as usize));
}

/// What happened in all schedules together: that each of it did is what makes them a test.
#[derive(Debug, Default)]
struct Seen {
    rounds: usize,
    /// Rounds without one or two of the four.
    partial: usize,
    silences: u32,
    late: u32,
    returned: u32,
    crashes: u32,
}

#[test]
fn a_run_ends_where_time_is_short() {
    let (open, under_masks) = (config(4, 3, OPEN), config(4, 3, MASKED));
    let seen = std::cell::RefCell::new(Seen::default());
    proptest!(schedules(500), |((faults, seed) in faults(), masked in prop::bool::weighted(0.3))| {
        time_is_short(if masked { &under_masks } else { &open }, faults, seed, &mut seen.borrow_mut());
    });
    let seen = seen.into_inner();
    assert!(seen.rounds > 1000 && seen.partial > 100, "{seen:?}");
    assert!(seen.silences > 100 && seen.late > 20 && seen.returned > 100, "{seen:?}");
    assert!(seen.crashes > 500, "{seen:?}");
}
