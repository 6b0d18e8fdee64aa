//! Connections: how many, how slow, and encrypted or not. Each lives in a task of its own, away from the
//! process that trains.

use crate::security::access::Peer;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Connections at once; further ones wait.
const MOST: usize = 1024;
/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for the head of a request, and between two requests.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// Time for open requests once the server is to end.
const ENDING: Duration = Duration::from_secs(5);
/// Time after which a client that takes nothing of what it was sent is cut off, in milliseconds.
#[cfg(target_os = "linux")]
const UNREAD_MS: u32 = 60_000;

/// Serves until `stop` resolves; then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let tls = tls.map(TlsAcceptor::from);
    let permits = Arc::new(Semaphore::new(MOST));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would not help.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            cut_off_who_does_not_read(&stream);
            match tls {
                None => talk(stream, peer, router, watcher).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await {
                        talk(stream, peer, router, watcher).await;
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    // Whoever takes longer is cut off with the process.
    let _ = timeout(ENDING, graceful.shutdown()).await;
}

/// Answers the requests of one connection.
async fn talk<S>(stream: S, peer: SocketAddr, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Sets the time after which the system gives up on a client that does not read.
fn cut_off_who_does_not_read(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_MS) {
        tracing::debug!("a limit was not set: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}
