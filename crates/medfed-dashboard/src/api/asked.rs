//! What a request asks for, with mistakes answered in the API's own shape.

use super::failure::Failure;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// The query of a request; a value that does not fit is a 400.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = Query::try_from_uri(&parts.uri);
        let refused =
            |text: String| Failure::new(StatusCode::BAD_REQUEST, format!("{text}; /docs says what fits"));
        query.map(|Query(asked)| Self(asked)).map_err(|rejection| refused(rejection.body_text()))
    }
}

/// The variable part of a path; one that is no text leads nowhere.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let named = Path::<String>::from_request_parts(parts, state).await;
        let nowhere = || Failure::new(StatusCode::NOT_FOUND, "there is no such path; /docs lists them");
        named.map(|Path(name)| Self(name)).map_err(|_| nowhere())
    }
}
