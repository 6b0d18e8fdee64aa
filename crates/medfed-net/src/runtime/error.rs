//! What stops a coordinator or a site between machines.

use medfed_protocol::{DecodeError, ProtocolError};
use medfed_store::StoreError;

/// How whoever keeps the results of a run fails.
pub type KeeperError = Box<dyn std::error::Error + Send + Sync>;

/// A process of a federation that cannot go on. Everything that was acknowledged is on the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The disk.
    #[error("the run cannot be kept")]
    Store(#[from] StoreError),
    /// The machine.
    #[error("the federation cannot go on")]
    Protocol(#[from] ProtocolError),
    /// The log holds an event that this program cannot read.
    #[error("event {number} of the log cannot be read")]
    Event {
        /// Its number.
        number: u64,
        /// Why.
        source: DecodeError,
    },
    /// Results could not be kept.
    #[error("the results cannot be kept")]
    Keeper(#[source] KeeperError),
    /// The saved reports are not ones that this program writes.
    #[error("a saved report cannot be read")]
    Report(#[source] serde_json::Error),
    /// The engine's thread ended by a panic.
    #[error("the engine of the run panicked")]
    Panicked,
    /// The transport ended by itself.
    #[error("the transport ended")]
    Transport,
}
