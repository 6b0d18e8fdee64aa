//! The certificate that the dashboard shows: given, or made once and kept.

use super::private_file::{self, PrivateFileError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// File of the certificate that is made here.
const CERTIFICATE: &str = "tls-cert.pem";
/// File of its key.
const KEY: &str = "tls-key.pem";

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} holds no {expected} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        expected: &'static str,
    },
    /// The key cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Key and certificate do not belong together, or use algorithms that TLS does not.
    #[error("the certificate and its key cannot be used")]
    Unusable(#[from] rustls::Error),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

/// A certificate and its key, ready to serve.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(crate) config: Arc<rustls::ServerConfig>,
    fingerprint: String,
}

impl Identity {
    /// Reads a certificate chain and its private key, which nobody else may be able to read.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let failed = |source| TlsError::Read { path: certificate.to_owned(), source };
        let chain = fs::read(certificate).map_err(failed)?;
        let no = |path: &Path, expected| TlsError::Pem { path: path.to_owned(), expected };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .map_err(|_| no(certificate, "certificate"))?;
        let first = chain.first().ok_or_else(|| no(certificate, "certificate"))?;
        let fingerprint = fingerprint(first);
        let pem = private_file::read(key)?.ok_or_else(|| no(key, "private key"))?;
        let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no(key, "private key"))?;
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, secret)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), fingerprint })
    }

    /// Reads the certificate of the folder; makes one for these names and addresses where there is none.
    pub fn kept(folder: &Path, names: &[String]) -> Result<Self, TlsError> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        if !certificate.exists() {
            let made = rcgen::generate_simple_self_signed(names)?;
            private_file::write(&key, made.signing_key.serialize_pem().as_bytes())?;
            // Last: a certificate that is there has its key.
            private_file::write(&certificate, made.cert.pem().as_bytes())?;
        }
        Self::read(&certificate, &key)
    }

    /// SHA-256 of the certificate, as browsers show it: pairs of hexadecimal digits with colons.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().fold(String::new(), |mut text, byte| {
        let separator = if text.is_empty() { "" } else { ":" };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "192.0.2.7".to_owned()];
        let made = Identity::kept(folder.path(), &names).unwrap();
        let kept = Identity::kept(folder.path(), &names).unwrap();
        assert_eq!(made.fingerprint(), kept.fingerprint());
        assert_eq!(made.fingerprint().len(), 32 * 3 - 1);
        let other = tempfile::tempdir().unwrap();
        let another = Identity::kept(other.path(), &names).unwrap();
        assert_ne!(made.fingerprint(), another.fingerprint());
        let mixed = Identity::read(&folder.path().join(CERTIFICATE), &other.path().join(KEY));
        assert!(matches!(mixed, Err(TlsError::Unusable(_))));
        let swapped = Identity::read(&folder.path().join(KEY), &folder.path().join(CERTIFICATE));
        assert!(matches!(swapped, Err(TlsError::Pem { .. })));
    }
}
