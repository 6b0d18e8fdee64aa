//! Certificates of the federation, and what makes one acceptable.
//!
//! The authority is one Ed25519 key. It certifies keys of sites and of the coordinator directly: there are no
//! intermediate authorities, so whoever holds a certificate can certify nobody. Everything is checked in one
//! place, [`Authority::verify`], for TLS and for certificates that arrive in messages alike.

use crate::fingerprint::Fingerprint;
use crate::party::Party;
use crate::revocation::Revocations;
use ed25519_dalek::{Signature, VerifyingKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt::Write as _;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Largest certificate that is looked at, in bytes.
const LARGEST: usize = 16 << 10;
/// Object identifier of Ed25519 (RFC 8410).
const ED25519: &str = "1.3.101.112";
/// What stands between the signed part of a certificate and the 64 bytes of an Ed25519 signature, in DER.
const SIGNATURE_PREFIX: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00];

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// There is none.
    #[error("no certificate was shown")]
    Missing,
    /// It is no certificate of this kind.
    #[error("it is not a certificate that this program can read: {detail}")]
    Unreadable {
        /// What is wrong with it.
        detail: String,
    },
    /// Another authority issued it.
    #[error("it was issued by {issuer}, not by this federation's authority")]
    WrongAuthority {
        /// The issuer that it names.
        issuer: String,
    },
    /// It is over.
    #[error("it expired {}", date(*not_after))]
    Expired {
        /// Its last second, since 1970.
        not_after: i64,
    },
    /// It has not begun.
    #[error("it is valid from {} only", date(*not_before))]
    NotYetValid {
        /// Its first second, since 1970.
        not_before: i64,
    },
    /// The authority revoked it.
    #[error("the authority revoked it")]
    Revoked,
    /// It is for another party.
    #[error("it is for {found}, expected {expected}")]
    WrongParty {
        /// Who was expected.
        expected: String,
        /// Whom it is for.
        found: String,
    },
    /// It is not for the name or address that was dialled.
    #[error("it is not for {dialled}, but for {names}")]
    WrongHost {
        /// The name or address that was dialled.
        dialled: String,
        /// The names and addresses it is for.
        names: String,
    },
    /// It is none of those that the roster lists.
    #[error("it is not on the roster")]
    NotOnRoster,
    /// TLS alone says that it is wrong.
    #[error("{detail}")]
    Refused {
        /// What TLS says.
        detail: String,
    },
}

impl CertificateProblem {
    /// What to do when it is the other side's certificate.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::WrongAuthority { .. } => {
                "a proxy that opens TLS connections shows a certificate of its own: ask for an exception for the coordinator's address; else check that authority.crt is this federation's"
            }
            Self::Expired { .. } | Self::NotYetValid { .. } => {
                "check this machine's clock; if it is right, the other side has to renew its certificate"
            }
            Self::WrongHost { .. } => {
                "dial one of those names, or have the coordinator's certificate made for this one too: `medfed pki coordinator --dns NAME`"
            }
            Self::NotOnRoster => "copy the authority's newest roster.json and crl.pem to the coordinator",
            Self::Revoked => "the authority took this certificate back; ask it why",
            _ => "ask the federation's authority who should answer at this address",
        }
    }

    /// What to do when it is one's own certificate.
    pub fn own_hint(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "renew it: `medfed site enroll --renew`",
            Self::NotYetValid { .. } => "check the clocks of both machines",
            Self::Revoked => "the authority took this certificate back; ask it why, then enrol anew",
            Self::NotOnRoster => {
                "ask the authority to copy its newest roster.json to the coordinator, then it works by itself"
            }
            _ => "enrol with this coordinator's authority: `medfed site enroll`",
        }
    }
}

/// A certificate of this federation's shape: one Ed25519 key, one party. Whether it is acceptable says
/// [`Authority::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    party: Party,
    key: [u8; 32],
    serial: Vec<u8>,
    not_before: i64,
    not_after: i64,
    hosts: Vec<String>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("party", &self.party)
            .field("fingerprint", &self.fingerprint())
            .field("serial", &self.serial())
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a certificate in DER without asking who issued it.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateProblem> {
        let parsed = read(der)?;
        let key = ed25519(&parsed)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| unreadable(&error))?
            .ok_or_else(|| unreadable(&"it has no alternative name"))?;
        let (mut party, mut hosts) = (None, Vec::new());
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) => {
                    let named = Party::parse(uri).map_err(|error| unreadable(&error))?;
                    if party.replace(named).is_some() {
                        return Err(unreadable(&"it names two parties"));
                    }
                }
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let address = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                    hosts.push(
                        address
                            .map_err(|_| unreadable(&"an address has neither 4 nor 16 bytes"))?
                            .to_string(),
                    );
                }
                _ => return Err(unreadable(&"it has a name of a kind that the federation does not use")),
            }
        }
        let party = party.ok_or_else(|| unreadable(&"it names no party of a federation"))?;
        Ok(Self {
            party,
            key,
            serial: parsed.raw_serial().to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            hosts,
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Reads the first certificate of a PEM text without asking who issued it.
    pub fn parse_pem(pem: &[u8]) -> Result<Self, CertificateProblem> {
        let der =
            CertificateDer::from_pem_slice(pem).map_err(|_| unreadable(&"there is no certificate in PEM"))?;
        Self::parse(&der)
    }

    /// Whom it stands for.
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// The Ed25519 key that it certifies.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Fingerprint of the key that it certifies.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_key(&self.key)
    }

    /// The bytes, in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The text, in PEM.
    pub fn pem(&self) -> String {
        crate::pem::encode("CERTIFICATE", &self.der)
    }

    /// Serial number in hexadecimal.
    pub fn serial(&self) -> String {
        hex(&self.serial)
    }

    /// Its first second, since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Its last second, since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Names and addresses under which the party may be dialled: of a coordinator.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    pub(crate) fn raw_serial(&self) -> &[u8] {
        &self.serial
    }

    pub(crate) fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Refuses a certificate outside its time.
    pub(crate) fn in_time(&self, now: i64) -> Result<(), CertificateProblem> {
        if now < self.not_before {
            return Err(CertificateProblem::NotYetValid { not_before: self.not_before });
        }
        if now > self.not_after {
            return Err(CertificateProblem::Expired { not_after: self.not_after });
        }
        Ok(())
    }
}

/// The authority of a federation, by its certificate: who decides which key belongs to which name.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    der: CertificateDer<'static>,
    key: [u8; 32],
    name: String,
    not_after: i64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("name", &self.name)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority's own certificate, which it signed itself.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateProblem> {
        let parsed = read(der)?;
        let key = ed25519(&parsed)?;
        if !parsed.is_ca() {
            return Err(unreadable(&"it is not an authority's"));
        }
        if parsed.issuer() != parsed.subject() || !signed(&parsed, &key) {
            return Err(CertificateProblem::WrongAuthority { issuer: parsed.issuer().to_string() });
        }
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            key,
            name: common_name(&parsed),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }

    /// Reads the first certificate of a PEM text that is an authority's.
    pub fn parse_pem(pem: &[u8]) -> Result<Self, CertificateProblem> {
        let mut problem = unreadable(&"there is no certificate in PEM");
        for der in CertificateDer::pem_slice_iter(pem).take(8) {
            match der.map_err(|_| unreadable(&"the PEM is damaged")).and_then(|der| Self::parse(&der)) {
                Ok(authority) => return Ok(authority),
                Err(found) => problem = found,
            }
        }
        Err(problem)
    }

    /// Name of the federation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fingerprint of its key.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_key(&self.key)
    }

    /// Its last second, since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The text, in PEM.
    pub fn pem(&self) -> String {
        crate::pem::encode("CERTIFICATE", &self.der)
    }

    pub(crate) fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Accepts a certificate that this authority issued, at `now` (seconds since 1970), unless it is
    /// revoked: right issuer, right signature, in time, no authority itself, for the use of its party
    /// alone (a site cannot answer as a coordinator, nor the other way round).
    pub fn verify(
        &self,
        der: &[u8],
        now: i64,
        revocations: Option<&Revocations>,
    ) -> Result<Certificate, CertificateProblem> {
        let parsed = read(der)?;
        let wrong = || CertificateProblem::WrongAuthority { issuer: parsed.issuer().to_string() };
        let own = read(&self.der)?;
        if parsed.issuer().as_raw() != own.subject().as_raw() || !signed(&parsed, &self.key) {
            return Err(wrong());
        }
        let certificate = Certificate::parse(der)?;
        if parsed.is_ca() {
            return Err(unreadable(&"it is an authority's"));
        }
        let usage = parsed
            .extended_key_usage()
            .map_err(|error| unreadable(&error))?
            .ok_or_else(|| unreadable(&"it does not say what it is for"))?;
        let right = match certificate.party {
            Party::Coordinator => usage.value.server_auth && !usage.value.client_auth,
            Party::Site(_) => usage.value.client_auth && !usage.value.server_auth,
        };
        if !right || usage.value.any {
            return Err(unreadable(&"it is for another use than its party's"));
        }
        certificate.in_time(now)?;
        if revocations.is_some_and(|list| list.contains(&certificate)) {
            return Err(CertificateProblem::Revoked);
        }
        Ok(certificate)
    }
}

/// The issuer that a certificate names, whoever it is: for telling whose it is.
pub(crate) fn issuer(der: &[u8]) -> String {
    read(der).map_or_else(|_| "an unreadable certificate".to_owned(), |parsed| parsed.issuer().to_string())
}

/// A moment in seconds since 1970, as people read it.
pub fn date(seconds: i64) -> String {
    let shown = time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|moment| moment.format(&time::format_description::well_known::Rfc3339).ok());
    shown.unwrap_or_else(|| format!("{seconds} s after 1970"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn unreadable(detail: &dyn std::fmt::Display) -> CertificateProblem {
    CertificateProblem::Unreadable { detail: detail.to_string() }
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, CertificateProblem> {
    if der.len() > LARGEST {
        return Err(unreadable(&format_args!("it has {} bytes, at most {LARGEST} are read", der.len())));
    }
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(unreadable(&"something follows it")),
        Err(error) => Err(unreadable(&error)),
    }
}

fn ed25519(parsed: &X509Certificate<'_>) -> Result<[u8; 32], CertificateProblem> {
    let public = parsed.public_key();
    if public.algorithm.algorithm.to_id_string() != ED25519 {
        return Err(unreadable(&"its key is not an Ed25519 key"));
    }
    public.subject_public_key.data.as_ref().try_into().map_err(|_| unreadable(&"its key has not 32 bytes"))
}

fn signed(parsed: &X509Certificate<'_>, key: &[u8; 32]) -> bool {
    // What follows the signed part is not signed itself: only the one spelling is right.
    let signature = &parsed.signature_value.data;
    let one_spelling = parsed.as_raw().ends_with(&[&SIGNATURE_PREFIX[..], signature].concat());
    one_spelling && valid_signature(key, parsed.tbs_certificate.as_ref(), signature)
}

/// Whether an Ed25519 signature is right, by the strict rules.
pub(crate) fn valid_signature(key: &[u8; 32], signed: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(key), Signature::from_slice(signature)) else {
        return false;
    };
    key.verify_strict(signed, &signature).is_ok()
}

fn common_name(parsed: &X509Certificate<'_>) -> String {
    let first = parsed.subject().iter_common_name().next();
    first.and_then(|name| name.as_str().ok()).unwrap_or("a federation").to_owned()
}
