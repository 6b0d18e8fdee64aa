//! The transport over real sockets: good links, bad links, and peers that mean harm.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "network/certificates.rs"]
mod certificates;
#[path = "network/cuts.rs"]
mod cuts;
#[path = "network/doctor.rs"]
mod doctor;
#[path = "network/fixture.rs"]
mod fixture;
#[path = "network/hostile.rs"]
mod hostile;
#[path = "network/impaired.rs"]
mod impaired;
#[path = "network/messages.rs"]
mod messages;
#[path = "network/proxy.rs"]
mod proxy;

/// The protocol as a peer that does not keep to it speaks it.
#[expect(clippy::pedantic, unreachable_pub, reason = "generated")]
#[rustfmt::skip]
#[path = "../src/generated/medfed.v1.rs"]
mod wire;
