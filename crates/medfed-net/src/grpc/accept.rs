//! Connections from outside: how many, how slow, and from whom.
//!
//! A stranger can open connections and say nothing. At most [`PENDING`] handshakes are under way; a further
//! connection ends the one that has waited longest, so strangers cannot keep sites out by waiting. A site has
//! at most [`PER_SITE`] connections; a further one ends its oldest.

use crate::certificate::Certificate;
use crate::clock;
use crate::dial::prepare;
use crate::tls::guard::Guard;
use crate::tls::watched::{Fault, Watched};
use medfed_types::SiteId;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Handshakes under way at most.
const PENDING: usize = 256;
/// Connections of one site at most: a running site, a replacement for it, and somebody who looks for a fault.
const PER_SITE: usize = 4;

/// Whose connection it is.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) site: SiteId,
    pub(super) certificate: Certificate,
    pub(super) cut: CancellationToken,
}

/// An authenticated connection.
#[derive(Debug)]
pub(super) struct Accepted {
    stream: Watched<TlsStream<TcpStream>>,
    peer: Peer,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        // Whoever counts the site's connections sees that this one is over.
        self.peer.cut.cancel();
    }
}

impl Connected for Accepted {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct Door {
    guard: Arc<Guard>,
    tls: TlsAcceptor,
    limit: Duration,
    pending: Mutex<VecDeque<CancellationToken>>,
    open: Mutex<BTreeMap<SiteId, VecDeque<CancellationToken>>>,
    refused: Mutex<VecDeque<String>>,
}

/// Accepts connections until the receiver is gone; hands on those of sites.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    guard: Arc<Guard>,
    limit: Duration,
    accepted: mpsc::Sender<io::Result<Accepted>>,
) {
    let door = Arc::new(Door {
        guard,
        tls: TlsAcceptor::from(tls),
        limit,
        pending: Mutex::default(),
        open: Mutex::default(),
        refused: Mutex::default(),
    });
    loop {
        let next = tokio::select! {
            next = listener.accept() => next,
            () = accepted.closed() => return,
        };
        let (stream, address) = match next {
            Ok(next) => next,
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would not help.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        prepare(&stream);
        let waiting = door.queue();
        let (door, accepted) = (door.clone(), accepted.clone());
        tokio::spawn(async move {
            let shaken = tokio::select! {
                shaken = timeout(door.limit, door.tls.accept(stream)) => shaken,
                () = waiting.cancelled() => return,
            };
            door.leave(&waiting);
            match shaken {
                Ok(Ok(stream)) => {
                    if let Some(connection) = door.open(stream) {
                        // Fails when the server ends.
                        let _ = accepted.send(Ok(connection)).await;
                    }
                }
                Ok(Err(error)) => door.refused(address, &error),
                Err(_) => tracing::debug!("{address} did not finish its handshake in time"),
            }
        });
    }
}

impl Door {
    /// A place among the pending handshakes; who has waited longest goes when there is none.
    fn queue(&self) -> CancellationToken {
        let mut pending = locked(&self.pending);
        if pending.len() >= PENDING
            && let Some(oldest) = pending.pop_front()
        {
            oldest.cancel();
        }
        let waiting = CancellationToken::new();
        pending.push_back(waiting.clone());
        waiting
    }

    fn leave(&self, waiting: &CancellationToken) {
        // Its own token alone is cancelled: that is how it is found again.
        waiting.cancel();
        locked(&self.pending).retain(|it| !it.is_cancelled());
    }

    fn open(&self, stream: TlsStream<TcpStream>) -> Option<Accepted> {
        let shown = stream.get_ref().1.peer_certificates()?.first()?;
        let certificate = self.guard.admit(shown, clock::now()).ok()?;
        let site = certificate.party().site()?.clone();
        let cut = CancellationToken::new();
        let mut open = locked(&self.open);
        let of_site = open.entry(site.clone()).or_default();
        of_site.retain(|it| !it.is_cancelled());
        if of_site.len() >= PER_SITE
            && let Some(oldest) = of_site.pop_front()
        {
            oldest.cancel();
        }
        of_site.push_back(cut.clone());
        let stream = Watched::new(stream, Fault::default(), cut.clone());
        Some(Accepted { stream, peer: Peer { site, certificate, cut } })
    }

    /// Logs a refusal, each kind from each machine once: strangers cannot fill the log.
    fn refused(&self, address: SocketAddr, error: &io::Error) {
        let said = format!("a connection from {} was refused: {error}", address.ip());
        let mut refused = locked(&self.refused);
        if refused.contains(&said) {
            tracing::debug!("{said}");
            return;
        }
        if refused.len() >= 64 {
            refused.pop_front();
        }
        tracing::warn!("{said}");
        refused.push_back(said);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
