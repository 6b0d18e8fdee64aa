//! The style sheet, the script and the icon.

use crate::app::App;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::LazyLock;

const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/app.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// Their paths. The version in a query makes browsers load them again after an update.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/assets/style.css", get(|| async { file("text/css; charset=utf-8", style()) }))
        .route("/assets/app.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/assets/icon.svg", get(|| async { file("image/svg+xml", ICON) }))
        .route("/favicon.ico", get(|| async { file("image/svg+xml", ICON) }))
}

/// Ours, and that of the charts.
fn style() -> &'static str {
    static WHOLE: LazyLock<String> = LazyLock::new(|| format!("{STYLE}{}", medfed_chart::stylesheet()));
    &WHOLE
}

fn file(kind: &'static str, content: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=3600")], content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_script_stays_small() {
        assert!(SCRIPT.len() <= 20_000, "{} bytes", SCRIPT.len());
    }
}
