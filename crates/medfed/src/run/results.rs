//! `results.json`: the run in one object, for machines.

use super::prepare::Prepared;
use crate::failure::Failure;
use medfed_config::section::{PrivacyUnit, SimulatedAttack};
use medfed_federation::Outcome;
use medfed_federation::report::{FinalEvaluation, RoundReport, SecuritySummary, Summary, Timing};
use medfed_types::{Epsilon, RunId};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// The run in one object.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Results {
    /// Which run.
    pub(crate) run: RunHeader,
    /// In a few numbers.
    pub(crate) summary: Summary,
    /// Round by round.
    pub(crate) rounds: Vec<RoundReport>,
    /// Everything measured about the saved model; null when the run was interrupted.
    pub(crate) evaluation: Option<FinalEvaluation>,
    /// Wall-clock times.
    pub(crate) timing: Timing,
    /// The effective configuration.
    pub(crate) config: serde_json::Value,
}

/// Which run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunHeader {
    /// Its id.
    pub(crate) id: RunId,
    /// The experiment's name.
    pub(crate) name: String,
    /// When it started, in UTC.
    pub(crate) created: String,
    /// The program's version.
    pub(crate) version: &'static str,
}

impl Results {
    /// Puts the numbers of a run together.
    pub(super) fn new(prepared: &Prepared, outcome: &Outcome, timing: Timing) -> Self {
        let config = &prepared.config;
        let privacy = config.privacy.enabled.then_some(&config.privacy);
        let spent = || outcome.spent.iter().filter_map(|(_, spent)| spent.as_ref());
        // Each hospital's own patients have their own budget: the largest is what the run reports.
        let epsilon = spent().map(|spent| spent.epsilon_total).reduce(f64::max);
        let final_epsilon =
            epsilon.map(|epsilon| Epsilon::new(epsilon).map_or(f64::INFINITY, |e| e.rounded_up(4)));
        let summary = Summary {
            status: outcome.status,
            reason: outcome.reason.clone(),
            total_rounds: outcome.reports.len() as u32,
            best_auc: outcome.reports.iter().filter_map(|report| report.auc).reduce(f64::max),
            best_round: outcome.best_round,
            final_accuracy: outcome.reports.iter().rev().find_map(|report| report.accuracy),
            test_auc: outcome.test.as_ref().and_then(|test| test.auc).map(|auc| auc.estimate),
            test_accuracy: outcome.test.as_ref().map(|test| test.accuracy.estimate),
            final_epsilon,
            epsilon_budget: privacy.map(|privacy| privacy.epsilon_budget.get()),
            delta: privacy.map(|privacy| privacy.delta.get()),
            accountant: privacy.map(|privacy| privacy.accountant.as_str().to_owned()),
            privacy_unit: privacy.map(|privacy| privacy.unit.as_str().to_owned()),
            noise_multiplier: spent().map(|spent| spent.noise_multiplier).reduce(f64::min),
            reproducible_noise: privacy.is_some() && prepared.reproducible_noise,
            seed: prepared.seed.0,
            security: SecuritySummary::of(
                outcome.reports.iter().map(|report| &report.security),
                outcome.aborted.as_ref(),
            ),
            test: outcome.test.clone(),
            privacy_statement: privacy_statement(prepared, final_epsilon),
            simulated_attack: outcome.attack.clone(),
        };
        Self {
            run: RunHeader {
                id: prepared.id.clone(),
                name: config.experiment.name.clone(),
                created: prepared.created.to_string(),
                version: env!("CARGO_PKG_VERSION"),
            },
            summary,
            rounds: outcome.reports.clone(),
            evaluation: outcome.evaluation.clone(),
            timing,
            config: config.to_json(),
        }
    }

    /// Writes how the run ended to its log.
    pub(super) fn log(&self) {
        let summary = &self.summary;
        tracing::info!(
            status = ?summary.status,
            rounds = summary.total_rounds,
            test_auc = summary.test_auc,
            test_accuracy = summary.test_accuracy,
            epsilon = summary.final_epsilon,
            "run closed: {}",
            summary.privacy_statement
        );
    }

    /// As JSON, for people who look into files too.
    pub(super) fn to_json(&self) -> Result<String, Failure> {
        let mut text = serde_json::to_string_pretty(self).map_err(Failure::internal)?;
        text.push('\n');
        Ok(text)
    }
}

/// One sentence about what protects the patients.
fn privacy_statement(prepared: &Prepared, epsilon: Option<f64>) -> String {
    let privacy = &prepared.config.privacy;
    let Some(epsilon) = epsilon.filter(|_| privacy.enabled) else {
        return "No privacy was applied: the model and every update are functions of the training images."
            .to_owned();
    };
    let mut text = format!(
        "Each hospital's training data are protected per {} by ({epsilon}, {:e})-differential privacy ({} accounting, add or remove one {}). Not covered: the training losses, counts and validation metrics of this report, which are exact, and the validation images, which chose the round of the model.",
        privacy.unit.as_str(),
        privacy.delta.get(),
        privacy.accountant.as_str().to_uppercase(),
        privacy.unit.as_str(),
    );
    if privacy.unit == PrivacyUnit::Image {
        text += " A patient with k images has up to about k times this epsilon.";
    }
    if prepared.config.privacy_audit.canaries > 0 {
        text += " The model was trained with canaries that measure its privacy: do not release it.";
    }
    if prepared.config.simulation.attack != SimulatedAttack::None {
        text += " Nothing is promised to the patients of the hospitals that attacked in this simulation.";
    }
    if prepared.reproducible_noise {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            " Noise followed from seed {}, so this holds only against those who do not know the seed.",
            prepared.seed.0
        );
    }
    text
}

/// Replaces a file at once: a crash leaves the old one or the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error: std::io::Error| {
        let _ = std::fs::remove_file(&temporary);
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be written", path.display())))
            .hint("check the folder's permissions and free space")
    })
}
