//! `/clinical`, `/privacy`, `/fairness`: sections of the report, live; and the report to take along.

use super::answer::{Tone, answer};
use super::figure::figure;
use super::{Selection, error, format, layout, section};
use crate::app::App;
use crate::view::RunView;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use medfed_chart::{Axis, LineChart, Series, Width};
use medfed_federation::report::RoundReport;
use medfed_report::{Part, ReportError, RunRecord};
use medfed_types::RunId;
use std::sync::Arc;

/// The page for leadership and clinicians.
pub(crate) async fn clinical(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    let parts = [("summary", Part::Summary), ("data", Part::Data), ("limits", Part::Limits)];
    page(app, selection, "/clinical", "Clinical summary", &parts, take_along).await
}

/// The page of the privacy budget and of what attacks found.
pub(crate) async fn privacy(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    page(app, selection, "/privacy", "Privacy", &[("privacy", Part::Privacy)], budget).await
}

/// The page of fairness between hospitals and groups of patients.
pub(crate) async fn fairness(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    page(app, selection, "/fairness", "Fairness", &[("fairness", Part::Fairness)], parity).await
}

async fn page(
    app: App,
    selection: Selection,
    path: &str,
    title: &str,
    parts: &[(&str, Part)],
    head: fn(&RunView) -> Markup,
) -> Result<Markup, Response> {
    let Some(run) = selection.find(&app).await? else {
        let content = html! {
            section.empty #empty data-live {
                h2 { "No run yet" }
                p { "This page fills with the first round of a run. Start one on the " a href="/training" { "training page" } "." }
            }
        };
        return Ok(layout::page(&app, path, title, None, &content));
    };
    let record = record(&app, &run.run.id).await.map_err(|failure| error::broken(&app, &failure))?;
    let content = html! {
        (head(&run))
        @if path == "/privacy" && !run.documents.contains_key(ATTACKED) { (how_to_attack(&app, &run)) }
        @for (id, part) in parts {
            @let shown = record.section(*part);
            @if parts.len() == 1 {
                div id=(id) data-live { (section::blocks(id, &shown, section::Depth::Page)) }
            } @else {
                (section::section(id, &shown))
            }
        }
        @if path == "/clinical" { (alone()) }
    };
    Ok(layout::page(&app, path, title, Some(&run), &content))
}

/// The document of attacks on the finished model.
const ATTACKED: &str = "mia_privacy_audit";

/// How attacks on the model are made, where none were.
fn how_to_attack(app: &App, run: &RunView) -> Markup {
    // The folder's best model is that of its newest run.
    let newest = app.view().latest().is_some_and(|latest| latest.run.id == run.run.id);
    let model = app.source.dir().join("best_model.safetensors");
    html! {
        div #attacks.notice data-live {
            p { "No attack was tried on the model of this run." @if newest { " Once the run has ended, this tries some and measures privacy from outside:" } }
            @if newest { pre tabindex="0" { code { "medfed privacy-audit --model " (model.display()) } } }
        }
    }
}

/// What a run cannot say of itself: how a hospital would do without the others.
fn alone() -> Markup {
    html! {
        section #alone aria-labelledby="alone-title" {
            h2 #alone-title { "Gain over training alone" }
            p { "Not measured: a run trains the common model only. To measure it for a hospital, train on its images alone and compare both models on the same test images." }
            pre tabindex="0" { code {
                "medfed simulate --data HOSPITAL_IMAGES --set federated.num_clients=1 --out alone\n"
                "medfed evaluate --model alone/best_model.safetensors --data TEST_IMAGES\n"
                "medfed evaluate --model results/best_model.safetensors --data TEST_IMAGES"
            } }
        }
    }
}

/// Whether every hospital is within its budget.
fn budget(run: &RunView) -> Markup {
    let spent = run.rounds.iter().rev().find_map(|round| round.epsilon_total);
    match (run.budget(), spent) {
        (None, _) => answer(
            Tone::Bad,
            "No privacy in this run: the model may give training images away. Switch privacy.enabled on.",
        ),
        (Some(budget), None) => answer(
            Tone::Open,
            &format!("Nothing is spent yet of the budget of ε = {budget} at each hospital."),
        ),
        (Some(budget), Some(spent)) => {
            let text = format!(
                "The hospital that spent most has spent ε {} of {budget}.",
                format::epsilon(Some(spent))
            );
            // The ledger never pays beyond the budget.
            answer(
                if spent <= budget { Tone::Good } else { Tone::Bad },
                &format!(
                    "{} {text}",
                    if spent <= budget { "Within the budget." } else { "Beyond the budget." }
                ),
            )
        }
    }
}

/// Whether a threshold is passed, and how that went over the rounds.
fn parity(run: &RunView) -> Markup {
    let measured: Vec<_> = run
        .rounds
        .iter()
        .filter_map(|round| Some((round.round_num, &round.fairness.as_ref()?.measured)))
        .collect();
    let Some((_, last)) = measured.last() else {
        return html! {
            (answer(Tone::Open, "Fairness was not measured in the rounds of this run."))
            p { "To measure it, switch " code { "fairness.enabled" } " on, on the " a href="/training" { "training page" } "." }
        };
    };
    let violations = last.violations.len();
    let (tone, text) = match violations {
        0 => (Tone::Good, "Every fairness threshold is met in the newest measured round.".to_owned()),
        1 => (Tone::Caution, "One fairness threshold is not met in the newest measured round.".to_owned()),
        more => {
            (Tone::Caution, format!("{more} fairness thresholds are not met in the newest measured round."))
        }
    };
    let chart = |title: &str, y: Axis, name: &str, value: fn(&RoundReport) -> Option<f64>| {
        let points = run.rounds.iter().map(|round| (f64::from(round.round_num), value(round)));
        LineChart {
            title: title.to_owned(),
            x: Axis::new("round").whole(),
            y,
            series: vec![Series::new(name, points)],
            thresholds: Vec::new(),
        }
        .draw(Width::HALF)
    };
    let passed = |round: &RoundReport| Some(round.fairness.as_ref()?.measured.violations.len() as f64);
    let most = run.rounds.iter().filter_map(passed).fold(1.0, f64::max);
    let score = |round: &RoundReport| round.fairness.as_ref()?.measured.fairness_score;
    html! {
        (answer(tone, &text))
        section #fairness-course.columns data-live aria-label="Over the rounds" {
            (figure("violations", &chart("Fairness thresholds not met in each round", Axis::new("thresholds").whole().range(0.0, most), "violations", passed)))
            (figure("score", &chart("Fairness score (0.5 is the threshold, 1 equality)", Axis::new("score").range(0.0, 1.0), "score", score)))
        }
    }
}

/// Ways to print and to take the report along.
fn take_along(run: &RunView) -> Markup {
    let id = &run.run.id;
    html! {
        p.buttons.no-print {
            button type="button" data-print data-script hidden { "Print" }
            a.button href={ "/runs/" (id) "/report.pdf" } { "Report as PDF" } " "
            a.button href={ "/runs/" (id) "/report.html" } { "Report as HTML" } " "
            a.button href={ "/runs/" (id) "/model-card.md" } { "Model card" }
        }
    }
}

/// The report as a file.
pub(crate) async fn file(
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, Response> {
    let id = RunId::try_from(id.as_str()).map_err(|_| error::unknown_run(&app))?;
    let record = match record(&app, &id).await {
        Ok(record) => record,
        Err(ReportError::Store(medfed_store::StoreError::UnknownRun { .. })) => {
            return Err(error::unknown_run(&app));
        }
        Err(failure) => return Err(error::broken(&app, &failure)),
    };
    let (kind, bytes) = match name.as_str() {
        // A page that needs nothing else brings its style along, which the policy of our own pages forbids.
        "report.html" => ("text/html; charset=utf-8", record.report().html().into_bytes()),
        "model-card.md" => ("text/markdown; charset=utf-8", record.model_card().into_bytes()),
        "report.pdf" => {
            let made = tokio::task::spawn_blocking(move || record.report().pdf()).await;
            let made = made.map_err(|failure| error::broken(&app, &failure))?;
            ("application/pdf", made.map_err(|failure| error::broken(&app, &failure))?)
        }
        _ => {
            return Ok(
                error::not_found(State(app), axum::extract::OriginalUri(axum::http::Uri::default())).await
            );
        }
    };
    let disposition = format!("attachment; filename=\"{id}-{name}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((StatusCode::OK, headers, bytes).into_response())
}

/// Everything the store knows about a run, from memory unless it has changed.
pub(crate) async fn record(app: &App, id: &RunId) -> Result<Arc<RunRecord>, ReportError> {
    let (app, id) = (app.clone(), id.clone());
    let read = tokio::task::spawn_blocking(move || app.source.record(&id)).await;
    // The task is not aborted; a panic goes where panics of handlers go.
    read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
