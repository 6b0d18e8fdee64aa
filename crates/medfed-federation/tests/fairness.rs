//! Evaluation of a part of the hospitals, fairness after every round, and what an unfair model leads to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_config::{Config, Override};
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::Ledger;
use medfed_eval::fairness::Criterion;
use medfed_federation::report::{RoundReport, RunStatus};
use medfed_federation::{
    FederationError, Journal, Outcome, Setup, Silent, Simulation, Snapshot, VolatileLedger,
};
use medfed_types::{Cancel, SecretKey, Seed, SiteId};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

const SEED: Seed = Seed(8);

static DATA: LazyLock<(Arc<Dataset>, Sites)> = LazyLock::new(|| {
    let options = SyntheticOptions { image_size: 28, ..SyntheticOptions::hospitals(4, 60) };
    let dataset = generate(&options, SEED).unwrap();
    let sites = options.sites.iter().map(|site| SiteRequest { id: site.id.clone(), samples: None });
    let plan = SitePlan {
        sites: sites.collect(),
        kind: SplitKind::Column("site".into()),
        minimum: None,
        keep_patients_together: true,
        train_fraction: 0.6,
        test_fraction: 0.3,
    };
    let sites = split_sites(&dataset, &plan, SEED).unwrap();
    (Arc::new(dataset), sites)
});

fn config(set: &[&str]) -> Config {
    let text = "federated: {num_clients: 4, num_rounds: 4}
model: {channels: [8, 8]}
training: {batch_size: 16, local_epochs: 1, learning_rate: 0.05}
privacy: {enabled: false}
fairness: {enabled: true, min_group_size: 3}";
    let set: Vec<_> = set.iter().map(|text| Override::parse(text).unwrap()).collect();
    Config::from_yaml(text, "test", &set).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// Remembers the state after every round, and the events.
#[derive(Debug, Default)]
struct Memory {
    states: Vec<Vec<Snapshot>>,
    reports: Vec<RoundReport>,
    events: Vec<String>,
}

impl Journal for Memory {
    type Error = Infallible;
    fn commit_round(&mut self, report: &RoundReport, state: &[Snapshot]) -> Result<(), Infallible> {
        self.states.push(state.to_vec());
        self.reports.push(report.clone());
        Ok(())
    }
    fn suspend(&mut self, _: &[Snapshot]) -> Result<(), Infallible> {
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

fn simulation(config: &Config) -> Simulation<VolatileLedger> {
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(config, dataset, sites, SEED, [0; 32]).unwrap();
    let parameters = setup.initial_parameters();
    let protect = |_: &SiteId| -> Result<(Ledger<VolatileLedger>, SecretKey), FederationError> {
        unreachable!("there is no privacy to pay for")
    };
    setup.simulation(parameters, protect).unwrap()
}

fn run(config: &Config) -> (Outcome, Memory) {
    let mut memory = Memory::default();
    let outcome = simulation(config).run(&mut memory, &Silent, &Cancel::default()).unwrap();
    (outcome, memory)
}

#[test]
fn rounds_and_the_end_say_who_is_served_how() {
    let (outcome, memory) = run(&config(&["fairness.evaluate_every=3"]));
    assert_eq!(outcome.status, RunStatus::Completed);
    let measured: Vec<u32> =
        outcome.reports.iter().filter(|r| r.fairness.is_some()).map(|r| r.round_num).collect();
    assert_eq!(measured, [3, 4]);
    let round = outcome.reports[3].fairness.as_ref().unwrap();
    let names: Vec<&str> =
        round.measured.demographic_fairness.iter().map(|found| found.attribute.as_str()).collect();
    assert_eq!(names, ["age_group", "sex", "hospital"]);
    let hospitals = round.measured.hospital_fairness.as_ref().unwrap();
    assert_eq!(hospitals.hospitals.len(), 4);
    // What the report says of hospitals is what each of them says.
    for (found, site) in hospitals.hospitals.iter().zip(&outcome.reports[3].hospitals) {
        assert_eq!((&found.hospital, Some(found.accuracy)), (&site.hospital, site.accuracy));
    }
    let end = outcome.evaluation.unwrap();
    assert_eq!(end.hospitals.len(), 4);
    let details = end.test.unwrap();
    assert_eq!(details.performance, outcome.test.unwrap());
    let fairness = end.fairness.unwrap();
    let test = fairness.test.unwrap();
    let sex = test.demographic_fairness.iter().find(|found| found.attribute == "sex").unwrap();
    assert_eq!(sex.groups.iter().map(|group| group.images).sum::<u64>(), details.performance.n);
    assert!(sex.accuracy_difference.as_ref().unwrap().chance.is_some());
    assert!(test.demographic_fairness.iter().any(|found| found.attribute == "hospital"));
    let validation = fairness.validation.unwrap();
    assert_eq!(validation.is_fair, Some(validation.violations.is_empty()));
    let violated = outcome.reports.iter().filter_map(|r| r.fairness.as_ref());
    let violations: usize = violated.map(|fairness| fairness.measured.violations.len()).sum();
    assert_eq!(memory.events.iter().filter(|kind| *kind == "fairness_violation").count(), violations);
}

#[test]
fn small_groups_do_not_leave_a_hospital() {
    let (outcome, _) = run(&config(&["fairness.min_group_size=1000", "federated.num_rounds=1"]));
    let fairness = outcome.reports[0].fairness.as_ref().unwrap();
    let sex = &fairness.measured.demographic_fairness[1];
    assert!(
        sex.groups.iter().all(|group| group.images == 0 && group.withheld_by == 4 && group.rates.is_none())
    );
    assert_eq!((fairness.measured.fairness_score, fairness.measured.is_fair), (None, None));
}

#[test]
fn a_part_of_the_hospitals_evaluates_in_some_rounds() {
    let set = ["evaluation.evaluate_every=2", "federated.fraction_evaluate=0.5", "fairness.enabled=false"];
    let (outcome, _) = run(&config(&set));
    let evaluated: Vec<usize> = outcome
        .reports
        .iter()
        .map(|report| report.hospitals.iter().filter(|h| h.accuracy.is_some()).count())
        .collect();
    // The last round is of all.
    assert_eq!(evaluated, [0, 2, 0, 4]);
    assert_eq!(outcome.reports[0].test_auc, None);
    assert!(outcome.reports[1].test_auc.is_some() && outcome.reports[0].val_loss.is_none());
    assert!([2, 4].contains(&outcome.best_round.unwrap()));
    let least = run(&config(&[&set[..], &["federated.min_evaluate_clients=3"]].concat())).0;
    assert_eq!(least.reports[1].hospitals.iter().filter(|h| h.accuracy.is_some()).count(), 3);
}

#[test]
fn an_unfair_model_stops_the_run_where_that_is_asked() {
    let set = ["fairness.on_violation.halt_training=true", "fairness.thresholds.accuracy_parity=0"];
    let config = config(&set);
    let (outcome, memory) = run(&config);
    assert_eq!(outcome.status, RunStatus::Halted);
    assert_eq!(outcome.reports.len(), 1);
    let reason = outcome.reason.unwrap();
    assert!(reason.contains("stopped the run after round 1: hospital: accuracy difference"), "{reason}");
    assert!(outcome.reports[0].fairness.as_ref().unwrap().halts);
    // It does not start again.
    let mut again = simulation(&config);
    again.restore(&memory.states[0], memory.reports).unwrap();
    let again = again.run(&mut Memory::default(), &Silent, &Cancel::default()).unwrap();
    assert_eq!((again.status, again.reports.len()), (RunStatus::Halted, 1));
    let silent = run(&crate::config(&[&set[..], &["fairness.on_violation.log_warning=false"]].concat())).1;
    assert!(!silent.events.iter().any(|kind| kind == "fairness_violation"));
}

#[test]
fn badly_served_hospitals_gain_weight_also_across_a_restart() {
    let set = ["fairness.on_violation.adjust_weights=true", "fairness.thresholds.accuracy_parity=0"];
    let config = config(&set);
    let (outcome, memory) = run(&config);
    let fairness = outcome.reports[0].fairness.as_ref().unwrap();
    let hospitals = &fairness.measured.hospital_fairness.as_ref().unwrap().hospitals;
    let worst = hospitals.iter().min_by(|a, b| a.accuracy.total_cmp(&b.accuracy)).unwrap();
    assert!(fairness.weight_factors[&worst.hospital] > 1.0, "{:?}", fairness.weight_factors);
    assert!(memory.events.iter().any(|kind| kind == "weights_adjusted"));
    let parity = fairness.measured.violations.iter().any(|v| v.criterion == Criterion::AccuracyParity);
    assert!(parity);
    let plain = run(&crate::config(&set[1..])).0;
    assert_eq!(plain.reports[0].model_hash, outcome.reports[0].model_hash);
    assert_ne!(plain.reports[1].model_hash, outcome.reports[1].model_hash);
    // From the state after each round the run ends as it did.
    for (done, state) in memory.states.iter().enumerate() {
        let mut resumed = simulation(&config);
        resumed.restore(state, memory.reports[..=done].to_vec()).unwrap();
        let resumed = resumed.run(&mut Memory::default(), &Silent, &Cancel::default()).unwrap();
        assert_eq!(resumed.reports, outcome.reports);
    }
}

#[test]
fn an_attribute_that_is_not_there_is_refused_by_name() {
    let (dataset, sites) = &*DATA;
    let config = config(&["fairness.demographic_groups=[sex, ward]"]);
    let error = Setup::new(&config, dataset, sites, SEED, [0; 32]).unwrap_err().to_string();
    assert!(error.starts_with("fairness.demographic_groups: the data have no attribute `ward`"), "{error}");
}
