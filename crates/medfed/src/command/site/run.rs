//! `medfed site run`: a hospital takes part in the runs of its coordinator.

use crate::command::broker::{self, BrokerArgs};
use crate::command::config::overrides;
use crate::command::coordinator::{LARGEST_MESSAGE, failed, no_transport};
use crate::failure::Failure;
use crate::run::{Data, Kept, SiteFolder, interrupt, shell_word, store_failure};
use medfed_net::grpc::{GrpcSite, SiteOptions, Timing};
use medfed_net::runtime::{SiteIdentity, SiteRuntime, SiteStatus};
use medfed_net::{CoordinatorAddress, Fingerprint, Holder, Proxy, Route, SiteTransport, clock};
use medfed_store::Store;
use medfed_types::{SecretKey, SiteId};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Take part in the runs of a coordinator: train here, send protected updates only.
///
/// DIR holds the site's key and certificate (`medfed site enroll` makes them) and its policy, which says what
/// the hospital agrees to whatever the coordinator asks: how much privacy may be spent, with how many others,
/// what leaves besides updates. The site connects outwards to the coordinator and keeps connecting; it goes
/// on from where it was after any stop.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed site run --dir /var/lib/medfed --coordinator federation.example.org:443 --data /data/chest
  medfed site run --dir /var/lib/medfed --coordinator 192.0.2.7:8443 --data chest.npz --once
  medfed site run --dir /var/lib/medfed --nats tls://broker.example.org:4222 --data /data/chest
  medfed site run … --set data.columns.patient_id=mrn     how this hospital's images are read")]
pub(crate) struct Args {
    /// Folder of the site
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the coordinator is; port 443 unless given
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "nats", conflicts_with = "nats")]
    coordinator: Option<CoordinatorAddress>,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Images: an .npz file, or a folder with metadata.csv or with one folder per class [default: synthetic
    /// ones, where the configuration of a run asks for them]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Set a key of the section data: how this hospital's images are read; repeatable
    #[arg(long = "set", value_name = "data.KEY=VALUE")]
    set: Vec<String>,
    /// What the hospital agrees to [default: DIR/policy.yaml]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Proxy on the way, as `http://[USER:PASSWORD@]HOST:PORT` [default: HTTPS_PROXY, unless NO_PROXY lists the
    /// coordinator]
    #[arg(long, value_name = "URL", conflicts_with = "nats")]
    proxy: Option<Proxy>,
    /// Fingerprint of the key that the coordinator must have, besides a certificate of the authority
    #[arg(long, value_name = "SHA256")]
    pin: Option<Fingerprint>,
    /// End after one run instead of waiting for the next
    #[arg(long)]
    once: bool,
    /// Threads [default: one per core]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Noise follows from a seed, so that it can be removed: for demonstrations
    #[arg(long, value_name = "N", hide = true)]
    reproducible_noise: Option<u64>,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
        pool.build_global().map_err(Failure::internal)?;
    }
    crate::command::log();
    if let Some(data) = args.data.as_ref().filter(|data| !data.exists()) {
        return Err(Failure::user(anyhow::anyhow!("{} does not exist", data.display()))
            .hint("--data takes an .npz file, a folder with metadata.csv, or a folder of class folders"));
    }
    if let Some(other) = args.set.iter().find(|set| !set.starts_with("data.")) {
        return Err(Failure::user(anyhow::anyhow!("{other} is not the site's to set")).hint(
            "the coordinator's configuration decides how everybody trains; a site sets keys of the section data, and refuses what its policy does not allow",
        ));
    }
    let broker = args.broker.broker()?;
    let holder = Holder::site(&args.dir);
    let identity = holder.load(clock::now()).map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("{} is not enrolled", args.dir.display())))
            .hint("`medfed site enroll` makes the key and asks for a certificate; docs/deploy.md goes through it")
    })?;
    let Some(site) = identity.party().site().cloned() else {
        return Err(Failure::user(anyhow::anyhow!("{} is the coordinator's folder", args.dir.display()))
            .hint("a site has a folder of its own: `medfed site enroll --dir`"));
    };
    let policy = args.policy.clone().unwrap_or_else(|| args.dir.join("policy.yaml"));
    let folder = SiteFolder { dir: args.dir.clone(), policy };
    folder.read_policy()?;
    let store = Store::open(folder.store()).map_err(store_failure)?;
    let data = Data {
        path: args.data.clone(),
        overrides: overrides(&args.set)?,
        reproducible_noise: args.reproducible_noise,
    };
    let kept = Kept::new(folder, store.clone(), site.clone(), data, identity.authority().clone());
    let stop = CancellationToken::new();
    interrupt::watch_with(kept.announcer(), stop.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    let own = SiteIdentity { site: site.clone(), key: SecretKey::from_bytes(*identity.key().expose()) };
    let driver = Driver { site: &site, store, own, kept, once: args.once, stop };
    let status = runtime.block_on(async {
        let address = match (broker, &args.coordinator) {
            (Some(broker), _) => return broker::take_part(broker, &holder, args.pin, driver).await,
            (None, Some(address)) => address,
            (None, None) => unreachable!("the command line names a coordinator or a broker"),
        };
        let proxy = match &args.proxy {
            Some(proxy) => Some(proxy.clone()),
            None => Proxy::from_environment(address).map_err(no_transport)?,
        };
        let options = SiteOptions {
            route: Route { address: address.clone(), proxy, pinned: args.pin },
            spool: args.dir.join("spool"),
            largest_message: LARGEST_MESSAGE,
            timing: Timing::default(),
        };
        let transport = GrpcSite::start(&holder, options).await.map_err(no_transport)?;
        driver.drive(transport, &format!("to {address}")).await
    })?;
    // A worker that is blocked on a peer is not waited for.
    runtime.shutdown_background();
    ended(args, &site, &status)
}

/// A hospital that waits for its transport.
pub(crate) struct Driver<'a> {
    site: &'a SiteId,
    store: Store,
    own: SiteIdentity,
    kept: Kept,
    once: bool,
    stop: CancellationToken,
}

impl Driver<'_> {
    /// Says where it connects, and takes part over a transport.
    pub(crate) async fn drive(
        self,
        transport: impl SiteTransport,
        place: &str,
    ) -> Result<SiteStatus, Failure> {
        let Self { site, store, own, kept, once, stop } = self;
        kept.announcer()(&format!("{site}: connecting {place}"));
        let driven = SiteRuntime::open(transport, store, own, Box::new(kept), once).map_err(failed)?;
        driven.run(stop).await.map_err(failed)
    }
}

/// A run that did not reach its end is a failure for whoever waits for it.
fn ended(args: &Args, site: &SiteId, status: &SiteStatus) -> Result<(), Failure> {
    use medfed_federation::report::RunStatus;
    match status {
        SiteStatus::Over(Some(RunStatus::Completed | RunStatus::BudgetExhausted)) => Ok(()),
        SiteStatus::Over(Some(_)) => {
            Err(Failure::user(anyhow::anyhow!("the run did not complete"))
                .hint("the coordinator's log says why"))
        }
        SiteStatus::Over(None) => Err(Failure::user(anyhow::anyhow!("{site} took no part to the run's end"))
            .hint("the lines above say why; policy.yaml says what the hospital agrees to")),
        SiteStatus::Stopped => {
            let place = match &args.coordinator {
                Some(address) => format!("--coordinator {address}"),
                None => args.broker.words().unwrap_or_default(),
            };
            let resume = format!("medfed site run --dir {} {place}", shell_word(&args.dir));
            Err(Failure::interrupted(anyhow::anyhow!("stopped; everything done is saved"))
                .hint(format!("continue with `{resume}`")))
        }
    }
}
