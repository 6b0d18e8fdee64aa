//! `/`: where training stands, how good the model is, and how much privacy is left.

use super::{Selection, format, layout};
use crate::app::App;
use crate::view::RunView;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};

/// The page.
pub(crate) async fn page(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    let run = selection.find(&app).await?;
    let content = match &run {
        None => empty(),
        Some(run) => content(run),
    };
    Ok(layout::page(&app, "/", "Overview", run.as_deref(), &content))
}

fn empty() -> Markup {
    html! {
        section.empty #empty data-live {
            h2 { "No run yet" }
            p { "Start one on the training page, or from the command line:" }
            pre { code { "medfed demo" } }
        }
    }
}

fn content(run: &RunView) -> Markup {
    let last = run.rounds.last();
    let best = run.rounds.iter().filter_map(|round| round.auc).reduce(f64::max);
    html! {
        section #metrics.cards data-live aria-label="Newest measurements" {
            div.card { h2 { "AUROC" } p.figure { (format::share(last.and_then(|round| round.auc))) }
                p.note { "mean over the hospitals' validation images, best " (format::share(best)) } }
            div.card { h2 { "Accuracy" } p.figure { (format::share(last.and_then(|round| round.accuracy))) } }
            div.card { h2 { "Training loss" } p.figure { (format::number(last.and_then(|round| round.train_loss))) } }
            div.card { h2 { "Privacy spent" }
                p.figure { "ε " (format::epsilon(last.and_then(|round| round.epsilon_total))) }
                @match run.budget() {
                    Some(budget) => p.note { "of " (budget) " for each hospital" },
                    None => p.note { "no privacy in this run" },
                }
            }
        }
    }
}
