//! One hospital: what it needs of the configuration and of its own images, and what it tells the coordinator.

use super::announcement::{Announcement, Counts};
use super::{configuration, evaluation, network, protection, trainable};
use crate::coordinator::AnnouncedLocal;
use crate::error::FederationError;
use crate::masking::MaskingPlan;
use crate::site::{LocalTraining, Protection, Site, SiteImages};
use medfed_config::{Config, section};
use medfed_data::{Dataset, SiteData, UnitKind, Units};
use medfed_dp::{
    Accountant, DpPlan, ExpectedBatchSize, History, Ledger, LedgerStorage, PlanTerms, PrivacyUnit, calibrate,
};
use medfed_nn::optimizer::{Adam, Optimizer, Sgd};
use medfed_nn::schedule::{LearningRate, Schedule};
use medfed_nn::{Executor, Network, PerformanceOptions, Trainable};
use medfed_types::{ClipNorm, ImageSource, SamplingRate, SecretKey, Seed, SiteId};
use std::sync::Arc;

/// A hospital before its ledger is opened.
#[derive(Debug)]
pub struct Hospital {
    /// Its name.
    pub id: SiteId,
    /// Its images.
    pub images: SiteImages,
    /// How it trains.
    pub training: LocalTraining,
    /// Its plan, when there is privacy.
    pub plan: Option<DpPlan>,
    /// What the coordinator knows of its training.
    pub announced: AnnouncedLocal,
}

/// A hospital that is one process of a federation: it knows the configuration and its own images, and
/// nothing of anybody else.
#[derive(Debug)]
pub struct HospitalSetup {
    executor: Arc<Executor>,
    hospital: Hospital,
    classes: Vec<String>,
    masking: Option<MaskingPlan>,
}

impl HospitalSetup {
    /// Checks the configuration against the hospital's images and makes its plan.
    ///
    /// `dataset` may hold more than the hospital's images; `site` says which are its own. `data` is a
    /// digest of them, to which a paid round is bound. `seed` decides, without privacy, the order of batches;
    /// a private step takes everything from the hospital's key.
    pub fn new(
        config: &Config,
        dataset: &Arc<Dataset>,
        site: &SiteData,
        seed: Seed,
        data: [u8; 32],
    ) -> Result<Self, FederationError> {
        let network = network(config, dataset.shape(), dataset.classes())?;
        let trainable = trainable(config, &network);
        let mut hospital =
            Hospital::new(config, dataset, site, &trainable, seed, configuration(config, data))?;
        hospital.images.grouping = evaluation::grouping(config, dataset)?;
        Ok(Self {
            executor: Arc::new(Executor::new(network, PerformanceOptions::default())),
            hospital,
            classes: dataset.classes().to_vec(),
            masking: protection::masking(config, super::federation_digest(config))?,
        })
    }

    /// Its name.
    pub fn id(&self) -> &SiteId {
        &self.hospital.id
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        self.executor.network()
    }

    /// Its images and its plan.
    pub fn hospital(&self) -> &Hospital {
        &self.hospital
    }

    /// How its updates are masked, by its own reading of the configuration; nothing where they are open.
    pub fn masking(&self) -> Option<&MaskingPlan> {
        self.masking.as_ref()
    }

    /// What it tells the coordinator; the numbers of its images only if `counts`.
    pub fn announcement(&self, counts: bool) -> Announcement {
        let Hospital { images, training, plan, .. } = &self.hospital;
        Announcement {
            shape: self.network().spec().input,
            classes: self.classes.clone(),
            steps: training.steps,
            plan: plan.clone(),
            validates: !images.validation.is_empty(),
            attributes: images
                .grouping
                .iter()
                .flat_map(|grouping| grouping.attributes().map(str::to_owned))
                .collect(),
            counts: counts.then(|| Counts {
                train_images: images.announced_images(),
                train_units: images.announced_units(),
                validation_images: images.validation.len() as u64,
            }),
        }
    }

    /// The hospital before its first round. `protect` opens its ledger and gives its key; it is called when
    /// there is a plan.
    pub fn site<S, E>(self, protect: impl FnOnce() -> Result<(Ledger<S>, SecretKey), E>) -> Result<Site<S>, E>
    where
        S: LedgerStorage,
    {
        self.hospital.site(self.executor, |_| protect())
    }
}

impl Hospital {
    /// The site of the hospital, with its ledger and its key where it has a plan.
    pub(super) fn site<S, E>(
        self,
        executor: Arc<Executor>,
        protect: impl FnOnce(&SiteId) -> Result<(Ledger<S>, SecretKey), E>,
    ) -> Result<Site<S>, E>
    where
        S: LedgerStorage,
    {
        let Self { id, images, training, plan, .. } = self;
        let protection = match plan {
            Some(plan) => {
                let (ledger, key) = protect(&id)?;
                Protection::Private { plan, ledger, key }
            }
            None => Protection::Absent,
        };
        Ok(Site::new(id, executor, images, training, protection))
    }

    pub(super) fn new(
        config: &Config,
        dataset: &Arc<Dataset>,
        site: &SiteData,
        trainable: &Trainable,
        seed: Seed,
        configuration: [u8; 32],
    ) -> Result<Self, FederationError> {
        let kind = match (config.privacy.enabled, config.privacy.unit) {
            (true, section::PrivacyUnit::Patient) => UnitKind::Patient,
            _ => UnitKind::Image,
        };
        if kind == UnitKind::Patient {
            require_patients(dataset, site)?;
        }
        let train = Units::new(dataset, &site.train, kind);
        let batch_size = config.training.batch_size as usize;
        let rate = sampling_rate(config, train.len())?;
        let steps = steps(config, config.privacy.enabled.then_some(rate), Some(train.len() as u64))
            .expect("the number of units is known");
        let total = steps * u64::from(config.federated.num_rounds);
        let training = LocalTraining {
            optimizer: optimizer(&config.training)?,
            learning_rate: learning_rate(config, steps)?,
            steps,
            batch_size,
            grad_clip_norm: config.training.grad_clip_norm.filter(|_| !config.privacy.enabled),
            trainable: trainable.clone(),
            seed,
            configuration,
        };
        let plan = config.privacy.enabled.then(|| plan(config, rate, train.len(), total)).transpose()?;
        let announced = announced(config, trainable, steps, plan.clone())?;
        let images = SiteImages {
            source: Arc::clone(dataset) as _,
            train,
            canaries: 0,
            validation: site.validation.clone(),
            grouping: None,
        };
        Ok(Self { id: site.id.clone(), images, training, plan, announced })
    }
}

/// Refuses to promise protection per patient where no image has a patient: each image would count as one.
fn require_patients(dataset: &Dataset, site: &SiteData) -> Result<(), FederationError> {
    let scans = dataset.scans();
    if site.train.iter().any(|index| scans[*index as usize].patient.is_some()) {
        return Ok(());
    }
    Err(FederationError::Setting {
        key: "privacy.unit",
        problem: format!(
            "no training image of {} has a patient identifier, so `patient` would protect single images; name the column with data.columns.patient_id, or take `image`",
            site.id
        ),
    })
}

/// The hospital's plan over `total` steps on `units` units.
fn plan(config: &Config, rate: SamplingRate, units: usize, total: u64) -> Result<DpPlan, FederationError> {
    let privacy = &config.privacy;
    let fixed = fixed_terms(privacy);
    let noise = match privacy.noise_multiplier.fixed() {
        Some(noise) => noise,
        None => calibrate(
            fixed.accountant,
            privacy.epsilon_budget,
            rate,
            total,
            privacy.delta,
            &History::default(),
        )?,
    };
    let expected = rate.get() * units as f64;
    let plan = DpPlan::new(PlanTerms {
        unit: fixed.unit,
        clip: fixed.clip,
        noise,
        rate,
        expected_batch_size: ExpectedBatchSize::new(expected).map_err(medfed_dp::DpError::from)?,
        secure_mode: privacy.secure_mode,
        delta: privacy.delta,
        accountant: fixed.accountant,
        budget: privacy.epsilon_budget,
    })?;
    Ok(match protection::orchestrator(&config.orchestrator)? {
        Some(orchestrator) => orchestrator.opening(plan, total)?,
        None => plan,
    })
}

/// The terms of a plan that the configuration fixes for every hospital.
pub(super) struct FixedTerms {
    pub(super) unit: PrivacyUnit,
    pub(super) clip: ClipNorm,
    pub(super) accountant: Accountant,
}

pub(super) fn fixed_terms(privacy: &section::Privacy) -> FixedTerms {
    FixedTerms {
        unit: match privacy.unit {
            section::PrivacyUnit::Image => PrivacyUnit::Image,
            section::PrivacyUnit::Patient => PrivacyUnit::Patient,
        },
        clip: privacy.max_grad_norm,
        accountant: match privacy.accountant {
            section::AccountantName::Pld => Accountant::Pld,
            section::AccountantName::Rdp => Accountant::Rdp,
        },
    }
}

/// Steps in a round: as configured, or those of the configured number of epochs. With privacy an epoch
/// follows from the sampling rate, without from the number of units; nothing where that is not known.
pub(super) fn steps(config: &Config, rate: Option<SamplingRate>, units: Option<u64>) -> Option<u64> {
    let training = &config.training;
    if let Some(steps) = training.local_steps {
        return Some(u64::from(steps).max(1));
    }
    let epoch = match rate {
        Some(rate) => (1.0 / rate.get()).round().max(1.0) as u64,
        None => units?.div_ceil(u64::from(training.batch_size)).max(1),
    };
    Some(epoch.saturating_mul(u64::from(training.local_epochs)).max(1))
}

/// What follows from the configuration for a hospital that takes so many steps in a round.
pub(super) fn announced(
    config: &Config,
    trainable: &Trainable,
    steps: u64,
    plan: Option<DpPlan>,
) -> Result<AnnouncedLocal, FederationError> {
    Ok(AnnouncedLocal {
        steps,
        learning_rate: learning_rate(config, steps)?,
        momentum: match config.training.optimizer {
            section::OptimizerName::Sgd => Some(config.training.momentum),
            section::OptimizerName::Adam => None,
        },
        weight_decay: config.training.weight_decay,
        parameters: trainable.ranges().iter().map(ExactSizeIterator::len).sum(),
        plan,
    })
}

/// The learning rate over all rounds of so many steps.
fn learning_rate(config: &Config, steps: u64) -> Result<LearningRate, FederationError> {
    let schedule = match config.training.scheduler {
        section::SchedulerName::None => Schedule::Constant,
        section::SchedulerName::Cosine => Schedule::Cosine,
    };
    let total = steps.saturating_mul(u64::from(config.federated.num_rounds));
    Ok(LearningRate::new(config.training.learning_rate, schedule, total)?)
}

/// The configured rate, or the one at which a batch has `training.batch_size` units on average.
fn sampling_rate(config: &Config, units: usize) -> Result<SamplingRate, FederationError> {
    if let Some(rate) = config.privacy.sampling_rate {
        return Ok(rate);
    }
    let rate = (f64::from(config.training.batch_size) / units.max(1) as f64).min(1.0);
    SamplingRate::new(rate).map_err(|error| FederationError::Privacy(error.into()))
}

fn optimizer(training: &section::Training) -> Result<Optimizer, FederationError> {
    Ok(match training.optimizer {
        section::OptimizerName::Sgd => Optimizer::Sgd(Sgd::new(training.momentum, training.weight_decay)?),
        section::OptimizerName::Adam => Optimizer::Adam(Adam::with_weight_decay(training.weight_decay)?),
    })
}
