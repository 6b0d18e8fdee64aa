//! `medfed dashboard`: the web pages and the REST API.

use crate::failure::Failure;
use medfed_config::Config;
use medfed_dashboard::{DashboardError, Identity, Options, Reach, TlsError, Users};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

mod user;

/// Folder for the file of users and the certificate that is made here.
const FOLDER: &str = "dashboard";

/// Serve the web pages and the REST API of a results folder.
///
/// Shows runs as they go, whoever started them, and starts, pauses and stops training. Training is a
/// process of its own: closing the dashboard does not end it. Ctrl-C ends the dashboard.
///
/// On this machine's own address it is open. On any other address everybody has to log in, and TLS
/// encrypts: with a certificate that is given, or one that is made once and kept.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  medfed dashboard
  medfed dashboard --results demo-run --listen 127.0.0.1:8080
  medfed dashboard --config config/pneumoniamnist.yaml
  medfed dashboard user add ada --role operator
  medfed dashboard --listen 0.0.0.0:5000 --host-name board.hospital.example"
)]
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
    /// File of users; with it everybody has to log in [default, where others can connect: dashboard/users.json]
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Certificate chain in PEM [default, where others can connect: one made and kept in dashboard/]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM; only its owner may be able to read it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name under which browsers find the dashboard, besides its address; may be repeated
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    #[command(subcommand)]
    command: Option<DashboardCommand>,
}

/// What else there is to do about the dashboard.
#[derive(Debug, clap::Subcommand)]
enum DashboardCommand {
    /// Add, remove and list those who may log in.
    #[command(subcommand)]
    User(user::UserCommand),
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    if let Some(DashboardCommand::User(command)) = args.command {
        return command.run();
    }
    let config = if args.config.is_file() {
        super::config::read_config(&args.config, &[])?
    } else {
        Config::default()
    };
    let listen = args.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], config.dashboard.port)));
    let open = listen.ip().is_loopback();
    let users = args.users.or_else(|| (!open).then(|| Path::new(FOLDER).join(user::FILE)));
    let tls = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => Some(Identity::read(&certificate, &key).map_err(no_tls)?),
        _ if open => None,
        _ => {
            // Before a certificate is made for a dashboard that nobody could use.
            if let Some(path) = &users
                && Users::read(path).map_err(user::failed)?.is_empty()
            {
                return Err(failed(DashboardError::NoUsers { path: path.clone() }));
            }
            let mut names = vec!["localhost".to_owned(), listen.ip().to_string()];
            names.extend(args.host_name.iter().cloned());
            Some(Identity::kept(Path::new(FOLDER), &names).map_err(no_tls)?)
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let fingerprint = tls.as_ref().map(|identity| identity.fingerprint().to_owned());
    let options = Options {
        listen,
        results: args.results.unwrap_or_else(|| config.output.results_dir.clone()),
        config: args.config,
        program: std::env::current_exe().map_err(Failure::internal)?,
    };
    let reach = Reach { users, tls, host_names: args.host_name };
    reachable(options, reach, |address| {
        crate::output::note(&format!("dashboard: {scheme}://{address}/ (Ctrl-C ends it)"));
        if let Some(fingerprint) = fingerprint {
            crate::output::note(&format!("certificate, SHA-256: {fingerprint}"));
        }
    })
}

/// Serves on this machine's own address until Ctrl-C. `ready` hears the address that is listened on.
pub(super) fn serve(options: Options, ready: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    reachable(options, Reach::default(), ready)
}

/// Serves until Ctrl-C.
fn reachable(options: Options, reach: Reach, ready: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    super::log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    runtime.block_on(medfed_dashboard::serve(options, reach, ready, interrupted())).map_err(failed)
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

fn failed(error: DashboardError) -> Failure {
    let hint = match &error {
        DashboardError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            "another program listens there, perhaps another dashboard; choose another port with --listen"
        }
        DashboardError::Listen { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 are the system's; choose another with --listen"
        }
        DashboardError::NoUsers { .. } => "add one: medfed dashboard user add NAME --role operator",
        DashboardError::Listen { .. } => "choose an address of this machine with --listen",
        _ => return Failure::user(error),
    };
    Failure::user(error).hint(hint)
}

fn no_tls(error: TlsError) -> Failure {
    Failure::user(error).hint(
        "give a PEM certificate with --tls-cert and its key, readable by its owner alone, with --tls-key",
    )
}
