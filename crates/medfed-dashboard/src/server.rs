//! The server: routes, limits, headers, and an orderly end.

use crate::api;
use crate::app::App;
use crate::control::Trainer;
use crate::error::DashboardError;
use crate::page;
use crate::security;
use axum::Router;
use axum::http::StatusCode;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

/// Largest body of a request.
const BODY_LIMIT: usize = 1 << 20;
/// Longest time for an answer; streams begin at once.
const ANSWER: Duration = Duration::from_secs(30);
/// Time from one look at the results folder to the next.
const LOOK: Duration = Duration::from_millis(250);

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Results folder: what is shown, and where runs that are started here write to.
    pub results: PathBuf,
    /// Configuration file of runs that are started here.
    pub config: PathBuf,
    /// The `medfed` program; runs that are started here are processes of it.
    pub program: PathBuf,
}

/// Serves the dashboard until `stop` resolves. `ready` hears the address that is listened on.
pub async fn serve(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DashboardError> {
    let Options { listen, results, config, program } = options;
    if !listen.ip().is_loopback() {
        return Err(DashboardError::NotLoopback { address: listen });
    }
    let failed = |source| DashboardError::Listen { address: listen, source };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let app = App::new(Trainer { program, config, results });
    let watcher = watch(app.clone());
    let router = router(app.clone(), address.port());
    ready(address);
    let ending = app.clone();
    let stop = async move {
        stop.await;
        // Open streams would keep the server from ending.
        ending.ending.send_replace(true);
    };
    let served = axum::serve(listener, router).with_graceful_shutdown(stop).await;
    watcher.abort();
    served.map_err(failed)
}

/// Everything that is served.
pub(crate) fn router(app: App, port: u16) -> Router {
    let (api, description) = api::router();
    // Not compressed and not limited in time: it stays open.
    Router::new()
        .merge(api)
        .merge(page::router(&description))
        .fallback(page::not_found)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER))
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(page::panicked))
        .layer(axum::middleware::from_fn_with_state(port, security::origin::guard))
        .layer(axum::middleware::from_fn(security::headers::add))
        .with_state(app)
}

/// Looks at the results folder again and again, off the threads that answer requests.
fn watch(app: App) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut last = app.training();
        loop {
            let looking = app.clone();
            if tokio::task::spawn_blocking(move || looking.source.look(&looking.hub)).await.is_err() {
                tracing::error!("the results folder could not be looked at");
            }
            let state = app.training();
            if (state.status, &state.error) != (last.status, &last.error) {
                app.hub.send("state", &state);
            }
            last = state;
            tokio::time::sleep(LOOK).await;
        }
    })
}
