//! Pages for what went wrong.

use super::layout;
use crate::app::App;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use std::any::Any;

/// A path that leads nowhere; JSON below `/api/`.
pub(crate) async fn not_found(State(app): State<App>, OriginalUri(uri): OriginalUri) -> Response {
    if uri.path() == "/api" || uri.path().starts_with("/api/") {
        return crate::api::failure::Failure::new(
            StatusCode::NOT_FOUND,
            "there is no such path; /docs lists them",
        )
        .into_response();
    }
    let content = html! {
        p.lead { "There is no page at this address." }
        p { a href="/" { "Go to the overview" } }
    };
    (StatusCode::NOT_FOUND, layout::page(&app, "", "Page not found", None, &content)).into_response()
}

/// A run that is not in the results folder.
pub(crate) fn unknown_run(app: &App) -> Response {
    let content = html! {
        p.lead { "The results folder has no such run." }
        p { a href="/" { "Go to the newest run" } }
    };
    (StatusCode::NOT_FOUND, layout::page(app, "", "Run not found", None, &content)).into_response()
}

/// Something that cannot be read.
pub(crate) fn broken(app: &App, error: &dyn std::error::Error) -> Response {
    tracing::error!("a page failed: {error}");
    let content = html! {
        p.lead { "This page cannot be shown." }
        p { (error.to_string()) }
        p { "Restore the results folder from a backup, or start the dashboard with another folder." }
    };
    let page = layout::page(app, "", "Something went wrong", None, &content);
    (StatusCode::INTERNAL_SERVER_ERROR, page).into_response()
}

/// A fault of ours: it needs nothing that could fail again.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    let page = html! {
        (maud::DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Something went wrong – MedFedAgent" }
                link rel="stylesheet" href="/assets/style.css";
            }
            body {
                main #content {
                    h1 { "Something went wrong" }
                    p.lead { "This is a fault of the program, not yours. Training is not affected." }
                    p { a href="/" { "Go to the overview" } }
                }
            }
        }
    };
    (StatusCode::INTERNAL_SERVER_ERROR, page).into_response()
}
