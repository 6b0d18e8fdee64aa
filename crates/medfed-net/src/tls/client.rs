//! A site's side of the handshake.

use super::server::refusal;
use super::{ALPN, provider};
use crate::certificate::{Authority, Certificate, CertificateProblem};
use crate::fingerprint::Fingerprint;
use crate::party::Party;
use crate::pki::Identity;
use crate::problem::LinkProblem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};

/// Key and certificate as TLS wants them.
pub(crate) fn certified(identity: &Identity) -> Arc<CertifiedKey> {
    let key = crate::pki::for_tls(identity.key());
    let signing = rustls::crypto::ring::sign::any_supported_type(&key)
        .expect("a key of 32 bytes in PKCS #8 is an Ed25519 key");
    Arc::new(CertifiedKey::new(vec![identity.certificate().certificate_der().clone()], signing))
}

/// The settings of a site's side for one connection, and what it will have seen.
pub(crate) fn config(
    identity: &Identity,
    pinned: Option<Fingerprint>,
) -> Result<(rustls::ClientConfig, Arc<CoordinatorVerifier>), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority().certificate_der().clone())?;
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let verifier = Arc::new(CoordinatorVerifier {
        authority: identity.authority().clone(),
        pinned,
        chain,
        seen: Mutex::new(Seen::default()),
    });
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified(identity))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok((config, verifier))
}

/// What a handshake has shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The certificate that was shown, whatever it is, in DER.
    pub(crate) shown: Option<Vec<u8>>,
    /// The certificate, when it was accepted.
    pub(crate) accepted: Option<Certificate>,
    /// Why it was not.
    pub(crate) problem: Option<LinkProblem>,
}

/// Accepts the coordinator: certified as such by the site's own authority, for the host that was dialled,
/// with the pinned key if one is pinned.
#[derive(Debug)]
pub(crate) struct CoordinatorVerifier {
    authority: Authority,
    pinned: Option<Fingerprint>,
    chain: Arc<WebPkiServerVerifier>,
    seen: Mutex<Seen>,
}

impl CoordinatorVerifier {
    /// What the handshake has shown.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn judge(&self, der: &[u8], now: i64) -> Result<Certificate, LinkProblem> {
        let certificate = self.authority.verify(der, now, None).map_err(LinkProblem::Peer)?;
        if *certificate.party() != Party::Coordinator {
            return Err(LinkProblem::Peer(CertificateProblem::WrongParty {
                expected: Party::Coordinator.to_string(),
                found: certificate.party().to_string(),
            }));
        }
        let found = certificate.fingerprint();
        match self.pinned {
            Some(expected) if expected != found => Err(LinkProblem::Pinned { expected, found }),
            _ => Ok(certificate),
        }
    }
}

impl ServerCertVerifier for CoordinatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.judge(end_entity, now.as_secs().cast_signed()).and_then(|certificate| {
            let chain =
                self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            match chain {
                Ok(_) => Ok(certificate),
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Err(LinkProblem::Peer(CertificateProblem::WrongHost {
                    dialled: server_name.to_str().into_owned(),
                    names: match certificate.hosts() {
                        [] => "no host at all".to_owned(),
                        hosts => hosts.join(", "),
                    },
                })),
                Err(error) => {
                    Err(LinkProblem::Peer(CertificateProblem::Refused { detail: error.to_string() }))
                }
            }
        });
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.shown = Some(end_entity.to_vec());
        match judged {
            Ok(certificate) => {
                seen.accepted = Some(certificate);
                Ok(ServerCertVerified::assertion())
            }
            Err(problem) => {
                let refused = match &problem {
                    LinkProblem::Peer(problem) => refusal(problem),
                    _ => rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure),
                };
                seen.problem = Some(problem);
                Err(refused)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // All of them: an intercepting proxy's certificate must arrive to be named.
        self.chain.supported_verify_schemes()
    }
}
