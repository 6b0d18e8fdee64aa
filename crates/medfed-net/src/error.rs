//! Why a transport cannot start.

use crate::pki::PkiError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a transport cannot start. What goes wrong later is a [`LinkProblem`](crate::problem::LinkProblem).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Keys and certificates cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS cannot be set up with them.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The folder for blobs cannot be used.
    #[error("the folder {} cannot be used", path.display())]
    Spool {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The broker cannot be used.
    #[cfg(feature = "nats")]
    #[error("the broker {server} {doing}")]
    Broker {
        /// Its address.
        server: String,
        /// What it does not do.
        doing: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not the address of a coordinator.
    #[error("{text:?} is no address: expected HOST or HOST:PORT")]
    Address {
        /// What was given.
        text: String,
    },
    /// Not the address of a proxy.
    #[error("the proxy is given as something else than http://[USER:PASSWORD@]HOST:PORT")]
    Proxy,
}
