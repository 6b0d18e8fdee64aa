//! The built-in transport: gRPC over TLS.
//!
//! One long-lived stream of frames for each site; what does not fit into a frame is a blob. Both sides send a
//! beat at a fixed pace and give a peer up that was silent for `SILENT_BEATS` of them. The flow control of
//! HTTP/2 holds back whoever sends faster than the other side takes: at most `STREAM_WINDOW` bytes of a
//! stream and `CONNECTION_WINDOW` of a connection are under way.

mod accept;
mod blob;
mod coordinator;
mod service;
mod session;
mod site;
mod spool;
mod status;
mod upload;

pub use coordinator::{CoordinatorOptions, GrpcCoordinator};
pub(crate) use site::call_check;
pub use site::{GrpcSite, SiteOptions};

use std::time::Duration;

/// Version of the protocol.
const PROTOCOL: u32 = 1;
/// Largest message that travels in a frame, in bytes; a larger one is a blob.
const INLINE: usize = 64 << 10;
/// Bytes of a blob in one chunk.
const CHUNK: usize = 1 << 20;
/// Largest message of gRPC, in bytes: a chunk and what names it.
const LARGEST_FRAME: usize = CHUNK + (4 << 10);
/// Messages that wait for one peer at most.
const QUEUE: usize = 64;
/// Bytes of one stream that are under way at most.
const STREAM_WINDOW: u32 = 512 << 10;
/// Bytes of one connection that are under way at most.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a request's headers at most.
const HEADERS: u32 = 16 << 10;
/// Beats after which a silent peer is given up.
const SILENT_BEATS: u32 = 3;
/// Version of this program.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Longest time of each step to a connection: resolving, connecting, shaking hands, the first frame.
    pub step: Duration,
    /// From one beat to the next. The coordinator's counts for both sides.
    pub beat: Duration,
    /// Pause of a site before its second attempt to connect. It doubles with each further one, and up to half
    /// of it is left out by chance, so that sites do not come back all at once.
    pub first_pause: Duration,
    /// Longest pause before an attempt to connect.
    pub longest_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(10),
            beat: Duration::from_secs(15),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_mins(1),
        }
    }
}
