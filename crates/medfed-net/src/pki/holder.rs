//! The folder of whoever holds a certificate: a site, or the coordinator.

use super::error::PkiError;
use super::key;
use super::request::Request;
use crate::certificate::{Authority, Certificate, CertificateProblem};
use crate::fingerprint::Fingerprint;
use crate::party::Party;
use crate::private_file::{self, FileError, Readers};
use medfed_types::SecretKey;
use std::fs;
use std::path::{Path, PathBuf};

/// Largest file of certificates that is read, in bytes.
const LARGEST: usize = 64 << 10;

/// A key with the certificate that the authority gave it.
pub struct Identity {
    key: SecretKey,
    certificate: Certificate,
    authority: Authority,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Identity {
    /// Whose it is.
    pub fn party(&self) -> &Party {
        self.certificate.party()
    }

    /// The seed of its Ed25519 key.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The authority that it was enrolled with.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

/// The folder of a holder: `site.key`, `site.crt`, `authority.crt`, or the same with `coordinator`.
#[derive(Debug, Clone)]
pub struct Holder {
    folder: PathBuf,
    stem: &'static str,
}

impl Holder {
    /// A site's folder.
    pub fn site(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), stem: "site" }
    }

    /// The coordinator's folder.
    pub fn coordinator(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), stem: "coordinator" }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// File of the key.
    pub fn key_file(&self) -> PathBuf {
        self.file("key")
    }

    /// File of the certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.file("crt")
    }

    /// File of the signing request.
    pub fn request_file(&self) -> PathBuf {
        self.file("csr")
    }

    /// File of the authority's certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.join("authority.crt")
    }

    /// Key of a request that asks for a new one, until its certificate is installed.
    fn next_key_file(&self) -> PathBuf {
        self.file("key.next")
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.stem))
    }

    /// Makes a signing request and writes it to [`Holder::request_file`]. The key is made where there is
    /// none; with `new_key` another one is made, which takes the old one's place when its certificate is
    /// installed. A folder holds one party.
    pub fn request(&self, party: &Party, hosts: &[String], new_key: bool) -> Result<Request, PkiError> {
        private_file::folder(&self.folder, Readers::Owner)?;
        if let Some(found) = self.holds()?.filter(|found| found != party) {
            return Err(PkiError::OtherParty { path: self.folder.clone(), expected: party.clone(), found });
        }
        let present = self.key_file().exists();
        let path = if new_key && present { self.next_key_file() } else { self.key_file() };
        let key = if path.exists() { key::read(&path)? } else { key::make(&path)? };
        let (request, pem) = Request::make(party, hosts, &key)?;
        private_file::write(&self.request_file(), pem.as_bytes(), Readers::Everybody)?;
        Ok(request)
    }

    /// Whose folder this is, by its certificate or else by its request.
    pub fn holds(&self) -> Result<Option<Party>, PkiError> {
        if let Some(certificate) = self.certificate()? {
            return Ok(Some(certificate.party().clone()));
        }
        match private_file::read(&self.request_file(), Readers::Everybody, LARGEST) {
            Ok(pem) => Ok(Some(Request::parse(&pem)?.party().clone())),
            Err(FileError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The certificate of the folder, acceptable or not; nothing where there is none yet.
    pub fn certificate(&self) -> Result<Option<Certificate>, PkiError> {
        let path = self.certificate_file();
        match private_file::read(&path, Readers::Everybody, LARGEST) {
            Ok(pem) => Certificate::parse_pem(&pem)
                .map(Some)
                .map_err(|problem| PkiError::Certificate { path, problem }),
            Err(FileError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks and installs what the authority sent: the certificate, then the authority's own (PEM). Where
    /// the folder knows its authority, it must be the same; where it does not, `authority` is the fingerprint
    /// that it must have. Nothing changes when anything is wrong.
    pub fn install(
        &self,
        bundle: &[u8],
        authority: Option<Fingerprint>,
        now: i64,
    ) -> Result<Certificate, PkiError> {
        let refused = |problem| PkiError::Certificate { path: self.certificate_file(), problem };
        let sent = Authority::parse_pem(bundle).ok();
        let issuer = match self.authority() {
            Ok(known) => {
                let other = sent.as_ref().filter(|sent| sent.fingerprint() != known.fingerprint());
                match (other, authority) {
                    // Asked for by its fingerprint: a federation that changes its authority.
                    (Some(sent), Some(expected)) if sent.fingerprint() == expected => sent.clone(),
                    (Some(sent), _) => {
                        let (expected, found) = (known.fingerprint(), sent.fingerprint());
                        return Err(PkiError::OtherAuthority { expected, found });
                    }
                    (None, _) => known,
                }
            }
            Err(PkiError::File(FileError::Missing { .. })) => sent.ok_or_else(|| {
                refused(CertificateProblem::Unreadable {
                    detail: "the authority's own certificate does not come with it".to_owned(),
                })
            })?,
            Err(error) => return Err(error),
        };
        if let Some(expected) = authority.filter(|expected| *expected != issuer.fingerprint()) {
            return Err(PkiError::OtherAuthority { expected, found: issuer.fingerprint() });
        }
        let der = Certificate::parse_pem(bundle).map_err(refused)?;
        let certificate = issuer.verify(der.der(), now, None).map_err(refused)?;
        if let Some(expected) = self.holds()?.filter(|expected| expected != certificate.party()) {
            let found = certificate.party().clone();
            return Err(PkiError::OtherParty { path: self.folder.clone(), expected, found });
        }
        let (current, next) = (self.key_file(), self.next_key_file());
        let fits = |path: &Path| {
            let key = key::read(path)?;
            Ok::<_, PkiError>((
                key::public(&key) == *certificate.key(),
                Fingerprint::of_key(&key::public(&key)),
            ))
        };
        let next_fits = next.exists() && fits(&next)?.0;
        if !next_fits {
            let (right, key) = fits(&current)?;
            if !right {
                return Err(PkiError::OtherKey {
                    path: current,
                    key,
                    certificate: certificate.fingerprint(),
                });
            }
        }
        private_file::write(&self.authority_file(), issuer.pem().as_bytes(), Readers::Everybody)?;
        if next_fits {
            let failed = |source| FileError::Io { path: current.clone(), action: "written", source };
            fs::rename(&next, &current).map_err(failed)?;
        }
        private_file::write(&self.certificate_file(), certificate.pem().as_bytes(), Readers::Everybody)?;
        Ok(certificate)
    }

    /// The authority that the folder was enrolled with.
    pub fn authority(&self) -> Result<Authority, PkiError> {
        let path = self.authority_file();
        let pem = private_file::read(&path, Readers::Everybody, LARGEST)?;
        Authority::parse_pem(&pem).map_err(|problem| PkiError::Certificate { path, problem })
    }

    /// Reads key and certificate and checks that they can be used at `now` (seconds since 1970).
    pub fn load(&self, now: i64) -> Result<Identity, PkiError> {
        let path = self.certificate_file();
        let key = key::read(&self.key_file())?;
        let authority = self.authority()?;
        let found = self.certificate()?.ok_or_else(|| FileError::Missing { path: path.clone() })?;
        let public = key::public(&key);
        if public != *found.key() {
            let key = Fingerprint::of_key(&public);
            return Err(PkiError::OtherKey { path: self.key_file(), key, certificate: found.fingerprint() });
        }
        let certificate = authority
            .verify(found.der(), now, None)
            .map_err(|problem| PkiError::Certificate { path, problem })?;
        Ok(Identity { key, certificate, authority })
    }
}
