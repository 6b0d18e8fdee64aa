//! Hospitals of a simulation that misbehave on purpose, and how far they come.
//!
//! The last hospitals by name are the attackers. They know everything that the papers grant them: the
//! rule, and where an attack needs it the honest updates of the round. Two kinds:
//!
//! * **Attacks on images** (`label_flip`, `backdoor`, `sybil`): an attacker trains as asked on images that
//!   it has altered (`poison.rs`). It does not obey its privacy plan: no clipping, no noise, no ledger,
//!   since its patients are not what it cares for.
//! * **Attacks on updates** (all others): an attacker trains like everybody else, under its plan if it has
//!   one, and sends something else in place of the result (`forge.rs`).
//!
//! What is simulated is a federation under attack, not a defence: nothing here is used by a coordinator
//! or a hospital that is not part of a simulation. The same seed gives the same attack.

mod forge;
mod poison;

pub use medfed_config::section::SimulatedAttack;
pub use poison::{BACKDOOR_TARGET, TriggerSuccess};

use crate::error::FederationError;
use crate::setup::Hospital;
use crate::simulation::TestSet;
use crate::site::{Images, SiteReply};
use medfed_config::{Config, section};
use medfed_data::Dataset;
use medfed_nn::Executor;
use medfed_types::{RoundId, Seed, SiteId};
use poison::{Poison, PoisonedImages, trigger_success};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The hospitals that attack, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Attackers {
    attack: SimulatedAttack,
    /// In the order of their names.
    sites: Vec<SiteId>,
    seed: Seed,
}

/// An attack and what it is measured with.
pub(crate) struct Attack {
    pub(crate) attackers: Attackers,
    /// The test set with the trigger in its images, for a backdoor.
    triggered: Option<Images>,
}

impl Attack {
    /// Makes attackers of the last hospitals by name, as configured; nothing without an attack.
    pub(crate) fn plan(
        config: &Config,
        dataset: &Arc<Dataset>,
        hospitals: &mut [Hospital],
        test: &[u32],
        seed: Seed,
    ) -> Result<Option<Self>, FederationError> {
        let names = hospitals.iter().map(|hospital| hospital.id.clone()).collect();
        let Some(attackers) = Attackers::choose(&config.simulation, names, seed)? else { return Ok(None) };
        let poison = attackers.poison();
        for hospital in hospitals.iter_mut().filter(|hospital| attackers.contains(&hospital.id)) {
            if let Some(poison) = poison {
                let images = &mut hospital.images;
                images.source = Arc::new(PoisonedImages::new(dataset, poison, &images.train));
                hospital.plan = None;
            }
        }
        let triggered = (poison == Some(Poison::Trigger))
            .then(|| Arc::new(PoisonedImages::everywhere(dataset, Poison::Trigger, test)) as Images);
        Ok(Some(Self { attackers, triggered }))
    }

    /// What came of it, with the parameters of the saved model.
    pub(crate) fn report(
        &self,
        executor: &Executor,
        model: Option<&[f32]>,
        test: &TestSet,
    ) -> Result<AttackReport, FederationError> {
        let backdoor = match (model, &self.triggered) {
            (Some(model), Some(triggered)) => {
                trigger_success(executor, model, &test.source, triggered, &test.images)?
            }
            _ => None,
        };
        Ok(AttackReport { attack: self.attackers.attack, attackers: self.attackers.sites.clone(), backdoor })
    }
}

impl std::fmt::Debug for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attack({}, {:?})", self.attackers.attack, self.attackers.sites)
    }
}

/// A simulated attack and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackReport {
    /// The attack.
    pub attack: SimulatedAttack,
    /// The hospitals that carried it out.
    pub attackers: Vec<SiteId>,
    /// How often the saved model does what a backdoor asks for; nothing for other attacks, without test
    /// images and before the first round.
    pub backdoor: Option<TriggerSuccess>,
}

impl Attackers {
    /// The last of the hospitals by name, as configured; nothing without an attack.
    fn choose(
        simulation: &section::Simulation,
        mut hospitals: Vec<SiteId>,
        seed: Seed,
    ) -> Result<Option<Self>, FederationError> {
        if simulation.attack == SimulatedAttack::None {
            return Ok(None);
        }
        let attackers = simulation.attackers as usize;
        if attackers >= hospitals.len() {
            return Err(FederationError::Setting {
                key: "simulation.attackers",
                problem: format!(
                    "{attackers} of {} hospitals cannot attack: at least one has to be honest",
                    hospitals.len()
                ),
            });
        }
        hospitals.sort();
        let sites = hospitals.split_off(hospitals.len() - attackers);
        Ok(Some(Self { attack: simulation.attack, sites, seed }))
    }

    /// What they do.
    pub fn attack(&self) -> SimulatedAttack {
        self.attack
    }

    /// Who they are, in the order of their names.
    pub fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// Whether `site` is one of them.
    pub fn contains(&self, site: &SiteId) -> bool {
        self.sites.binary_search(site).is_ok()
    }

    /// Puts what the attackers send in the place of their honest replies. A reply without an update
    /// stays as it is.
    pub(crate) fn replace(&self, round: RoundId, replies: &mut [(SiteId, SiteReply)]) {
        let (mut bad, mut honest) = (Vec::new(), Vec::new());
        for (site, reply) in replies {
            if let SiteReply::Trained { update, .. } = reply {
                if self.contains(site) { bad.push(update) } else { honest.push(update.delta.as_slice()) }
            }
        }
        forge::forge(self.attack, &honest, &mut bad, self.seed, round);
    }

    fn poison(&self) -> Option<Poison> {
        match self.attack {
            SimulatedAttack::LabelFlip | SimulatedAttack::Sybil => Some(Poison::WrongLabels),
            SimulatedAttack::Backdoor => Some(Poison::Trigger),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<SiteId> {
        names.iter().map(|name| SiteId::try_from(*name).unwrap()).collect()
    }

    #[test]
    fn the_last_by_name_attack_and_somebody_stays_honest() {
        let choose = |attack, attackers| {
            let simulation = section::Simulation { attack, attackers };
            Attackers::choose(&simulation, names(&["c", "a", "b"]), Seed(1))
        };
        assert_eq!(choose(SimulatedAttack::None, 2).unwrap(), None);
        let two = choose(SimulatedAttack::Nan, 2).unwrap().unwrap();
        assert_eq!(two.sites(), names(&["b", "c"]));
        assert!(two.contains(&names(&["b"])[0]) && !two.contains(&names(&["a"])[0]));
        assert!(matches!(
            choose(SimulatedAttack::Nan, 3),
            Err(FederationError::Setting { key: "simulation.attackers", .. })
        ));
    }
}
