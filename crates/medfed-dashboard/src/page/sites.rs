//! `/sites`: each hospital: its data, its part in the rounds, its budget, what happened to it.

use super::{Selection, format, layout};
use crate::app::App;
use crate::view::RunView;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use medfed_federation::report::{SiteRound, SiteStatus};
use medfed_types::SiteId;
use std::collections::BTreeMap;

/// The page.
pub(crate) async fn page(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    let run = selection.find(&app).await?;
    let content = html! {
        div #sites data-live {
            @match run.as_deref().filter(|run| !run.rounds.is_empty()) {
                None => div.empty { h2 { "No hospital has trained yet" } p { "Hospitals appear here with the first round." } },
                Some(run) => (sites(run)),
            }
        }
    };
    Ok(layout::page(&app, "/sites", "Hospitals", run.as_deref(), &content))
}

/// What the rounds say about one hospital.
#[derive(Default)]
struct Site<'a> {
    trained: usize,
    failed: usize,
    excluded: usize,
    last: Option<&'a SiteRound>,
    /// Its newest measured values: a round may have none.
    auc: Option<f64>,
    accuracy: Option<f64>,
    epsilon: Option<f64>,
}

fn sites(run: &RunView) -> Markup {
    let mut sites: BTreeMap<&SiteId, Site<'_>> = BTreeMap::new();
    for round in &run.rounds {
        for hospital in &round.hospitals {
            let site = sites.entry(&hospital.hospital).or_default();
            match hospital.status {
                SiteStatus::Trained => site.trained += 1,
                SiteStatus::Failed | SiteStatus::Absent => site.failed += 1,
                _ => {}
            }
            site.excluded += usize::from(round.security.excluded_clients.contains(&hospital.hospital));
            site.auc = hospital.auc.or(site.auc);
            site.accuracy = hospital.accuracy.or(site.accuracy);
            site.epsilon = hospital.privacy.map(|privacy| privacy.spent.epsilon_total).or(site.epsilon);
            site.last = Some(hospital);
        }
    }
    let budget = run.budget();
    html! {
        p.lead {
            (sites.len()) " hospitals, " (run.rounds.len()) " rounds. "
            @let troubled = sites.values().filter(|site| site.failed + site.excluded > 0).count();
            @if troubled == 0 { span.good { "✓ No incident at any of them." } }
            @else { span.warn { "! Incidents at " (troubled) " of them." } }
        }
        div.scroll.panel tabindex="0" role="group" aria-label="Hospitals" {
            table {
                caption { "Each hospital's part in the run. Counts and measurements are exact: ε does not cover them." }
                thead {
                    tr {
                        th scope="col" { "Hospital" } th.number scope="col" { "Training images" }
                        th.number scope="col" { "Validation images" } th.number scope="col" { "Rounds trained" }
                        th.number scope="col" { "AUC" } th.number scope="col" { "Accuracy" }
                        th.number scope="col" { "ε spent" } th scope="col" { "Budget" } th scope="col" { "State" }
                    }
                }
                tbody {
                    @for (name, site) in &sites {
                        tr {
                            th scope="row" { (name) }
                            td.number { (format::count(site.last.and_then(|last| last.train_images))) }
                            td.number { (format::count(site.last.and_then(|last| last.validation_images))) }
                            td.number { (site.trained) }
                            td.number { (format::share(site.auc)) }
                            td.number { (format::share(site.accuracy)) }
                            td.number { (format::epsilon(site.epsilon)) }
                            td {
                                @match (budget, site.epsilon) {
                                    (Some(budget), Some(spent)) => {
                                        progress max=(budget) value=(spent.min(budget)) aria-label={ "Budget of " (name) " spent" } {}
                                    }
                                    _ => span.soft { "no privacy" },
                                }
                            }
                            td { (now(site, run.summary.is_some())) }
                        }
                    }
                }
            }
        }
    }
}

/// How a hospital stands, with a mark for those who do not see colours.
fn now(site: &Site<'_>, finished: bool) -> Markup {
    let (class, text) = match site.last.map(|last| last.status) {
        Some(SiteStatus::BudgetExhausted) => ("warn", "! budget spent, has left"),
        Some(SiteStatus::Failed) => ("bad", "✗ its update could not be used"),
        Some(SiteStatus::Absent) => ("warn", "! gave no answer in the last round"),
        Some(SiteStatus::Excluded) => ("bad", "✗ left out of the last round"),
        Some(SiteStatus::NotSelected) => ("soft", "– not drawn in the last round"),
        Some(SiteStatus::Trained) if site.excluded > 0 => ("warn", "! excluded before"),
        Some(SiteStatus::Trained) if finished => ("good", "✓ took part to the end"),
        Some(SiteStatus::Trained) => ("good", "✓ takes part"),
        None => ("soft", "–"),
    };
    html! { span class=(class) { (text) } }
}
