//! What all pages share: head, navigation, the run they are about, and the state of training.

use super::format;
use crate::app::App;
use crate::control::{Status, TrainingState};
use crate::view::RunView;
use maud::{DOCTYPE, Markup, html};

/// The pages, as the navigation lists them.
const PAGES: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/clinical", "Clinical"),
    ("/technical", "Technical"),
    ("/privacy", "Privacy"),
    ("/fairness", "Fairness"),
    ("/training", "Training"),
    ("/sites", "Hospitals"),
    ("/runs", "Runs"),
    ("/audit", "Audit"),
    ("/docs", "API"),
];

/// A page in full. Parts that change while it is open have an id and the attribute `data-live`.
pub(crate) fn page(app: &App, path: &str, title: &str, run: Option<&RunView>, content: &Markup) -> Markup {
    let state = app.training();
    let version = env!("CARGO_PKG_VERSION");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – MedFedAgent" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href={ "/assets/style.css?" (version) };
                script src={ "/assets/app.js?" (version) } type="module" {}
            }
            body data-page=(path) {
                a.skip href="#content" { "Skip to content" }
                header.top {
                    a.brand href="/" { "MedFedAgent" }
                    nav aria-label="Pages" {
                        @for (target, name) in PAGES {
                            a href=(link(target, run, app)) aria-current=[(*target == path).then_some("page")] { (name) }
                        }
                    }
                    (badge(&state))
                }
                main #content tabindex="-1" {
                    h1 { (title) }
                    @if let Some(run) = run { (which(app, run)) }
                    div #problem data-live {
                        @if let Some(problem) = app.source.problem() {
                            div.notice.bad role="alert" { h2 { "The results folder cannot be read" } p { (problem) } }
                        }
                    }
                    (content)
                }
                footer {
                    p { "MedFedAgent " (version) ". Images never leave their hospital." }
                    @if app.has_users {
                        p { a href="/login" { "Account and logout" } }
                    }
                }
                div #announcer.visually-hidden role="status" aria-live="polite" {}
            }
        }
    }
}

/// Which run the page is about.
fn which(app: &App, run: &RunView) -> Markup {
    let newest = app.view().latest().is_some_and(|latest| latest.run.id == run.run.id);
    html! {
        p #which.note.which data-live {
            "Run " code { (run.run.id) } ", " (run.run.name) ", started " (format::moment(run.run.created))
            @if !newest { strong { ". This is an earlier run: " a href="/" { "go to the newest" } "." } }
        }
    }
}

/// The state of training in a word.
fn badge(state: &TrainingState) -> Markup {
    let kind = match state.status {
        Status::Running | Status::Starting => "busy",
        Status::Completed => "good",
        Status::Failed => "bad",
        Status::Pausing | Status::Paused | Status::Stopping | Status::Stopped | Status::BudgetExhausted => {
            "warn"
        }
        Status::Idle => "calm",
    };
    html! {
        p #state.badge data-live data-kind=(kind) title=(state.message) {
            span.dot aria-hidden="true" {}
            (state.message)
        }
    }
}

/// A link that stays with the run that is looked at, unless that is the newest.
fn link(target: &str, run: Option<&RunView>, app: &App) -> String {
    let view = app.view();
    match run.filter(|run| view.latest().is_some_and(|latest| latest.run.id != run.run.id)) {
        Some(run) => format!("{target}?run={}", run.run.id),
        None => target.to_owned(),
    }
}
