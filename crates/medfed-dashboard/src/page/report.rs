//! `/clinical`, `/privacy`, `/fairness`: sections of the report, live; and the report to take along.

use super::{Selection, error, layout, section};
use crate::app::App;
use crate::view::RunView;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
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
    page(app, selection, "/privacy", "Privacy", &[("privacy", Part::Privacy)], |_| html! {}).await
}

/// The page of fairness between hospitals and groups of patients.
pub(crate) async fn fairness(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    page(app, selection, "/fairness", "Fairness", &[("fairness", Part::Fairness)], |_| html! {}).await
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
        @for (id, part) in parts {
            @let shown = record.section(*part);
            @if parts.len() == 1 {
                div id=(id) data-live { (section::blocks(id, &shown)) }
            } @else {
                (section::section(id, &shown))
            }
        }
    };
    Ok(layout::page(&app, path, title, Some(&run), &content))
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
