//! The federation between machines that do not trust each other.
//!
//! What enters: the files of an identity (its key, its certificate, the authority's certificate), the
//! address of the coordinator, and messages as bytes. What leaves: messages of a peer whose identity is
//! proven by its certificate. Everything inside a message (who signed it, what it asks) belongs to the
//! protocol above; a message is opaque here, of at most the size that the options admit.
//!
//! What is *not* protected here: who talks to whom, when, and how much, is visible to whoever carries the
//! bytes.

pub mod address;
pub mod certificate;
pub mod clock;
pub mod dial;
pub mod doctor;
pub mod error;
pub mod fingerprint;
pub mod grpc;
#[cfg(feature = "nats")]
pub mod nats;
pub mod party;
mod pem;
pub mod pki;
mod private_file;
pub mod problem;
pub mod revocation;
pub mod runtime;
mod tls;
pub mod transport;

/// The messages and the service of `proto/federation.proto`. A test compares it with what the protocol gives.
#[expect(unreachable_pub, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/medfed.v1.rs"]
mod wire;

pub use address::{CoordinatorAddress, Proxy};
pub use certificate::{Authority, Certificate, CertificateProblem};
pub use dial::Route;
pub use error::NetError;
pub use fingerprint::Fingerprint;
pub use grpc::{CoordinatorOptions, GrpcCoordinator, GrpcSite, SiteOptions, Timing};
pub use party::Party;
pub use pki::{AuthorityFolder, Holder, Identity, PkiError, Roster};
pub use private_file::FileError;
pub use problem::LinkProblem;
pub use revocation::Revocations;
pub use transport::{CoordinatorEvent, CoordinatorTransport, LinkState, SendError, SiteEvent, SiteTransport};
