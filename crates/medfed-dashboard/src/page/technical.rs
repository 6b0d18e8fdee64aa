//! `/technical`: everything that was measured, round by round and hospital by hospital; comparison of runs.

use super::answer::{Tone, answer};
use super::figure::figure;
use super::{Selection, error, format, layout, report, section};
use crate::api::training::log_lines;
use crate::app::App;
use crate::view::RunView;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use medfed_chart::{Axis, LineChart, Series, Width};
use medfed_federation::report::{RoundReport, RoundStatus, SiteRound, SiteStatus, Traffic};
use medfed_report::Part;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Hospitals that get a line each; of more only the mean is drawn.
const MOST_LINES: usize = 12;
/// Points of a chart beyond which only the mean is drawn, too: the page stays small.
const MOST_POINTS: usize = 600;
/// Lines of the log that are shown.
const LOG_LINES: usize = 60;

/// The run that the other is compared with.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Comparison {
    compare: Option<String>,
    /// `log` for logarithmic axes.
    scale: Option<String>,
}

/// The page.
pub(crate) async fn page(
    State(app): State<App>,
    Query(selection): Query<Selection>,
    Query(comparison): Query<Comparison>,
) -> Result<Markup, Response> {
    let Some(run) = selection.find(&app).await? else {
        let content = html! {
            section.empty #empty data-live { h2 { "No run yet" } p { "Measurements appear here with the first round." } }
        };
        return Ok(layout::page(&app, "/technical", "Technical", None, &content));
    };
    let log_axes = comparison.scale.as_deref() == Some("log");
    let other = match comparison.compare.filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => Selection::of(id).find(&app).await?,
    };
    let record = report::record(&app, &run.run.id).await.map_err(|failure| error::broken(&app, &failure))?;
    let logging = app.clone();
    let log = tokio::task::spawn_blocking(move || log_lines(&logging, LOG_LINES)).await.unwrap_or_default();
    let is_latest = app.view().latest().is_some_and(|latest| latest.run.id == run.run.id);
    let content = html! {
        (head(&run))
        @if let Some(other) = &other { (compared(&run, other)) }
        section #course data-live aria-labelledby="course-title" {
            h2 #course-title { "Course of the run" }
            @if run.rounds.is_empty() { p.soft { "No round is done yet." } }
            p.no-print {
                @let link = |scale: &str| format!("/technical?run={}&scale={scale}", run.run.id);
                @if log_axes { a href=(link("linear")) { "Linear axes" } } @else { a href=(link("log")) { "Logarithmic axes" } }
                " · " a href={ "/technical/rounds?run=" (run.run.id) } { "All rounds and the configuration as tables" }
                " · " a href="/runs" { "Compare with another run" }
            }
            div.columns { (course(&run, log_axes)) }
        }
        section #evaluation data-load={ "/technical/evaluation?run=" (run.run.id) } aria-label="Evaluation" {
            p { a href={ "/technical/evaluation?run=" (run.run.id) } { "Evaluation on the test set and at the hospitals" } }
        }
        (section::section("security", &record.section(Part::Security)))
        @if is_latest {
            section.panel #log data-live aria-label="Log" {
                h2 { "Log" }
                @if log.is_empty() { p.soft { "No log has been written yet." } }
                @else { div.log tabindex="0" role="log" { @for line in &log { (line) "\n" } } }
            }
        }
    };
    Ok(layout::page(&app, "/technical", "Technical", Some(&run), &content))
}

/// `/technical/evaluation`: the test set and the hospitals' images. The technical page loads it afterwards,
/// so that neither grows large.
pub(crate) async fn evaluation(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    let Some(run) = selection.find(&app).await? else { return Err(error::unknown_run(&app)) };
    let record = report::record(&app, &run.run.id).await.map_err(|failure| error::broken(&app, &failure))?;
    let content = html! {
        p.no-print { a href={ "/technical?run=" (run.run.id) } { "Back to the course of the run" } }
        div #loaded data-live { (section::section("performance", &record.section(Part::Performance))) }
    };
    Ok(layout::page(&app, "/technical", "Evaluation", Some(&run), &content))
}

/// `/technical/rounds`: every round in a row, and the configuration.
pub(crate) async fn rounds(
    State(app): State<App>,
    Query(selection): Query<Selection>,
) -> Result<Markup, Response> {
    let Some(run) = selection.find(&app).await? else { return Err(error::unknown_run(&app)) };
    let record = report::record(&app, &run.run.id).await.map_err(|failure| error::broken(&app, &failure))?;
    let content = html! {
        p.no-print { a href={ "/technical?run=" (run.run.id) } { "Back to the charts" } }
        div #appendix data-live { (section::blocks("appendix", &record.section(Part::Appendix), section::Depth::Page)) }
    };
    Ok(layout::page(&app, "/technical", "Rounds and configuration", Some(&run), &content))
}

/// How the run did, in a sentence.
fn head(run: &RunView) -> Markup {
    let aborted = run.rounds.iter().filter(|round| round.status == RoundStatus::Aborted).count();
    let troubled = run.rounds.iter().filter(|round| {
        !round.security.excluded_clients.is_empty()
            || round.hospitals.iter().any(|site| site.status == SiteStatus::Failed)
    });
    let best = run.rounds.iter().filter_map(|round| round.auc).reduce(f64::max);
    let measured = format!("best AUC at the hospitals {}", format::share(best));
    match (run.rounds.len(), aborted, troubled.count()) {
        (0, ..) => answer(Tone::Open, "No round is done yet."),
        (done, 0, 0) => answer(Tone::Good, &format!("All {done} rounds used every update; {measured}.")),
        (done, 0, troubled) => answer(
            Tone::Caution,
            &format!("In {troubled} of {done} rounds an update failed or was left out; {measured}."),
        ),
        (done, aborted, _) => {
            answer(Tone::Bad, &format!("{aborted} of {done} rounds were aborted; {measured}."))
        }
    }
}

/// A line for each hospital, or the mean where there are too many.
fn course(run: &RunView, log_axes: bool) -> Markup {
    let hospitals: BTreeSet<&str> =
        run.rounds.iter().flat_map(|round| &round.hospitals).map(|site| site.hospital.as_str()).collect();
    let per_site = |value: fn(&SiteRound) -> Option<f64>,
                    mean: fn(&RoundReport) -> Option<f64>|
     -> Vec<Series> {
        if hospitals.len() > MOST_LINES || hospitals.len() * run.rounds.len() > MOST_POINTS {
            return vec![Series::new("all hospitals", points(run, mean))];
        }
        hospitals
            .iter()
            .map(|hospital| {
                Series::new(
                    *hospital,
                    run.rounds.iter().map(|round| {
                        let site = round.hospitals.iter().find(|site| site.hospital.as_str() == *hospital);
                        (f64::from(round.round_num), site.and_then(value))
                    }),
                )
            })
            .collect()
    };
    let chart = |id: &str, title: &str, axis: Axis, series: Vec<Series>| {
        let x = Axis::new("round").whole();
        figure(
            id,
            &LineChart { title: title.to_owned(), x, y: axis, series, thresholds: Vec::new() }
                .draw(Width::HALF),
        )
    };
    let share = |title: &str| Axis::new(title).range(0.0, 1.0);
    let open = |title: &str| if log_axes { Axis::new(title).log() } else { Axis::new(title) };
    let largest_norm =
        |round: &RoundReport| round.hospitals.iter().filter_map(|site| site.update_norm).reduce(f64::max);
    html! {
        (chart("train-loss", "Training loss by hospital", open("mean log loss"),
            per_site(|site| site.train_loss, |round| round.train_loss)))
        (chart("val-loss", "Validation loss by hospital", open("mean log loss"),
            per_site(|site| site.val_loss, |round| round.val_loss)))
        (chart("auc", "AUC by hospital", share("validation images"), per_site(|site| site.auc, |round| round.auc)))
        (chart("accuracy", "Accuracy by hospital", share("validation images"),
            per_site(|site| site.accuracy, |round| round.accuracy)))
        (chart("test", "On the common test set", share("test images"), vec![
            Series::new("AUC", points(run, |round| round.test_auc)),
            Series::new("accuracy", points(run, |round| round.test_accuracy)),
        ]))
        (chart("noise", "Noise multiplier by hospital", open("standard deviation / clipping norm"),
            per_site(|site| site.privacy.map(|privacy| privacy.spent.noise_multiplier), |round| round.noise_multiplier)))
        (chart("norms", "Norm of the update by hospital", open("L2 norm"),
            per_site(|site| site.update_norm, largest_norm)))
        @if run.seconds().is_empty() {
            p.note { "The time of each round was not recorded in this run." }
        } @else {
            @let seconds = (1..).zip(run.seconds()).map(|(round, seconds)| (f64::from(round), Some(seconds)));
            (chart("seconds", "Time of each round", open("seconds"), vec![Series::new("whole round", seconds)]))
        }
        @if run.rounds.iter().any(|round| most_traffic(round).is_some()) {
            (chart("bytes", "Traffic of each round by hospital", open("kB sent and received for masked sums"),
                traffic(run, &hospitals)))
        } @else {
            p.note { "Bytes are counted where updates are masked, which they were not in this run." }
        }
    }
}

/// What the messages for masked sums took, in kilobytes: a line for each hospital, or the most of any.
fn traffic(run: &RunView, hospitals: &BTreeSet<&str>) -> Vec<Series> {
    if hospitals.len() > MOST_LINES || hospitals.len() * run.rounds.len() > MOST_POINTS {
        return vec![Series::new("most of any hospital", points(run, most_traffic))];
    }
    let of = |round: &RoundReport, hospital: &str| {
        let traffic = &round.security.masking.as_ref()?.traffic;
        traffic.iter().find(|(site, _)| site.as_str() == hospital).map(|(_, traffic)| kilobytes(traffic))
    };
    let line = |hospital: &&str| {
        let points = run.rounds.iter().map(|round| (f64::from(round.round_num), of(round, hospital)));
        Series::new(*hospital, points)
    };
    hospitals.iter().map(line).collect()
}

fn most_traffic(round: &RoundReport) -> Option<f64> {
    round.security.masking.as_ref()?.traffic.values().map(kilobytes).reduce(f64::max)
}

fn kilobytes(traffic: &Traffic) -> f64 {
    traffic.sent_bytes.saturating_add(traffic.received_bytes) as f64 / 1000.0
}

fn points(run: &RunView, value: fn(&RoundReport) -> Option<f64>) -> impl Iterator<Item = (f64, Option<f64>)> {
    run.rounds.iter().map(move |round| (f64::from(round.round_num), value(round)))
}

/// Two runs beside each other: curves, and the keys in which their configurations differ.
fn compared(run: &RunView, other: &RunView) -> Markup {
    let both = |id: &str, title: &str, axis: Axis, value: fn(&RoundReport) -> Option<f64>| {
        let series = [run, other].map(|run| Series::new(run.run.id.as_str(), points(run, value))).to_vec();
        let x = Axis::new("round").whole();
        figure(
            id,
            &LineChart { title: title.to_owned(), x, y: axis, series, thresholds: Vec::new() }
                .draw(Width::HALF),
        )
    };
    let mut differing = Vec::new();
    differences("", run.config(), other.config(), &mut differing);
    html! {
        section #comparison data-live aria-labelledby="comparison-title" {
            h2 #comparison-title { "Compared with " (other.run.id) }
            div.columns {
                (both("compare-auc", "AUC", Axis::new("validation images").range(0.0, 1.0), |round| round.auc))
                (both("compare-epsilon", "Privacy spent", Axis::new("largest ε at a hospital"), |round| round.epsilon_total))
            }
            div.scroll.panel {
                table {
                    caption { @if differing.is_empty() { "The configurations are the same" } @else { "Keys that differ" } }
                    thead { tr { th scope="col" { "Key" } th scope="col" { (run.run.id) } th scope="col" { (other.run.id) } } }
                    tbody {
                        @for (key, a, b) in &differing {
                            tr { th scope="row" { code { (key) } } td { (a) } td { (b) } }
                        }
                    }
                }
            }
        }
    }
}

/// Keys whose values differ, with both values.
fn differences(path: &str, a: &Value, b: &Value, out: &mut Vec<(String, String, String)>) {
    if let (Value::Object(left), Value::Object(right)) = (a, b) {
        let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let of = |side: &serde_json::Map<String, Value>| side.get(key).cloned().unwrap_or_default();
            differences(&path, &of(left), &of(right), out);
        }
    } else if a != b {
        out.push((path.to_owned(), a.to_string(), b.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differing_keys_are_listed_with_both_values() {
        let mut out = Vec::new();
        differences("", &json!({"a": {"b": 1, "c": 2}}), &json!({"a": {"b": 1, "d": "x"}}), &mut out);
        let shown = |key: &str, a: &str, b: &str| (key.to_owned(), a.to_owned(), b.to_owned());
        assert_eq!(out, [shown("a.c", "2", "null"), shown("a.d", "null", "\"x\"")]);
    }
}
