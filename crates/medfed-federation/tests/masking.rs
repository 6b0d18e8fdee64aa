//! Federations under masks: robust rules on sums of random groups, crashes, and open updates for comparison.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_config::Config;
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::{Ledger, LedgerStorage};
use medfed_federation::coordinator::{Selection, Training};
use medfed_federation::masking::{MaskingMode, Opening, Order, Party, Session, Turn, Unmasked};
use medfed_federation::report::{Revealed, RoundReport, RunStatus};
use medfed_federation::site::{LocalOutcome, RawUpdate, SiteReply};
use medfed_federation::{
    CoordinatorSetup, FederationError, HospitalSetup, Journal, Outcome, Setup, Silent, Simulation, Snapshot,
    VolatileJournal, VolatileLedger,
};
use medfed_secagg::{Identity, Roster};
use medfed_types::random::danger;
use medfed_types::{Cancel, RunId, SecretKey, Seed, SiteId};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};

const SEED: Seed = Seed(5);

static DATA: LazyLock<(Arc<Dataset>, Sites)> = LazyLock::new(|| {
    let options = SyntheticOptions { image_size: 28, ..SyntheticOptions::hospitals(7, 24) };
    let dataset = generate(&options, SEED).unwrap();
    let sites = options.sites.iter().map(|site| SiteRequest { id: site.id.clone(), samples: None });
    let plan = SitePlan {
        sites: sites.collect(),
        kind: SplitKind::Column("site".into()),
        minimum: None,
        keep_patients_together: true,
        train_fraction: 0.8,
        test_fraction: 0.1,
    };
    let sites = split_sites(&dataset, &plan, SEED).unwrap();
    (Arc::new(dataset), sites)
});

fn config(robust: &str, more: &str) -> Config {
    let text = format!(
        "federated: {{num_clients: 7, num_rounds: 2}}
model: {{channels: [4, 4]}}
training: {{batch_size: 8, local_steps: 2, learning_rate: 0.1}}
privacy: {{epsilon_budget: 20, noise_multiplier: 1.0}}
secure_aggregation: {{enabled: true}}
robust_aggregation: {{enabled: true, {robust}}}
{more}"
    );
    Config::from_yaml(&text, "test", &[]).unwrap_or_else(|e| panic!("{}", e.render(false)))
}

fn key(purpose: &str, site: &SiteId) -> SecretKey {
    danger::reproducible_key(SEED).subkey(&format!("{purpose} {site}"), &[])
}

fn ledger(site: &SiteId) -> Ledger<VolatileLedger> {
    Ledger::open(RunId::try_from("run").unwrap(), site.clone(), VolatileLedger::default()).unwrap()
}

/// Ledger records that outlive the run, as a hospital's disk would.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<BTreeMap<SiteId, VolatileLedger>>>);

#[derive(Debug)]
struct DiskLedger(Disk, SiteId);

impl LedgerStorage for DiskLedger {
    type Error = Infallible;
    fn records(&mut self) -> Result<Vec<Vec<u8>>, Infallible> {
        self.0.0.lock().unwrap().entry(self.1.clone()).or_default().records()
    }
    fn append(&mut self, position: usize, record: &[u8]) -> Result<(), Infallible> {
        self.0.0.lock().unwrap().entry(self.1.clone()).or_default().append(position, record)
    }
}

fn simulation(config: &Config, disk: &Disk) -> Simulation<DiskLedger> {
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(config, dataset, sites, SEED, [0; 32]).unwrap();
    let parameters = setup.initial_parameters();
    let simulation = setup.simulation(parameters, |site| {
        let storage = DiskLedger(disk.clone(), site.clone());
        let ledger = Ledger::open(RunId::try_from("run").unwrap(), site.clone(), storage).unwrap();
        Ok::<_, FederationError>((ledger, key("noise", site)))
    });
    let naming = danger::reproducible_key(SEED).subkey("naming", &[]);
    let signing = |site: &SiteId| Ok::<_, FederationError>(key("signing", site));
    simulation.unwrap().enrolled(&naming, signing).unwrap()
}

fn run(robust: &str, more: &str) -> Outcome {
    let simulation = simulation(&config(robust, more), &Disk::default());
    simulation.run(&mut VolatileJournal, &Silent, &Cancel::default()).unwrap()
}

/// Keeps what a store would keep, and fails at a chosen write.
#[derive(Debug, Default)]
struct Memory {
    reports: Vec<RoundReport>,
    state: Vec<Snapshot>,
    writes_left: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
struct DiskFull;

impl Memory {
    fn write(&mut self) -> Result<(), DiskFull> {
        match &mut self.writes_left {
            Some(0) => return Err(DiskFull),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }
}

impl Journal for Memory {
    type Error = DiskFull;
    fn commit_round(&mut self, report: &RoundReport, state: &[Snapshot]) -> Result<(), DiskFull> {
        self.write()?;
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
    fn event(&mut self, _: u32, _: &str, _: &serde_json::Value) -> Result<(), DiskFull> {
        Ok(())
    }
}

#[test]
fn a_crash_at_any_write_repeats_the_groups_and_their_sums() {
    let config = config("method: median", "");
    let expected = simulation(&config, &Disk::default())
        .run(&mut Memory::default(), &Silent, &Cancel::default())
        .unwrap();
    assert_eq!(expected.status, RunStatus::Completed, "{:?}", expected.reason);
    // Before the first round; before coins, masked inputs and consents leave, and at the end of each round.
    for writes in 0.. {
        let mut memory = Memory { writes_left: Some(writes), ..Memory::default() };
        let disk = Disk::default();
        let crashed = simulation(&config, &disk).run(&mut memory, &Silent, &Cancel::default());
        if crashed.is_ok() {
            assert_eq!(writes, 9);
            break;
        }
        memory.writes_left = None;
        let mut again = simulation(&config, &disk);
        if writes > 0 {
            again.restore(&memory.state, memory.reports.clone()).unwrap();
        }
        let outcome = again.run(&mut memory, &Silent, &Cancel::default()).unwrap();
        assert!(outcome.parameters == expected.parameters && outcome.reports == expected.reports, "{writes}");
        assert_eq!(outcome.spent, expected.spent);
    }
}

/// One round by hand: what hospitals train is aggregated openly, and under masks.
fn both_ways(hospitals: usize, robust: &str) -> (Vec<f32>, Vec<f32>) {
    let text = |secure: bool| {
        format!(
            "federated: {{num_clients: {hospitals}, num_rounds: 2}}
model: {{channels: [4, 4]}}
training: {{batch_size: 8, local_steps: 2, learning_rate: 0.1}}
privacy: {{epsilon_budget: 20, noise_multiplier: 1.0}}
secure_aggregation: {{enabled: {secure}}}
robust_aggregation: {{{robust}}}"
        )
    };
    let (dataset, sites) = &*DATA;
    let setups = |secure| {
        let config =
            Config::from_yaml(&text(secure), "test", &[]).unwrap_or_else(|e| panic!("{}", e.render(false)));
        let setup = |site| HospitalSetup::new(&config, dataset, site, SEED, [0; 32]).unwrap();
        let setups: Vec<HospitalSetup> = sites.sites[..hospitals].iter().map(setup).collect();
        let announced = setups.iter().map(|setup| (setup.id().clone(), setup.announcement(true)));
        let coordinator = CoordinatorSetup::new(&config, &announced.collect(), SEED).unwrap();
        let initial = coordinator.initial_parameters();
        let Selection::Round(training) = coordinator.coordinator(initial).unwrap().select().unwrap() else {
            panic!("there are rounds left");
        };
        (setups, training)
    };
    let (setups_under_masks, mut masked) = setups(true);
    let (_, mut open) = setups(false);
    let mut updates = BTreeMap::new();
    for setup in setups_under_masks {
        let id = setup.id().clone();
        let protect = || Ok::<_, FederationError>((ledger(&id), key("noise", &id)));
        let mut site = setup.site(protect).unwrap();
        let outcome = site.train(&masked.request(&id), &Cancel::default(), &Silent).unwrap();
        let LocalOutcome::Replied(SiteReply::Trained { update, report }) = outcome else {
            panic!("{id} trains");
        };
        masked.receive(id.clone(), SiteReply::Withheld { report: report.clone() }).unwrap();
        open.receive(id.clone(), SiteReply::Trained { update: update.clone(), report }).unwrap();
        updates.insert(id, update);
    }
    let order = masked.order().unwrap().unwrap();
    masked.open(unmasked(&order, updates));
    let parameters = |training: Training| training.aggregate().unwrap().parameters().to_vec();
    (parameters(open), parameters(masked))
}

/// Hospitals and coordinator by their machines, as a network would carry their messages.
fn unmasked(order: &Order, updates: BTreeMap<SiteId, RawUpdate>) -> Unmasked {
    let party = |site: &SiteId| {
        Party::new(Identity::new(site.clone(), &key("identity", site)), key("sessions", site))
    };
    let mut parties: BTreeMap<SiteId, Party> =
        updates.keys().map(|site| (site.clone(), party(site))).collect();
    let keys = parties.iter().map(|(site, party)| (site.clone(), party.verifying_key()));
    let roster = Roster::new(keys).unwrap();
    let session = |(site, update)| (site, Session::new(order.expectation(), roster.clone(), update));
    let mut sessions: BTreeMap<SiteId, Session> = updates.into_iter().map(session).collect();
    let everyone = parties.keys().cloned().collect::<Vec<_>>();
    let (mut opening, mut calls) =
        Opening::start(order.clone(), roster.clone(), everyone, &danger::reproducible_key(SEED));
    loop {
        for call in calls {
            let party = parties.get_mut(&call.to).unwrap();
            let answer = sessions.get_mut(&call.to).unwrap().handle(party, &call.bytes).unwrap();
            opening.receive(&call.to, &answer).unwrap();
        }
        match opening.close() {
            Turn::Ask(next, messages) => (opening, calls) = (next, messages),
            Turn::Done(unmasked) => return unmasked,
        }
    }
}

#[test]
fn with_privacy_a_masked_aggregate_is_that_of_the_open_updates() {
    for hospitals in [3, 5] {
        for robust in ["enabled: false", "enabled: true, method: trimmed_mean, trim_ratio: 0.1"] {
            let (open, masked) = both_ways(hospitals, robust);
            let largest = open.iter().zip(&masked).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest <= 1e-6, "{hospitals} hospitals, {robust}: {largest}");
            assert_eq!(open.len(), masked.len());
        }
    }
}

#[test]
fn robust_rules_compare_groups() {
    for rule in ["method: median", "method: krum, num_byzantine: 0", "method: trimmed_mean, trim_ratio: 0.34"]
    {
        let outcome = run(rule, "");
        assert_eq!(outcome.status, RunStatus::Completed, "{rule}: {:?}", outcome.reason);
        let groups: Vec<_> = outcome.reports.iter().map(|it| it.security.masking.clone().unwrap()).collect();
        for masking in &groups {
            assert_eq!((masking.mode, masking.groups.len()), (MaskingMode::Groups, 3));
            assert_eq!(masking.revealed, [Revealed::GroupSums]);
            let members: BTreeSet<_> = masking.groups.iter().flatten().collect();
            assert_eq!((members.len(), masking.survivors.len()), (7, 7));
        }
        assert_ne!(groups[0].groups, groups[1].groups, "groups are drawn anew in every round");
        let again = run(rule, "");
        assert!(again.parameters == outcome.parameters && again.reports == outcome.reports, "{rule}");
    }
}

#[test]
fn a_bad_hospital_moves_one_group_only() {
    // The update that a hospital forges is ten times as long as the others', and the other way.
    let attack = "simulation: {attack: scaling, attackers: 1}";
    let (honest, median, mean) =
        (run("method: median", ""), run("method: median", attack), run("method: fedavg", attack));
    for outcome in [&honest, &median, &mean] {
        assert_eq!(outcome.status, RunStatus::Completed, "{:?}", outcome.reason);
    }
    let masking = |outcome: &Outcome| outcome.reports[0].security.masking.clone().unwrap();
    assert_eq!((masking(&mean).mode, masking(&median).mode), (MaskingMode::Sum, MaskingMode::Groups));
    let moved = |outcome: &Outcome| {
        let squares = outcome.parameters.iter().zip(honest.parameters.iter()).map(|(a, b)| (a - b).powi(2));
        squares.sum::<f32>().sqrt()
    };
    let (by_median, by_mean) = (moved(&median), moved(&mean));
    assert!(by_median < by_mean / 2.0, "{by_median} of {by_mean}");
}

#[test]
fn a_hospital_that_sends_no_number_is_left_out_by_name() {
    let outcome = run("method: fedavg", "simulation: {attack: nan, attackers: 1}");
    assert_eq!(outcome.status, RunStatus::Completed, "{:?}", outcome.reason);
    let masking = outcome.reports[0].security.masking.as_ref().unwrap();
    assert_eq!((masking.participants.len(), masking.survivors.len(), masking.lost.len()), (6, 6, 1));
    assert_eq!(outcome.reports[0].num_clients, 6);
    assert!(outcome.parameters.iter().all(|value| value.is_finite()));
}
