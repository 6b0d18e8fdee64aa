//! `/training`: start, pause, stop; progress and log; every parameter of the next run.

mod form;

use super::layout;
use crate::api;
use crate::app::App;
use crate::control::{Status, TrainingState};
use crate::security::visitor::Visitor;
use crate::source::Live;
use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use medfed_config::{Config, Note};

/// Lines of the log that are shown.
const LOG_LINES: usize = 80;

/// The page.
pub(crate) async fn page(State(app): State<App>, visitor: Visitor) -> Result<Markup, Response> {
    let reading = app.clone();
    let read = tokio::task::spawn_blocking(move || {
        (api::config::file(&reading.config), api::training::log_lines(&reading, LOG_LINES))
    });
    let (file, log) = read.await.map_err(|error| super::error::broken(&app, &error))?;
    let state = app.training();
    let content = html! {
        (controls(&state, visitor.may_operate()))
        (progress(&state, app.source.live().as_deref()))
        section.panel #log data-live aria-label="Log" {
            h2 { "Log" }
            @if log.is_empty() {
                p.soft { "No run has written a log yet." }
            } @else {
                div.log tabindex="0" role="log" { @for line in &log { (line) "\n" } }
            }
        }
        (parameters(&app, file, visitor.may_operate()))
    };
    Ok(layout::page(&app, "/training", "Training", None, &content))
}

/// Who may not operate sees the controls, and why they do nothing.
fn controls(state: &TrainingState, operates: bool) -> Markup {
    let busy = state.is_running;
    let stopping = matches!(state.status, Status::Pausing | Status::Stopping);
    let resumable = state.resumable;
    let button = |action: &str, name: &str, enabled: bool, primary: bool, confirm: Option<&str>| {
        html! {
            button #{ "button-" (action) } type="button" data-post={ "/api/training/" (action) } data-answer="answer"
                data-confirm=[confirm] disabled[!enabled || !operates] .primary[primary && enabled && operates] { (name) }
        }
    };
    html! {
        section.panel #controls data-live aria-label="Controls" {
            div.buttons {
                (button("start", "Start", !busy, !resumable, None))
                (button("pause", "Pause", busy && !stopping, false, None))
                (button("resume", "Resume", resumable, true, None))
                (button("stop", "Stop", busy && state.status != Status::Stopping, false,
                    Some("Stop after the current step? Everything done is kept, and the run can be resumed.")))
                (button("reset", "Reset", !busy, false, None))
                button #button-clear type="button" data-post="/api/training/reset" data-answer="answer"
                    data-body=r#"{"clear_results":true}"# disabled[busy || !operates]
                    data-confirm="Move all results aside and begin with an empty folder? Nothing is deleted." {
                    "Put results aside"
                }
            }
            @if !operates {
                p #no-control { strong { "You can watch. " } "To start, pause or stop training and to change parameters, log in as a user with the role operator." }
            }
            p.note { "Start takes the parameters below as they were saved. Pause and stop finish the step and save: nothing is lost, and no privacy is spent twice." }
            @if let Some(error) = &state.error {
                div.notice.bad role="alert" { h2 { "Training failed" } pre { (error) } }
            }
        }
        p #answer .notice hidden {}
    }
}

fn progress(state: &TrainingState, live: Option<&Live>) -> Markup {
    let rounds = f64::from(state.total_rounds.max(1));
    let done = f64::from(state.current_round.saturating_sub(u32::from(live.is_some())));
    html! {
        section.panel #progress data-live aria-label="Progress" {
            h2 { "Progress" }
            p { (state.message) }
            label for="rounds-done" { "Run" }
            progress #rounds-done max=(rounds) value=(done) { (done) " of " (rounds) " rounds" }
            @if let Some(live) = live {
                label for="round-done" { "Round " (live.round) }
                progress #round-done data-round max="1" value=(live.fraction()) {}
                @if live.hospitals.len() <= 50 {
                    div.fields {
                        @for (hospital, steps) in &live.hospitals {
                            div {
                                label for={ "steps-" (hospital) } { (hospital) }
                                progress #{ "steps-" (hospital) } data-hospital=(hospital)
                                    max=(steps.of.max(1)) value=(steps.done) {}
                            }
                        }
                    }
                }
            }
        }
    }
}

fn parameters(app: &App, file: Result<(String, String), api::failure::Failure>, operates: bool) -> Markup {
    let config = file.and_then(|(text, name)| {
        let config = Config::from_yaml(&text, &name, &[]).map_err(|errors| api::config::refused(&errors))?;
        Ok((config, name))
    });
    let (config, name) = match config {
        Ok(read) => read,
        Err(failure) => {
            return html! {
                section aria-label="Parameters" {
                    h2 { "Parameters" }
                    div.notice.bad { p { "The configuration file has a mistake; training cannot start." } pre { (failure.message) } }
                }
            };
        }
    };
    html! {
        section aria-label="Parameters" {
            h2 { "Parameters of the next run" }
            p.note { "From " code { (name) } ". Saving writes " code { (app.config.display().to_string()) } ", with its comments where that is possible." }
            (notes(&config.notes()))
            @for missing in config.unavailable() {
                p.notice.warn { code { (missing.key) } ": " (missing.reason) }
            }
            (form::form(&Config::schema(), &config.to_json(), operates))
        }
    }
}

fn notes(notes: &[Note]) -> Markup {
    html! {
        @for note in notes {
            p.notice { code { (note.key) } ": " (note.text) }
        }
    }
}
