//! The coordinator: what it needs of the configuration and of what hospitals announce, without any image.

use super::announcement::Announcement;
use super::{evaluation, protection};
use crate::coordinator::{Coordinator, CoordinatorSettings, Member};
use crate::error::FederationError;
use crate::masking::MaskingMode;
use medfed_config::Config;
use medfed_nn::Network;
use medfed_types::{Seed, SiteId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A coordinator of hospitals that have announced themselves.
#[derive(Debug)]
pub struct CoordinatorSetup {
    network: Arc<Network>,
    settings: CoordinatorSettings,
    members: Vec<Member>,
    classes: Vec<String>,
}

impl CoordinatorSetup {
    /// Checks the announcements against the configuration and against one another.
    ///
    /// `seed` decides the choice of hospitals and the initial parameters; no privacy rests on it.
    pub fn new(
        config: &Config,
        announcements: &BTreeMap<SiteId, Announcement>,
        seed: Seed,
    ) -> Result<Self, FederationError> {
        let first = announcements.values().next().ok_or(FederationError::Setting {
            key: "federated.min_available_clients",
            problem: "no hospital has joined".to_owned(),
        })?;
        for announcement in announcements.values() {
            announcement.check(config, Some(first))?;
        }
        let network = first.network(config)?;
        let attributes: BTreeSet<&str> =
            announcements.values().flat_map(|it| &it.attributes).map(String::as_str).collect();
        let attributes =
            config.fairness.enabled.then(|| attributes.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let members = announcements
            .iter()
            .map(|(site, announcement)| announcement.member(site, config, &network))
            .collect::<Result<Vec<_>, _>>()?;
        let settings = settings(
            config,
            attributes,
            first.classes.len(),
            seed,
            super::federation_digest(config),
            members.len(),
        )?;
        Ok(Self { network, settings, members, classes: first.classes.clone() })
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The classes, in the order of their numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The hospitals, in the order of their names.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Fresh parameters, from the seed.
    pub fn initial_parameters(&self) -> Vec<f32> {
        super::initial_parameters(&self.network, self.settings.seed)
    }

    /// The coordinator before the first round.
    pub fn coordinator(self, parameters: Vec<f32>) -> Result<Coordinator, FederationError> {
        Coordinator::new(self.settings, self.members, parameters)
    }
}

/// What a coordinator of `found` hospitals goes by. `attributes` are those by which hospitals count when
/// fairness is measured; `digest` goes into everything that is signed where updates are masked.
pub(super) fn settings(
    config: &Config,
    attributes: Option<Vec<String>>,
    classes: usize,
    seed: Seed,
    digest: [u8; 32],
    found: usize,
) -> Result<CoordinatorSettings, FederationError> {
    let federated = &config.federated;
    let masking = protection::masking(config, digest)?;
    // Sums under masks show no single update to search; a selection opens norms and directions.
    let searched = masking.as_ref().is_none_or(|masking| masking.mode == MaskingMode::Selection);
    let settings = CoordinatorSettings {
        rounds: federated.num_rounds,
        fraction_fit: federated.fraction_fit,
        min_fit: federated.min_fit_clients as usize,
        min_available: federated.min_available_clients as usize,
        ema_decay: config.training.ema_decay,
        seed,
        aggregator: protection::aggregator(&config.robust_aggregation)?,
        detector: if searched { protection::detector(&config.robust_aggregation)? } else { None },
        evaluation: evaluation::plan(config, attributes, classes),
        on_detection: protection::on_detection(&config.robust_aggregation),
        orchestrator: protection::orchestrator(&config.orchestrator)?,
        measurement_threshold: protection::measurement_threshold(&config.orchestrator),
        masking,
    };
    for (key, least) in [
        ("federated.min_fit_clients", settings.min_fit),
        ("federated.min_available_clients", settings.min_available),
    ] {
        if least > found {
            let problem = format!("{least} hospitals are asked for, the data give {found}");
            return Err(FederationError::Setting { key, problem });
        }
    }
    protection::check_hospitals(&settings, found)?;
    Ok(settings)
}
