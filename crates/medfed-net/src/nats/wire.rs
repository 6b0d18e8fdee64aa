//! What travels, as bytes. The first byte says what it is.
//!
//! | byte | rest | where |
//! |---|---|---|
//! | 1 | signature (64), [`Hello`] | up, not kept |
//! | 2 | signature (64), [`Said`] | down, not kept |
//! | 3 | session (16), number (8, little endian), sealed [`Sign`] | both ways, not kept |
//! | 4 | session (16), signature (64) over the hash of hello and answer | up, in the stream |
//! | 5 | session (16), number (8), sealed [`Content`] | both ways, in the stream |

use super::seal::SessionId;
use super::{INLINE, PROTOCOL};
use crate::certificate::{Certificate, CertificateProblem, valid_signature};
use crate::problem::LinkProblem;
use ed25519_dalek::{Signer as _, SigningKey};
use medfed_types::SecretKey;
use serde::{Deserialize, Serialize};

/// Largest of everything that travels, in bytes: a message in the stream and what is around it.
pub(super) const LARGEST: usize = INLINE + 1024;
/// What signatures are over, before what they are for.
const DOMAIN: &[u8] = b"medfed nats v1 ";

/// A site wants a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// The site's certificate, in DER.
    pub(super) certificate: Vec<u8>,
    /// Public half of a key of one use.
    pub(super) ephemeral: [u8; 32],
}

/// What the coordinator signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    /// The coordinator's certificate, in DER.
    pub(super) certificate: Vec<u8>,
    pub(super) word: Word,
}

/// What the coordinator says outside a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// To a hello: go on.
    Welcome {
        /// SHA-256 of the hello.
        answer_to: [u8; 32],
        ephemeral: [u8; 32],
        largest_message: u64,
        beat_ms: u32,
    },
    /// To a hello: no.
    Refused {
        /// SHA-256 of the hello.
        answer_to: [u8; 32],
        why: Farewell,
    },
    /// To a sign of a session that is over.
    Unknown { session: SessionId },
}

/// A sign of life, or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Sign {
    Beat,
    Leave(Farewell),
}

/// What a message in the stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The message itself.
    Message(Vec<u8>),
    /// It is in the object store, sealed under the same number.
    Object {
        /// Bytes of the message.
        length: u64,
        /// SHA-256 of the object, which is sealed.
        sha256: [u8; 32],
    },
}

/// Why a side ends a session, as the other may know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Farewell {
    Ended,
    Replaced,
    Revoked,
    NotOnRoster,
    Expired,
    NotYetValid,
    Version(u32),
    TooLarge { bytes: u64, largest: u64 },
    Protocol(String),
    Silent,
}

impl Farewell {
    /// What the other side is told of a problem.
    pub(super) fn of(problem: &LinkProblem) -> Self {
        match problem {
            LinkProblem::Replaced => Self::Replaced,
            LinkProblem::Peer(CertificateProblem::Revoked) => Self::Revoked,
            LinkProblem::Peer(CertificateProblem::NotOnRoster) => Self::NotOnRoster,
            LinkProblem::Peer(CertificateProblem::Expired { .. }) => Self::Expired,
            LinkProblem::Peer(CertificateProblem::NotYetValid { .. }) => Self::NotYetValid,
            LinkProblem::Version { ours, .. } => Self::Version(*ours),
            LinkProblem::TooLarge { bytes, largest } => Self::TooLarge { bytes: *bytes, largest: *largest },
            LinkProblem::Protocol { detail } => Self::Protocol(detail.clone()),
            LinkProblem::TimedOut { .. } => Self::Silent,
            // What the system says about our files is for our log alone.
            _ => Self::Ended,
        }
    }

    /// What the other side told, seen by who holds the certificate `own`.
    pub(super) fn problem(self, own: &Certificate) -> LinkProblem {
        match self {
            Self::Ended | Self::Silent => LinkProblem::Ended,
            Self::Replaced => LinkProblem::Replaced,
            Self::Revoked => LinkProblem::Own(CertificateProblem::Revoked),
            Self::NotOnRoster => LinkProblem::Own(CertificateProblem::NotOnRoster),
            Self::Expired => LinkProblem::Own(CertificateProblem::Expired { not_after: own.not_after() }),
            Self::NotYetValid => {
                LinkProblem::Own(CertificateProblem::NotYetValid { not_before: own.not_before() })
            }
            Self::Version(found) => LinkProblem::Version { found, ours: PROTOCOL },
            Self::TooLarge { bytes, largest } => LinkProblem::TooLarge { bytes, largest },
            Self::Protocol(detail) => LinkProblem::Protocol { detail: printable(&detail) },
        }
    }
}

/// Something that arrived, by its first byte; what it holds is not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Hello { signature: &'a [u8], body: &'a [u8] },
    Said { signature: &'a [u8], body: &'a [u8] },
    Sign { session: SessionId, number: u64, sealed: &'a [u8] },
    Confirm { session: SessionId, signature: &'a [u8] },
    Message { session: SessionId, number: u64, sealed: &'a [u8] },
}

impl<'a> Packet<'a> {
    /// Takes apart what arrived; nothing when it is none of these.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > LARGEST {
            return None;
        }
        let (kind, rest) = bytes.split_first()?;
        match kind {
            1 | 2 => {
                let (signature, body) = rest.split_at_checked(64)?;
                Some(match kind {
                    1 => Self::Hello { signature, body },
                    _ => Self::Said { signature, body },
                })
            }
            4 => {
                let (session, signature) = rest.split_first_chunk()?;
                (signature.len() == 64).then_some(Self::Confirm { session: SessionId(*session), signature })
            }
            3 | 5 => {
                let (session, rest) = rest.split_first_chunk()?;
                let (number, sealed) = rest.split_first_chunk()?;
                let (session, number) = (SessionId(*session), u64::from_le_bytes(*number));
                Some(match kind {
                    3 => Self::Sign { session, number, sealed },
                    _ => Self::Message { session, number, sealed },
                })
            }
            _ => None,
        }
    }
}

/// What a signature is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signed {
    Hello,
    Said,
    Confirm,
}

impl Signed {
    fn content(self, body: &[u8]) -> Vec<u8> {
        let what: &[u8] = match self {
            Self::Hello => b"hello ",
            Self::Said => b"said ",
            Self::Confirm => b"confirm ",
        };
        [DOMAIN, what, body].concat()
    }

    pub(super) fn sign(self, key: &SecretKey, body: &[u8]) -> [u8; 64] {
        SigningKey::from_bytes(key.expose()).sign(&self.content(body)).to_bytes()
    }

    pub(super) fn holds(self, key: &[u8; 32], body: &[u8], signature: &[u8]) -> bool {
        valid_signature(key, &self.content(body), signature)
    }
}

/// The body of a signed packet.
pub(super) fn body(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("numbers, texts and bytes are always written")
}

/// Reads a body; nothing may follow it.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

pub(super) fn hello(signature: &[u8; 64], body: &[u8]) -> Vec<u8> {
    [&[1], &signature[..], body].concat()
}

pub(super) fn said(signature: &[u8; 64], body: &[u8]) -> Vec<u8> {
    [&[2], &signature[..], body].concat()
}

pub(super) fn sign(session: SessionId, number: u64, sealed: &[u8]) -> Vec<u8> {
    [&[3], &session.0[..], &number.to_le_bytes(), sealed].concat()
}

pub(super) fn confirm(session: SessionId, signature: &[u8; 64]) -> Vec<u8> {
    [&[4], &session.0[..], signature].concat()
}

pub(super) fn message(session: SessionId, number: u64, sealed: &[u8]) -> Vec<u8> {
    [&[5], &session.0[..], &number.to_le_bytes(), sealed].concat()
}

impl Content {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Message(message) => [&[0], message.as_slice()].concat(),
            Self::Object { length, sha256 } => [&[1], &length.to_le_bytes()[..], sha256].concat(),
        }
    }

    pub(super) fn read(mut bytes: Vec<u8>) -> Option<Self> {
        match bytes.first()? {
            0 => {
                bytes.remove(0);
                Some(Self::Message(bytes))
            }
            1 => {
                let (length, sha256) = bytes[1..].split_first_chunk()?;
                Some(Self::Object { length: u64::from_le_bytes(*length), sha256: sha256.try_into().ok()? })
            }
            _ => None,
        }
    }
}

/// Text of a peer, as a log may show it.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::read(&bytes);
            let _ = read::<Hello>(&bytes);
            let _ = read::<Said>(&bytes);
            let _ = read::<Sign>(&bytes);
            if let Some(content) = Content::read(bytes.clone()) {
                prop_assert_eq!(content.to_bytes(), bytes);
            }
        }

        #[test]
        fn what_is_written_is_read(session: [u8; 16], number: u64, sealed in proptest::collection::vec(any::<u8>(), 0..99)) {
            let session = SessionId(session);
            let (bytes, sealed) = (message(session, number, &sealed), &sealed[..]);
            prop_assert_eq!(Packet::read(&bytes), Some(Packet::Message { session, number, sealed }));
            let bytes = sign(session, number, sealed);
            prop_assert_eq!(Packet::read(&bytes), Some(Packet::Sign { session, number, sealed }));
        }
    }

    #[test]
    fn a_signature_is_for_one_thing() {
        let key = SecretKey::from_bytes([7; 32]);
        let public = SigningKey::from_bytes(key.expose()).verifying_key().to_bytes();
        let signature = Signed::Hello.sign(&key, b"body");
        assert!(Signed::Hello.holds(&public, b"body", &signature));
        assert!(!Signed::Said.holds(&public, b"body", &signature));
        assert!(!Signed::Confirm.holds(&public, b"body", &signature));
        assert!(!Signed::Hello.holds(&public, b"bodx", &signature));
    }

    #[test]
    fn nothing_may_follow_and_nothing_large_is_read() {
        let value = Sign::Leave(Farewell::Version(3));
        let mut bytes = body(&value);
        assert_eq!(read::<Sign>(&bytes), Some(value));
        bytes.push(0);
        assert_eq!(read::<Sign>(&bytes), None);
        assert_eq!(Packet::read(&vec![5; LARGEST + 1]), None);
    }
}
