//! The pages. Each is rendered here in full; the script only exchanges the parts that have changed.

mod answer;
mod assets;
mod audit;
mod documentation;
mod error;
mod figure;
mod format;
mod layout;
mod overview;
mod report;
mod runs;
mod section;
mod sites;
mod technical;
mod training;

pub(crate) use error::{not_found, panicked};

use crate::app::App;
use crate::view::RunView;
use axum::Router;
use axum::routing::get;
use medfed_types::RunId;
use serde::Deserialize;
use std::sync::Arc;

/// All pages and what they load.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/", get(overview::page))
        .route("/clinical", get(report::clinical))
        .route("/technical", get(technical::page))
        .route("/technical/evaluation", get(technical::evaluation))
        .route("/technical/rounds", get(technical::rounds))
        .route("/privacy", get(report::privacy))
        .route("/fairness", get(report::fairness))
        .route("/training", get(training::page))
        .route("/runs", get(runs::page))
        .route("/runs/{id}/{file}", get(report::file))
        .route("/sites", get(sites::page))
        .route("/audit", get(audit::page))
        .route("/docs", get(documentation::show))
        .merge(assets::router())
}

/// Which run a page is about.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Selection {
    /// The run's id; the newest without it.
    run: Option<String>,
}

impl Selection {
    /// This run.
    pub(crate) fn of(id: String) -> Self {
        Self { run: Some(id) }
    }

    /// The run, if there is one. An id that is not there is an error page's matter.
    pub(crate) async fn find(self, app: &App) -> Result<Option<Arc<RunView>>, axum::response::Response> {
        let Some(id) = self.run.filter(|id| !id.is_empty()) else {
            return Ok(app.view().latest().map(Arc::clone));
        };
        let unknown = || error::unknown_run(app);
        let id = RunId::try_from(id.as_str()).map_err(|_| unknown())?;
        let source = app.clone();
        match tokio::task::spawn_blocking(move || source.source.run(&id)).await {
            Ok(Ok(Some(run))) => Ok(Some(run)),
            Ok(Ok(None)) => Err(unknown()),
            Ok(Err(failure)) => Err(error::broken(app, &failure)),
            Err(failure) => Err(error::broken(app, &failure)),
        }
    }
}
