//! The run's log file: `simulation_<run>.log` in the logs folder.

use super::results::Results;
use crate::failure::Failure;
use medfed_types::RunId;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// The log of a run.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
}

/// Opens the log, appending when the run is resumed, and sends every trace event to it. `MEDFED_LOG`
/// sets the level in the syntax of `RUST_LOG`; the default is `info`.
pub(super) fn start(dir: &Path, run: &RunId) -> Result<Log, Failure> {
    let path = dir.join(format!("simulation_{run}.log"));
    let failed = |error: std::io::Error| {
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be written", path.display())))
            .hint("check the folder's permissions and free space, or choose another with --out")
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("MEDFED_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(file)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(Failure::internal)?;
    tracing::info!(run = run.as_str(), version = env!("CARGO_PKG_VERSION"), "run opened");
    Ok(Log { path })
}

impl Log {
    /// Writes the last lines.
    pub(super) fn finish(self, results: &Results) {
        let summary = &results.summary;
        tracing::info!(
            status = ?summary.status,
            rounds = summary.total_rounds,
            test_auc = summary.test_auc,
            test_accuracy = summary.test_accuracy,
            epsilon = summary.final_epsilon,
            log = %self.path.display(),
            "run closed: {}",
            summary.privacy_statement
        );
    }
}
