//! From a configuration and a divided data set to a federation that can start.

mod evaluation;
mod forecast;
mod protection;

pub use forecast::{Forecast, ForecastRound};

use crate::attack::{Attack, Attackers};
use crate::coordinator::{AnnouncedLocal, Coordinator, CoordinatorSettings, Member};
use crate::error::FederationError;
use crate::simulation::{Simulation, TestSet};
use crate::site::{LocalTraining, Protection, Site, SiteImages};
use medfed_config::{Config, section};
use medfed_data::{Dataset, SiteData, Sites, UnitKind, Units};
use medfed_dp::{
    Accountant, DpPlan, ExpectedBatchSize, History, Ledger, LedgerStorage, PlanTerms, PrivacyUnit, calibrate,
};
use medfed_nn::optimizer::{Adam, Optimizer, Sgd};
use medfed_nn::schedule::{LearningRate, Schedule};
use medfed_nn::{Architecture, Executor, ModelSpec, Network, PerformanceOptions, Trainable};
use medfed_types::{ImageSource, SamplingRate, SecretKey, Seed, SiteId};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A federation that can start: the network, the hospitals and their plans.
#[derive(Debug)]
pub struct Setup {
    network: Arc<Network>,
    executor: Arc<Executor>,
    coordinator: CoordinatorSettings,
    hospitals: Vec<Hospital>,
    test: TestSet,
    seed: Seed,
    attack: Option<Attack>,
}

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

impl Setup {
    /// Checks the configuration against the data and plans every hospital.
    ///
    /// `data` is a digest of the data set and its division; a paid round is bound to it. With
    /// `privacy.noise_multiplier: auto` this solves for the noise of each hospital.
    pub fn new(
        config: &Config,
        dataset: &Arc<Dataset>,
        sites: &Sites,
        seed: Seed,
        data: [u8; 32],
    ) -> Result<Self, FederationError> {
        let configuration: [u8; 32] =
            Sha256::new().chain_update(config.hash()).chain_update(data).finalize().into();
        let network = Arc::new(model_spec(config, dataset)?.build()?);
        let executor = Arc::new(Executor::new(Arc::clone(&network), PerformanceOptions::default()));
        let trainable = if config.model.freeze_backbone {
            Trainable::head_only(&network)
        } else {
            Trainable::all(&network)
        };
        let grouping = evaluation::grouping(config, dataset)?;
        let mut hospitals = sites
            .sites
            .iter()
            .map(|site| Hospital::new(config, dataset, site, &trainable, seed, configuration))
            .map(|hospital| {
                let mut hospital = hospital?;
                hospital.images.grouping.clone_from(&grouping);
                Ok(hospital)
            })
            .collect::<Result<Vec<_>, FederationError>>()?;
        let attack = Attack::plan(config, dataset, &mut hospitals, &sites.test, seed)?;
        let federated = &config.federated;
        let coordinator = CoordinatorSettings {
            rounds: federated.num_rounds,
            fraction_fit: federated.fraction_fit,
            min_fit: federated.min_fit_clients as usize,
            min_available: federated.min_available_clients as usize,
            ema_decay: config.training.ema_decay,
            seed,
            aggregator: protection::aggregator(&config.robust_aggregation)?,
            // Under masks there is no single update to search.
            detector: if config.secure_aggregation.masks() {
                None
            } else {
                protection::detector(&config.robust_aggregation)?
            },
            evaluation: evaluation::plan(config, grouping.as_ref(), dataset.classes().len()),
            on_detection: protection::on_detection(&config.robust_aggregation),
            orchestrator: protection::orchestrator(&config.orchestrator)?,
            measurement_threshold: protection::measurement_threshold(&config.orchestrator),
            masking: protection::masking(config, configuration)?,
        };
        let found = hospitals.len();
        for (key, least) in [
            ("federated.min_fit_clients", coordinator.min_fit),
            ("federated.min_available_clients", coordinator.min_available),
        ] {
            if least > found {
                let problem = format!("{least} hospitals are asked for, the data give {found}");
                return Err(FederationError::Setting { key, problem });
            }
        }
        protection::check_hospitals(&coordinator, found)?;
        let test = TestSet {
            source: Arc::clone(dataset) as _,
            images: sites.test.clone(),
            grouping: evaluation::test_grouping(grouping.as_ref(), config, dataset, sites)?,
        };
        Ok(Self { network, executor, coordinator, hospitals, test, seed, attack })
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The hospitals.
    pub fn hospitals(&self) -> &[Hospital] {
        &self.hospitals
    }

    pub(crate) fn hospitals_mut(&mut self) -> &mut [Hospital] {
        &mut self.hospitals
    }

    /// What runs the network.
    pub fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// The hospitals that attack; nothing in a federation of honest ones.
    pub fn attackers(&self) -> Option<&Attackers> {
        self.attack.as_ref().map(|attack| &attack.attackers)
    }

    /// Images of the common test set.
    pub fn test_images(&self) -> usize {
        self.test.images.len()
    }

    /// Fresh parameters, from the seed.
    pub fn initial_parameters(&self) -> Vec<f32> {
        self.network.initial_parameters(&mut self.seed.generator("initial parameters", &[]))
    }

    /// The federation before its first round. `protect` opens a hospital's ledger and gives its key; it
    /// is called for hospitals with a plan.
    pub fn simulation<S, E>(
        self,
        parameters: Vec<f32>,
        mut protect: impl FnMut(&SiteId) -> Result<(Ledger<S>, SecretKey), E>,
    ) -> Result<Simulation<S>, E>
    where
        S: LedgerStorage + Send,
        E: From<FederationError>,
    {
        let member = |hospital: &Hospital| Member {
            site: hospital.id.clone(),
            train_images: hospital.images.announced_images(),
            train_units: hospital.images.announced_units(),
            validation_images: hospital.images.validation.len() as u64,
            training: hospital.announced.clone(),
        };
        let members = self.hospitals.iter().map(member).collect();
        let coordinator = Coordinator::new(self.coordinator, members, parameters)?;
        let mut sites = Vec::with_capacity(self.hospitals.len());
        for Hospital { id, images, training, plan, .. } in self.hospitals {
            let protection = match plan {
                Some(plan) => {
                    let (ledger, key) = protect(&id)?;
                    Protection::Private { plan, ledger, key }
                }
                None => Protection::Absent,
            };
            sites.push(Site::new(id, Arc::clone(&self.executor), images, training, protection));
        }
        Ok(Simulation::new(coordinator, sites, self.executor, self.test, self.attack))
    }
}

impl Hospital {
    fn new(
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
        let epoch = if config.privacy.enabled {
            (1.0 / rate.get()).round().max(1.0) as u64
        } else {
            train.len().div_ceil(batch_size).max(1) as u64
        };
        let steps = config
            .training
            .local_steps
            .map_or(epoch * u64::from(config.training.local_epochs), u64::from)
            .max(1);
        let total = steps * u64::from(config.federated.num_rounds);
        let training = LocalTraining {
            optimizer: optimizer(&config.training)?,
            learning_rate: LearningRate::new(
                config.training.learning_rate,
                match config.training.scheduler {
                    section::SchedulerName::None => Schedule::Constant,
                    section::SchedulerName::Cosine => Schedule::Cosine,
                },
                total,
            )?,
            steps,
            batch_size,
            grad_clip_norm: config.training.grad_clip_norm.filter(|_| !config.privacy.enabled),
            trainable: trainable.clone(),
            seed,
            configuration,
        };
        let plan = config.privacy.enabled.then(|| plan(config, rate, train.len(), total)).transpose()?;
        let announced = AnnouncedLocal {
            steps,
            learning_rate: training.learning_rate,
            momentum: match config.training.optimizer {
                section::OptimizerName::Sgd => Some(config.training.momentum),
                section::OptimizerName::Adam => None,
            },
            weight_decay: config.training.weight_decay,
            parameters: trainable.ranges().iter().map(ExactSizeIterator::len).sum(),
            plan: plan.clone(),
        };
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
    let accountant = match privacy.accountant {
        section::AccountantName::Pld => Accountant::Pld,
        section::AccountantName::Rdp => Accountant::Rdp,
    };
    let noise = match privacy.noise_multiplier.fixed() {
        Some(noise) => noise,
        None => {
            calibrate(accountant, privacy.epsilon_budget, rate, total, privacy.delta, &History::default())?
        }
    };
    let expected = rate.get() * units as f64;
    let plan = DpPlan::new(PlanTerms {
        unit: match privacy.unit {
            section::PrivacyUnit::Image => PrivacyUnit::Image,
            section::PrivacyUnit::Patient => PrivacyUnit::Patient,
        },
        clip: privacy.max_grad_norm,
        noise,
        rate,
        expected_batch_size: ExpectedBatchSize::new(expected).map_err(medfed_dp::DpError::from)?,
        secure_mode: privacy.secure_mode,
        delta: privacy.delta,
        accountant,
        budget: privacy.epsilon_budget,
    })?;
    Ok(match protection::orchestrator(&config.orchestrator)? {
        Some(orchestrator) => orchestrator.opening(plan, total)?,
        None => plan,
    })
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

/// The network that fits the configuration and the data.
fn model_spec(config: &Config, dataset: &Dataset) -> Result<ModelSpec, FederationError> {
    let classes = dataset.classes().len();
    match config.model.num_classes {
        Some(configured) if configured as usize != classes => Err(FederationError::Setting {
            key: "model.num_classes",
            problem: format!(
                "{configured} is configured, the data have {classes} classes ({}); leave the key out to take the number from the data",
                dataset.classes().join(", ")
            ),
        }),
        _ => Ok(ModelSpec {
            architecture: match config.model.name {
                section::ModelName::SimpleCnn => Architecture::SimpleCnn,
                section::ModelName::Resnet18 => Architecture::ResNet18,
                section::ModelName::Densenet121 => Architecture::DenseNet121,
            },
            input: dataset.shape(),
            classes,
            dropout: config.model.dropout as f32,
            channels: config
                .model
                .channels
                .as_ref()
                .map(|widths| widths.iter().map(|width| *width as usize).collect()),
        }),
    }
}
