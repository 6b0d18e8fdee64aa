//! A second transport: through a broker, NATS with JetStream.
//!
//! For federations whose sites and coordinator reach a common broker but not each other. The broker is not
//! trusted. It can delay and drop; it can neither read nor change, nor repeat with any effect:
//!
//! 1. A site says hello: its certificate, a new X25519 key, its signature over both. The coordinator admits
//!    it as it would over gRPC (authority, revocations, roster).
//! 2. The coordinator answers with its certificate, a new X25519 key, and its signature over these and the
//!    hash of the hello. The site checks both against its authority and its pin.
//! 3. The site confirms with its signature over the hash of hello and answer: the session is open.
//!
//! That is the signed Diffie-Hellman of SIGMA (Krawczyk, CRYPTO 2003) with both keys of one use. Everything in
//! a session is sealed by ChaCha20-Poly1305 with keys from the shared secret (HKDF, RFC 5869), one key for each
//! way and purpose, and numbered: what comes twice, late or from an older session opens nothing and is passed
//! over. What the protocol above signs stays signed.
//!
//! What travels how, with `F` the federation and `S` the site's name in hexadecimal:
//!
//! | what | where |
//! |---|---|
//! | hello, answer, beats | `medfed.F.sign.up.S`, `medfed.F.sign.down.S`; nothing keeps them |
//! | messages to the coordinator | `medfed.F.up.S` in the stream `medfed-F` |
//! | messages to a site | `medfed.F.down.S.SESSION` in the stream `medfed-F` |
//! | messages of more than 64 KiB | the object store `medfed-F`, told of by a message |
//!
//! A message is kept by the broker until it is taken, over a restart of the broker and while its receiver's
//! link is down, for as long as the session lasts. A session ends when a side was silent for three beats;
//! then what was not answered is sent again in the next one, as the contract of the traits says.
//!
//! *Not* protected: who talks to whom, when and how much is visible to the broker; and whoever may publish on
//! the federation's subjects can fill the stream. The broker's permissions are for that.

mod broker;
mod coordinator;
mod seal;
mod session;
mod site;
mod wire;

pub use broker::Federation;
pub use coordinator::{NatsCoordinator, NatsCoordinatorOptions};
pub use site::{NatsSite, NatsSiteOptions};

use std::path::PathBuf;
use std::time::Duration;

/// Version of this way of talking.
const PROTOCOL: u32 = 1;
/// Largest message that travels in the stream, in bytes; a larger one is an object.
const INLINE: usize = 64 << 10;
/// Messages that wait for one peer at most, besides those that the broker keeps.
const QUEUE: usize = 64;
/// Beats after which a silent peer is given up.
const SILENT_BEATS: u32 = 3;
/// Pause before something is tried again that the broker did not do.
const AGAIN: Duration = Duration::from_millis(250);

/// Where the broker is, and how it lets us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerOptions {
    /// `nats://HOST:PORT`, or `tls://HOST:PORT`; several with commas.
    pub server: String,
    /// The credentials file that the broker's operator made.
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) of the authorities that the broker's certificate may come from; with it the
    /// connection must be TLS.
    pub authorities: Option<PathBuf>,
}

/// What the broker keeps for a federation at most. Counts when the coordinator makes the stream and the object
/// store; what exists already stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of messages.
    pub messages: u64,
    /// Bytes of objects.
    pub objects: u64,
    /// Age of both.
    pub age: Duration,
}

impl Default for Kept {
    fn default() -> Self {
        Self { messages: 64 << 20, objects: 4 << 30, age: Duration::from_hours(24) }
    }
}
