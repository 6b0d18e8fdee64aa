//! The network's first and last parameters: fresh or from a file, and into a checkpoint.

use super::display::Display;
use super::prepare::Prepared;
use super::results::replace_file;
use crate::failure::Failure;
use medfed_config::{Config, section};
use medfed_data::{Dataset, Normalisation};
use medfed_federation::report::RoundReport;
use medfed_federation::{Outcome, Setup};
use medfed_nn::Network;
use medfed_nn::checkpoint::{
    Checkpoint, CheckpointError, CheckpointMetadata, Normalization, PrivacyStatement, adapt, read_weights,
};
use medfed_types::{Epsilon, RoundId, RunId};
use std::path::PathBuf;
use std::sync::Arc;

/// Writes the model of every round (`output.save_model_each_round`).
#[derive(Debug)]
pub(super) struct RoundModels {
    pub(super) folder: PathBuf,
    pub(super) network: Arc<Network>,
    pub(super) metadata: CheckpointMetadata,
}

impl RoundModels {
    /// Writes `round_0001.safetensors` and so on. ε in it is what the round's report says.
    pub(super) fn write(&self, report: &RoundReport, parameters: &[f32]) -> Result<(), Failure> {
        let privacy = match (&self.metadata.privacy, report.epsilon_total) {
            (Some(statement), Some(epsilon)) => Some(PrivacyStatement {
                epsilon: Epsilon::new(epsilon).map_err(Failure::internal)?,
                ..statement.clone()
            }),
            _ => None,
        };
        let round = Some(RoundId(report.round_num));
        let metadata = CheckpointMetadata { privacy, round, ..self.metadata.clone() };
        let bytes =
            Checkpoint::write(self.network.layout(), parameters, &metadata).map_err(Failure::internal)?;
        std::fs::create_dir_all(&self.folder).map_err(|error| {
            Failure::user(
                anyhow::Error::new(error).context(format!("{} cannot be made", self.folder.display())),
            )
        })?;
        replace_file(&self.folder.join(format!("round_{:04}.safetensors", report.round_num)), &bytes)
    }
}

/// Fresh parameters, or those of the configured file with what does not fit kept fresh.
pub(super) fn initial_parameters(
    config: &Config,
    setup: &Setup,
    display: &Display,
) -> Result<Vec<f32>, Failure> {
    match pretrained(config, setup)? {
        Some((parameters, report)) => {
            display.say(&report);
            Ok(parameters)
        }
        None => Ok(setup.initial_parameters()),
    }
}

/// The parameters of the configured file, with what does not fit kept fresh, and what was done with it;
/// nothing where no file is configured.
pub(crate) fn pretrained(config: &Config, setup: &Setup) -> Result<Option<(Vec<f32>, String)>, Failure> {
    let section::Pretrained::File(path) = &config.model.pretrained else { return Ok(None) };
    let fresh = setup.initial_parameters();
    let weights_failure = |error: CheckpointError| {
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be used", path.display()))).hint(
            "model.pretrained takes a safetensors or .pth file with torchvision's names; docs/configuration.md says which",
        )
    };
    let weights = read_weights(path).map_err(weights_failure)?;
    let network = setup.network();
    let (parameters, report) = adapt(weights, &network.target(), fresh).map_err(weights_failure)?;
    Ok(Some((parameters, format!("{}: {report}", path.display()))))
}

/// What is said about a model of this run; with privacy, ε is what `spent` says.
pub(super) fn metadata(
    network: &Network,
    dataset: &Dataset,
    prepared: &Prepared,
    spent: Epsilon,
    round: Option<u32>,
) -> CheckpointMetadata {
    let terms = &prepared.config.privacy;
    let privacy = terms.enabled.then(|| PrivacyStatement {
        epsilon: spent,
        delta: terms.delta,
        accountant: terms.accountant.as_str().to_owned(),
        unit: terms.unit.as_str().to_owned(),
        reproducible_noise: prepared.reproducible_noise,
    });
    CheckpointMetadata {
        model: network.spec().clone(),
        classes: dataset.classes().to_vec(),
        normalization: Normalization {
            mean: dataset.normalisation().mean().to_vec(),
            std: dataset.normalisation().std().to_vec(),
        },
        privacy,
        run: Some(prepared.id.clone()),
        round: round.map(RoundId),
    }
}

/// What is said about a model of a run between machines, whose images are normalised as every reader of this
/// program normalises them.
pub(super) fn plain_metadata(
    network: &Network,
    classes: &[String],
    config: &Config,
    spent: Epsilon,
    run: &RunId,
) -> CheckpointMetadata {
    let terms = &config.privacy;
    let normalisation = Normalisation::centred(network.spec().input.channels);
    CheckpointMetadata {
        model: network.spec().clone(),
        classes: classes.to_vec(),
        normalization: Normalization {
            mean: normalisation.mean().to_vec(),
            std: normalisation.std().to_vec(),
        },
        privacy: terms.enabled.then(|| PrivacyStatement {
            epsilon: spent,
            delta: terms.delta,
            accountant: terms.accountant.as_str().to_owned(),
            unit: terms.unit.as_str().to_owned(),
            reproducible_noise: false,
        }),
        run: Some(run.clone()),
        round: None,
    }
}

/// The best model as a safetensors file. Runs of one seed write the same bytes but for the run's id.
pub(super) fn checkpoint(
    network: &Network,
    dataset: &Dataset,
    prepared: &Prepared,
    outcome: &Outcome,
) -> Result<Vec<u8>, Failure> {
    let spent = outcome.spent.iter().filter_map(|(_, spent)| spent.as_ref());
    let spent = spent.map(|spent| spent.epsilon_total).fold(0.0, f64::max);
    let spent = Epsilon::new(spent).map_err(Failure::internal)?;
    let metadata = metadata(network, dataset, prepared, spent, outcome.best_round);
    Checkpoint::write(network.layout(), &outcome.parameters, &metadata).map_err(Failure::internal)
}
