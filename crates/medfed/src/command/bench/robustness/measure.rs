//! One run of the comparison, and what is kept of it.

use super::Shape;
use super::grid::Cell;
use crate::failure::Failure;
use crate::run::divide;
use medfed_data::Dataset;
use medfed_dp::Ledger;
use medfed_federation::attack::SimulatedAttack;
use medfed_federation::report::RunStatus;
use medfed_federation::{FederationError, Setup, Silent, VolatileJournal, VolatileLedger};
use medfed_types::random::danger;
use medfed_types::{Cancel, RunId, Seed, SiteId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// One line of the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) setting: String,
    pub(super) rule: String,
    pub(super) attack: SimulatedAttack,
    pub(super) seed: u64,
    /// Hash of the configuration: a line of another configuration is another run.
    pub(super) config: String,
    pub(super) status: RunStatus,
    /// AUC of the model after the last round on the test set; null where the run ended before a round.
    pub(super) auc: Option<f64>,
    /// AUC of the best model by the hospitals' validation images, which is what a run saves.
    pub(super) best_auc: Option<f64>,
    /// Part of the test images of other classes that a backdoor turns, and what it is without trigger.
    pub(super) backdoor: Option<(f64, f64)>,
    /// Rounds done.
    pub(super) rounds: usize,
    /// Rounds in which at least one attacker was found, or left out.
    pub(super) rounds_with_attacker_found: usize,
    /// Rounds in which an honest hospital was found.
    pub(super) rounds_with_honest_found: usize,
    /// Largest epsilon of a hospital; null without privacy.
    pub(super) epsilon: Option<f64>,
    pub(super) seconds: f64,
}

impl Record {
    /// Whether this is the result of `cell`, whose configuration has the hash `config`.
    pub(super) fn is_of(&self, cell: &Cell, config: &str) -> bool {
        self.setting == cell.setting.name()
            && self.rule == cell.rule.name
            && self.attack == cell.attack
            && self.seed == cell.seed
            && self.config == config
    }
}

/// Runs the cell on the current rayon pool; nothing of it is written.
pub(super) fn measure(
    cell: &Cell,
    dataset: &Arc<Dataset>,
    path: &Path,
    shape: Shape,
) -> Result<Record, Failure> {
    let started = Instant::now();
    let seed = Seed(cell.seed);
    let config = cell.config(path, shape)?;
    let sites = divide(&config, dataset, seed)?;
    let setup = Setup::new(&config, dataset, &sites, seed, [0; 32])?;
    let attackers: BTreeSet<SiteId> =
        setup.attackers().map(|attackers| attackers.sites().iter().cloned().collect()).unwrap_or_default();
    let parameters = setup.initial_parameters();
    let run = RunId::try_from("bench").expect("the name has letters only");
    let simulation = setup.simulation(parameters, |site| {
        let ledger = Ledger::open(run.clone(), site.clone(), VolatileLedger::default())
            .map_err(FederationError::from)?;
        // Noise that follows from the seed: the table can be repeated.
        let key = danger::reproducible_key(seed).subkey(&format!("site {site}"), &[]);
        Ok::<_, FederationError>((ledger, key))
    })?;
    let outcome = simulation.run(&mut VolatileJournal, &Silent, &Cancel::default())?;
    let found = |is_attacker: bool| {
        let of_round = |report: &&medfed_federation::report::RoundReport| {
            let security = &report.security;
            let anomalies = security.anomalies.iter().map(|finding| &finding.site);
            anomalies.chain(&security.excluded_clients).any(|site| attackers.contains(site) == is_attacker)
        };
        outcome.reports.iter().filter(of_round).count()
    };
    let backdoor = outcome.attack.as_ref().and_then(|attack| attack.backdoor);
    Ok(Record {
        setting: cell.setting.name().to_owned(),
        rule: cell.rule.name.to_owned(),
        attack: cell.attack,
        seed: cell.seed,
        config: config.hash(),
        status: outcome.status,
        auc: outcome.reports.last().and_then(|report| report.test_auc),
        best_auc: outcome.test.as_ref().and_then(|test| test.auc).map(|auc| auc.estimate),
        backdoor: backdoor.map(|success| (success.with_trigger, success.without_trigger)),
        rounds: outcome.reports.len(),
        rounds_with_attacker_found: found(true),
        rounds_with_honest_found: found(false),
        epsilon: outcome
            .spent
            .iter()
            .filter_map(|(_, spent)| spent.map(|spent| spent.epsilon_total))
            .reduce(f64::max),
        seconds: started.elapsed().as_secs_f64(),
    })
}
