//! Hospital and coordinator set up apart, and what a coordinator takes from an announcement.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_config::{Config, Override};
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::{DpPlan, ExpectedBatchSize, Ledger, PlanTerms};
use medfed_federation::coordinator::Selection;
use medfed_federation::site::LocalOutcome;
use medfed_federation::{
    Announcement, Coordinator, CoordinatorSetup, FederationError, HospitalSetup, Setup, Silent, Site,
    VolatileJournal, VolatileLedger,
};
use medfed_types::{Cancel, Epsilon, NoiseMultiplier, RunId, SecretKey, Seed, SiteId};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const SEED: Seed = Seed(5);
const DATA_DIGEST: [u8; 32] = [3; 32];

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

fn config(set: &[&str]) -> Config {
    let text = "federated: {num_clients: 3, num_rounds: 2}
model: {channels: [8], dropout: 0}
training: {batch_size: 8, local_steps: 2, learning_rate: 0.1}
secure_aggregation: {enabled: false}
privacy: {epsilon_budget: 20, noise_multiplier: 1.0}
fairness: {enabled: true}";
    let set: Vec<_> = set.iter().map(|text| Override::parse(text).unwrap()).collect();
    Config::from_yaml(text, "test", &set).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn setups(config: &Config) -> Vec<HospitalSetup> {
    let (dataset, sites) = &*DATA;
    let setup = |site| HospitalSetup::new(config, dataset, site, SEED, DATA_DIGEST).unwrap();
    sites.sites.iter().map(setup).collect()
}

fn protect(site: &SiteId) -> Result<(Ledger<VolatileLedger>, SecretKey), FederationError> {
    let ledger = Ledger::open(RunId::try_from("run").unwrap(), site.clone(), VolatileLedger::default())?;
    Ok((ledger, SecretKey::from_bytes([9; 32]).subkey(site.as_str(), &[])))
}

/// Round after round between a coordinator and sites that were set up apart.
fn run(mut coordinator: Coordinator, mut sites: Vec<Site<VolatileLedger>>) -> Coordinator {
    loop {
        let mut training = match coordinator.select().unwrap() {
            Selection::Ended(ended) => return ended.coordinator,
            Selection::Round(training) => training,
        };
        for site in &mut sites {
            let request = training.request(site.id());
            match site.train(&request, &Cancel::default(), &Silent).unwrap() {
                LocalOutcome::Replied(reply) => training.receive(site.id().clone(), reply).unwrap(),
                LocalOutcome::Interrupted => panic!("nobody interrupts"),
            }
        }
        let mut evaluating = training.aggregate().unwrap();
        let parameters = Arc::clone(evaluating.parameters());
        let evaluators = evaluating.evaluators();
        for site in sites.iter().filter(|site| evaluators.contains(site.id())) {
            let evaluation = site.evaluate(&parameters).unwrap().unwrap();
            evaluating.receive(site.id().clone(), evaluation).unwrap();
        }
        coordinator = evaluating.commit().0;
        sites.iter_mut().for_each(Site::end_round);
    }
}

#[test]
fn a_federation_that_is_set_up_apart_ends_like_a_simulation() {
    let config = config(&[]);
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(&config, dataset, sites, SEED, DATA_DIGEST).unwrap();
    let initial = setup.initial_parameters();
    let simulation = setup.simulation(initial.clone(), protect).unwrap();
    let expected = simulation.run(&mut VolatileJournal, &Silent, &Cancel::default()).unwrap();

    let setups = setups(&config);
    let announcements: BTreeMap<SiteId, Announcement> =
        setups.iter().map(|setup| (setup.id().clone(), over_the_wire(&setup.announcement(true)))).collect();
    let coordinator = CoordinatorSetup::new(&config, &announcements, SEED).unwrap();
    assert_eq!(coordinator.initial_parameters(), initial);
    assert_eq!(coordinator.members().len(), 3);
    let coordinator = coordinator.coordinator(initial).unwrap();
    let sites = setups.into_iter().map(|setup| {
        let id = setup.id().clone();
        setup.site(|| protect(&id)).unwrap()
    });
    let coordinator = run(coordinator, sites.collect());
    assert_eq!(coordinator.best().unwrap().parameters, expected.parameters);
    // Nobody but a simulation has a common test set.
    let without_test = expected.reports.into_iter().map(|mut report| {
        (report.test_auc, report.test_accuracy) = (None, None);
        report
    });
    assert_eq!(coordinator.reports(), without_test.collect::<Vec<_>>());
}

fn over_the_wire(announcement: &Announcement) -> Announcement {
    serde_json::from_str(&serde_json::to_string(announcement).unwrap()).unwrap()
}

/// What is wrong with the announcement of the first hospital after `change`.
fn problem(config: &Config, change: impl FnOnce(&mut Announcement)) -> String {
    let setups = setups(config);
    let honest = setups[1].announcement(true);
    let mut announcement = setups[0].announcement(true);
    announcement.check(config, Some(&honest)).unwrap();
    change(&mut announcement);
    announcement.check(config, Some(&honest)).unwrap_err().to_string()
}

fn plan(announcement: &mut Announcement, change: impl FnOnce(&mut PlanTerms)) {
    let mut terms = announcement.plan.as_ref().unwrap().terms().clone();
    change(&mut terms);
    announcement.plan = Some(DpPlan::new(terms).unwrap());
}

type Change = Box<dyn FnOnce(&mut Announcement)>;

#[test]
fn an_announcement_that_does_not_fit_is_refused() {
    let config = config(&[]);
    let batch = |size| move |t: &mut PlanTerms| t.expected_batch_size = ExpectedBatchSize::new(size).unwrap();
    let cases: [(&str, Change); 15] = [
        ("image shape", Box::new(|it| it.shape.width = 20)),
        ("classes", Box::new(|it| it.classes.reverse())),
        ("number of classes", Box::new(|it| it.classes = vec![String::new(); 1001])),
        ("steps in a round", Box::new(|it| it.steps = 3)),
        ("plan", Box::new(|it| it.plan = None)),
        ("noise multiplier", Box::new(|it| plan(it, |t| t.noise = NoiseMultiplier::new(0.9).unwrap()))),
        ("privacy budget", Box::new(|it| plan(it, |t| t.budget = Epsilon::new(21.0).unwrap()))),
        ("delta", Box::new(|it| plan(it, |t| t.delta = medfed_types::Delta::new(1e-3).unwrap()))),
        ("clipping norm", Box::new(|it| plan(it, |t| t.clip = medfed_types::ClipNorm::new(9.0).unwrap()))),
        ("privacy unit", Box::new(|it| plan(it, |t| t.unit = medfed_dp::PrivacyUnit::Patient))),
        ("accountant", Box::new(|it| plan(it, |t| t.accountant = medfed_dp::Accountant::Rdp))),
        ("noise multiplier", Box::new(|it| plan(it, |t| t.noise = NoiseMultiplier::new(2e4).unwrap()))),
        // The range of masked values would be what one hospital likes.
        ("expected batch size", Box::new(move |it| plan(it, batch(1e-3)))),
        ("expected batch size", Box::new(move |it| plan(it, batch(1e6)))),
        ("number of units", Box::new(|it| it.counts.as_mut().unwrap().train_units += 1)),
    ];
    for (what, change) in cases {
        let problem = problem(&config, change);
        assert!(problem.starts_with(&format!("the {what} of the hospital is ")), "{what}: {problem}");
    }
}

#[test]
fn more_noise_and_less_budget_than_configured_are_welcome() {
    let config = config(&[]);
    let mut announcement = setups(&config)[0].announcement(true);
    plan(&mut announcement, |terms| {
        terms.noise = NoiseMultiplier::new(2.0).unwrap();
        terms.budget = Epsilon::new(1.0).unwrap();
    });
    announcement.check(&config, None).unwrap();
}

#[test]
fn steps_that_nobody_trains_are_refused_where_they_cannot_be_worked_out() {
    let config = config(&["privacy.enabled=false", "training.local_steps=null"]);
    let mut announcement = setups(&config)[0].announcement(false);
    assert_eq!(announcement.counts, None);
    announcement.check(&config, None).unwrap();
    for steps in [0, u64::MAX] {
        announcement.steps = steps;
        assert!(matches!(
            announcement.check(&config, None),
            Err(FederationError::Announcement { what: "steps in a round", .. })
        ));
    }
    let mut counted = setups(&config)[0].announcement(true);
    counted.steps += 1;
    assert!(counted.check(&config, None).is_err());
}

#[test]
fn a_coordinator_of_too_few_hospitals_says_so() {
    let config = config(&[]);
    let first = setups(&config).swap_remove(0);
    let one = BTreeMap::from([(first.id().clone(), first.announcement(true))]);
    let error = CoordinatorSetup::new(&config, &one, SEED).unwrap_err();
    assert!(matches!(error, FederationError::Setting { key: "federated.min_fit_clients", .. }), "{error}");
    assert!(CoordinatorSetup::new(&config, &BTreeMap::new(), SEED).is_err());
}

#[test]
fn hospitals_read_the_terms_of_masks_from_the_configuration_alike() {
    let config = config(&["secure_aggregation.enabled=true"]);
    let setups = setups(&config);
    let (dataset, sites) = &*DATA;
    // Another digest of the data changes nothing about what is signed together.
    let other = HospitalSetup::new(&config, dataset, &sites.sites[1], SEED, [4; 32]).unwrap();
    assert!(setups[0].masking().is_some());
    assert_eq!(setups[0].masking(), other.masking());
}
