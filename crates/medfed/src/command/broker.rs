//! A federation through a NATS broker: what `medfed coordinator` and `medfed site run` have in common.

use super::coordinator;
use super::site::run as site;
use crate::failure::Failure;
use crate::run::shell_word;
use medfed_net::runtime::{CoordinatorStatus, SiteStatus};
use medfed_net::{Fingerprint, Holder};
use std::path::PathBuf;

/// A broker that can be used.
#[cfg(feature = "nats")]
pub(crate) type Broker = medfed_net::nats::BrokerOptions;
/// A broker that can be used: none in this program.
#[cfg(not(feature = "nats"))]
pub(crate) type Broker = std::convert::Infallible;

/// Where the broker is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BrokerArgs {
    /// Go through a NATS broker with JetStream, as nats://HOST:PORT or tls://HOST:PORT; in programs that are
    /// built with the feature `nats`
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// File with the broker's credentials (.creds)
    #[arg(long, value_name = "FILE", requires = "nats")]
    nats_credentials: Option<PathBuf>,
    /// Certificates of the authority that the broker's own certificate comes from [default: the system's]
    #[arg(long, value_name = "FILE", requires = "nats")]
    nats_ca: Option<PathBuf>,
}

impl BrokerArgs {
    /// The broker, if one is asked for.
    #[cfg(not(feature = "nats"))]
    pub(crate) fn broker(&self) -> Result<Option<Broker>, Failure> {
        if self.nats.is_none() {
            return Ok(None);
        }
        Err(Failure::user(anyhow::anyhow!("--nats: this program was built without NATS")).hint(
            "build it with `cargo build --release --features nats`, or connect directly with --listen and --coordinator",
        ))
    }

    /// The broker, if one is asked for.
    #[cfg(feature = "nats")]
    pub(crate) fn broker(&self) -> Result<Option<Broker>, Failure> {
        let Some(server) = &self.nats else { return Ok(None) };
        let named = [("--nats-credentials", &self.nats_credentials), ("--nats-ca", &self.nats_ca)];
        for (name, path) in named {
            if let Some(path) = path.as_ref().filter(|path| !path.is_file()) {
                return Err(Failure::user(anyhow::anyhow!("{name}: there is no file {}", path.display()))
                    .hint("the broker's operator makes these files; docs/deploy.md says how"));
            }
        }
        Ok(Some(Broker {
            server: server.clone(),
            credentials: self.nats_credentials.clone(),
            authorities: self.nats_ca.clone(),
        }))
    }

    /// The words on the command line that say the same.
    pub(crate) fn words(&self) -> Option<String> {
        use std::fmt::Write as _;
        let mut words = format!("--nats {}", self.nats.as_ref()?);
        for (name, path) in [("--nats-credentials", &self.nats_credentials), ("--nats-ca", &self.nats_ca)] {
            if let Some(path) = path {
                write!(words, " {name} {}", shell_word(path)).expect("a string takes what is written");
            }
        }
        Some(words)
    }
}

/// Coordinates a run through the broker.
#[cfg(feature = "nats")]
pub(crate) async fn coordinate(
    broker: Broker,
    holder: &Holder,
    driver: coordinator::Driver<'_>,
) -> Result<CoordinatorStatus, Failure> {
    use medfed_net::nats::{Kept, NatsCoordinator, NatsCoordinatorOptions};
    let server = broker.server.clone();
    let options = NatsCoordinatorOptions {
        broker,
        kept: Kept::default(),
        largest_message: coordinator::LARGEST_MESSAGE,
        timing: medfed_net::Timing::default(),
    };
    let transport = NatsCoordinator::start(holder, options).await.map_err(coordinator::no_transport)?;
    let place = format!("at the broker {server} on medfed.{}.>", transport.federation());
    let certificate = transport.certificate().clone();
    driver.drive(transport, &place, &certificate).await
}

/// Takes part in runs through the broker.
#[cfg(feature = "nats")]
pub(crate) async fn take_part(
    broker: Broker,
    holder: &Holder,
    pinned: Option<Fingerprint>,
    driver: site::Driver<'_>,
) -> Result<SiteStatus, Failure> {
    use medfed_net::nats::{NatsSite, NatsSiteOptions};
    let server = broker.server.clone();
    let options = NatsSiteOptions {
        broker,
        pinned,
        largest_message: coordinator::LARGEST_MESSAGE,
        timing: medfed_net::Timing::default(),
    };
    let transport = NatsSite::start(holder, options).map_err(coordinator::no_transport)?;
    driver.drive(transport, &format!("through the broker {server}")).await
}

/// There is no broker in this program.
#[cfg(not(feature = "nats"))]
#[expect(clippy::unused_async, reason = "the same shape as with the feature")]
pub(crate) async fn coordinate(
    broker: Broker,
    _: &Holder,
    _: coordinator::Driver<'_>,
) -> Result<CoordinatorStatus, Failure> {
    match broker {}
}

/// There is no broker in this program.
#[cfg(not(feature = "nats"))]
#[expect(clippy::unused_async, reason = "the same shape as with the feature")]
pub(crate) async fn take_part(
    broker: Broker,
    _: &Holder,
    _: Option<Fingerprint>,
    _: site::Driver<'_>,
) -> Result<SiteStatus, Failure> {
    match broker {}
}
