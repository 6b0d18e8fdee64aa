//! The run's log file: `simulation_<run>.log` in the logs folder.

use crate::failure::Failure;
use medfed_types::RunId;
use std::fs::OpenOptions;
use std::path::Path;

/// Opens the log, appending when the run is resumed, and sends every trace event to it. `MEDFED_LOG`
/// sets the level in the syntax of `RUST_LOG`; the default is `info`.
pub(super) fn start(dir: &Path, run: &RunId) -> Result<(), Failure> {
    let path = dir.join(format!("simulation_{run}.log"));
    let failed = |error: std::io::Error| {
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be written", path.display())))
            .hint("check the folder's permissions and free space, or choose another with --out")
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let level = std::env::var("MEDFED_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&level).map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("MEDFED_LOG={level} is no log level")))
            .hint("for example MEDFED_LOG=debug")
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(file)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(Failure::internal)?;
    tracing::info!(run = run.as_str(), version = env!("CARGO_PKG_VERSION"), "run opened");
    Ok(())
}
