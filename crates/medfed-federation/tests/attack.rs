//! Federations with hospitals that misbehave on purpose.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_aggregate::anomaly::Statistic;
use medfed_config::{Config, Override};
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::Ledger;
use medfed_federation::attack::SimulatedAttack;
use medfed_federation::report::{RoundReport, RunStatus, SiteStatus};
use medfed_federation::{
    FederationError, Journal, Observer, Outcome, Progress, Setup, Silent, Simulation, Snapshot,
    VolatileJournal, VolatileLedger,
};
use medfed_types::random::danger;
use medfed_types::{Cancel, RunId, Seed, SiteId};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

const SEED: Seed = Seed(11);
const HOSPITALS: usize = 7;

static DATA: LazyLock<(Arc<Dataset>, Sites)> = LazyLock::new(|| {
    let options = SyntheticOptions { image_size: 28, ..SyntheticOptions::hospitals(HOSPITALS, 40) };
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

/// Two of seven hospitals attack.
fn config(attack: SimulatedAttack, set: &[&str]) -> Config {
    let text = format!(
        "federated: {{num_clients: {HOSPITALS}, num_rounds: 2}}
model: {{channels: [8, 8]}}
training: {{batch_size: 8, local_steps: 3, learning_rate: 0.05}}
privacy: {{enabled: false}}
robust_aggregation: {{enabled: true, method: median, num_byzantine: 2, enable_detection: true}}
simulation: {{attack: {attack}, attackers: 2}}"
    );
    let set: Vec<_> = set.iter().map(|text| Override::parse(text).unwrap()).collect();
    Config::from_yaml(&text, "test", &set).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn simulation(config: &Config) -> Simulation<VolatileLedger> {
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(config, dataset, sites, SEED, [0; 32]).unwrap();
    let parameters = setup.initial_parameters();
    setup
        .simulation(parameters, |site| {
            let run = RunId::try_from("run").unwrap();
            let ledger =
                Ledger::open(run, site.clone(), VolatileLedger::default()).map_err(FederationError::from)?;
            Ok::<_, FederationError>((ledger, danger::reproducible_key(SEED).subkey(site.as_str(), &[])))
        })
        .unwrap()
}

fn whole(config: &Config) -> Outcome {
    simulation(config).run(&mut VolatileJournal, &Silent, &Cancel::default()).unwrap()
}

fn attackers() -> Vec<SiteId> {
    let mut names: Vec<SiteId> = DATA.1.sites.iter().map(|site| site.id.clone()).collect();
    names.sort();
    names.split_off(HOSPITALS - 2)
}

/// Hospitals with a finding of this kind, in every round.
fn found(outcome: &Outcome, statistic: Statistic) -> Vec<Vec<SiteId>> {
    let of_round = |report: &RoundReport| {
        let found = report.security.anomalies.iter().filter(|finding| finding.statistic == statistic);
        found.map(|finding| finding.site.clone()).collect()
    };
    outcome.reports.iter().map(of_round).collect()
}

#[test]
fn every_attack_is_reported_and_survived_by_the_median() {
    let honest = whole(&config(SimulatedAttack::None, &[]));
    assert_eq!(honest.attack, None);
    let mut models = vec![honest.parameters];
    for attack in SimulatedAttack::ALL {
        let outcome = whole(&config(attack, &[]));
        assert_eq!(outcome.status, RunStatus::Completed, "{attack}");
        assert!(outcome.parameters.iter().all(|value| value.is_finite()), "{attack}");
        let report = outcome.attack.unwrap();
        assert_eq!((report.attack, report.attackers), (attack, attackers()));
        assert_eq!(report.backdoor.is_some(), attack == SimulatedAttack::Backdoor);
        if let Some(backdoor) = report.backdoor {
            let parts = [backdoor.with_trigger, backdoor.without_trigger];
            assert!(backdoor.images > 0 && parts.iter().all(|part| (0.0..=1.0).contains(part)));
        }
        // Each attack leads somewhere else. Where the attackers are left out it is the same place.
        if !matches!(attack, SimulatedAttack::InflatedCount) {
            assert!(models.iter().all(|model| *model != outcome.parameters), "{attack}");
            models.push(outcome.parameters);
        }
    }
}

#[test]
fn what_is_no_update_is_left_out_by_name_and_the_round_goes_on() {
    for (attack, statistic) in [
        (SimulatedAttack::Nan, Statistic::NotFinite),
        (SimulatedAttack::InflatedCount, Statistic::SampleCount),
    ] {
        let outcome = whole(&config(attack, &[]));
        assert_eq!(found(&outcome, statistic), vec![attackers(); 2], "{attack}");
        for report in &outcome.reports {
            assert_eq!(report.security.excluded_clients, attackers());
            let trained = report.hospitals.iter().filter(|h| h.status == SiteStatus::Trained);
            assert_eq!(trained.count(), HOSPITALS - 2);
        }
    }
}

#[test]
fn far_updates_are_found_and_can_be_left_out() {
    for attack in [SimulatedAttack::Gaussian, SimulatedAttack::FreeRider] {
        let flagged = whole(&config(attack, &[]));
        assert_eq!(found(&flagged, Statistic::Norm), vec![attackers(); 2], "{attack}");
        assert!(flagged.reports.iter().all(|report| report.security.excluded_clients.is_empty()));
        let excluded = whole(&config(attack, &["robust_aggregation.on_detection=exclude"]));
        for report in &excluded.reports {
            assert_eq!(
                report.security.excluded_clients,
                attackers(),
                "{attack} {:?}",
                report.security.anomalies
            );
        }
    }
}

/// An attacker on images trains without noise: what it sends is shorter than the noise it announced.
#[test]
fn attackers_on_images_do_not_obey_their_privacy_plan() {
    let private = ["privacy={enabled: true, noise_multiplier: 4.0, epsilon_budget: 50}"];
    let outcome = whole(&config(SimulatedAttack::LabelFlip, &private));
    assert_eq!(found(&outcome, Statistic::TooSmall), vec![attackers(); 2]);
    for (site, spent) in &outcome.spent {
        assert_eq!(spent.is_none(), attackers().contains(site), "{site}");
    }
    let obedient = whole(&config(SimulatedAttack::SignFlip, &private));
    assert!(obedient.spent.iter().all(|(_, spent)| spent.is_some()));
    let honest = whole(&config(SimulatedAttack::None, &private));
    assert_eq!(found(&honest, Statistic::TooSmall), vec![Vec::<SiteId>::new(); 2]);
}

#[derive(Default)]
struct Memory {
    reports: Vec<RoundReport>,
    state: Vec<Snapshot>,
    events: Vec<String>,
}

impl Journal for Memory {
    type Error = Infallible;
    fn commit_round(&mut self, report: &RoundReport, state: &[Snapshot]) -> Result<(), Infallible> {
        self.reports.push(report.clone());
        self.suspend(state)
    }
    fn suspend(&mut self, state: &[Snapshot]) -> Result<(), Infallible> {
        self.state = state.to_vec();
        Ok(())
    }
    fn amend(&mut self, _: &str, _: &[(String, serde_json::Value)]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn event(&mut self, _: u32, kind: &str, _: &serde_json::Value) -> Result<(), Infallible> {
        self.events.push(kind.to_owned());
        Ok(())
    }
}

struct StopAfter(AtomicU64, Cancel);

impl Observer for StopAfter {
    fn notice(&self, progress: &Progress<'_>) {
        if matches!(progress, Progress::Step { .. }) && self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.1.cancel();
        }
    }
}

#[test]
fn an_interrupted_attack_ends_like_one_that_was_left_alone() {
    for attack in [SimulatedAttack::Gaussian, SimulatedAttack::Sybil] {
        let config = config(attack, &[]);
        let expected = whole(&config);
        let (mut memory, cancel) = (Memory::default(), Cancel::default());
        let observer = StopAfter(AtomicU64::new(30), cancel.clone());
        let stopped = simulation(&config).run(&mut memory, &observer, &cancel).unwrap();
        assert_eq!(stopped.status, RunStatus::Interrupted);
        assert!(memory.events.contains(&"attack_simulated".to_owned()));
        let mut again = simulation(&config);
        again.restore(&memory.state, memory.reports.clone()).unwrap();
        let outcome = again.run(&mut memory, &Silent, &Cancel::default()).unwrap();
        assert_eq!(outcome.parameters, expected.parameters);
        assert_eq!(outcome.reports, expected.reports);
    }
}

#[test]
fn somebody_has_to_be_honest() {
    let (dataset, sites) = &*DATA;
    let config = config(SimulatedAttack::Nan, &["simulation.attackers=7"]);
    assert!(matches!(
        Setup::new(&config, dataset, sites, SEED, [0; 32]),
        Err(FederationError::Setting { key: "simulation.attackers", .. })
    ));
}
