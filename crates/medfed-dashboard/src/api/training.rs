//! Start, stop, pause, resume and reset training; where it stands; its log.

use super::failure::Failure;
use crate::app::App;
use crate::control::{StartOrder, TrainingState};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use medfed_config::{Config, Override};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use utoipa::{IntoParams, ToSchema};

/// Part of a log that is looked at: enough for the largest number of lines.
const LOG_WINDOW: u64 = 512 * 1024;

/// The answer to a request to start, stop, pause, resume or reset.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// Always true; a failure has another shape.
    success: bool,
    /// What happens now, for people.
    message: String,
    /// Where training stands.
    state: TrainingState,
}

/// Where training stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusAnswer {
    /// Always true.
    success: bool,
    /// Where training stands.
    state: TrainingState,
}

/// What a reset does besides forgetting the state.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetOrder {
    /// Moves the results folder aside. Nothing is deleted.
    #[serde(default)]
    clear_results: bool,
}

/// How many lines of the log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogRange {
    /// Newest lines to give.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 2000)]
    limit: u32,
}

fn hundred() -> u32 {
    100
}

/// The newest lines of the run's log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Logs {
    /// Always true.
    success: bool,
    /// Oldest first.
    logs: Vec<String>,
}

/// The rounds of the newest run.
#[expect(clippy::struct_field_names, reason = "the names are those of the original project")]
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoundHistory {
    /// Always true.
    success: bool,
    /// The run, if there is one.
    run: Option<String>,
    /// A report for each round.
    #[schema(value_type = Vec<Object>)]
    round_history: Vec<medfed_federation::report::RoundReport>,
}

/// Start a new run with the configuration file.
#[utoipa::path(post, path = "/api/training/start", tag = "training",
    request_body(content = Option<StartOrder>, description = "Changes for this run; may be left out"),
    responses(
        (status = 200, description = "It starts", body = Answer),
        (status = 400, description = "It is running already, or the body is not a JSON object", body = Failure),
        (status = 422, description = "A value is refused; `key` names it", body = Failure)))]
pub(crate) async fn start(State(app): State<App>, body: Bytes) -> Result<Json<Answer>, Failure> {
    let order: StartOrder = parse(&body)?;
    blocking(app, move |app| {
        check(app, &order)?;
        app.control.start(&order)?;
        Ok("Training starts".to_owned())
    })
    .await
}

/// Ask the run to save after its step and to stop. It can be resumed.
#[utoipa::path(post, path = "/api/training/stop", tag = "training", responses(
    (status = 200, description = "It stops after its step", body = Answer),
    (status = 400, description = "Nothing is running or paused", body = Failure),
    (status = 409, description = "The process that trains cannot be asked", body = Failure)))]
pub(crate) async fn stop(State(app): State<App>) -> Result<Json<Answer>, Failure> {
    blocking(app, |app| {
        app.control.stop(&app.view())?;
        Ok("Training stops after its step; everything done is kept".to_owned())
    })
    .await
}

/// Ask the run to save after its step and to pause.
#[utoipa::path(post, path = "/api/training/pause", tag = "training", responses(
    (status = 200, description = "It pauses after its step", body = Answer),
    (status = 400, description = "Nothing is running", body = Failure),
    (status = 409, description = "The process that trains cannot be asked", body = Failure)))]
pub(crate) async fn pause(State(app): State<App>) -> Result<Json<Answer>, Failure> {
    blocking(app, |app| {
        app.control.pause()?;
        Ok("Training pauses after its step".to_owned())
    })
    .await
}

/// Continue the newest unfinished run with its own settings.
#[utoipa::path(post, path = "/api/training/resume", tag = "training", responses(
    (status = 200, description = "It goes on", body = Answer),
    (status = 400, description = "It is running, or there is nothing to resume", body = Failure),
    (status = 422, description = "It ended at once; the message says why", body = Failure)))]
pub(crate) async fn resume(State(app): State<App>) -> Result<Json<Answer>, Failure> {
    blocking(app, |app| {
        app.control.resume(&app.view())?;
        Ok("Training goes on where it stopped".to_owned())
    })
    .await
}

/// Forget errors and the states of earlier runs.
#[utoipa::path(post, path = "/api/training/reset", tag = "training",
    request_body(content = Option<ResetOrder>, description = "May be left out"),
    responses(
        (status = 200, description = "Done", body = Answer),
        (status = 400, description = "Training is running, or the body is not a JSON object", body = Failure),
        (status = 422, description = "A key or value is not known", body = Failure)))]
pub(crate) async fn reset(State(app): State<App>, body: Bytes) -> Result<Json<Answer>, Failure> {
    let order: ResetOrder = parse(&body)?;
    blocking(app, move |app| {
        let aside = app.control.reset(order.clear_results)?;
        app.source.look(&app.hub);
        Ok(aside.map_or_else(
            || "Ready to train".to_owned(),
            |aside| format!("Ready to train; the earlier results are in {}", aside.display()),
        ))
    })
    .await
}

/// Where training stands.
#[utoipa::path(get, path = "/api/training/status", tag = "training", responses(
    (status = 200, description = "Where training stands", body = StatusAnswer)))]
pub(crate) async fn status(State(app): State<App>) -> Json<StatusAnswer> {
    Json(StatusAnswer { success: true, state: app.training() })
}

/// The newest lines of the newest run's log.
#[utoipa::path(get, path = "/api/training/logs", tag = "training", params(LogRange), responses(
    (status = 200, description = "Lines, oldest first", body = Logs),
    (status = 400, description = "`limit` is not a number from 1 to 2000", body = Failure)))]
pub(crate) async fn logs(
    State(app): State<App>,
    range: Result<Query<LogRange>, QueryRejection>,
) -> Result<Json<Logs>, Failure> {
    let limit = range.ok().map(|Query(range)| range.limit).filter(|limit| (1..=2000).contains(limit));
    let limit = limit.ok_or_else(|| {
        Failure::new(StatusCode::BAD_REQUEST, "limit must be a whole number from 1 to 2000").about("limit")
    })?;
    let lines = tokio::task::spawn_blocking(move || log_lines(&app, limit as usize)).await;
    Ok(Json(Logs { success: true, logs: lines.map_err(|error| Failure::internal(&error))? }))
}

/// A report for each round of the newest run.
#[utoipa::path(get, path = "/api/training/round_history", tag = "training", responses(
    (status = 200, description = "Rounds, oldest first", body = RoundHistory)))]
pub(crate) async fn round_history(State(app): State<App>) -> Json<RoundHistory> {
    let view = app.view();
    let run = view.latest();
    Json(RoundHistory {
        success: true,
        run: run.map(|run| run.run.id.to_string()),
        round_history: run.map_or_else(Vec::new, |run| run.rounds.clone()),
    })
}

/// The newest lines of the newest run's log; before a run is open what its process says.
pub(crate) fn log_lines(app: &App, limit: usize) -> Vec<String> {
    let view = app.view();
    let log = view.latest().map(|run| {
        let name = format!("simulation_{}.log", run.run.id);
        let output = &run.config()["output"];
        let folder = |key: &str| output[key].as_str().map(PathBuf::from).unwrap_or_default();
        let (logs, results) = (folder("logs_dir"), folder("results_dir"));
        // What lay inside the results folder has moved with it.
        logs.strip_prefix(&results)
            .map_or_else(|_| logs.clone(), |inside| app.source.dir().join(inside))
            .join(name)
    });
    let starting = app.source.dir().join("dashboard_training.log");
    let text = log.and_then(|path| read_end(&path)).or_else(|| read_end(&starting)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(limit)..].iter().map(|line| (*line).to_owned()).collect()
}

fn read_end(path: &std::path::Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_WINDOW))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_WINDOW).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The window may begin in the middle of a line.
    Some(if length > LOG_WINDOW {
        text.split_once('\n').map_or("", |(_, rest)| rest).to_owned()
    } else {
        text
    })
}

/// Whether the configuration file with the order's changes is one that a run would take.
fn check(app: &App, order: &StartOrder) -> Result<(), Failure> {
    let settings = order
        .settings()
        .iter()
        .map(|setting| Override::parse(setting))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let (text, name) = super::config::file(&app.config)?;
    let config =
        Config::from_yaml(&text, &name, &settings).map_err(|errors| super::config::refused(&errors))?;
    config.require_available().map_err(|error| {
        let failure = Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
        match error.features.first() {
            Some(feature) => failure.about(feature.key),
            None => failure,
        }
    })
}

/// A JSON body that may be left out.
fn parse<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Failure> {
    if body.trim_ascii().is_empty() || body.trim_ascii() == b"null" {
        return Ok(T::default());
    }
    let refused = |status, text: &str| Failure::new(status, format!("the body does not fit: {text}"));
    let body: Value =
        serde_json::from_slice(body).map_err(|error| refused(StatusCode::BAD_REQUEST, &error.to_string()))?;
    // A list of values would be taken for the keys in their order.
    if !body.is_object() {
        return Err(refused(StatusCode::BAD_REQUEST, "it must be a JSON object"));
    }
    serde_json::from_value(body)
        .map_err(|error| refused(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()))
}

/// Runs what may wait for files and processes off the threads that answer requests.
async fn blocking(
    app: App,
    work: impl FnOnce(&App) -> Result<String, Failure> + Send + 'static,
) -> Result<Json<Answer>, Failure> {
    let done = tokio::task::spawn_blocking(move || {
        let message = work(&app)?;
        app.source.look(&app.hub);
        let state = app.training();
        app.hub.send("state", &state);
        Ok(Json(Answer { success: true, message, state }))
    });
    done.await.map_err(|error| Failure::internal(&error))?
}
