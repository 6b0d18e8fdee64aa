//! `/healthz` and `/metrics`: for whoever keeps the service running.

use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use medfed_store::Timestamp;
use serde::Serialize;
use std::fmt::Write as _;
use utoipa::ToSchema;

/// Whether the dashboard can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `degraded` while the results folder cannot be read.
    status: &'static str,
    /// What is wrong, for those who may not know more; the dashboard's log says more.
    problem: Option<&'static str>,
    /// The program's version.
    version: &'static str,
}

/// Whether the dashboard can do its work.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses(
    (status = 200, description = "It can", body = Health),
    (status = 503, description = "The results folder cannot be read", body = Health)))]
pub(crate) async fn health(State(app): State<App>) -> (StatusCode, Json<Health>) {
    // Anybody may ask: no path, nothing about the data.
    let problem = app.source.problem().map(|_| "the results folder cannot be read");
    let code = if problem.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let status = if problem.is_some() { "degraded" } else { "ok" };
    (code, Json(Health { status, problem, version: env!("CARGO_PKG_VERSION") }))
}

/// The newest measurements in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "Measurements", content_type = "text/plain", body = String)))]
pub(crate) async fn prometheus(State(app): State<App>) -> impl IntoResponse {
    let (state, view) = (app.training(), app.view());
    let metrics = &state.live_metrics;
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP medfed_{name} {help}\n# TYPE medfed_{name} gauge\nmedfed_{name} {value}\n"
            );
        }
    };
    let uptime = (Timestamp::now().0 - app.started.0) as f64 / 1000.0;
    gauge("dashboard_uptime_seconds", "Time since the dashboard started.", Some(uptime));
    gauge("runs", "Runs in the results folder.", Some(view.runs.len() as f64));
    gauge("training_running", "1 while a run trains.", Some(f64::from(u8::from(state.is_running))));
    gauge("round", "The round in progress or the last one.", Some(f64::from(state.current_round)));
    gauge("rounds_planned", "Rounds planned.", Some(f64::from(state.total_rounds)));
    gauge("round_progress_ratio", "Share of the round's steps done.", Some(metrics.round_progress));
    gauge("epsilon_spent", "Largest epsilon spent at a hospital.", metrics.epsilon_total);
    let budget = view.latest().and_then(|run| run.budget());
    gauge("epsilon_budget", "Epsilon that no hospital may pass.", budget);
    gauge("noise_multiplier", "Smallest noise multiplier in use.", metrics.noise_multiplier);
    gauge("train_loss", "Mean training loss of the last round.", metrics.train_loss);
    gauge("validation_loss", "Mean validation loss of the last round.", metrics.val_loss);
    gauge("validation_accuracy", "Mean validation accuracy of the last round.", metrics.accuracy);
    gauge("validation_auroc", "Mean validation AUROC of the last round.", metrics.auc);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
