//! A signing request (PKCS #10): a key that asks to be certified for a name.

use super::error::PkiError;
use super::key;
use crate::fingerprint::Fingerprint;
use crate::party::Party;
use medfed_types::SecretKey;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, PublicKeyData as _,
    SanType,
};
use std::net::IpAddr;

/// Largest request that is read, in bytes.
const LARGEST: usize = 64 << 10;

/// What a request asks for. The signature of the key itself was checked; whether the key belongs to whoever
/// bears the name is for people to find out, by the fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    party: Party,
    hosts: Vec<String>,
    key: [u8; 32],
}

impl Request {
    /// Reads a request in PEM. Only name, key and hosts are taken from it; everything else of the
    /// certificate is the authority's to decide.
    pub fn parse(pem: &[u8]) -> Result<Self, PkiError> {
        let wrong = |detail: &str| PkiError::Request { detail: detail.to_owned() };
        if pem.len() > LARGEST {
            return Err(wrong("it is larger than a request can be"));
        }
        let text = std::str::from_utf8(pem).map_err(|_| wrong("it is not text"))?;
        let parsed = CertificateSigningRequestParams::from_pem(text)
            .map_err(|error| PkiError::Request { detail: error.to_string() })?;
        if parsed.public_key.algorithm() != &rcgen::PKCS_ED25519 {
            return Err(wrong("its key is not an Ed25519 key"));
        }
        let key: [u8; 32] =
            parsed.public_key.der_bytes().try_into().map_err(|_| wrong("its key has not 32 bytes"))?;
        let (mut party, mut hosts) = (None, Vec::new());
        for name in &parsed.params.subject_alt_names {
            match name {
                SanType::URI(uri) => {
                    let named = Party::parse(uri.as_str())
                        .map_err(|error| PkiError::Request { detail: error.to_string() })?;
                    if party.replace(named).is_some() {
                        return Err(wrong("it names two parties"));
                    }
                }
                SanType::DnsName(name) => hosts.push(name.as_str().to_owned()),
                SanType::IpAddress(address) => hosts.push(address.to_string()),
                _ => return Err(wrong("it asks for a name of a kind that the federation does not use")),
            }
        }
        let party = party.ok_or_else(|| wrong("it names no party of a federation"))?;
        if party != Party::Coordinator && !hosts.is_empty() {
            return Err(wrong("only the coordinator's certificate has names of machines"));
        }
        Ok(Self { party, hosts, key })
    }

    /// Who asks.
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// Names and addresses of machines that it asks for.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Fingerprint of its key.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_key(&self.key)
    }

    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Writes a request of `key`, in PEM.
    pub(super) fn make(party: &Party, hosts: &[String], key: &SecretKey) -> Result<(Self, String), PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(&party.to_string());
        params.subject_alt_names = names(party, hosts)?;
        let pem = params.serialize_request(&key::for_signing(key)?)?.pem()?;
        Ok((Self { party: party.clone(), hosts: hosts.to_vec(), key: key::public(key) }, pem))
    }
}

/// A distinguished name of a common name alone.
pub(super) fn distinguished(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// The alternative names of a party's certificate.
pub(super) fn names(party: &Party, hosts: &[String]) -> Result<Vec<SanType>, PkiError> {
    let uri = party.uri().try_into()?;
    let mut names = vec![SanType::URI(uri)];
    for host in hosts {
        let wrong = || PkiError::Host { host: host.clone() };
        names.push(if let Ok(address) = host.parse::<IpAddr>() {
            SanType::IpAddress(address)
        } else {
            // The rules of TLS for names decide what can be dialled.
            rustls::pki_types::DnsName::try_from(host.as_str()).map_err(|_| wrong())?;
            SanType::DnsName(host.as_str().try_into().map_err(|_| wrong())?)
        });
    }
    Ok(names)
}
