//! The federation as messages: what coordinator and sites say to each other, and the two machines that say
//! it.
//!
//! ```text
//!  log ◄── event ── admit ◄── packet ═══════ network ═══════ packet ──► admit ── event ──► log
//!             │                                                                    │
//!             ▼                                                                    ▼
//!     CoordinatorMachine ── effects: send, commit, …          effects: train, send, … ── SiteMachine
//! ```
//!
//! [`message`] says what is said, [`envelope`] how it is signed, [`policy`] what a site agrees to. Both
//! machines are deterministic: the same events at the same times give the same effects, so a log of events
//! restores them after a crash. Nothing here opens a file or a socket or reads a clock.
//!
//! **Not protected.** Who takes part, when, and how large the messages are is seen by whoever carries them.
//! A site's updates are seen by the coordinator unless they are masked; what a policy releases is exact.

pub mod coordinator;
pub mod envelope;
mod error;
pub mod message;
mod patience;
mod payload;
pub mod policy;
pub mod site;

pub use coordinator::{CoordinatorEffect, CoordinatorEvent, CoordinatorMachine, CoordinatorTerms};
pub use envelope::{Envelope, Packet, Party, Signer};
pub use error::{DecodeError, ProtocolError, Rejected};
pub use patience::Patience;
pub use payload::Payload;
pub use policy::Policy;
