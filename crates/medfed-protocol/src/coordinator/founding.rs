//! From announcements to a coordinator.

use medfed_config::Config;
use medfed_federation::{Announcement, Coordinator, CoordinatorSetup, FederationError};
use medfed_types::{Seed, SiteId};
use std::collections::BTreeMap;

/// Makes the coordinator of what sites announce. The same announcements give the same coordinator.
pub trait Founding: Send {
    /// Hospitals that the first round needs.
    fn least(&self) -> usize;

    /// Refuses an announcement that does not fit the run or those of the sites that `joined` before.
    fn check(
        &self,
        announcement: &Announcement,
        joined: &BTreeMap<SiteId, Announcement>,
    ) -> Result<(), FederationError>;

    /// The coordinator before the first round.
    fn found(&self, announcements: &BTreeMap<SiteId, Announcement>) -> Result<Coordinator, FederationError>;
}

/// By the configuration.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The configuration.
    pub config: Config,
    /// Choice of hospitals and initial parameters.
    pub seed: Seed,
    /// Parameters to start from; fresh ones without.
    pub parameters: Option<Vec<f32>>,
}

impl Founding for Configured {
    fn least(&self) -> usize {
        let federated = &self.config.federated;
        federated.min_available_clients.max(federated.min_fit_clients).max(1) as usize
    }

    fn check(
        &self,
        announcement: &Announcement,
        joined: &BTreeMap<SiteId, Announcement>,
    ) -> Result<(), FederationError> {
        announcement.check(&self.config, joined.values().next())
    }

    fn found(&self, announcements: &BTreeMap<SiteId, Announcement>) -> Result<Coordinator, FederationError> {
        let setup = CoordinatorSetup::new(&self.config, announcements, self.seed)?;
        let parameters = self.parameters.clone().unwrap_or_else(|| setup.initial_parameters());
        setup.coordinator(parameters)
    }
}
