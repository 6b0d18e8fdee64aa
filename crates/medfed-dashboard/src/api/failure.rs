//! How a request fails: a status, a sentence, and the key it is about.

use crate::control::Refusal;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use medfed_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// A failed request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Failure {
    /// Always false.
    pub(crate) success: bool,
    /// What went wrong, for people.
    pub(crate) message: String,
    /// The key of the configuration it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip)]
    #[schema(ignore)]
    status: StatusCode,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { success: false, message: message.into(), key: None, status }
    }

    pub(crate) fn about(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Something on this side: the details go to the log.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!("a request failed: {error}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "something went wrong here; the dashboard's log says what",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Running | Refusal::NotRunning | Refusal::NothingToResume => {
                Self::new(StatusCode::BAD_REQUEST, refusal.to_string())
            }
            Refusal::Ended { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.to_string()),
            Refusal::Unreachable => Self::new(StatusCode::CONFLICT, refusal.to_string()),
            Refusal::System { source, .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{refusal}: {source}"))
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}
