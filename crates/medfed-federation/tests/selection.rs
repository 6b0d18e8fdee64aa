//! Federations that select among masked updates: against attackers, beside open updates, over restarts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_aggregate::anomaly::Statistic;
use medfed_config::{Config, Override};
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::Ledger;
use medfed_federation::masking::MaskingMode;
use medfed_federation::report::{Revealed, RoundReport, RunStatus, SiteStatus};
use medfed_federation::{
    FederationError, Journal, Observer, Outcome, Progress, Setup, Silent, Simulation, Snapshot,
    VolatileJournal, VolatileLedger,
};
use medfed_types::random::danger;
use medfed_types::{Cancel, RunId, SecretKey, Seed, SiteId};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

const SEED: Seed = Seed(3);
const HOSPITALS: usize = 8;

static DATA: LazyLock<(Arc<Dataset>, Sites)> = LazyLock::new(|| {
    let options = SyntheticOptions { image_size: 28, ..SyntheticOptions::hospitals(HOSPITALS, 32) };
    let dataset = generate(&options, SEED).unwrap();
    let sites = options.sites.iter().map(|site| SiteRequest { id: site.id.clone(), samples: None });
    let plan = SitePlan {
        sites: sites.collect(),
        kind: SplitKind::Column("site".into()),
        minimum: None,
        keep_patients_together: true,
        train_fraction: 0.7,
        test_fraction: 0.2,
    };
    let sites = split_sites(&dataset, &plan, SEED).unwrap();
    (Arc::new(dataset), sites)
});

/// Two of eight hospitals attack, and Multi-Krum is told so.
fn config(attack: &str, set: &[&str]) -> Config {
    let text = format!(
        "federated: {{num_clients: {HOSPITALS}, num_rounds: 3}}
model: {{channels: [8, 8]}}
training: {{batch_size: 8, local_steps: 4, learning_rate: 0.05}}
privacy: {{enabled: false}}
secure_aggregation: {{enabled: true, norm_bound: 64}}
robust_aggregation: {{enabled: true, method: multi_krum, num_byzantine: 2, multi_krum_k: 5}}
simulation: {{attack: {attack}, attackers: 2}}"
    );
    let set: Vec<_> = set.iter().map(|text| Override::parse(text).unwrap()).collect();
    Config::from_yaml(&text, "test", &set).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn key(purpose: &str, site: &SiteId) -> SecretKey {
    danger::reproducible_key(SEED).subkey(&format!("{purpose} {site}"), &[])
}

fn simulation(config: &Config) -> Simulation<VolatileLedger> {
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(config, dataset, sites, SEED, [0; 32]).unwrap();
    let parameters = setup.initial_parameters();
    let simulation = setup.simulation(parameters, |site| {
        let run = RunId::try_from("run").unwrap();
        let ledger = Ledger::open(run, site.clone(), VolatileLedger::default()).unwrap();
        Ok::<_, FederationError>((ledger, key("noise", site)))
    });
    let naming = danger::reproducible_key(SEED).subkey("naming", &[]);
    let signing = |site: &SiteId| Ok::<_, FederationError>(key("signing", site));
    simulation.unwrap().enrolled(&naming, signing).unwrap()
}

fn whole(config: &Config) -> Outcome {
    simulation(config).run(&mut VolatileJournal, &Silent, &Cancel::default()).unwrap()
}

fn attackers() -> Vec<SiteId> {
    let mut names: Vec<SiteId> = DATA.1.sites.iter().map(|site| site.id.clone()).collect();
    names.sort();
    names.split_off(HOSPITALS - 2)
}

/// Hospitals whose updates made the step of each round.
fn used(outcome: &Outcome) -> Vec<Vec<SiteId>> {
    let of_round = |report: &RoundReport| {
        let weights = report.security.weights.iter();
        weights
            .filter(|it| it.weight.is_some_and(|weight| weight > 0.0))
            .map(|it| it.hospital.clone())
            .collect()
    };
    outcome.reports.iter().map(of_round).collect()
}

const OPEN: &str = "secure_aggregation.use_masking=false";

#[test]
fn multi_krum_under_masks_does_what_it_does_on_open_updates() {
    for attack in ["sign_flip", "alie", "ipm", "mimic", "label_flip"] {
        let masked = whole(&config(attack, &[]));
        let open = whole(&config(attack, &[OPEN]));
        assert_eq!(masked.status, RunStatus::Completed, "{attack}: {:?}", masked.reason);
        assert_eq!(used(&masked), used(&open), "{attack}");
        for (a, b) in masked.parameters.iter().zip(open.parameters.iter()) {
            assert!((a - b).abs() < 1e-4, "{attack}: {a} {b}");
        }
        for report in &masked.reports {
            let masking = report.security.masking.as_ref().unwrap();
            assert_eq!(masking.mode, MaskingMode::Selection);
            assert_eq!(masking.revealed, [Revealed::InnerProducts, Revealed::SelectedSum]);
            let selection = masking.selection.as_ref().unwrap();
            assert_eq!((selection.compared.len(), selection.selected.len()), (HOSPITALS, 5));
            assert_eq!(masking.survivors, selection.selected);
            assert!(report.hospitals.iter().all(|hospital| hospital.update_norm.is_some()));
            // Shares of every vector went to all the others.
            assert!(masking.traffic.values().all(|it| it.sent_bytes > 8 * 7 * selection.parameters));
        }
    }
}

#[test]
fn attackers_are_not_selected_and_the_model_stays_good() {
    let auc = |outcome: &Outcome| outcome.test.as_ref().unwrap().auc.unwrap().estimate;
    let honest = whole(&config("none", &[]));
    for attack in ["sign_flip", "gaussian", "scaling"] {
        let wide = ["secure_aggregation.norm_bound=100000", "secure_aggregation.clip_range=1000"];
        let masked = whole(&config(attack, &wide));
        assert_eq!(masked.status, RunStatus::Completed, "{attack}: {:?}", masked.reason);
        for (round, used) in used(&masked).iter().enumerate() {
            assert!(attackers().iter().all(|bad| !used.contains(bad)), "{attack} in round {round}: {used:?}");
        }
        assert!(auc(&masked) > auc(&honest) - 0.1, "{attack}: {} {}", auc(&masked), auc(&honest));
        let report = masked.reports[0].security.masking.as_ref().unwrap().selection.as_ref().unwrap();
        for bad in attackers() {
            let passed = report.passed_over.iter().find(|it| it.hospital == bad).unwrap();
            assert!(passed.reason.contains("multi_krum did not select it"), "{}", passed.reason);
        }
    }
}

/// Attackers whose updates do not fit the range or are no numbers withhold them by themselves, like honest
/// hospitals, and the rule goes on with the rest.
#[test]
fn hospitals_whose_updates_do_not_fit_are_left_out_by_name() {
    for (attack, reason) in [("scaling", "beyond ±4"), ("gaussian", "norm_bound"), ("nan", "not finite")] {
        let outcome = whole(&config(attack, &["secure_aggregation.norm_bound=4"]));
        assert_eq!(outcome.status, RunStatus::Completed, "{attack}: {:?}", outcome.reason);
        let last = &outcome.reports[2].security;
        let masking = last.masking.as_ref().unwrap();
        let lost: Vec<SiteId> = masking.lost.iter().map(|lost| lost.hospital.clone()).collect();
        assert_eq!(lost, attackers(), "{attack}");
        assert!(masking.lost[0].reason.contains(reason), "{}", masking.lost[0].reason);
        assert_eq!(masking.selection.as_ref().unwrap().withheld, attackers());
        assert!(last.warnings.iter().any(|it| it.contains("withstands 1 bad ones, not 2")));
    }
}

#[test]
fn what_is_out_of_line_is_found_under_masks() {
    let detection = [
        "secure_aggregation.norm_bound=100000",
        "robust_aggregation.enable_detection=true",
        "secure_aggregation.mode=selection",
        "robust_aggregation.method=fedavg",
    ];
    let with = |on_detection: &str, attack: &str| {
        let on_detection = format!("robust_aggregation.on_detection={on_detection}");
        whole(&config(attack, &[&detection[..], &[&on_detection]].concat()))
    };
    let excluded = with("exclude", "gaussian");
    assert_eq!(excluded.status, RunStatus::Completed, "{:?}", excluded.reason);
    for (report, used) in excluded.reports.iter().zip(used(&excluded)) {
        let found: BTreeSet<SiteId> = (report.security.anomalies.iter())
            .filter(|finding| finding.statistic == Statistic::Norm)
            .map(|finding| finding.site.clone())
            .collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), attackers());
        assert_eq!(report.security.excluded_clients, attackers());
        assert_eq!(used.len(), HOSPITALS - 2);
        let status = |site: &SiteId| report.hospitals.iter().find(|it| it.hospital == *site).unwrap().status;
        assert!(attackers().iter().all(|site| status(site) == SiteStatus::Excluded));
    }
    let flagged = with("flag", "gaussian");
    assert!(used(&flagged).iter().all(|used| used.len() == HOSPITALS));
    assert!(flagged.reports[0].security.byzantine_detected);
    let halted = with("halt", "gaussian");
    assert_eq!(halted.status, RunStatus::Aborted);
    let aborted = halted.aborted.unwrap();
    assert_eq!(aborted.masking.unwrap().revealed, [Revealed::InnerProducts]);
    assert!(aborted.byzantine_detected && halted.reports.is_empty());
    // Without an attacker nothing is found.
    let honest = with("exclude", "none");
    assert!(honest.reports.iter().all(|report| report.security.excluded_clients.is_empty()));
}

/// Where detection leaves out the bad ones, Multi-Krum expects fewer among the rest.
#[test]
fn exclusions_leave_room_for_the_rule() {
    let set = [
        "secure_aggregation.norm_bound=100000",
        "robust_aggregation.enable_detection=true",
        "robust_aggregation.on_detection=exclude",
        "robust_aggregation.multi_krum_k=6",
    ];
    for more in [None, Some(OPEN)] {
        let set: Vec<&str> = set.into_iter().chain(more).collect();
        let outcome = whole(&config("gaussian", &set));
        assert_eq!(outcome.status, RunStatus::Completed, "{:?}", outcome.reason);
        for (report, used) in outcome.reports.iter().zip(used(&outcome)) {
            assert_eq!(report.security.excluded_clients, attackers());
            let warned =
                report.security.warnings.iter().any(|it| it.contains("withstands 1 bad ones, not 2"));
            assert!(warned && used.len() == 5, "{:?} {used:?}", report.security.warnings);
        }
    }
}

#[test]
fn sybils_are_not_selected_by_foolsgold() {
    let foolsgold = "robust_aggregation.method=foolsgold";
    let masked = whole(&config("sybil", &[foolsgold]));
    assert_eq!(masked.status, RunStatus::Completed, "{:?}", masked.reason);
    for used in used(&masked) {
        assert!(used.len() >= 3 && attackers().iter().all(|sybil| !used.contains(sybil)), "{used:?}");
    }
    let selection = masked.reports[0].security.masking.as_ref().unwrap().selection.as_ref().unwrap();
    let sybil = selection.passed_over.iter().find(|it| it.hospital == attackers()[0]).unwrap();
    assert!(sybil.reason.contains("resemble another hospital's"), "{}", sybil.reason);
    // The first round selects the heaviest on open updates, and others where these are fewer than three.
    let open = whole(&config("sybil", &[foolsgold, OPEN]));
    let weights = &open.reports[0].security.weights;
    let most = weights.iter().filter_map(|it| it.weight).fold(0.0, f64::max);
    let heavy = weights.iter().filter(|it| it.weight.is_some_and(|weight| weight >= 0.5 * most));
    let heavy: Vec<SiteId> = heavy.map(|it| it.hospital.clone()).collect();
    let first = &used(&masked)[0];
    assert!(first.len() == heavy.len().max(3) && heavy.iter().all(|site| first.contains(site)));
}

#[test]
fn noise_of_the_plan_is_expected_of_every_update() {
    let private = ["privacy={enabled: true, noise_multiplier: 2.0, epsilon_budget: 50}"];
    let detection = ["robust_aggregation.enable_detection=true", "secure_aggregation.norm_bound=null"];
    let outcome = whole(&config("label_flip", &[&private[..], &detection].concat()));
    assert_eq!(outcome.status, RunStatus::Completed, "{:?}", outcome.reason);
    for report in &outcome.reports {
        let selection = report.security.masking.as_ref().unwrap().selection.as_ref().unwrap();
        // The attackers train without noise, and their updates are too short.
        let short = |finding: &&medfed_aggregate::anomaly::Finding| finding.statistic == Statistic::TooSmall;
        let short: Vec<SiteId> =
            report.security.anomalies.iter().filter(short).map(|finding| finding.site.clone()).collect();
        assert_eq!(short, attackers());
        assert!(selection.norms.values().all(|norm| *norm < selection.norm_bound));
        assert!(selection.expected.values().all(|expected| expected.least.is_some()));
    }
    assert!(outcome.spent.iter().any(|(_, spent)| spent.is_some()));
}

#[derive(Default)]
struct Memory {
    reports: Vec<RoundReport>,
    state: Vec<Snapshot>,
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
    fn event(&mut self, _: u32, _: &str, _: &serde_json::Value) -> Result<(), Infallible> {
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
fn what_was_opened_is_remembered_over_a_restart() {
    let config = config("sybil", &["robust_aggregation.method=foolsgold"]);
    let expected = whole(&config);
    let (mut memory, cancel) = (Memory::default(), Cancel::default());
    let observer = StopAfter(AtomicU64::new(80), cancel.clone());
    let stopped = simulation(&config).run(&mut memory, &observer, &cancel).unwrap();
    assert_eq!((stopped.status, stopped.reports.len()), (RunStatus::Interrupted, 2));
    let mut again = simulation(&config);
    again.restore(&memory.state, memory.reports.clone()).unwrap();
    let outcome = again.run(&mut memory, &Silent, &Cancel::default()).unwrap();
    assert_eq!(outcome.parameters, expected.parameters);
    assert_eq!(outcome.reports, expected.reports);
}

#[test]
fn too_few_hospitals_are_refused_before_the_first_round() {
    let (dataset, sites) = &*DATA;
    let config = config("none", &["federated.num_clients=12", "robust_aggregation.num_byzantine=4"]);
    let refused = Setup::new(&config, dataset, sites, SEED, [0; 32]);
    assert!(
        matches!(&refused, Err(FederationError::Setting { key: "robust_aggregation.method", problem }) if problem.contains("needs 11 hospitals")),
        "{refused:?}"
    );
}
