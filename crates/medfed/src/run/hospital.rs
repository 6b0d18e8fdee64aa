//! The hospital behind a site: its images, its ledger and its keys, from a folder of its own.

mod keeper;

pub(crate) use keeper::{Kept, SiteFolder};

use super::dataset;
use super::display::Display;
use super::model;
use medfed_config::{Config, Override};
use medfed_data::{Dataset, SiteData, SitePlan, SiteRequest, Sites, SplitKind};
use medfed_dp::{DpError, Ledger};
use medfed_federation::site::{LocalOutcome, TrainRequest};
use medfed_federation::{
    Announcement, FederationError, HospitalSetup, Observer as _, Progress, Site, SiteEvaluation, Snapshot,
};
use medfed_net::runtime::{Hospital, KeeperError, Trouble};
use medfed_nn::Network;
use medfed_nn::checkpoint::CheckpointMetadata;
use medfed_protocol::Payload;
use medfed_protocol::message::{DeclineCode, Offer};
use medfed_store::{SqliteLedger, Store};
use medfed_types::random::danger;
use medfed_types::{Cancel, Epsilon, RoundId, RunId, Seed, SiteId};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the secret from which a site's own seed follows.
const SEED: &str = "seed";

/// How a site gets at its images.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    /// Its images; nothing for synthetic ones, which the configuration describes.
    pub(crate) path: Option<PathBuf>,
    /// Settings of its own: how its images are to be read.
    pub(crate) overrides: Vec<Override>,
    /// Noise follows from this seed: for demonstrations and tests.
    pub(crate) reproducible_noise: Option<u64>,
}

/// What is known of a run once the hospital has prepared for it.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    network: Arc<Network>,
    metadata: CheckpointMetadata,
}

/// One hospital in one run.
pub(super) struct OwnHospital {
    store: Store,
    run: RunId,
    site: SiteId,
    data: Data,
    display: Arc<Display>,
    prepared: Arc<Mutex<Option<Prepared>>>,
    work: Option<Site<SqliteLedger>>,
}

impl OwnHospital {
    /// Reads the images and makes the plan.
    fn set_up(&mut self, offer: &Offer) -> Result<Announcement, Trouble> {
        let unable = |reason: String| Trouble::Unable { code: DeclineCode::Configuration, reason };
        let config = Config::from_yaml(&offer.configuration, "the offer", &[])
            .map_err(|errors| unable(errors.to_string()))?;
        let seed = self.seed(&config)?;
        let (dataset, sites) = self.read(&config, seed)?;
        let fingerprint = dataset::fingerprint(&dataset, &sites);
        let own = sites
            .sites
            .iter()
            .find(|site| site.id == self.site)
            .ok_or_else(|| unable(format!("{} has no images in this data set", self.site)))?;
        let dataset = Arc::new(dataset);
        let setup = HospitalSetup::new(&config, &dataset, own, seed, fingerprint)
            .map_err(|error| unable(error.to_string()))?;
        let announcement = setup.announcement(true);
        let network = Arc::clone(setup.network());
        let metadata = model::plain_metadata(&network, dataset.classes(), &config, Epsilon::ZERO, &self.run);
        let metadata = CheckpointMetadata {
            privacy: metadata.privacy.map(|statement| medfed_nn::checkpoint::PrivacyStatement {
                reproducible_noise: self.data.reproducible_noise.is_some(),
                ..statement
            }),
            ..metadata
        };
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Prepared { network, metadata });
        self.say(&setup, own);
        let (store, run, site, data) = (&self.store, &self.run, &self.site, &self.data);
        let work = setup.site(|| -> Result<_, Trouble> {
            let given = data
                .reproducible_noise
                .map(|seed| danger::reproducible_key(Seed(seed)).subkey(&format!("site {site}"), &[]));
            let key = store.site_key(run, site, given).map_err(fatal)?;
            let storage = store.ledger_storage(run, site).map_err(fatal)?;
            let ledger = Ledger::open(run.clone(), site.clone(), storage).map_err(fatal)?;
            Ok((ledger, key))
        })?;
        self.work = Some(work);
        Ok(announcement)
    }

    /// The seed of what is not private: the federation's where it has one, else the site's own.
    fn seed(&self, config: &Config) -> Result<Seed, Trouble> {
        if let Some(seed) = config.experiment.seed {
            return Ok(Seed(seed));
        }
        let secret = self.store.run_secret(&self.run, SEED).map_err(fatal)?;
        let (first, _) = secret.expose().split_first_chunk::<8>().expect("a key has 32 bytes");
        Ok(Seed(u64::from_le_bytes(*first) >> 11))
    }

    /// The images, and which of them are the hospital's. Synthetic images are drawn for the whole federation,
    /// as a simulation draws them.
    fn read(&self, config: &Config, seed: Seed) -> Result<(Dataset, Sites), Trouble> {
        // What is wrong with files stays at the site: names of files can name patients.
        let unreadable = |failure: crate::failure::Failure| {
            failure.log();
            let reason = "the hospital's images cannot be used; its log says why".to_owned();
            Trouble::Unable { code: DeclineCode::Configuration, reason }
        };
        let Some(path) = &self.data.path else {
            if !config.data.is_synthetic() {
                let reason = "the hospital was started without images".to_owned();
                return Err(Trouble::Unable { code: DeclineCode::Configuration, reason });
            }
            let dataset = dataset::load(config, seed).map_err(unreadable)?;
            let sites = dataset::divide(config, &dataset, seed).map_err(unreadable)?;
            return Ok((dataset, sites));
        };
        let mut own = self.data.overrides.clone();
        let text = path.to_str().unwrap_or_default();
        for (key, value) in [("data.dataset", "files"), ("data.data_dir", text)] {
            own.extend(Override::text(key, value));
        }
        let local = Config::from_yaml(&config.to_yaml(), "the offer with the site's own settings", &own)
            .map_err(|errors| unreadable(crate::failure::Failure::user(anyhow::anyhow!("{errors}"))))?;
        let dataset = dataset::load(&local, seed).map_err(unreadable)?;
        let plan = SitePlan {
            sites: vec![SiteRequest { id: self.site.clone(), samples: None }],
            kind: if local.data.split_by_site {
                SplitKind::Column("site".to_owned())
            } else {
                SplitKind::Iid
            },
            minimum: None,
            keep_patients_together: true,
            train_fraction: local.data.train_split,
            // There is no common test set: the hospital's own test images stay out of training.
            test_fraction: 0.0,
        };
        let sites = medfed_data::split_sites(&dataset, &plan, seed)
            .map_err(|error| unreadable(dataset::data_failure(error)))?;
        Ok((dataset, sites))
    }

    fn say(&self, setup: &HospitalSetup, own: &SiteData) {
        let hospital = setup.hospital();
        let plan = hospital.plan.as_ref().map_or_else(
            || ", no privacy".to_owned(),
            |plan| {
                let terms = plan.terms();
                format!(", rate {:.3}, noise {:.3}", terms.rate.get(), terms.noise.get())
            },
        );
        self.display.say(&format!(
            "{} images to train, {} to validate, {} steps a round{plan}",
            own.train.len(),
            own.validation.len(),
            hospital.training.steps
        ));
        if self.data.reproducible_noise.is_some() {
            self.display.warn("noise follows from a seed: whoever knows it can remove the noise");
        }
    }

    fn working(&mut self) -> Result<&mut Site<SqliteLedger>, Trouble> {
        let reason = "the hospital has joined no run".to_owned();
        self.work.as_mut().ok_or(Trouble::Unable { code: DeclineCode::Order, reason })
    }
}

impl Hospital for OwnHospital {
    fn prepare(&mut self, offer: &Offer) -> Result<Announcement, Trouble> {
        self.set_up(offer)
    }

    fn restore(&mut self, state: &Snapshot) -> Result<(), Trouble> {
        self.working()?.restore(state).map_err(fatal)
    }

    fn train(&mut self, request: &TrainRequest, cancel: &Cancel) -> Result<LocalOutcome, Trouble> {
        let display = Arc::clone(&self.display);
        let site = self.working()?;
        let steps = [(site.id().clone(), site.planned_steps())];
        display.notice(&Progress::RoundStarted { round: request.round, sites: &steps });
        site.train(request, cancel, &*display).map_err(trouble)
    }

    fn evaluate(&mut self, parameters: &[f32]) -> Result<Option<SiteEvaluation>, Trouble> {
        self.working()?.evaluate(parameters).map_err(trouble)
    }

    fn cosign(&mut self, _: RoundId, _: &Payload) -> Result<Payload, Trouble> {
        let reason = "this program signs no checkpoints over a network".to_owned();
        Err(Trouble::Unable { code: DeclineCode::Order, reason })
    }

    fn snapshot(&self) -> Option<Snapshot> {
        self.work.as_ref().map(Site::snapshot)
    }

    fn end_round(&mut self) {
        if let Some(work) = &mut self.work {
            work.end_round();
        }
    }
}

/// What the disk or the program does wrong ends the process: the state is as it was.
fn trouble(error: FederationError) -> Trouble {
    match error {
        FederationError::Privacy(DpError::Storage { .. })
        | FederationError::Journal(_)
        | FederationError::Saved { .. } => fatal(error),
        other => {
            tracing::error!("{other}");
            Trouble::Unable { code: DeclineCode::Failed, reason: other.to_string() }
        }
    }
}

fn fatal(error: impl Into<KeeperError>) -> Trouble {
    Trouble::Fatal(error.into())
}
