//! The coordinator's side of the handshake.

use super::guard::Guard;
use super::{ALPN, provider};
use crate::certificate::CertificateProblem;
use crate::clock;
use crate::party::Party;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// The settings of the coordinator's side.
pub(crate) fn config(guard: &Arc<Guard>) -> Result<rustls::ServerConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(guard.authority().certificate_der().clone())?;
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(SiteVerifier { guard: guard.clone(), chain }))
        .with_cert_resolver(Arc::new(OwnCertificate(guard.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not be checked against revocations.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Shows the coordinator's certificate, the renewed one once it is there.
#[derive(Debug)]
struct OwnCertificate(Arc<Guard>);

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.own(clock::now()))
    }
}

/// Admits sites: the chain by the rules of the web, the rest by [`Guard::admit`].
#[derive(Debug)]
struct SiteVerifier {
    guard: Arc<Guard>,
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for SiteVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let admitted =
            self.guard.admit(end_entity, now.as_secs().cast_signed()).and_then(
                |certificate| match certificate.party() {
                    Party::Site(_) => Ok(certificate),
                    Party::Coordinator => Err(CertificateProblem::WrongParty {
                        expected: "a site".to_owned(),
                        found: certificate.party().to_string(),
                    }),
                },
            );
        match admitted {
            Ok(_) => self.chain.verify_client_cert(end_entity, intermediates, now),
            Err(problem) => Err(refusal(&problem)),
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
        self.chain.supported_verify_schemes()
    }
}

/// The refusal as TLS says it; the alert that follows from it tells the other side why.
pub(super) fn refusal(problem: &CertificateProblem) -> rustls::Error {
    rustls::Error::InvalidCertificate(match problem {
        CertificateProblem::WrongAuthority { .. } => CertificateError::UnknownIssuer,
        CertificateProblem::Expired { .. } => CertificateError::Expired,
        CertificateProblem::NotYetValid { .. } => CertificateError::NotValidYet,
        CertificateProblem::Revoked => CertificateError::Revoked,
        CertificateProblem::WrongHost { .. } => CertificateError::NotValidForName,
        CertificateProblem::NotOnRoster => CertificateError::ApplicationVerificationFailure,
        _ => CertificateError::BadEncoding,
    })
}
