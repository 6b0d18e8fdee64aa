//! `/api/openapi.json`: this API, for programs that write clients.

use axum::Json;
use serde_json::Value;
use std::sync::LazyLock;

/// The description as JSON. It is made of the types: it can always be written.
static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(super::router().1).unwrap_or_default());

/// This description.
#[utoipa::path(get, path = "/api/openapi.json", tag = "operation", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn openapi() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

/// The description, for the page that shows it.
pub(crate) fn document() -> &'static Value {
    &DOCUMENT
}
