//! The server: routes, limits, headers, and an orderly end.

use crate::api;
use crate::app::App;
use crate::connection;
use crate::control::Trainer;
use crate::error::DashboardError;
use crate::page;
use crate::security::access::Access;
use crate::security::origin::Names;
use crate::security::visitor::Visitor;
use crate::security::{self, Identity, Users};
use axum::Router;
use axum::http::StatusCode;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
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

/// Who can reach the dashboard. The default is whoever is on this machine, without a password.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// File of users; with it everybody has to log in.
    pub users: Option<PathBuf>,
    /// Certificate and key; with them everything is encrypted.
    pub tls: Option<Identity>,
    /// Names besides the addresses under which browsers find the dashboard.
    pub host_names: Vec<String>,
}

/// Serves the dashboard until `stop` resolves. `ready` hears the address that is listened on.
pub async fn serve(
    options: Options,
    reach: Reach,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DashboardError> {
    let Options { listen, results, config, program } = options;
    let loopback = listen.ip().is_loopback();
    if !loopback && (reach.users.is_none() || reach.tls.is_none()) {
        return Err(DashboardError::NotLoopback { address: listen });
    }
    let access = reach.users.map(|path| access(path, reach.tls.is_some())).transpose()?;
    let failed = |source| DashboardError::Listen { address: listen, source };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let app = App::new(Trainer { program, config, results }, access.is_some());
    // What pages show is there before anybody can ask for it.
    let first = app.clone();
    let looked = tokio::task::spawn_blocking(move || first.source.look(&first.hub)).await;
    if looked.is_err() {
        tracing::error!("the results folder could not be looked at");
    }
    let watcher = watch(app.clone(), access.clone());
    let names = Names { port: address.port(), loopback, others: reach.host_names };
    let router = router(app.clone(), names, access);
    ready(address);
    let ending = app.clone();
    let stop = async move {
        stop.await;
        // Open streams would keep the server from ending.
        ending.ending.send_replace(true);
    };
    connection::serve(listener, reach.tls.map(|identity| identity.config), router, stop).await;
    watcher.abort();
    Ok(())
}

/// Access for the users of a file with at least one in it.
fn access(path: PathBuf, tls: bool) -> Result<Arc<Access>, DashboardError> {
    if Users::read(&path)?.is_empty() {
        return Err(DashboardError::NoUsers { path });
    }
    Ok(Arc::new(Access::new(path, tls)?))
}

/// Everything that is served.
fn router(app: App, names: Names, access: Option<Arc<Access>>) -> Router {
    let mut router = Router::new().merge(api::router().0).merge(page::router()).fallback(page::not_found);
    router = match access {
        Some(access) => router
            .merge(security::login::router(access.clone()))
            .layer(axum::middleware::from_fn_with_state(access, security::access::guard)),
        None => router.layer(axum::Extension(Visitor::anybody())),
    };
    // Streams of events begin at once: the limit in time is for the beginning of an answer.
    router
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER))
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(page::panicked))
        .layer(axum::middleware::from_fn_with_state(Arc::new(names), security::origin::guard))
        .layer(axum::middleware::from_fn(security::headers::add))
        .with_state(app)
}

/// Looks at the results folder and at the users again and again, off the threads that answer requests.
fn watch(app: App, access: Option<Arc<Access>>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut last = app.training();
        loop {
            let (looking, access) = (app.clone(), access.clone());
            let look = move || {
                looking.source.look(&looking.hub);
                if let Some(access) = access {
                    access.look();
                }
            };
            if tokio::task::spawn_blocking(look).await.is_err() {
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
