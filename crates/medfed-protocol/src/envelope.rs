//! Signed end to end: who says what to whom, in which run, as which message.
//!
//! ```text
//! head        = 0x01 ‖ postcard(run, from, to, number, answers, message, attachment length and SHA-256)
//! packet      = head ‖ signature (64 bytes) ‖ attachment
//! signature   = Ed25519 over "medfed envelope v1\0" ‖ head
//! ```
//!
//! The signature covers the hash of the attachment, so that a broker, a proxy and whoever stores the
//! attachment need no trust. Numbers count a sender's messages to one receiver within a run; the same number
//! never carries two contents.

use crate::error::{DecodeError, Rejected};
use crate::message::{MOST_MESSAGE_BYTES, decode, encode};
use crate::payload::Payload;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use medfed_types::{RunId, SecretKey, SiteId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the format: the first byte of a packet.
pub const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"medfed envelope v1\0";
const SIGNATURE_BYTES: usize = 64;
/// Bytes of the largest packet without its attachment.
pub const MOST_HEAD_BYTES: usize = MOST_MESSAGE_BYTES + 1024;

/// A party of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Party {
    /// The coordinator.
    Coordinator,
    /// A site.
    Site(SiteId),
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Coordinator => f.write_str("the coordinator"),
            Self::Site(site) => site.fmt(f),
        }
    }
}

/// What a message says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<M> {
    /// The run.
    pub run: RunId,
    /// The sender.
    pub from: Party,
    /// The receiver.
    pub to: Party,
    /// Counts the sender's messages to this receiver in this run, from 1.
    pub number: u64,
    /// The number of the receiver's message that this one answers; 0 for none.
    pub answers: u64,
    /// The message.
    pub message: M,
    attachment_bytes: u64,
    attachment_hash: [u8; 32],
}

/// A message as it travels: a small signed head, and what is attached to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    head: Payload,
    attachment: Payload,
}

/// Signs what one party says. The key is wiped on drop and never printed.
pub struct Signer {
    party: Party,
    key: SigningKey,
}

impl Signer {
    /// The party whose Ed25519 seed (RFC 8032) is `seed`.
    pub fn new(party: Party, seed: &SecretKey) -> Self {
        Self { party, key: SigningKey::from_bytes(seed.expose()) }
    }

    /// The party.
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// The public half of the key.
    pub fn verifying_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Message `number` of the party to `to`, as an answer to message `answers` of the receiver.
    pub fn seal<M: Serialize>(
        &self,
        run: &RunId,
        to: Party,
        (number, answers): (u64, u64),
        message: M,
        attachment: Payload,
    ) -> Packet {
        let envelope = Envelope {
            run: run.clone(),
            from: self.party.clone(),
            to,
            number,
            answers,
            message,
            attachment_bytes: attachment.len() as u64,
            attachment_hash: attachment.hash(),
        };
        let mut head = vec![VERSION];
        head.extend(encode(&envelope));
        let signature = self.key.sign(&signed(&head));
        head.extend_from_slice(&signature.to_bytes());
        Packet { head: head.into(), attachment }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, <redacted>)", self.party)
    }
}

impl Packet {
    /// A packet from its parts, as a transport carries them.
    pub fn new(head: Payload, attachment: Payload) -> Self {
        Self { head, attachment }
    }

    /// The signed head, at most [`MOST_HEAD_BYTES`].
    pub fn head(&self) -> &Payload {
        &self.head
    }

    /// What is attached; empty where nothing is.
    pub fn attachment(&self) -> &Payload {
        &self.attachment
    }

    /// Length of the head (4 bytes, little-endian), head, attachment.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + self.head.len() + self.attachment.len());
        bytes.extend_from_slice(&(self.head.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.head.as_bytes());
        bytes.extend_from_slice(self.attachment.as_bytes());
        bytes
    }

    /// The packet whose bytes these are. Nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = DecodeError::Malformed { what: "the packet" };
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(malformed.clone())?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > MOST_HEAD_BYTES {
            return Err(DecodeError::TooLong { what: "a message", found: length, most: MOST_HEAD_BYTES });
        }
        let (head, attachment) = rest.split_at_checked(length).ok_or(malformed)?;
        Ok(Self { head: head.into(), attachment: attachment.into() })
    }

    /// The envelope, its signature not verified: for a transport that wants to know the addresses, and the
    /// hash and length of the attachment before that arrives.
    pub fn peek<M: DeserializeOwned>(head: &[u8]) -> Result<Envelope<M>, DecodeError> {
        Ok(split(head)?.0)
    }

    /// The envelope, if `key` signed it and the attachment is the signed one.
    pub fn open<M: DeserializeOwned>(&self, key: &VerifyingKey) -> Result<Envelope<M>, Rejected> {
        let (envelope, head, signature) = split::<M>(self.head.as_bytes())?;
        let from = || envelope.from.to_string();
        key.verify_strict(&signed(head), &signature).map_err(|_| Rejected::Signature { from: from() })?;
        let fits = envelope.attachment_bytes == self.attachment.len() as u64
            && envelope.attachment_hash == self.attachment.hash();
        if fits { Ok(envelope) } else { Err(Rejected::Attachment { from: from() }) }
    }
}

impl<M> Envelope<M> {
    /// Bytes of the attachment, as signed.
    pub fn attachment_bytes(&self) -> u64 {
        self.attachment_bytes
    }

    /// SHA-256 of the attachment, as signed.
    pub fn attachment_hash(&self) -> &[u8; 32] {
        &self.attachment_hash
    }
}

/// A verifying key that is a valid point of large order.
pub(crate) fn verifying_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())
}

fn signed(head: &[u8]) -> Vec<u8> {
    [DOMAIN, head].concat()
}

fn split<M: DeserializeOwned>(bytes: &[u8]) -> Result<(Envelope<M>, &[u8], Signature), DecodeError> {
    if bytes.len() > MOST_HEAD_BYTES {
        return Err(DecodeError::TooLong { what: "a message", found: bytes.len(), most: MOST_HEAD_BYTES });
    }
    let malformed = DecodeError::Malformed { what: "the message" };
    let (head, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(malformed.clone())?;
    match head.split_first() {
        Some((&VERSION, body)) => Ok((decode(body, "the message")?, head, Signature::from_bytes(signature))),
        Some((&found, _)) => Err(DecodeError::Version { found, expected: VERSION }),
        None => Err(malformed),
    }
}
