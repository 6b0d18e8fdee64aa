//! Every certificate that the authority issued, and which of them it took back.

use super::error::PkiError;
use crate::certificate::Certificate;
use crate::party::Party;
use crate::private_file::{self, Readers};
use std::path::Path;

/// Largest roster that is read, in bytes: some thousand certificates.
const LARGEST: usize = 16 << 20;
/// Version of the file.
const VERSION: u32 = 1;

/// One certificate of the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The certificate.
    pub certificate: Certificate,
    /// When it was revoked, in seconds since 1970.
    pub revoked: Option<i64>,
}

/// The certificates of a federation, in the order in which they were issued. The file is public: it holds
/// names, keys and times, and every certificate in it carries the authority's signature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    entries: Vec<Entry>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RosterFile {
    version: u32,
    entries: Vec<EntryText>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryText {
    party: Party,
    certificate: String,
    revoked: Option<i64>,
}

impl Roster {
    /// Reads a roster's file.
    pub fn read(path: &Path) -> Result<Self, PkiError> {
        let bytes = private_file::read(path, Readers::Everybody, LARGEST)?;
        let wrong = |detail: String| PkiError::Roster { path: path.to_owned(), detail };
        let file: RosterFile = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if file.version != VERSION {
            return Err(wrong(format!("its version is {}, this program reads {VERSION}", file.version)));
        }
        let mut entries = Vec::with_capacity(file.entries.len());
        for (place, entry) in (1..).zip(file.entries) {
            let certificate = Certificate::parse_pem(entry.certificate.as_bytes())
                .map_err(|problem| wrong(format!("entry {place}: {problem}")))?;
            if *certificate.party() != entry.party {
                return Err(wrong(format!("entry {place}: the certificate is for {}", certificate.party())));
            }
            entries.push(Entry { certificate, revoked: entry.revoked });
        }
        Ok(Self { entries })
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), PkiError> {
        let entry = |entry: &Entry| EntryText {
            party: entry.certificate.party().clone(),
            certificate: entry.certificate.pem(),
            revoked: entry.revoked,
        };
        let file = RosterFile { version: VERSION, entries: self.entries.iter().map(entry).collect() };
        let text = serde_json::to_vec_pretty(&file).expect("names, texts and numbers are always JSON");
        Ok(private_file::write(path, &text, Readers::Everybody)?)
    }

    /// Every certificate, the oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether it lists exactly this certificate, not revoked.
    pub fn admits(&self, certificate: &Certificate) -> bool {
        self.entries.iter().any(|entry| entry.revoked.is_none() && entry.certificate == *certificate)
    }

    pub(super) fn add(&mut self, certificate: Certificate) {
        self.entries.push(Entry { certificate, revoked: None });
    }

    /// The certificates of a party that count at `now`: neither revoked nor expired.
    pub(super) fn current<'a>(&'a self, party: &'a Party, now: i64) -> impl Iterator<Item = &'a Certificate> {
        self.entries
            .iter()
            .filter(move |entry| entry.revoked.is_none() && entry.certificate.not_after() >= now)
            .map(|entry| &entry.certificate)
            .filter(move |certificate| certificate.party() == party)
    }

    /// Revokes every certificate of a party that `which` selects; tells how many were not revoked before.
    pub(super) fn revoke(&mut self, party: &Party, now: i64, which: impl Fn(&Certificate) -> bool) -> usize {
        let mut revoked = 0;
        for entry in &mut self.entries {
            if entry.certificate.party() == party && entry.revoked.is_none() && which(&entry.certificate) {
                entry.revoked = Some(now);
                revoked += 1;
            }
        }
        revoked
    }
}
