//! The coordinator's end.

use super::accept::accept;
use super::service::Service;
use super::session::{Incoming, Switch};
use super::spool::private;
use super::{CONNECTION_WINDOW, HEADERS, LARGEST_FRAME, STREAM_WINDOW, Timing};
use crate::certificate::Certificate;
use crate::clock;
use crate::error::NetError;
use crate::pki::Holder;
use crate::problem::LinkProblem;
use crate::tls::guard::Guard;
use crate::tls::server;
use crate::transport::{CoordinatorEvent, CoordinatorTransport, SendError};
use crate::wire::federation_server::FederationServer;
use bytes::Bytes;
use medfed_types::SiteId;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// Events that wait for the coordinator at most; then sites are held back.
const EVENTS: usize = 1024;
/// Calls of one connection at once.
const CALLS: u32 = 16;
/// Time for the last words when the transport closes.
const CLOSING: Duration = Duration::from_secs(5);

/// Where and how the coordinator listens.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Folder for what arrives. What was cut goes on from there, also after a restart.
    pub spool: PathBuf,
    /// Largest message, in bytes. A site keeps at most twice as much in the spool.
    pub largest_message: u64,
    /// How long things may take.
    pub timing: Timing,
}

/// The coordinator's end of the built-in transport.
#[derive(Debug)]
pub struct GrpcCoordinator {
    switch: Arc<Switch>,
    events: mpsc::Receiver<Incoming>,
    /// An event that was taken from the queue and not handed on yet.
    current: Option<Incoming>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl GrpcCoordinator {
    /// Listens with the key and certificate of the coordinator's folder, and admits whom its roster and its
    /// list of revocations admit, as they change.
    pub async fn bind(holder: &Holder, options: CoordinatorOptions) -> Result<Self, NetError> {
        let guard = Arc::new(Guard::open(holder, clock::now())?);
        let tls = Arc::new(server::config(&guard)?);
        let CoordinatorOptions { listen, spool, largest_message, timing } = options;
        private(&spool).await.map_err(|source| NetError::Spool { path: spool.clone(), source })?;
        let failed = |source| NetError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (sender, events) = mpsc::channel(EVENTS);
        let switch = Arc::new(Switch::new(guard.clone(), largest_message, timing, spool, sender));
        let (accepted, connections) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, tls, guard, timing.step, accepted));
        let stop = CancellationToken::new();
        let service = FederationServer::new(Service(switch.clone()))
            .max_decoding_message_size(LARGEST_FRAME)
            .max_encoding_message_size(LARGEST_FRAME);
        let serving = Server::builder()
            .max_concurrent_streams(CALLS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(HEADERS)
            .add_service(service)
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop.clone().cancelled_owned());
        let serving = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!("the server ended: {error}");
            }
        });
        Ok(Self { switch, events, current: None, address, stop, tasks: [accepting, serving] })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The coordinator's certificate, as it was at the start.
    pub fn certificate(&self) -> &Certificate {
        self.switch.guard.certificate()
    }

    /// Takes leave of every site, and ends.
    pub async fn close(mut self) {
        self.switch.stop_all();
        self.stop.cancel();
        let [accepting, serving] = &mut self.tasks;
        accepting.abort();
        // Sessions that do not end are cut off with the process.
        let _ = timeout(CLOSING, serving).await;
    }

    async fn event(&mut self) -> Option<CoordinatorEvent> {
        loop {
            // Kept until it is complete: the caller may drop this future.
            if self.current.is_none() {
                self.current = Some(self.events.recv().await?);
            }
            if let Some(Incoming::Spooled { from, name }) = &self.current {
                let (from, name) = (from.clone(), *name);
                let content = self.switch.uploads(&from).take(&name).await;
                self.current = None;
                match content {
                    Ok(bytes) => return Some(CoordinatorEvent::Message { from, bytes }),
                    Err(problem) => {
                        tracing::error!("a message of site {from} was lost: {problem}");
                        self.switch.stop(&from, problem);
                        continue;
                    }
                }
            }
            return Some(match self.current.take()? {
                Incoming::Connected { site, certificate } => {
                    CoordinatorEvent::Connected { site, certificate }
                }
                Incoming::Disconnected { site, problem } => CoordinatorEvent::Disconnected { site, problem },
                Incoming::Message { from, bytes } => CoordinatorEvent::Message { from, bytes },
                Incoming::Spooled { .. } => continue,
            });
        }
    }
}

impl Drop for GrpcCoordinator {
    fn drop(&mut self) {
        self.switch.stop_all();
        self.stop.cancel();
        // The other one ends when its connections have.
        self.tasks[0].abort();
    }
}

impl CoordinatorTransport for GrpcCoordinator {
    fn send(&self, to: &SiteId, message: Bytes) -> Result<(), SendError> {
        self.switch.send(to, message)
    }

    async fn recv(&mut self) -> Option<CoordinatorEvent> {
        self.event().await
    }

    fn disconnect(&self, site: &SiteId) {
        self.switch.stop(site, LinkProblem::Ended);
    }
}
