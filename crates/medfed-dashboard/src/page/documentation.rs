//! `/docs`: the API as people read it; `/api/openapi.json` is the same for programs.

use super::layout;
use crate::api::document::document;
use crate::app::App;
use axum::extract::State;
use maud::{Markup, html};
use serde_json::Value;

/// The page.
pub(crate) async fn show(State(app): State<App>) -> Markup {
    page(&app, document())
}

fn page(app: &App, description: &Value) -> Markup {
    let paths = description["paths"].as_object();
    let operations = paths.into_iter().flatten().flat_map(|(path, methods)| {
        methods.as_object().into_iter().flatten().map(move |(method, operation)| (path, method, operation))
    });
    let content = html! {
        p.lead {
            "Everything that these pages show and do, programs can read and do. The whole description: "
            a href="/api/openapi.json" { "openapi.json" } "."
        }
        @for (path, method, operation) in operations {
            section.operation {
                h2 { span.method data-method=(method) { (method.to_uppercase()) } " " code { (path) } }
                p { (operation["summary"].as_str().unwrap_or_default()) }
                @if let Some(more) = operation["description"].as_str() { p { (more) } }
                @if let Some(parameters) = operation["parameters"].as_array() {
                    table {
                        caption { "Parameters" }
                        thead { tr { th scope="col" { "Name" } th scope="col" { "In" } th scope="col" { "Meaning" } } }
                        tbody {
                            @for parameter in parameters {
                                tr {
                                    td { code { (parameter["name"].as_str().unwrap_or_default()) } }
                                    td { (parameter["in"].as_str().unwrap_or_default()) }
                                    td { (parameter["description"].as_str().unwrap_or_default()) }
                                }
                            }
                        }
                    }
                }
                @if let Some(body) = operation["requestBody"]["description"].as_str() {
                    p { strong { "Body: " } (body) }
                }
                table {
                    caption { "Answers" }
                    thead { tr { th scope="col" { "Status" } th scope="col" { "Meaning" } } }
                    tbody {
                        @for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
                            tr { td { (status) } td { (answer["description"].as_str().unwrap_or_default()) } }
                        }
                    }
                }
            }
        }
    };
    layout::page(app, "/docs", "API", None, &content)
}
