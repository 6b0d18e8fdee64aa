//! `/api/data` and `/api/metrics`: everything the pages show, as numbers.

use crate::app::App;
use crate::control::LiveMetrics;
use crate::view::RunView;
use axum::Json;
use axum::extract::State;
use medfed_federation::report::{RoundReport, Summary};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Everything the pages show of the newest run.
#[expect(clippy::struct_field_names, reason = "the names are those of the original project")]
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Data {
    /// The run in a few numbers; null before it has ended.
    #[schema(value_type = Option<Object>)]
    summary: Option<Summary>,
    /// A report for each round.
    #[schema(value_type = Vec<Object>)]
    round_history: Vec<RoundReport>,
    /// The same by measurement, for charts.
    chart_data: ChartData,
    /// The newest fairness report; empty where nothing was measured.
    #[schema(value_type = Object)]
    fairness: Value,
    /// What the newest round found about the hospitals' updates; empty where nothing was looked for.
    #[schema(value_type = Object)]
    security: Value,
    /// Whether there is a run with at least one round.
    has_data: bool,
    /// When the run last changed, in UTC; null without a run.
    last_updated: Option<String>,
}

/// One list for each measurement, with a value for each round.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChartData {
    /// Numbers of the rounds.
    pub(crate) rounds: Vec<u32>,
    /// Largest ε spent at a hospital.
    pub(crate) epsilon_total: Vec<Option<f64>>,
    /// By how much it rose.
    pub(crate) epsilon_round: Vec<Option<f64>>,
    /// Mean training loss.
    pub(crate) train_loss: Vec<Option<f64>>,
    /// Mean validation loss.
    pub(crate) val_loss: Vec<Option<f64>>,
    /// Mean validation accuracy.
    pub(crate) accuracy: Vec<Option<f64>>,
    /// Mean validation AUROC.
    pub(crate) auc: Vec<Option<f64>>,
    /// Smallest noise multiplier used.
    pub(crate) noise_multiplier: Vec<Option<f64>>,
}

impl ChartData {
    pub(crate) fn of(rounds: &[RoundReport]) -> Self {
        let column = |value: fn(&RoundReport) -> Option<f64>| rounds.iter().map(value).collect();
        Self {
            rounds: rounds.iter().map(|round| round.round_num).collect(),
            epsilon_total: column(|round| round.epsilon_total),
            epsilon_round: column(|round| round.epsilon_round),
            train_loss: column(|round| round.train_loss),
            val_loss: column(|round| round.val_loss),
            accuracy: column(|round| round.accuracy),
            auc: column(|round| round.auc),
            noise_multiplier: column(|round| round.noise_multiplier),
        }
    }
}

/// Measurements of the newest run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Metrics {
    /// Whether a run trains.
    is_running: bool,
    /// The round in progress or the last one.
    current_round: u32,
    /// Rounds planned.
    total_rounds: u32,
    /// The newest values.
    latest: LiveMetrics,
    /// The best mean validation AUROC so far.
    best_auc: Option<f64>,
    /// AUROC on the test set after the newest round.
    test_auc: Option<f64>,
    /// ε that no hospital may pass; null without privacy.
    epsilon_budget: Option<f64>,
}

/// Everything the pages show of the newest run.
#[utoipa::path(get, path = "/api/data", tag = "data", responses(
    (status = 200, description = "The newest run", body = Data)))]
pub(crate) async fn data(State(app): State<App>) -> Json<Data> {
    let view = app.view();
    let run = view.latest();
    Json(Data {
        summary: run.and_then(|run| run.summary.clone()),
        round_history: run.map_or_else(Vec::new, |run| run.rounds.clone()),
        chart_data: run.map_or_else(ChartData::default, |run| ChartData::of(&run.rounds)),
        fairness: run.map_or_else(|| json!({}), |run| fairness(run)),
        security: run.map_or_else(|| json!({}), |run| security(run)),
        has_data: run.is_some_and(|run| !run.rounds.is_empty()),
        last_updated: run.map(|run| last_change(run)),
    })
}

/// Measurements of the newest run.
#[utoipa::path(get, path = "/api/metrics", tag = "data", responses(
    (status = 200, description = "The newest values", body = Metrics)))]
pub(crate) async fn metrics(State(app): State<App>) -> Json<Metrics> {
    let (state, view) = (app.training(), app.view());
    let run = view.latest();
    let rounds = run.map_or(&[][..], |run| &run.rounds);
    Json(Metrics {
        is_running: state.is_running,
        current_round: state.current_round,
        total_rounds: state.total_rounds,
        latest: state.live_metrics,
        best_auc: rounds.iter().filter_map(|round| round.auc).reduce(f64::max),
        test_auc: rounds.iter().rev().find_map(|round| round.test_auc),
        epsilon_budget: run.and_then(|run| run.budget()),
    })
}

/// The final fairness report, or what the newest measured round says.
pub(crate) fn fairness(run: &RunView) -> Value {
    let of_round = || newest(run, "fairness");
    run.documents.get("fairness_report").cloned().or_else(of_round).unwrap_or_else(|| json!({}))
}

/// What the newest round says about security.
pub(crate) fn security(run: &RunView) -> Value {
    newest(run, "security").unwrap_or_else(|| json!({}))
}

/// A part of the newest round's report that has it.
fn newest(run: &RunView, part: &str) -> Option<Value> {
    let mut parts = run.rounds.iter().rev().filter_map(|round| serde_json::to_value(round).ok());
    parts.find_map(|round| round.get(part).filter(|part| !part.is_null()).cloned())
}

/// When the run ended, or its newest event, or its start.
fn last_change(run: &RunView) -> String {
    let event = run.events.last().map(|event| event.time);
    run.run.finished.into_iter().chain(event).max().unwrap_or(run.run.created).to_string()
}
