//! The folder of a federation's authority.

use super::error::PkiError;
use super::key;
use super::request::{self, Request};
use super::roster::Roster;
use crate::certificate::{Authority, Certificate};
use crate::fingerprint::{Fingerprint, spki};
use crate::party::Party;
use crate::private_file::{self, FileError, Readers};
use medfed_types::SecretKey;
use rand::rand_core::TryRng as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, SubjectPublicKeyInfo,
};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The authority's private folder within a federation's.
const PRIVATE: &str = "authority";
const DAY: i64 = 24 * 60 * 60;
/// Certificates begin so many seconds before they are made: clocks differ.
const EARLIER: i64 = 60 * 60;

/// How a request is approved.
#[derive(Debug, Clone)]
pub struct Approval {
    /// Days from now until the certificate expires.
    pub valid_days: u32,
    /// The fingerprint that the site read out; the request must have it.
    pub fingerprint: Option<Fingerprint>,
    /// Revokes the certificates that the name has for other keys.
    pub replace: bool,
}

/// The authority: its key, and everything that it has issued.
///
/// `DIR/authority` is for its owner alone. What a coordinator needs lies beside it, in `DIR`:
/// `authority.crt`, `roster.json`, `crl.pem`; it is written anew by everything that changes it.
pub struct AuthorityFolder {
    folder: PathBuf,
    key: SecretKey,
    authority: Authority,
    roster: Roster,
    _lock: File,
}

impl AuthorityFolder {
    /// Makes the authority of a federation called `name`, valid for `valid_days` from `now` (seconds since
    /// 1970).
    pub fn create(folder: &Path, name: &str, valid_days: u32, now: i64) -> Result<Self, PkiError> {
        let private = folder.join(PRIVATE);
        private_file::folder(&private, Readers::Owner)?;
        let lock = locked(&private)?;
        let path = private.join("authority.key");
        let exists =
            path.try_exists().map_err(|source| FileError::Io { path: path.clone(), action: "read", source });
        if exists? {
            return Err(PkiError::Exists { path: private });
        }
        let key = SecretKey::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = request::distinguished(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        params.not_before = moment(now - EARLIER);
        params.not_after = moment(now + i64::from(valid_days) * DAY);
        let made = params.self_signed(&key::for_signing(&key)?)?;
        let crt = private.join("authority.crt");
        let authority = Authority::parse(made.der())
            .map_err(|problem| PkiError::Certificate { path: crt.clone(), problem })?;
        let this = Self { folder: folder.to_owned(), key, authority, roster: Roster::default(), _lock: lock };
        private_file::write(&crt, this.authority.pem().as_bytes(), Readers::Everybody)?;
        this.publish(now)?;
        // Last: an authority that is there has all its files.
        key::write(&path, &this.key)?;
        Ok(this)
    }

    /// Opens the authority in a federation's folder. Waits while another process works with it.
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        let private = folder.join(PRIVATE);
        let key_file = private.join("authority.key");
        if !private.is_dir() {
            return Err(FileError::Missing { path: key_file }.into());
        }
        let lock = locked(&private)?;
        let key = key::read(&key_file)?;
        let path = private.join("authority.crt");
        let pem = private_file::read(&path, Readers::Everybody, 64 << 10)?;
        let authority = Authority::parse_pem(&pem)
            .map_err(|problem| PkiError::Certificate { path: path.clone(), problem })?;
        let found = Fingerprint::of_key(&key::public(&key));
        if found != authority.fingerprint() {
            return Err(PkiError::OtherKey {
                path: key_file,
                key: found,
                certificate: authority.fingerprint(),
            });
        }
        let roster = Roster::read(&private.join("roster.json"))?;
        Ok(Self { folder: folder.to_owned(), key, authority, roster, _lock: lock })
    }

    /// Whether a federation's folder has its authority on this machine.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(PRIVATE).join("authority.key").exists()
    }

    /// Its certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What it has issued.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Certifies a request; the certificate is on the roster before it is handed out.
    pub fn approve(
        &mut self,
        request: &Request,
        approval: &Approval,
        now: i64,
    ) -> Result<Certificate, PkiError> {
        let found = request.fingerprint();
        if let Some(given) = approval.fingerprint.filter(|given| *given != found) {
            return Err(PkiError::OtherRequest { given, found });
        }
        let party = request.party();
        let other = self.roster.current(party, now).find(|it| it.key() != request.key());
        if let Some(fingerprint) = other.map(Certificate::fingerprint).filter(|_| !approval.replace) {
            return Err(PkiError::NameTaken { party: party.clone(), fingerprint });
        }
        let until = now + i64::from(approval.valid_days) * DAY;
        if until > self.authority.not_after() {
            return Err(PkiError::TooLong { authority: self.authority.not_after(), asked: until });
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = request::distinguished(&party.to_string());
        params.subject_alt_names = request::names(party, request.hosts())?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match party {
            Party::Coordinator => ExtendedKeyUsagePurpose::ServerAuth,
            Party::Site(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.serial_number = Some(serial()?);
        params.not_before = moment(now - EARLIER);
        params.not_after = moment(until);
        params.use_authority_key_identifier_extension = true;
        let subject = SubjectPublicKeyInfo::from_der(&spki(request.key()))?;
        let made = params.signed_by(&subject, &self.issuer()?)?;
        let unsound = |problem| PkiError::Certificate { path: self.folder.join(PRIVATE), problem };
        let certificate = self.authority.verify(made.der(), now, None).map_err(unsound)?;
        let mut roster = self.roster.clone();
        if approval.replace {
            roster.revoke(party, now, |it| it.key() != request.key());
        }
        roster.add(certificate.clone());
        self.keep(roster, now)?;
        Ok(certificate)
    }

    /// Revokes every certificate of a party; tells how many were not revoked before.
    pub fn revoke(&mut self, party: &Party, now: i64) -> Result<usize, PkiError> {
        let entries = self.roster.entries();
        if !entries.iter().any(|entry| entry.certificate.party() == party) {
            let known = entries.iter().filter_map(|entry| entry.certificate.party().site());
            let known: std::collections::BTreeSet<String> = known.map(ToString::to_string).collect();
            return Err(PkiError::Unknown { party: party.clone(), known: known.into_iter().collect() });
        }
        let mut roster = self.roster.clone();
        let revoked = roster.revoke(party, now, |_| true);
        self.keep(roster, now)?;
        Ok(revoked)
    }

    /// What is handed to the holder of a certificate: it, then the authority's own, in PEM.
    pub fn bundle(&self, certificate: &Certificate) -> String {
        certificate.pem() + &self.authority.pem()
    }

    fn keep(&mut self, roster: Roster, now: i64) -> Result<(), PkiError> {
        let before = std::mem::replace(&mut self.roster, roster);
        self.publish(now).inspect_err(|_| self.roster = before)
    }

    /// Writes the roster, then what others read.
    fn publish(&self, now: i64) -> Result<(), PkiError> {
        self.roster.write(&self.folder.join(PRIVATE).join("roster.json"))?;
        // The list of revocations before the public roster: a certificate that was replaced is refused first.
        private_file::write(
            &self.folder.join("crl.pem"),
            self.revocations(now)?.as_bytes(),
            Readers::Everybody,
        )?;
        self.roster.write(&self.folder.join("roster.json"))?;
        let crt = self.folder.join("authority.crt");
        Ok(private_file::write(&crt, self.authority.pem().as_bytes(), Readers::Everybody)?)
    }

    fn revocations(&self, now: i64) -> Result<String, PkiError> {
        let revoked = |entry: &super::roster::Entry| {
            Some(RevokedCertParams {
                serial_number: SerialNumber::from_slice(entry.certificate.raw_serial()),
                revocation_time: moment(entry.revoked?),
                reason_code: None,
                invalidity_date: None,
            })
        };
        let list = CertificateRevocationListParams {
            this_update: moment(now),
            next_update: moment(self.authority.not_after().max(now + DAY)),
            crl_number: SerialNumber::from_slice(&now.unsigned_abs().to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: self.roster.entries().iter().filter_map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer()?)?.pem()?)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        Ok(Issuer::from_ca_cert_der(self.authority.certificate_der(), key::for_signing(&self.key)?)?)
    }
}

fn locked(private: &Path) -> Result<File, PkiError> {
    let path = private.join("lock");
    let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    lock.and_then(|file| file.lock().map(|()| file)).map_err(|source| PkiError::Lock { path, source })
}

/// 126 random bits; the two leading ones make its length and sign always the same.
fn serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn moment(seconds: i64) -> OffsetDateTime {
    // Years beyond 9999 cannot be written into a certificate.
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
