//! A hospital that follows a log: it signs a checkpoint only when the log has grown and nothing else.
//!
//! [`Witness::check`] compares a checkpoint with the last one that the hospital signed and gives an
//! [`Approval`]. The hospital keeps its checkpoint durably and then signs: should it crash in between, it
//! has signed nothing and still refuses whatever does not continue the checkpoint.

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::error::Refusal;
use crate::merkle::{self, Digest};
use crate::note::{PublicKey, Signature, Signer};

/// A hospital that follows a log.
#[derive(Debug)]
pub struct Witness {
    signer: Signer,
    log: PublicKey,
    seen: Option<Checkpoint>,
}

/// A checkpoint that continues what the hospital has seen.
#[derive(Debug)]
#[must_use = "nothing is signed yet"]
pub struct Approval<'a> {
    witness: &'a mut Witness,
    checkpoint: Checkpoint,
}

impl Witness {
    /// A hospital that has seen `seen` last.
    pub fn new(signer: Signer, log: PublicKey, seen: Option<Checkpoint>) -> Self {
        Self { signer, log, seen }
    }

    /// Entries of the checkpoint that the hospital saw last; the proof has to begin there.
    pub fn seen(&self) -> u64 {
        self.seen.as_ref().map_or(0, |checkpoint| checkpoint.size)
    }

    /// Checks the log's signature and, with a consistency proof from [`Witness::seen`] on, that the log has
    /// only grown.
    pub fn check(&mut self, offer: &SignedCheckpoint, proof: &[Digest]) -> Result<Approval<'_>, Refusal> {
        let Checkpoint { origin, size, root } = offer.checkpoint();
        let expected = self.log.name();
        if origin != expected {
            return Err(Refusal::OtherLog { expected: expected.clone(), found: origin.clone() });
        }
        if !offer.is_signed_by(&self.log) {
            return Err(Refusal::Unsigned { log: expected.clone(), size: *size });
        }
        if let Some(seen) = &self.seen {
            if *size < seen.size {
                return Err(Refusal::RolledBack { seen: seen.size, found: *size });
            }
            if !merkle::continues(seen.size, seen.root, *size, *root, proof) {
                return Err(Refusal::Forked { seen: seen.size, found: *size });
            }
        }
        Ok(Approval { checkpoint: offer.checkpoint().clone(), witness: self })
    }
}

impl Approval<'_> {
    /// What the hospital keeps before it signs.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Signs, at `now` in seconds since 1970.
    pub fn sign(self, now: u64) -> Signature {
        let signature = self.witness.signer.sign(&self.checkpoint.text(), now);
        self.witness.seen = Some(self.checkpoint);
        signature
    }
}
