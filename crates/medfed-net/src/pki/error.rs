//! Why keys and certificates cannot be used.

use crate::certificate::CertificateProblem;
use crate::fingerprint::Fingerprint;
use crate::party::Party;
use crate::private_file::FileError;
use std::path::PathBuf;

/// Why keys and certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is an authority in the folder already.
    #[error("{} holds an authority already", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process works with the authority.
    #[error("the authority in {} cannot be locked", path.display())]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no private key of the right kind.
    #[error("{} holds no Ed25519 private key in PEM (PKCS #8)", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate is not acceptable.
    #[error("the certificate in {} is not acceptable: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: CertificateProblem,
    },
    /// The certificate is for another key.
    #[error(
        "the certificate is for the key {certificate}, the key in {} is {key}", path.display()
    )]
    OtherKey {
        /// The key's file.
        path: PathBuf,
        /// Fingerprint of that key.
        key: Fingerprint,
        /// Fingerprint of the certified key.
        certificate: Fingerprint,
    },
    /// The certificate comes from another authority than the one that was expected.
    #[error("the authority's key is {found}, expected {expected}")]
    OtherAuthority {
        /// The key that was expected.
        expected: Fingerprint,
        /// The key of the authority that came with the certificate.
        found: Fingerprint,
    },
    /// A request is damaged or asks for what a federation does not give.
    #[error("the signing request is not acceptable: {detail}")]
    Request {
        /// What is wrong with it.
        detail: String,
    },
    /// The fingerprint that was given is not the request's.
    #[error("the request's key is {found}, the fingerprint given is {given}")]
    OtherRequest {
        /// The fingerprint that was given.
        given: Fingerprint,
        /// The request's.
        found: Fingerprint,
    },
    /// Another key is certified for the name already.
    #[error("{party} has a certificate for another key: {fingerprint}")]
    NameTaken {
        /// The name.
        party: Party,
        /// Fingerprint of the key that has it.
        fingerprint: Fingerprint,
    },
    /// Nobody of this name is on the roster.
    #[error("{party} is not on the roster")]
    Unknown {
        /// The name.
        party: Party,
        /// Sites that are on it.
        known: Vec<String>,
    },
    /// The roster is damaged.
    #[error("{} is not a roster: {detail}", path.display())]
    Roster {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The folder belongs to somebody else.
    #[error("{} belongs to {found}, not to {expected}", path.display())]
    OtherParty {
        /// The folder.
        path: PathBuf,
        /// Who was asked for.
        expected: Party,
        /// Whose it is.
        found: Party,
    },
    /// A name of the coordinator is no name or address of a machine.
    #[error("{host:?} is neither the name nor the address of a machine")]
    Host {
        /// The name.
        host: String,
    },
    /// The authority's own time ends before the certificate's would.
    #[error("the authority's certificate ends {}: no certificate can be valid until {}", crate::certificate::date(*authority), crate::certificate::date(*asked))]
    TooLong {
        /// Last second of the authority.
        authority: i64,
        /// Last second that was asked for.
        asked: i64,
    },
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Random(#[from] rand::rngs::SysError),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

impl PkiError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(FileError::Open { .. }) => "chmod 600 the file, and ask who could have read it",
            Self::File(FileError::Missing { .. }) => {
                "make an authority with `medfed pki init`, a site's files with `medfed site enroll`"
            }
            Self::File(_) => "check the folder's owner and permissions",
            Self::Exists { .. } => {
                "one authority serves the whole federation: use it, or choose another --dir"
            }
            Self::Lock { .. } => "wait until the other `medfed pki` has ended",
            Self::NotAKey { .. } => "restore the file from a backup, or enrol anew with `medfed site enroll`",
            Self::Certificate { problem, .. } => problem.own_hint(),
            Self::OtherKey { .. } => {
                "install the certificate that was made for this folder's request; `medfed site enroll --renew` makes a new request"
            }
            Self::OtherAuthority { .. } => {
                "ask the authority for its fingerprint over another way than this file came"
            }
            Self::Request { .. } => "ask the site for the file that `medfed site enroll` wrote",
            Self::OtherRequest { .. } => {
                "do not approve it: ask the site to read you the fingerprint that `medfed site enroll` printed"
            }
            Self::NameTaken { .. } => {
                "if the site really has a new key, approve with --replace, which revokes the old one"
            }
            Self::Unknown { .. } => "`medfed pki list` shows the names",
            Self::Roster { .. } => "restore it from a backup, or copy it again from the authority",
            Self::OtherParty { .. } => "choose another --dir: a folder holds one identity",
            Self::Host { .. } => "give a DNS name with --dns and an address with --ip",
            Self::TooLong { .. } => "ask for fewer --valid-days",
            Self::Random(_) | Self::Make(_) => "this is a fault of the program or of the machine",
        }
    }
}
