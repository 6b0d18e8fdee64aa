//! Why a link is down, in words for the people at both ends.

use crate::certificate::CertificateProblem;
use crate::fingerprint::Fingerprint;

/// Why a connection could not be made or has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkProblem {
    /// The name of the coordinator is not known here.
    #[error("the name {host} cannot be resolved: {detail}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver says.
        detail: String,
    },
    /// Nobody answers at the address.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system says.
        detail: String,
    },
    /// The proxy does not carry the connection.
    #[error("the proxy {proxy} does not connect to {address}: {detail}")]
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// Host and port behind it.
        address: String,
        /// What it answered.
        detail: String,
    },
    /// Something took too long.
    #[error("no answer within {seconds} s while {doing}")]
    TimedOut {
        /// What was under way.
        doing: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The peer's certificate is not accepted here.
    #[error("the certificate of the other side is not accepted: {0}")]
    Peer(CertificateProblem),
    /// The own certificate is not accepted by the peer.
    #[error("the other side does not accept our certificate: {0}")]
    Own(CertificateProblem),
    /// The coordinator has another key than the pinned one.
    #[error("the coordinator's key is {found}, pinned is {expected}")]
    Pinned {
        /// The pinned key.
        expected: Fingerprint,
        /// The key seen.
        found: Fingerprint,
    },
    /// The files of the own identity cannot be used.
    #[error("our own key or certificate cannot be used: {detail}")]
    Files {
        /// What is wrong with them.
        detail: String,
    },
    /// TLS fails for another reason.
    #[error("TLS fails: {detail}")]
    Tls {
        /// What TLS says.
        detail: String,
    },
    /// A newer connection of the same site took its place.
    #[error("a newer connection of the same site took its place")]
    Replaced,
    /// The other side speaks another version.
    #[error("the other side speaks version {found} of the protocol, this is version {ours}")]
    Version {
        /// Its version.
        found: u32,
        /// Our version.
        ours: u32,
    },
    /// The other side broke the rules of the protocol.
    #[error("the other side broke the protocol: {detail}")]
    Protocol {
        /// How.
        detail: String,
    },
    /// A message is larger than agreed, or a site keeps too much at the coordinator.
    #[error("{bytes} bytes are more than the {largest} that are taken")]
    TooLarge {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes admitted.
        largest: u64,
    },
    /// The other side cannot store what it gets.
    #[error("storing failed: {detail}")]
    Storage {
        /// What the system says.
        detail: String,
    },
    /// The connection broke.
    #[error("the connection broke: {detail}")]
    Broken {
        /// What the system says.
        detail: String,
    },
    /// The other side ended the connection.
    #[error("the other side ended the connection")]
    Ended,
}

impl LinkProblem {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Name { .. } => "check the spelling, and that this machine's DNS knows the name",
            Self::Unreachable { .. } => {
                "ask the network's administrators to allow outbound TCP to this address, or set --proxy"
            }
            Self::Proxy { .. } => {
                "ask the network's administrators to allow CONNECT to this address and port"
            }
            Self::TimedOut { .. } => {
                "a firewall that drops packets silently looks like this; so does a coordinator that is down"
            }
            Self::Peer(problem) => problem.hint(),
            Self::Own(problem) => problem.own_hint(),
            Self::Pinned { .. } => {
                "ask the federation's authority for the coordinator's fingerprint before you change the pin"
            }
            Self::Files { .. } => "run `medfed site doctor`, or enrol anew with `medfed site enroll`",
            Self::Tls { .. } => {
                "a proxy that opens TLS connections breaks them: ask for an exception for this address"
            }
            Self::Replaced => "another process uses this site's key: let only one run",
            Self::Version { .. } => "update the older side",
            Self::Protocol { .. } => "update both sides to the same version",
            Self::TooLarge { .. } => {
                "coordinator and site must use the same model; see the coordinator's limits"
            }
            Self::Storage { .. } => "make room on the disk",
            Self::Broken { .. } | Self::Ended => "the next attempt comes by itself",
        }
    }

    /// Whether somebody has to change something before it can work again.
    pub fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Peer(_)
                | Self::Own(_)
                | Self::Pinned { .. }
                | Self::Files { .. }
                | Self::Version { .. }
                | Self::Replaced
        )
    }
}
