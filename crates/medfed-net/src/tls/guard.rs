//! Whom the coordinator admits, by files that may change while it runs: the authority's certificate, the
//! list of revocations, the roster, and its own key and certificate.
//!
//! A file is read again when its time, size or number differs from the last time. A file that has become
//! unreadable changes nothing: what was read last goes on to hold, and the fault is logged.

use crate::certificate::{Authority, Certificate, CertificateProblem};
use crate::pki::{Holder, Identity, PkiError, Roster};
use crate::private_file::{self, Readers};
use crate::revocation::{self, Revocations};
use crate::tls::client::certified;
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// What tells whether a file is another one.
type Stamp = Option<(SystemTime, u64, u64)>;

#[derive(Debug)]
struct Watched<T> {
    path: PathBuf,
    stamp: Stamp,
    value: T,
}

impl<T> Watched<T> {
    fn read(path: PathBuf, read: impl FnOnce(&Path) -> Result<T, PkiError>) -> Result<Self, PkiError> {
        // Before reading: a change in between is seen next time.
        let stamp = stamp(&path);
        Ok(Self { value: read(&path)?, path, stamp })
    }

    fn refresh(&mut self, read: impl FnOnce(&Path) -> Result<T, PkiError>) {
        let stamp = stamp(&self.path);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        match read(&self.path) {
            Ok(value) => {
                tracing::info!("{} was read again", self.path.display());
                self.value = value;
            }
            Err(error) => tracing::error!("{error}; what was read before goes on to hold"),
        }
    }
}

#[derive(Debug)]
struct Files {
    own: Watched<Arc<CertifiedKey>>,
    revocations: Watched<Revocations>,
    roster: Watched<Roster>,
}

/// Whom the coordinator admits now.
#[derive(Debug)]
pub(crate) struct Guard {
    holder: Holder,
    authority: Authority,
    identity: Certificate,
    files: Mutex<Files>,
}

impl Guard {
    /// Reads the coordinator's folder.
    pub(crate) fn open(holder: &Holder, now: i64) -> Result<Self, PkiError> {
        let identity = holder.load(now)?;
        let authority = identity.authority().clone();
        let folder = holder.folder();
        let files = Files {
            own: Watched::read(holder.certificate_file(), |_| Ok(certified(&identity)))?,
            revocations: Watched::read(folder.join("crl.pem"), |path| revocations(path, &authority))?,
            roster: Watched::read(folder.join("roster.json"), Roster::read)?,
        };
        let identity = identity.certificate().clone();
        Ok(Self { holder: holder.clone(), authority, identity, files: Mutex::new(files) })
    }

    /// The authority.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The coordinator's certificate at the start.
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.identity
    }

    /// The coordinator's key and certificate, renewed or not.
    pub(crate) fn own(&self, now: i64) -> Arc<CertifiedKey> {
        let mut files = self.files();
        files.own.refresh(|_| {
            let identity: Identity = self.holder.load(now)?;
            Ok(certified(&identity))
        });
        files.own.value.clone()
    }

    /// Admits a certificate that is shown: issued by the authority, in time, not revoked, on the roster.
    pub(crate) fn admit(&self, der: &[u8], now: i64) -> Result<Certificate, CertificateProblem> {
        let certificate = self.authority.verify(der, now, None)?;
        self.still(&certificate, now)?;
        Ok(certificate)
    }

    /// Whether a certificate that was admitted before still is.
    pub(crate) fn still(&self, certificate: &Certificate, now: i64) -> Result<(), CertificateProblem> {
        certificate.in_time(now)?;
        let mut files = self.files();
        files.revocations.refresh(|path| revocations(path, &self.authority));
        files.roster.refresh(Roster::read);
        let entry = files.roster.value.entries().iter().find(|entry| entry.certificate == *certificate);
        if files.revocations.value.contains(certificate) || entry.is_some_and(|entry| entry.revoked.is_some())
        {
            return Err(CertificateProblem::Revoked);
        }
        if entry.is_none() { Err(CertificateProblem::NotOnRoster) } else { Ok(()) }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // A panic while reading leaves what was read before.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn revocations(path: &Path, authority: &Authority) -> Result<Revocations, PkiError> {
    let bytes = private_file::read(path, Readers::Everybody, revocation::LARGEST)?;
    Revocations::parse(&bytes, authority)
        .map_err(|problem| PkiError::Certificate { path: path.to_owned(), problem })
}

fn stamp(path: &Path) -> Stamp {
    let metadata = path.metadata().ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0;
    Some((metadata.modified().ok()?, metadata.len(), number))
}
