//! From a configuration to a federation that can start: what a hospital makes of it and its own images
//! ([`HospitalSetup`]), what the coordinator makes of it and the hospitals' announcements
//! ([`CoordinatorSetup`]), and both in one process ([`Setup`]).

mod announcement;
mod coordination;
mod evaluation;
mod forecast;
mod hospital;
mod protection;

pub use announcement::{Announcement, Counts};
pub use coordination::CoordinatorSetup;
pub use forecast::{Forecast, ForecastRound};
pub use hospital::{Hospital, HospitalSetup};

use crate::attack::{Attack, Attackers};
use crate::coordinator::{Coordinator, CoordinatorSettings, Member};
use crate::error::FederationError;
use crate::masking::MaskingPlan;
use crate::simulation::{Simulation, TestSet};
use medfed_config::{Config, section};
use medfed_data::{Dataset, Sites};
use medfed_dp::{Ledger, LedgerStorage};
use medfed_nn::{Architecture, Executor, ModelSpec, Network, PerformanceOptions, Trainable};
use medfed_types::{ImageShape, ImageSource, SecretKey, Seed, SiteId};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A federation in one process that can start: the network, the hospitals and their plans.
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
        let configuration = configuration(config, data);
        let network = network(config, dataset.shape(), dataset.classes())?;
        let executor = Arc::new(Executor::new(Arc::clone(&network), PerformanceOptions::default()));
        let trainable = trainable(config, &network);
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
        let attributes = grouping.as_ref().map(|it| it.attributes().map(str::to_owned).collect());
        let classes = dataset.classes().len();
        let coordinator =
            coordination::settings(config, attributes, classes, seed, configuration, hospitals.len())?;
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
        initial_parameters(&self.network, self.seed)
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
        for hospital in self.hospitals {
            sites.push(hospital.site(Arc::clone(&self.executor), &mut protect)?);
        }
        Ok(Simulation::new(coordinator, sites, self.executor, self.test, self.attack))
    }
}

/// What a paid round is bound to besides its own inputs: the configuration, and the data by their digest.
fn configuration(config: &Config, data: [u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(config.hash()).chain_update(data).finalize().into()
}

impl MaskingPlan {
    /// How updates are masked, as the configuration says; nothing where they are open. Coordinator and
    /// hospitals read the same.
    pub fn configured(config: &Config) -> Result<Option<Self>, FederationError> {
        protection::masking(config, federation_digest(config))
    }
}

/// What everybody in a federation of several processes signs of the configuration.
fn federation_digest(config: &Config) -> [u8; 32] {
    Sha256::new_with_prefix(b"medfed federation v1\0").chain_update(config.hash()).finalize().into()
}

/// The network for images of a shape and of these classes.
fn network(config: &Config, shape: ImageShape, classes: &[String]) -> Result<Arc<Network>, FederationError> {
    Ok(Arc::new(model_spec(config, shape, classes)?.build()?))
}

/// The parameters that move.
fn trainable(config: &Config, network: &Network) -> Trainable {
    if config.model.freeze_backbone { Trainable::head_only(network) } else { Trainable::all(network) }
}

/// Fresh parameters, from the seed.
fn initial_parameters(network: &Network, seed: Seed) -> Vec<f32> {
    network.initial_parameters(&mut seed.generator("initial parameters", &[]))
}

/// The network that fits the configuration and the data.
fn model_spec(config: &Config, shape: ImageShape, names: &[String]) -> Result<ModelSpec, FederationError> {
    let classes = names.len();
    match config.model.num_classes {
        Some(configured) if configured as usize != classes => Err(FederationError::Setting {
            key: "model.num_classes",
            problem: format!(
                "{configured} is configured, the data have {classes} classes ({}); leave the key out to take the number from the data",
                names.join(", ")
            ),
        }),
        _ => Ok(ModelSpec {
            architecture: match config.model.name {
                section::ModelName::SimpleCnn => Architecture::SimpleCnn,
                section::ModelName::Resnet18 => Architecture::ResNet18,
                section::ModelName::Densenet121 => Architecture::DenseNet121,
            },
            input: shape,
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
