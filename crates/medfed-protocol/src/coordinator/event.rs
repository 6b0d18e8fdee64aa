//! What happens to the coordinator: everything that its machine depends on, in an order, with times.

use crate::envelope::Packet;
use crate::error::DecodeError;
use crate::payload::Payload;
use medfed_types::SiteId;

/// Something that happened. It is durable before the machine hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorEvent {
    /// The run begins.
    Started,
    /// A site sent a packet that [`admit`](super::CoordinatorMachine::admit) found fresh.
    Message {
        /// The site.
        from: SiteId,
        /// The packet.
        packet: Packet,
    },
    /// The round is in the audit log.
    Sealed {
        /// The checkpoint that ends it, for sites to sign; empty where nobody is to sign.
        checkpoint: Payload,
    },
    /// The time of [`wake_at`](super::CoordinatorMachine::wake_at) has come.
    Wake,
}

const STARTED: u8 = 1;
const MESSAGE: u8 = 2;
const SEALED: u8 = 3;
const WAKE: u8 = 4;

impl CoordinatorEvent {
    /// The event as it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Started => vec![STARTED],
            Self::Message { from, packet } => {
                let name = from.as_str().as_bytes();
                let mut bytes = vec![MESSAGE, name.len() as u8];
                bytes.extend_from_slice(name);
                bytes.extend(packet.to_bytes());
                bytes
            }
            Self::Sealed { checkpoint } => [&[SEALED], checkpoint.as_bytes()].concat(),
            Self::Wake => vec![WAKE],
        }
    }

    /// The event whose bytes these are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = DecodeError::Malformed { what: "the event" };
        match bytes {
            [STARTED] => Ok(Self::Started),
            [WAKE] => Ok(Self::Wake),
            [SEALED, checkpoint @ ..] => Ok(Self::Sealed { checkpoint: checkpoint.into() }),
            [MESSAGE, length, rest @ ..] => {
                let (name, packet) = rest.split_at_checked(usize::from(*length)).ok_or(malformed.clone())?;
                let name = std::str::from_utf8(name).ok().and_then(|name| SiteId::try_from(name).ok());
                let packet = Packet::from_bytes(packet)?;
                Ok(Self::Message { from: name.ok_or(malformed)?, packet })
            }
            _ => Err(malformed),
        }
    }
}
