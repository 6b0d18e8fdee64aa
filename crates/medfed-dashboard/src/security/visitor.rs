//! Who sent a request that was let in, and how long that holds.

use super::access::Access;
use super::sessions::SessionKey;
use super::users::Role;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::sync::Arc;

/// Who sent a request. Handlers take it as an argument.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    role: Role,
    session: Option<Session>,
}

/// A session, and who knows whether it goes on.
#[derive(Debug, Clone)]
struct Session {
    access: Arc<Access>,
    key: SessionKey,
}

impl Visitor {
    /// Anybody on this machine, where nobody has to log in.
    pub(crate) fn anybody() -> Self {
        Self { role: Role::Operator, session: None }
    }

    /// A user who is logged in, or sent name and password.
    pub(super) fn user(role: Role, access: Arc<Access>, key: SessionKey) -> Self {
        Self { role, session: Some(Session { access, key }) }
    }

    /// Whether this visitor may start and stop training and edit the configuration.
    pub(crate) fn may_operate(&self) -> bool {
        self.role == Role::Operator
    }

    /// Resolves when the session has ended: by logout, by age or idleness, because the user was removed or
    /// got another password or role. Never where nobody has to log in.
    pub(crate) async fn left(&self) {
        match &self.session {
            Some(session) => session.access.ended(&session.key).await,
            None => std::future::pending().await,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every path that needs a visitor is behind the guard; one that is not may only read.
        let nobody = || Self { role: Role::Viewer, session: None };
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(nobody))
    }
}
