//! `/api/runs`: every run of the results folder.

use super::asked::Named;
use super::failure::Failure;
use crate::app::App;
use crate::view::RunView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medfed_federation::report::RoundReport;
use medfed_store::{Event, Run};
use medfed_types::RunId;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// All runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Runs {
    /// Oldest first.
    runs: Vec<RunRow>,
}

/// A run in a few words.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunRow {
    /// Its id.
    id: String,
    /// The experiment's name.
    name: String,
    /// When it started, in UTC.
    started: String,
    /// When it ended.
    finished: Option<String>,
    /// `running`, `interrupted`, `completed`, `failed` or `budget_exhausted`.
    status: String,
    /// Rounds done.
    rounds: u32,
    /// Its summary, once it has ended.
    #[schema(value_type = Option<Object>)]
    summary: Option<Value>,
}

/// A run in full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeRun {
    /// In a few words.
    run: RunRow,
    /// Its configuration.
    #[schema(value_type = Object)]
    config: Value,
    /// A report for each round.
    #[schema(value_type = Vec<Object>)]
    round_history: Vec<RoundReport>,
    /// What happened, oldest first.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
    /// Documents by name, such as `fairness_report`.
    #[schema(value_type = Object)]
    documents: BTreeMap<String, Value>,
}

impl From<&Run> for RunRow {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id.to_string(),
            name: run.name.clone(),
            started: run.created.to_string(),
            finished: run.finished.map(|time| time.to_string()),
            status: run.status.to_string(),
            rounds: run.rounds,
            summary: run.summary.clone(),
        }
    }
}

/// All runs of the results folder.
#[utoipa::path(get, path = "/api/runs", tag = "runs", responses(
    (status = 200, description = "All runs", body = Runs)))]
pub(crate) async fn list(State(app): State<App>) -> Json<Runs> {
    Json(Runs { runs: app.view().runs.iter().map(RunRow::from).collect() })
}

/// One run in full.
#[utoipa::path(get, path = "/api/runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The run", body = WholeRun),
        (status = 404, description = "There is no such run", body = Failure)))]
pub(crate) async fn one(State(app): State<App>, Named(id): Named) -> Result<Json<WholeRun>, Failure> {
    let run = find(&app, &id).await?;
    Ok(Json(WholeRun {
        run: RunRow::from(&run.run),
        config: run.config().clone(),
        round_history: run.rounds.clone(),
        events: run.events.clone(),
        documents: run.documents.clone(),
    }))
}

/// The run with this id.
pub(super) async fn find(app: &App, id: &str) -> Result<Arc<RunView>, Failure> {
    let unknown = || Failure::new(StatusCode::NOT_FOUND, "there is no such run; /api/runs lists them");
    let id = RunId::try_from(id).map_err(|_| unknown())?;
    let app = app.clone();
    let found = tokio::task::spawn_blocking(move || app.source.run(&id)).await;
    found.map_err(|error| Failure::internal(&error))??.ok_or_else(unknown)
}
