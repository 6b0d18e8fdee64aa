//! `medfed dashboard`: the web pages and the REST API.

use crate::failure::Failure;
use medfed_config::Config;
use medfed_dashboard::{DashboardError, Options};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serve the web pages and the REST API of a results folder.
///
/// Shows runs as they go, whoever started them, and starts, pauses and stops training. Training is a
/// process of its own: closing the dashboard does not end it. Ctrl-C ends the dashboard.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed dashboard
  medfed dashboard --results demo-run --listen 127.0.0.1:8080
  medfed dashboard --config config/pneumoniamnist.yaml")]
pub(crate) struct Args {
    /// Address and port to listen on [default: 127.0.0.1 and the configuration's dashboard.port]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Folder that runs are read from and written to [default: the configuration's output.results_dir]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Configuration of the runs that are started here; /training edits it
    #[arg(long, value_name = "FILE", default_value = super::simulate::DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let config = if args.config.is_file() {
        super::config::read_config(&args.config, &[])?
    } else {
        Config::default()
    };
    let options = Options {
        listen: args.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], config.dashboard.port))),
        results: args.results.unwrap_or_else(|| config.output.results_dir.clone()),
        config: args.config,
        program: std::env::current_exe().map_err(Failure::internal)?,
    };
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    let ready =
        |address: SocketAddr| crate::output::note(&format!("dashboard: http://{address}/ (Ctrl-C ends it)"));
    runtime.block_on(medfed_dashboard::serve(options, ready, interrupted())).map_err(failed)
}

/// Ctrl-C, or the signal that a service manager sends.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler the signal ends the process anyway.
    let _ = tokio::signal::ctrl_c().await;
}

/// Warnings and errors go to stderr; `MEDFED_LOG` asks for more.
fn log() {
    let level = std::env::var("MEDFED_LOG").unwrap_or_else(|_| "warn".to_owned());
    let filter = tracing_subscriber::EnvFilter::new(level);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).finish();
    // There is one already only when a test made it.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn failed(error: DashboardError) -> Failure {
    let hint = match &error {
        DashboardError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            "another program listens there, perhaps another dashboard; choose another port with --listen"
        }
        DashboardError::Listen { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 are the system's; choose another with --listen"
        }
        DashboardError::Listen { .. } => "choose an address of this machine with --listen",
        _ => return Failure::user(error),
    };
    Failure::user(error).hint(hint)
}
