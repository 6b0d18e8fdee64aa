//! Reference models: what training gives on known halves of the images, for attacks that compare
//! ([`References`](medfed_eval::membership::References), [`AttackModel`](medfed_eval::membership::AttackModel)).
//!
//! A reference is a whole federation, by the configuration of the run that is attacked: the same network,
//! steps and budget, on a random half of the attacked images. References come in complementary pairs, so
//! that each image is trained on in exactly half of them; all images of a patient go the same way.
//!
//! References are trained on real patients. Their noise follows from the seed, so that an audit is
//! repeatable; they and what they say must stay where the images are.

use crate::error::FederationError;
use crate::observer::Observer;
use crate::report::RunStatus;
use crate::setup::Setup;
use crate::volatile::{VolatileJournal, VolatileLedger};
use medfed_config::{Config, Override};
use medfed_data::{Dataset, SiteData, Sites};
use medfed_dp::Ledger;
use medfed_types::random::danger;
use medfed_types::{Cancel, RunId, Seed, SiteId};
use rand::{Rng, RngExt};
use std::collections::HashMap;
use std::sync::Arc;

/// An image that is attacked, and the hospital that trains on it where it is trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its index in the data set.
    pub image: u32,
    /// The hospital.
    pub site: SiteId,
}

/// How reference models are trained.
#[derive(Debug)]
pub struct ReferenceTraining {
    config: Config,
    dataset: Arc<Dataset>,
    targets: Vec<Target>,
    /// For each target the first target of the same patient, or itself.
    together: Vec<usize>,
    initial: Option<Vec<f32>>,
    seed: Seed,
}

/// A reference model, by what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Whether each target was trained on.
    pub included: Vec<bool>,
    /// Its logits, `[target, class]`.
    pub logits: Vec<f32>,
}

impl ReferenceTraining {
    /// References for `targets`, trained as `config` says. Without `initial` parameters each starts from
    /// fresh ones of its own.
    pub fn new(
        config: &Config,
        dataset: &Arc<Dataset>,
        targets: Vec<Target>,
        initial: Option<Vec<f32>>,
        seed: Seed,
    ) -> Result<Self, FederationError> {
        let config = quiet(config).map_err(|problem| FederationError::Setting {
            key: "privacy_audit.attack_types",
            problem: format!("reference models cannot be trained by this configuration: {problem}"),
        })?;
        let mut first: HashMap<&str, usize> = HashMap::new();
        let together = targets.iter().enumerate().map(|(index, target)| {
            let patient = dataset.scans()[target.image as usize].patient.as_deref();
            patient.map_or(index, |patient| *first.entry(patient).or_insert(index))
        });
        let together = together.collect();
        Ok(Self { config, dataset: Arc::clone(dataset), targets, together, initial, seed })
    }

    /// Which targets reference number `number` is trained on. Numbers 2k and 2k + 1 are complementary.
    pub fn included(&self, number: u32) -> Vec<bool> {
        let mut rng = self.seed.generator("reference half", &[u64::from(number / 2)]);
        let coins: Vec<bool> = (0..self.targets.len()).map(|_| rng.random()).collect();
        self.together.iter().map(|first| coins[*first] != (number % 2 == 1)).collect()
    }

    /// Trains reference number `number` and asks it about all targets. Nothing when `cancel` stopped it.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every number")]
    pub fn train(
        &self,
        number: u32,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<Option<Reference>, FederationError> {
        let included = self.included(number);
        let sites = self.sites(&included);
        let seed = Seed(self.seed.generator("reference seed", &[u64::from(number)]).next_u64());
        let setup = Setup::new(&self.config, &self.dataset, &sites, seed, [0; 32])?;
        let initial = self.initial.clone().unwrap_or_else(|| setup.initial_parameters());
        let executor = Arc::clone(setup.executor());
        let keys = danger::reproducible_key(seed);
        let simulation = setup.simulation(initial, |site| {
            let run = RunId::try_from(format!("reference-{number}")).expect("letters and digits are a name");
            let ledger =
                Ledger::open(run, site.clone(), VolatileLedger::default()).map_err(FederationError::from)?;
            Ok::<_, FederationError>((ledger, keys.subkey(&format!("site {site}"), &[])))
        });
        let outcome = simulation?.run(&mut VolatileJournal, observer, cancel)?;
        if outcome.status == RunStatus::Interrupted {
            return Ok(None);
        }
        let images: Vec<u32> = self.targets.iter().map(|target| target.image).collect();
        let logits = executor.logits(&outcome.parameters, &*self.dataset, &images)?;
        Ok(Some(Reference { included, logits }))
    }

    /// The hospitals with the included targets to train on and nothing to evaluate on: the newest model is
    /// the one that is asked.
    fn sites(&self, included: &[bool]) -> Sites {
        let mut sites: Vec<SiteData> = Vec::new();
        for (target, included) in self.targets.iter().zip(included) {
            let at = sites.iter().position(|site| site.id == target.site).unwrap_or_else(|| {
                sites.push(SiteData { id: target.site.clone(), train: Vec::new(), validation: Vec::new() });
                sites.len() - 1
            });
            if *included {
                sites[at].train.push(target.image);
            }
        }
        sites.sort_by(|a, b| a.id.cmp(&b.id));
        for site in &mut sites {
            site.train.sort_unstable();
        }
        Sites { sites, test: Vec::new(), unused: Vec::new(), warnings: Vec::new() }
    }
}

/// The configuration without what only watches a run or hides its sums from a coordinator.
fn quiet(config: &Config) -> Result<Config, String> {
    let off = ["fairness.enabled=false", "privacy_audit.enabled=false", "secure_aggregation.enabled=false"];
    let off: Result<Vec<Override>, _> = off.iter().map(|text| Override::parse(text)).collect();
    let off = off.map_err(|error| error.to_string())?;
    Config::from_yaml(&config.to_yaml(), "the configuration", &off).map_err(|errors| errors.to_string())
}
