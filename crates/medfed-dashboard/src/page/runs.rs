//! `/runs`: every run of the results folder.

use super::{format, layout};
use crate::app::App;
use axum::extract::State;
use maud::{Markup, html};
use medfed_store::{Run, RunStatus};

/// The page.
pub(crate) async fn page(State(app): State<App>) -> Markup {
    let view = app.view();
    let content = html! {
        section #runs data-live {
            @if view.runs.is_empty() {
                div.empty { h2 { "No run yet" } p { "Runs that write to this folder appear here." } }
            } @else {
                form method="get" action="/technical" {
                    div.scroll.panel tabindex="0" role="group" aria-label="Runs" {
                        table {
                            caption { (view.runs.len()) @if view.runs.len() == 1 { " run" } @else { " runs, newest first" } }
                            thead {
                                tr {
                                    th scope="col" { "Run" } th scope="col" { "Name" } th scope="col" { "Started" }
                                    th scope="col" { "Status" } th.number scope="col" { "Rounds" } th scope="col" { "Model" }
                                    th.number scope="col" { "ε" } th.number scope="col" { "Test AUC" }
                                    th scope="col" { "Look at" } th scope="col" { "Compare" }
                                }
                            }
                            tbody { @for run in view.runs.iter().rev() { (row(run)) } }
                        }
                    }
                    div.buttons { button type="submit" { "Compare the chosen two" } }
                }
            }
        }
    };
    layout::page(&app, "/runs", "Runs", None, &content)
}

fn row(run: &Run) -> Markup {
    let config = run.config.get("config").unwrap_or(&run.config);
    let summary = |key: &str| run.summary.as_ref().and_then(|summary| summary[key].as_f64());
    let private = config["privacy"]["enabled"].as_bool().unwrap_or(true);
    html! {
        tr {
            th scope="row" { a href={ "/?run=" (run.id) } { code { (run.id) } } }
            td { (run.name) }
            td { time datetime=(run.created) { (format::moment(run.created)) } }
            td { (status(run.status)) }
            td.number { (run.rounds) }
            td { (config["model"]["name"].as_str().unwrap_or("–")) }
            td.number { @if private { (format::epsilon(summary("final_epsilon"))) } @else { "no privacy" } }
            td.number { (format::share(summary("test_auc"))) }
            td {
                a href={ "/clinical?run=" (run.id) } { "Clinical" } " "
                a href={ "/privacy?run=" (run.id) } { "Privacy" } " "
                a href={ "/fairness?run=" (run.id) } { "Fairness" }
            }
            td {
                label { input type="radio" name="run" value=(run.id); " A" }
                label { input type="radio" name="compare" value=(run.id); " B" }
            }
        }
    }
}

/// A status with a mark, for those who do not see colours.
pub(super) fn status(status: RunStatus) -> Markup {
    let (class, mark) = match status {
        RunStatus::Completed => ("good", "✓"),
        RunStatus::Running => ("soft", "…"),
        RunStatus::Interrupted | RunStatus::BudgetExhausted => ("warn", "!"),
        RunStatus::Failed => ("bad", "✗"),
    };
    html! { span class=(class) { (mark) " " (status.to_string().replace('_', " ")) } }
}
