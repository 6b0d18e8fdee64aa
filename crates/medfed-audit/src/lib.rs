//! What happened in a run, written down so that nobody can change it unnoticed.
//!
//! The course of a run enters as [`Entry`]s: roster, rules, payments for privacy, participants, hashes of
//! models, decisions. They become the leaves of a Merkle tree (RFC 6962) in files ([`Log`]); its root is
//! signed after every round by the log and, when it continues what they saw before ([`Witness`]), by the
//! hospitals. What leaves is a folder or one [`Bundle`] that anyone can check without the program that
//! wrote it ([`verify()`]): signatures, consistency, ε, the chain of models.
//!
//! Sans-IO: files are a [`Storage`], times and keys are arguments.
//!
//! *Not protected*: a log says what its writer claimed, at a time, and that the claim was not changed
//! since. Who has the keys of the log and of every hospital can write another log. It is seen by whoever
//! kept a checkpoint.

pub mod bundle;
pub mod checkpoint;
pub mod entry;
pub mod error;
pub mod log;
pub mod merkle;
pub mod note;
pub mod proof;
#[cfg(test)]
mod sample;
pub mod storage;
mod tile;
pub mod trail;
pub mod verify;
mod wire;
pub mod witness;

pub use bundle::Bundle;
pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use entry::Entry;
pub use error::{AuditError, EntryProblem, FormatProblem, Refusal};
pub use log::{Log, Offer};
pub use merkle::Digest;
pub use note::{KeyKind, KeyName, PublicKey, Signature, Signer};
pub use proof::InclusionProof;
pub use storage::{Source, Storage};
pub use trail::Trail;
pub use verify::{Expectations, Fault, Verdict, verify};
pub use witness::{Approval, Witness};
