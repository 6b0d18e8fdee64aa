//! The transport through a broker, over a real one: `nats-server` with JetStream, started by each test.
//!
//! Without `nats-server` on the path the tests say so and pass, except where `CI` is set.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "nats/broker.rs"]
mod broker;
#[path = "nats/faults.rs"]
mod faults;
#[expect(dead_code, reason = "what belongs to the built-in transport")]
#[path = "network/fixture.rs"]
mod fixture;
#[path = "nats/hostile.rs"]
mod hostile;
#[expect(dead_code, reason = "what belongs to the built-in transport")]
#[path = "network/impaired.rs"]
mod impaired;
#[path = "nats/messages.rs"]
mod messages;
