//! Measurements, pages, files, and the name of the run.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Measurements after each round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Measurements on the test images that are shown at the end of a run. All are computed and stored in
    /// any case.
    #[schemars(length(min = 1))]
    pub metrics: Vec<Metric>,
    /// Rounds from one evaluation to the next; the last round is always evaluated.
    #[schemars(range(min = 1, max = 10000))]
    pub evaluate_every: u32,
    /// Keeps the model of the round with the best validation AUC.
    pub save_best_model: bool,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            metrics: vec![Metric::AucRoc, Metric::Accuracy, Metric::Precision, Metric::Recall, Metric::F1],
            evaluate_every: 1,
            save_best_model: true,
        }
    }
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Area under the receiver operating characteristic.
    AucRoc,
    /// Share of correct predictions.
    Accuracy,
    /// Share of the positive predictions that are right.
    Precision,
    /// Share of the positive images that are found.
    Recall,
    /// Harmonic mean of precision and recall.
    F1,
    /// Share of the negative images that are left alone.
    Specificity,
    /// Mean over the classes of their recall.
    BalancedAccuracy,
    /// Area under the curve of precision over recall.
    AveragePrecision,
    /// Mean negative logarithm of the true class's probability.
    LogLoss,
    /// Mean squared error of the probabilities.
    Brier,
    /// Expected calibration error.
    CalibrationError,
}

/// The web pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dashboard {
    /// Port on 127.0.0.1.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Seconds from one refresh to the next where live updates are not available.
    #[schemars(range(min = 1, max = 3600))]
    pub refresh_interval: u32,
    /// Shows measurements of each hospital.
    pub show_per_node_metrics: bool,
    /// Shows the privacy budget.
    pub show_privacy_budget: bool,
    /// Opens with the page for hospital leadership.
    pub clinical_mode: bool,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            port: 5000,
            refresh_interval: 5,
            show_per_node_metrics: true,
            show_privacy_budget: true,
            clinical_mode: true,
        }
    }
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// Directory of the database, `results.json` and the best model.
    #[schemars(length(min = 1))]
    pub results_dir: PathBuf,
    /// Directory of the checkpoints from which an interrupted run continues.
    #[schemars(length(min = 1))]
    pub checkpoints_dir: PathBuf,
    /// Directory of the logs.
    #[schemars(length(min = 1))]
    pub logs_dir: PathBuf,
    /// Writes every round to the log.
    pub save_round_logs: bool,
    /// Keeps the model of every round, not only the best one.
    pub save_model_each_round: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            results_dir: PathBuf::from("results"),
            checkpoints_dir: PathBuf::from("checkpoints"),
            logs_dir: PathBuf::from("logs"),
            save_round_logs: true,
            save_model_each_round: false,
        }
    }
}

/// Name and seed of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Experiment {
    /// Name: letters, digits, space, `.`, `_`, `-`, 64 bytes at the most.
    #[schemars(extend("format" = "name"))]
    pub name: String,
    /// What the run is for.
    #[schemars(length(max = 1000))]
    pub description: String,
    /// Makes a run repeatable: weights, splits, synthetic images, dropout, and also batches and noise.
    /// Whoever knows the seed can remove the noise, so leave the key out to protect real patients;
    /// then batches and noise come from the operating system.
    pub seed: Option<u64>,
    /// Device that trains.
    pub device: Device,
}

impl Default for Experiment {
    fn default() -> Self {
        Self { name: "medfed".to_owned(), description: String::new(), seed: None, device: Device::Auto }
    }
}

/// A device that trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The best there is.
    Auto,
    /// The processor.
    Cpu,
    /// A graphics card.
    Cuda,
}
