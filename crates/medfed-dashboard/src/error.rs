//! Why the dashboard cannot be served.

use crate::security::UsersError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the dashboard cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DashboardError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// An address that others can reach needs users and TLS.
    #[error("{address} can be reached from other machines, which needs users and TLS")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Nobody could log in.
    #[error("{} holds no user, so nobody could log in", path.display())]
    NoUsers {
        /// The file of users.
        path: PathBuf,
    },
    /// The users cannot be read.
    #[error(transparent)]
    Users(#[from] UsersError),
}
