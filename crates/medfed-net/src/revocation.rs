//! Certificates that the authority took back: its certificate revocation list (RFC 5280, section 5).

use crate::certificate::{Authority, Certificate, CertificateProblem, unreadable, valid_signature};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::BTreeSet;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

/// Largest list that is read, in bytes: some hundred thousand entries.
pub(crate) const LARGEST: usize = 16 << 20;

/// The serial numbers that an authority revoked, read from a list that it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    serials: BTreeSet<Vec<u8>>,
    made: i64,
}

impl Revocations {
    /// Reads a list in PEM or DER that `authority` signed.
    pub fn parse(bytes: &[u8], authority: &Authority) -> Result<Self, CertificateProblem> {
        if bytes.len() > LARGEST {
            return Err(unreadable(&format_args!("the list has more than {LARGEST} bytes")));
        }
        let der = CertificateRevocationListDer::from_pem_slice(bytes)
            .unwrap_or_else(|_| CertificateRevocationListDer::from(bytes));
        let (rest, list) = CertificateRevocationList::from_der(&der)
            .map_err(|error| unreadable(&format_args!("the list of revocations is damaged: {error}")))?;
        if !rest.is_empty() {
            return Err(unreadable(&"something follows the list of revocations"));
        }
        let algorithm = list.signature_algorithm.algorithm.to_id_string() == "1.3.101.112";
        if !algorithm
            || !valid_signature(authority.key(), list.tbs_cert_list.as_ref(), &list.signature_value.data)
        {
            return Err(CertificateProblem::WrongAuthority { issuer: list.issuer().to_string() });
        }
        let serials = list.iter_revoked_certificates().map(|entry| entry.raw_serial().to_vec()).collect();
        Ok(Self { serials, made: list.last_update().timestamp() })
    }

    /// Whether a certificate is on the list.
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.serials.contains(certificate.raw_serial())
    }

    /// How many certificates are on the list.
    pub fn len(&self) -> usize {
        self.serials.len()
    }

    /// Whether nothing was revoked.
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }

    /// When the authority signed the list, in seconds since 1970. Of two lists the later one counts.
    pub fn made(&self) -> i64 {
        self.made
    }
}
