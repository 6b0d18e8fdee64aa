//! TLS 1.3 with both sides authenticated; nothing older, no resumption, no early data.
//!
//! Every handshake is a full one, so a revocation takes effect with the next of them.

pub(crate) mod client;
pub(crate) mod guard;
pub(crate) mod server;
pub(crate) mod watched;

use std::sync::Arc;

/// The name of HTTP/2 in the handshake.
const ALPN: &[u8] = b"h2";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
