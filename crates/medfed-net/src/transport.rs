//! How messages travel between the coordinator and its sites: a pair of traits, with gRPC as the built-in way.
//!
//! A message is any bytes, of any size that the options admit; one that is larger than a frame travels as a
//! blob without the caller's help. Messages to one peer arrive in the order in which they were sent, each at
//! most once, for as long as the connection lasts. What was on its way when a connection broke may be lost:
//! after [`CoordinatorEvent::Connected`] or [`SiteEvent::Connected`] the caller sends again what was not
//! answered, and the parts of a blob that arrived before are not sent twice.
//!
//! `send` never waits. A queue that is full says so ([`SendError::Full`]), so one slow site cannot hold up
//! the others.

use crate::certificate::Certificate;
use crate::problem::LinkProblem;
use bytes::Bytes;
use medfed_types::SiteId;
use tokio::sync::watch;

/// Why a message was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer is not connected; send again when it is.
    #[error("not connected")]
    NotConnected,
    /// The peer does not take what was sent before; send again when it connects anew.
    #[error("{queued} messages are waiting for the peer already")]
    Full {
        /// Messages that wait.
        queued: usize,
    },
    /// The peer takes no message of this size.
    #[error("the message has {bytes} bytes, at most {largest} are taken")]
    TooLarge {
        /// Bytes of the message.
        bytes: u64,
        /// Largest message.
        largest: u64,
    },
}

/// What the coordinator hears.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CoordinatorEvent {
    /// A site is there, with the certificate that proves its name. A site that was there before has
    /// connected anew: nothing that was sent to its older connection arrives any more.
    Connected {
        /// The site.
        site: SiteId,
        /// Its certificate, checked against the authority, the revocations and the roster.
        certificate: Certificate,
    },
    /// A site is gone.
    Disconnected {
        /// The site.
        site: SiteId,
        /// Why.
        problem: LinkProblem,
    },
    /// A site sent a message.
    Message {
        /// The site, by its certificate.
        from: SiteId,
        /// The message.
        bytes: Bytes,
    },
}

/// What a site hears.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SiteEvent {
    /// The coordinator can be reached.
    Connected {
        /// Its certificate, checked against the authority.
        certificate: Certificate,
    },
    /// The connection is gone; the next attempt comes by itself.
    Disconnected {
        /// Why.
        problem: LinkProblem,
    },
    /// The coordinator sent a message.
    Message {
        /// The message.
        bytes: Bytes,
    },
}

/// State of a site's link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// The first attempt or a later one is under way.
    Connecting {
        /// Attempts since the last connection, counted from 1.
        attempt: u32,
    },
    /// Connected.
    Connected,
    /// The next attempt comes after a pause.
    Waiting {
        /// Attempts that failed since the last connection.
        attempts: u32,
        /// Why the last one failed.
        problem: LinkProblem,
        /// The pause, in milliseconds.
        pause_ms: u64,
    },
}

/// The coordinator's end.
pub trait CoordinatorTransport: Send {
    /// Queues a message to a site that is connected. Does not wait.
    fn send(&self, to: &SiteId, message: Bytes) -> Result<(), SendError>;

    /// The next event; nothing after the transport has ended. No event is lost when the future is dropped.
    fn recv(&mut self) -> impl Future<Output = Option<CoordinatorEvent>> + Send;

    /// Ends the connection to a site, which may connect again.
    fn disconnect(&self, site: &SiteId);
}

/// A site's end. It connects by itself, again and again.
pub trait SiteTransport: Send {
    /// Queues a message to the coordinator. Does not wait.
    fn send(&self, message: Bytes) -> Result<(), SendError>;

    /// The next event; nothing after the transport has ended. No event is lost when the future is dropped.
    fn recv(&mut self) -> impl Future<Output = Option<SiteEvent>> + Send;

    /// The state of the link, for whoever shows it.
    fn state(&self) -> watch::Receiver<LinkState>;
}
