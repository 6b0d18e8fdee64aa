//! An Ed25519 key in a file of PKCS #8 (RFC 8410, version 1), as OpenSSL writes it.

use super::error::PkiError;
use crate::private_file::{self, Readers};
use ed25519_dalek::SigningKey;
use medfed_types::SecretKey;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::Path;
use zeroize::Zeroizing;

/// The DER up to the 32 bytes of the seed.
const PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Makes a key and its file.
pub(super) fn make(path: &Path) -> Result<SecretKey, PkiError> {
    let key = SecretKey::generate()?;
    write(path, &key)?;
    Ok(key)
}

/// Writes a key for its owner alone.
pub(super) fn write(path: &Path, key: &SecretKey) -> Result<(), PkiError> {
    let pem = Zeroizing::new(crate::pem::encode("PRIVATE KEY", &der(key)));
    Ok(private_file::write(path, pem.as_bytes(), Readers::Owner)?)
}

/// Reads a key that nobody else can use.
pub(super) fn read(path: &Path) -> Result<SecretKey, PkiError> {
    let pem = Zeroizing::new(private_file::read(path, Readers::Owner, 16 << 10)?);
    let wrong = || PkiError::NotAKey { path: path.to_owned() };
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| wrong())?;
    let seed = der.secret_pkcs8_der().strip_prefix(&PREFIX).ok_or_else(wrong)?;
    // The size is fixed: a file with a public key appended (version 2) is another form.
    Ok(SecretKey::from_bytes(seed.try_into().map_err(|_| wrong())?))
}

/// The public key.
pub(crate) fn public(key: &SecretKey) -> [u8; 32] {
    SigningKey::from_bytes(key.expose()).verifying_key().to_bytes()
}

/// The key as TLS wants it.
pub(crate) fn for_tls(key: &SecretKey) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der(key).to_vec()))
}

/// The key as certificates are signed with it.
pub(super) fn for_signing(key: &SecretKey) -> Result<rcgen::KeyPair, PkiError> {
    Ok(rcgen::KeyPair::try_from(der(key).as_slice())?)
}

fn der(key: &SecretKey) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([&PREFIX[..], key.expose()].concat())
}
