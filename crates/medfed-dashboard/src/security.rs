//! What keeps strangers out: users and what each may do, sessions, limits on guessing, TLS, checks of where
//! a request comes from, and headers that bind the browser.
//!
//! Not protected: who can read the dashboard's memory or its files as its own account can act as anyone.

pub(crate) mod access;
mod attempts;
pub(crate) mod headers;
pub(crate) mod login;
pub(crate) mod origin;
mod private_file;
mod sessions;
pub(crate) mod tls;
mod users;
pub(crate) mod visitor;

pub use private_file::PrivateFileError;
pub use tls::{Identity, TlsError};
pub use users::{Role, UserName, Users, UsersError};
