//! `/`: where training stands, how good the model is, how much privacy is left, whether anything is wrong.

use super::figure::figure;
use super::{Selection, format, layout};
use crate::api::data::ChartData;
use crate::app::App;
use crate::control::TrainingState;
use crate::view::RunView;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use medfed_chart::{Axis, Gauge, LineChart, Series, Threshold, Width};
use medfed_federation::report::RunStatus;

/// The page.
pub(crate) async fn page(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    let run = selection.find(&app).await?;
    let state = app.training();
    let content = match &run {
        None => empty(&state),
        Some(run) => content(&app, run, &state),
    };
    Ok(layout::page(&app, "/", "Overview", run.as_deref(), &content))
}

fn empty(state: &TrainingState) -> Markup {
    html! {
        section.empty #empty data-live {
            @if state.is_running {
                h2 { "A run is starting" }
                p { (state.message) }
            } @else {
                h2 { "No run yet" }
                p { "Start one on the " a href="/training" { "training page" } ", or from the command line:" }
                pre { code { "medfed demo" } }
            }
            @if let Some(error) = &state.error { div.notice.bad role="alert" { pre { (error) } } }
        }
    }
}

fn content(app: &App, run: &RunView, state: &TrainingState) -> Markup {
    let is_latest = app.view().latest().is_some_and(|latest| latest.run.id == run.run.id);
    html! {
        (verdict(run, is_latest.then_some(state)))
        @if is_latest && state.is_running { (progress(app, state)) }
        (metrics(run))
        section #charts.columns data-live aria-label="Course of the run" { (charts(run)) }
    }
}

/// Is it all right? In a sentence or two.
fn verdict(run: &RunView, state: Option<&TrainingState>) -> Markup {
    let incidents: usize = run.rounds.iter().map(|round| round.security.excluded_clients.len()).sum();
    let anomalies: usize = run.rounds.iter().map(|round| round.security.anomalies.len()).sum();
    let unfair = run.rounds.iter().rev().find_map(|round| round.fairness.as_ref());
    let unfair = unfair.map(|fairness| fairness.measured.violations.len());
    let (class, mark, text) = match (state, run.summary.as_ref().map(|summary| summary.status)) {
        (Some(state), _) if state.error.is_some() => ("bad", "✗", "The last start failed.".to_owned()),
        (Some(state), _) if state.is_running => ("soft", "…", state.message.clone() + "."),
        (_, Some(RunStatus::Completed)) => ("good", "✓", "The run completed every planned round.".to_owned()),
        (_, Some(RunStatus::BudgetExhausted)) => {
            ("warn", "!", "The privacy budget ended the run before its last round.".to_owned())
        }
        (_, Some(RunStatus::Interrupted) | None) => {
            ("warn", "!", "The run was interrupted and can be resumed.".to_owned())
        }
        (_, Some(RunStatus::Aborted)) => {
            ("bad", "✗", "The run was aborted; the last good model is kept.".to_owned())
        }
        (_, Some(RunStatus::Halted)) => {
            ("bad", "✗", "The run was halted because the model was unfair.".to_owned())
        }
    };
    html! {
        section #verdict.panel data-live aria-label="State" {
            p.verdict.lead { span.mark.(class) aria-hidden="true" { (mark) } (text) }
            @match run.budget() {
                Some(_) => p.verdict { span.mark.good aria-hidden="true" { "✓" } "Differential privacy is on." },
                None => p.verdict { span.mark.bad aria-hidden="true" { "✗" } "No privacy: the model may give training images away." },
            }
            @if incidents + anomalies == 0 && run.rounds.iter().any(|round| round.security.masking.as_ref().is_some_and(|masking| masking.selection.is_some())) {
                p.verdict { span.mark.good aria-hidden="true" { "✓" } "Updates were masked: distances between them and the sum of the selected were opened, no single update was looked at." }
            } @else if incidents + anomalies == 0 && run.rounds.iter().any(|round| round.security.masking.is_some()) {
                p.verdict { span.mark.good aria-hidden="true" { "✓" } "Updates were masked: sums were opened, no single update was looked at." }
            } @else if incidents + anomalies == 0 {
                p.verdict { span.mark.good aria-hidden="true" { "✓" } "No hospital's update was out of line." }
            } @else {
                p.verdict { span.mark.warn aria-hidden="true" { "!" }
                    (counted(incidents, "update was", "updates were")) " left out, and there "
                    @if anomalies == 1 { "is " } @else { "are " } (counted(anomalies, "finding", "findings")) "; "
                    a href={ "/technical?run=" (run.run.id) "#security" } { "details" } }
            }
            @match unfair {
                None => {}
                Some(0) => p.verdict { span.mark.good aria-hidden="true" { "✓" } "Every fairness threshold is met." },
                Some(violations) => p.verdict { span.mark.warn aria-hidden="true" { "!" }
                    (counted(violations, "fairness threshold is", "fairness thresholds are")) " not met; "
                    a href={ "/fairness?run=" (run.run.id) } { "details" } },
            }
        }
    }
}

/// A number and what is counted.
fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn progress(app: &App, state: &TrainingState) -> Markup {
    let live = app.source.live();
    html! {
        section #round.panel data-live aria-label="Current round" {
            h2 { "Round " (state.current_round) " of " (state.total_rounds) }
            progress data-round max="1" value=(state.live_metrics.round_progress) aria-label="Steps of this round" {}
            @if let Some(live) = live.filter(|live| live.hospitals.len() <= 50) {
                div.fields {
                    @for (hospital, steps) in &live.hospitals {
                        div {
                            label for={ "steps-" (hospital) } { (hospital) }
                            progress #{ "steps-" (hospital) } data-hospital=(hospital) max=(steps.of.max(1)) value=(steps.done) {}
                        }
                    }
                }
            }
        }
    }
}

fn metrics(run: &RunView) -> Markup {
    let last = |value: fn(&medfed_federation::report::RoundReport) -> Option<f64>| {
        run.rounds.iter().rev().find_map(value)
    };
    let best = run.rounds.iter().filter_map(|round| round.auc).reduce(f64::max);
    html! {
        section #metrics.cards data-live aria-label="Newest measurements" {
            div.card { h2 { "AUC" } p.figure { (format::share(last(|round| round.auc))) }
                p.note { "mean over the hospitals' validation images; best " (format::share(best)) } }
            div.card { h2 { "Accuracy" } p.figure { (format::share(last(|round| round.accuracy))) }
                p.note { "of the same images" } }
            div.card { h2 { "Training loss" } p.figure { (format::number(last(|round| round.train_loss))) }
                p.note { "validation " (format::number(last(|round| round.val_loss))) } }
            div.card { h2 { "Privacy spent" }
                p.figure { "ε " (format::epsilon(last(|round| round.epsilon_total))) }
                @match run.budget() {
                    Some(budget) => p.note { "of " (budget) " for each hospital" },
                    None => p.note { "no privacy in this run" },
                }
            }
            div.card { h2 { "Hospitals" } p.figure { (run.rounds.last().map_or(0, |round| round.num_clients)) }
                p.note { "in the last round" } }
        }
    }
}

fn charts(run: &RunView) -> Markup {
    let data = ChartData::of(&run.rounds);
    let series = |name: &str, values: &[Option<f64>]| {
        Series::new(name, data.rounds.iter().map(|round| f64::from(*round)).zip(values.iter().copied()))
    };
    let rounds = || Axis::new("round").whole();
    let quality = LineChart {
        title: "How good the model is".to_owned(),
        x: rounds(),
        y: Axis::new("validation images").range(0.0, 1.0),
        series: vec![series("AUC", &data.auc), series("accuracy", &data.accuracy)],
        thresholds: Vec::new(),
    };
    let losses = LineChart {
        title: "Loss".to_owned(),
        x: rounds(),
        y: Axis::new("mean log loss"),
        series: vec![series("training", &data.train_loss), series("validation", &data.val_loss)],
        thresholds: Vec::new(),
    };
    let spent = run.rounds.last().into_iter().flat_map(|round| &round.hospitals);
    let spent: Vec<(String, Option<f64>)> = spent
        .filter_map(|site| Some((site.hospital.to_string(), Some(site.privacy?.spent.epsilon_total))))
        .collect();
    html! {
        (figure("quality", &quality.draw(Width::HALF)))
        (figure("loss", &losses.draw(Width::HALF)))
        @if let Some(budget) = run.budget() {
            @let orchestrator = &run.config()["orchestrator"];
            @let gauge = Gauge {
                title: "Privacy budget".to_owned(),
                quantity: "ε".to_owned(),
                budget,
                warning: orchestrator["budget_warning_threshold"].as_f64(),
                critical: orchestrator["budget_critical_threshold"].as_f64(),
                spent,
            };
            (figure("budget", &gauge.draw(Width::HALF)))
            @let course = LineChart {
                title: "Privacy spent over the rounds".to_owned(),
                x: rounds(),
                y: Axis::new("largest ε at a hospital").range(0.0, budget),
                series: vec![series("spent", &data.epsilon_total)],
                thresholds: vec![Threshold::new("budget", budget)],
            };
            (figure("epsilon", &course.draw(Width::HALF)))
        }
    }
}
