//! A broker of the test's own, and both ends on it.

use crate::fixture::{Federation, LARGEST, QUICK};
use medfed_net::Fingerprint;
use medfed_net::nats::{
    BrokerOptions, Kept, NatsCoordinator, NatsCoordinatorOptions, NatsSite, NatsSiteOptions,
};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A broker, with a store that outlives it.
pub(crate) struct Broker {
    folder: TempDir,
    address: SocketAddr,
    /// Further words of its command line.
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Broker {
    /// A running broker; nothing where the program is missing.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new())
    }

    /// With further words on the command line, which may name files in the given folder.
    pub(crate) fn start_with(arguments: impl FnOnce(&std::path::Path) -> Vec<String>) -> Option<Self> {
        let found = Command::new("nats-server").arg("--version").stdout(Stdio::null()).status();
        if found.is_err() {
            assert!(std::env::var_os("CI").is_none(), "nats-server is missing");
            #[expect(clippy::print_stderr, reason = "whoever runs the tests is told")]
            {
                eprintln!("passed over: nats-server is not installed");
            }
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, folder) = (free.local_addr().unwrap(), tempfile::tempdir().unwrap());
        drop(free);
        let arguments = arguments(folder.path());
        let mut this = Self { folder, address, arguments, process: None };
        this.go();
        Some(this)
    }

    /// Starts it, again after [`Broker::kill`].
    pub(crate) fn go(&mut self) {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &self.address.port().to_string(), "-js", "-sd"]);
        command.arg(self.folder.path().join("store")).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the broker does not listen");
            std::thread::yield_now();
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A client that keeps to nothing.
    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::connect(format!("nats://{}", self.address)).await.unwrap()
    }

    pub(crate) async fn coordinate(&self, federation: &Federation) -> NatsCoordinator {
        let options = NatsCoordinatorOptions {
            broker: at(self.address),
            kept: Kept::default(),
            largest_message: LARGEST,
            timing: QUICK,
        };
        NatsCoordinator::start(&federation.coordinator(), options).await.unwrap()
    }

    pub(crate) fn join(&self, federation: &Federation, site: &str) -> NatsSite {
        join_at(self.address, federation, site, None)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn at(address: SocketAddr) -> BrokerOptions {
    BrokerOptions { server: format!("nats://{address}"), credentials: None, authorities: None }
}

pub(crate) fn join_at(
    address: SocketAddr,
    federation: &Federation,
    site: &str,
    pinned: Option<Fingerprint>,
) -> NatsSite {
    let options = NatsSiteOptions { broker: at(address), pinned, largest_message: LARGEST, timing: QUICK };
    NatsSite::start(&federation.holder(site), options).unwrap()
}
