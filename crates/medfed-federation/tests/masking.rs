//! Robust rules on masked sums of random groups.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_config::Config;
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::Ledger;
use medfed_federation::masking::MaskingMode;
use medfed_federation::report::{Revealed, RunStatus};
use medfed_federation::{FederationError, Outcome, Setup, Silent, VolatileJournal, VolatileLedger};
use medfed_types::random::danger;
use medfed_types::{Cancel, RunId, SecretKey, Seed, SiteId};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

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

fn run(robust: &str, more: &str) -> Outcome {
    let text = format!(
        "federated: {{num_clients: 7, num_rounds: 2}}
model: {{channels: [4, 4]}}
training: {{batch_size: 8, local_steps: 2, learning_rate: 0.1}}
privacy: {{epsilon_budget: 20, noise_multiplier: 1.0}}
secure_aggregation: {{enabled: true}}
robust_aggregation: {{enabled: true, {robust}}}
{more}"
    );
    let config = Config::from_yaml(&text, "test", &[]).unwrap_or_else(|e| panic!("{}", e.render(false)));
    let (dataset, sites) = &*DATA;
    let setup = Setup::new(&config, dataset, sites, SEED, [0; 32]).unwrap();
    let parameters = setup.initial_parameters();
    let key = |purpose: &str, site: &SiteId| {
        Ok::<_, FederationError>(danger::reproducible_key(SEED).subkey(&format!("{purpose} {site}"), &[]))
    };
    let simulation = setup.simulation(parameters, |site| {
        let run = RunId::try_from("run").unwrap();
        let ledger = Ledger::open(run, site.clone(), VolatileLedger::default()).unwrap();
        Ok::<_, FederationError>((ledger, key("noise", site)?))
    });
    let fresh = SecretKey::generate().unwrap();
    let simulation = simulation.unwrap().enrolled(&fresh, |site| key("signing", site)).unwrap();
    simulation.run(&mut VolatileJournal, &Silent, &Cancel::default()).unwrap()
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
    let attack = "simulation: {attack: sign_flip, attackers: 1}";
    let (median, mean) = (run("method: median", attack), run("method: fedavg", attack));
    assert_eq!(median.status, RunStatus::Completed, "{:?}", median.reason);
    assert_eq!(mean.reports[0].security.masking.as_ref().unwrap().mode, MaskingMode::Sum);
    assert_ne!(median.parameters, mean.parameters);
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
