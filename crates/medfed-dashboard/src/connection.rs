//! Connections: how many, how slow, and encrypted or not. Each lives in a task of its own, away from the
//! process that trains.

mod seats;

use crate::security::access::Peer;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use seats::{Seat, Seats};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Connections at once, where the system lets a process open as many files.
const MOST: usize = 1024;
/// Files that are kept for everything else.
const OTHER_FILES: u64 = 128;
/// Connections at once where it lets a process open very few.
const LEAST: usize = 16;
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
    let seats = Seats::new(most());
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
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
        let Some(seat) = seats.take(peer.ip()) else {
            tracing::warn!(%peer, "a connection was closed: there are too many");
            continue;
        };
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            cut_off_who_does_not_read(&stream);
            let seat = Arc::new(seat);
            let talking = async {
                match tls {
                    None => talk(stream, peer, router, watcher, &seat).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await {
                            talk(stream, peer, router, watcher, &seat).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = talking => {}
                () = seat.given_away() => {}
            }
        });
    }
    drop(listener);
    // Whoever takes longer is cut off with the process.
    let _ = timeout(ENDING, graceful.shutdown()).await;
}

/// How many connections there may be.
fn most() -> usize {
    #[cfg(unix)]
    if let Some(files) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        let left = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(MOST);
        return left.clamp(LEAST, MOST);
    }
    MOST
}

/// Answers the requests of one connection.
async fn talk<S>(stream: S, peer: SocketAddr, router: Router, watcher: Watcher, seat: &Arc<Seat>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seat = Arc::clone(seat);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        answer(router.clone(), request, Arc::clone(&seat))
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

/// Answers one request. The seat is busy until the whole of the answer is on its way.
async fn answer(router: Router, request: Request<Incoming>, seat: Arc<Seat>) -> Result<Response, Infallible> {
    if !seat.begin() {
        return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
    }
    let busy = Busy(seat);
    let response = router.oneshot(request).await?;
    // The body ends with the answer, or is dropped with the connection.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &busy;
            frame
        }))
    }))
}

/// A request that is being answered.
struct Busy(Arc<Seat>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
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
