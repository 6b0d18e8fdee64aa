//! `medfed coordinator`: one run of a federation between machines.

use super::broker::{self, BrokerArgs};
use super::config::{overrides, read_config};
use super::simulate::DEFAULT_CONFIG;
use crate::failure::Failure;
use crate::run::{Coordinated, CoordinatedOrder, interrupt, shell_word};
use medfed_net::grpc::{CoordinatorOptions, GrpcCoordinator, Timing};
use medfed_net::runtime::{CoordinatorKeeper, CoordinatorRuntime, CoordinatorStatus, RuntimeError};
use medfed_net::{
    Certificate, CoordinatorTransport, Holder, Identity, NetError, Party, Revocations, Roster, clock,
};
use medfed_protocol::coordinator::CoordinatorMachine;
use medfed_protocol::message::Certified;
use medfed_store::StoreError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Largest message that a site may send, in bytes: an update of 250 million parameters.
pub(crate) const LARGEST_MESSAGE: u64 = 1 << 30;

/// Run one training of a federation: hospitals connect, train where they are, and send protected updates.
///
/// DIR holds the coordinator's key and certificate, the authority's certificate, its roster and its list of
/// revoked certificates (`medfed pki` makes them). Everything that the run writes goes there too: DIR/results
/// with the store, results.json and the model, DIR/logs with the log.
///
/// Every hospital on the roster is invited. The run begins when all have answered, or with those who have at
/// `network.join_deadline`. Stop it with Ctrl-C or kill it: started again with the same arguments it goes on
/// where it was, to the same model, and nothing is paid for twice.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed coordinator --dir /var/lib/medfed --config federation.yaml
  medfed coordinator --dir /var/lib/medfed --config federation.yaml --listen 0.0.0.0:443
  medfed coordinator --dir /var/lib/medfed --config federation.yaml --nats tls://broker.example.org:4222
  medfed federation status --dir /var/lib/medfed
  medfed dashboard --results /var/lib/medfed/results      watch it in a browser")]
pub(crate) struct Args {
    /// Configuration file [default: config/config.yaml where there is one, otherwise the built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the coordinator
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Set one key of the configuration; repeatable
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Print one JSON object, the same as results.json
    #[arg(long)]
    json: bool,
    /// Threads [default: one per core]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Say in the results that hospitals add noise from the seed: for demonstrations
    #[arg(long, hide = true)]
    reproducible_noise: bool,
    /// The folder goes when the run is over: say nothing of where files are
    #[arg(long, hide = true)]
    temporary: bool,
}

/// Where a coordinator keeps the results of its runs.
pub(crate) fn results_dir(dir: &Path) -> PathBuf {
    dir.join("results")
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
        pool.build_global().map_err(Failure::internal)?;
    }
    let broker = args.broker.broker()?;
    let config = configuration(args)?;
    let holder = Holder::coordinator(&args.dir);
    let identity = holder.load(clock::now()).map_err(|error| not_enrolled(error, &args.dir))?;
    if *identity.party() != Party::Coordinator {
        return Err(Failure::user(anyhow::anyhow!(
            "{} is the folder of {}",
            args.dir.display(),
            identity.party()
        ))
        .hint("a coordinator's certificate is made with `medfed pki coordinator`"));
    }
    let order = CoordinatedOrder {
        config,
        json: args.json,
        reproducible_noise: args.reproducible_noise,
        temporary: args.temporary,
    };
    let run = Coordinated::open(order)?;
    let (invited, revocations) = cohort(&args.dir, &identity)?;
    let machine = run.machine(identity.key(), &invited, revocations, |certified| {
        let wrong = |problem: String| {
            Failure::user(anyhow::anyhow!("the certificate of {}: {problem}", certified.site))
        };
        let certificate = Certificate::parse(&certified.certificate).map_err(|it| wrong(it.to_string()))?;
        match certificate.party() {
            Party::Site(site) if *site == certified.site => Ok(*certificate.key()),
            other => Err(wrong(format!("it is for {other}"))),
        }
    })?;
    let keeper = run.keeper()?;
    let stop = CancellationToken::new();
    interrupt::watch_with(run.announcer(), stop.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    let driver = Driver { run: &run, machine, keeper, stop, invited: invited.len() };
    let status = runtime.block_on(async {
        if let Some(broker) = broker {
            return broker::coordinate(broker, &holder, driver).await;
        }
        let options = CoordinatorOptions {
            listen: args.listen,
            spool: args.dir.join("spool"),
            largest_message: LARGEST_MESSAGE,
            timing: Timing::default(),
        };
        let transport = GrpcCoordinator::bind(&holder, options).await.map_err(no_transport)?;
        let (place, certificate) = (format!("on {}", transport.address()), transport.certificate().clone());
        driver.drive(transport, &place, &certificate).await
    })?;
    // A worker that is blocked on a peer is not waited for.
    runtime.shutdown_background();
    run.close(status == CoordinatorStatus::Over, &command(args))
}

/// A run that waits for its transport.
pub(crate) struct Driver<'a> {
    run: &'a Coordinated,
    machine: CoordinatorMachine,
    keeper: Box<dyn CoordinatorKeeper>,
    stop: CancellationToken,
    invited: usize,
}

impl Driver<'_> {
    /// Says where it listens, and drives the run over a transport.
    pub(crate) async fn drive(
        self,
        transport: impl CoordinatorTransport,
        place: &str,
        certificate: &Certificate,
    ) -> Result<CoordinatorStatus, Failure> {
        let Self { run, machine, keeper, stop, invited } = self;
        (run.announcer())(&format!(
            "listening {place} as {}; {invited} hospitals are invited",
            certificate.fingerprint()
        ));
        let driven =
            CoordinatorRuntime::open(transport, run.store().clone(), run.id().clone(), machine, keeper)
                .map_err(failed)?;
        driven.run(stop).await.map_err(failed)
    }
}

/// The command that goes on with the run.
fn command(args: &Args) -> String {
    let config = args.config.as_ref().map_or(String::new(), |file| format!(" --config {}", shell_word(file)));
    let listen = args.broker.words().unwrap_or_else(|| format!("--listen {}", args.listen));
    format!("medfed coordinator --dir {}{config} {listen}", shell_word(&args.dir))
}

fn configuration(args: &Args) -> Result<medfed_config::Config, Failure> {
    let results = results_dir(&args.dir);
    let mut all = Vec::new();
    for (key, dir) in [
        ("output.results_dir", results.clone()),
        ("output.logs_dir", args.dir.join("logs")),
        ("output.checkpoints_dir", results.join("checkpoints")),
    ] {
        all.push(super::set_path(key, &dir)?);
    }
    all.extend(overrides(&args.set)?);
    let file =
        args.config.clone().or_else(|| Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.is_file()));
    match file {
        Some(path) => read_config(&path, &all),
        None => {
            medfed_config::Config::from_yaml("{}", "the command line", &all).map_err(super::config::invalid)
        }
    }
}

/// Every site on the roster whose certificate counts, and the list of revocations.
fn cohort(dir: &Path, identity: &Identity) -> Result<(Vec<Certified>, Vec<u8>), Failure> {
    let roster = Roster::read(&dir.join("roster.json")).map_err(|error| not_enrolled(error, dir))?;
    let path = dir.join("crl.pem");
    let list = std::fs::read(&path).map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
            .hint("copy the authority's newest crl.pem to the coordinator's folder")
    })?;
    let revoked = Revocations::parse(&list, identity.authority()).map_err(|problem| {
        Failure::user(anyhow::anyhow!("{}: {problem}", path.display()))
            .hint("copy the authority's newest crl.pem to the coordinator's folder")
    })?;
    let now = clock::now();
    let mut found = std::collections::BTreeMap::new();
    for entry in roster.entries().iter().filter(|entry| entry.revoked.is_none()) {
        let Some(site) = entry.certificate.party().site() else { continue };
        if identity.authority().verify(entry.certificate.der(), now, Some(&revoked)).is_ok() {
            // A later certificate of a site replaces its earlier one.
            found.insert(site.clone(), entry.certificate.der().to_vec());
        }
    }
    if found.is_empty() {
        return Err(Failure::user(anyhow::anyhow!("no hospital is on the roster of {}", dir.display()))
            .hint("hospitals enrol with `medfed site enroll`, and the authority approves with `medfed pki approve`"));
    }
    let invited = found.into_iter().map(|(site, certificate)| Certified { site, certificate }).collect();
    Ok((invited, list))
}

fn not_enrolled(error: medfed_net::PkiError, dir: &Path) -> Failure {
    Failure::user(anyhow::Error::new(error).context(format!("{} is not ready", dir.display()))).hint(
        "`medfed pki init` makes the authority, `medfed pki coordinator` the coordinator's certificate; docs/deploy.md goes through it",
    )
}

/// Why the transport cannot start.
pub(crate) fn no_transport(error: NetError) -> Failure {
    let hint = match &error {
        NetError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            "another program listens there, perhaps another coordinator; choose another port with --listen"
        }
        NetError::Listen { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 are the system's: docs/deploy.md shows how a service may use 443"
        }
        NetError::Listen { .. } => "choose an address of this machine with --listen",
        #[cfg(feature = "nats")]
        NetError::Broker { .. } => {
            "check its address, that it runs with JetStream, and what it allows us; docs/deploy.md says what a federation needs"
        }
        NetError::Spool { .. } => "check the folder's owner, permissions and free space",
        _ => "docs/deploy.md says how keys and certificates are made",
    };
    Failure::user(error).hint(hint)
}

/// What a run that cannot go on asks of the operator.
pub(crate) fn failed(error: RuntimeError) -> Failure {
    let hint = match &error {
        RuntimeError::Store(StoreError::DiskFull { .. }) => {
            "free some space and start it again: nothing acknowledged is lost"
        }
        RuntimeError::Store(
            StoreError::EventLog { .. } | StoreError::Damaged { .. } | StoreError::Corrupt { .. },
        )
        | RuntimeError::Event { .. } => {
            "the disk has changed what was written; a coordinator's folder may come from a backup that is newer than its last round, a hospital's must not: docs/deploy.md says how to go on, `medfed runs end` ends the run"
        }
        RuntimeError::Store(_) | RuntimeError::Keeper(_) => {
            "check the folder's owner, permissions and free space, and start it again: nothing acknowledged is lost"
        }
        RuntimeError::Panicked => return Failure::internal(error),
        _ => return Failure::user(error),
    };
    Failure::user(error).hint(hint)
}
