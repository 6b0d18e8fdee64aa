//! Verifying a log offline: everything that its bytes can show, without the program that wrote it.
//!
//! 1. Every checkpoint is signed by the log and by as many hospitals of the roster as the first entry asks.
//! 2. The entries give, by RFC 6962, the root of every checkpoint: each later one continues each earlier one,
//!    and a checkpoint that somebody kept. The tiles of hashes are those of the entries.
//! 3. The entries tell a possible run: roster, rounds in order, each model the result of the one
//!    before, everyone who took part has paid, ε as recomputed and within the budget.
//!
//! **In**: a [`Source`] and what the reader knows from elsewhere ([`Expectations`]). **Out**: a [`Verdict`].
//! Faults are collected, each with its place, and do not end the work.
//!
//! *Not shown*: that what was written was true, and that nothing was cut off after the newest checkpoint
//! that the reader has; a log that ends with the end of its run was not cut off.

mod course;
mod fault;
mod selections;

pub use course::{HospitalSummary, Summary};
pub use fault::{Fault, Place, Problem};

use crate::checkpoint::{self, Checkpoint, SignedCheckpoint};
use crate::entry::{Entry, Started};
use crate::error::{AuditError, FormatProblem};
use crate::log::{CHECKPOINTS, NEWEST, PENDING, checkpoint_path};
use crate::merkle::{Digest, Tree};
use crate::note::{KeyKind, KeyName, PublicKey};
use crate::storage::Source;
use crate::tile::{self, Row};
use course::CourseCheck;
use std::collections::{BTreeMap, BTreeSet};

/// Faults that are collected at the most.
const MAX_FAULTS: usize = 200;

/// What a reader knows besides the log.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    /// Keys of the log or of hospitals, from a source that the reader trusts.
    pub keys: Vec<PublicKey>,
    /// Checkpoints that the reader kept; the log has to continue them.
    pub since: Vec<SignedCheckpoint>,
    /// Checkpoints that the reader has signed, which need no signature to be believed.
    pub seen: Vec<Checkpoint>,
}

/// What verifying found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong; the log is sound when there is nothing.
    pub faults: Vec<Fault>,
    /// What a reader should know and what is no fault.
    pub notes: Vec<String>,
    /// What the log says.
    pub summary: Summary,
    /// The entries that could be read, with their numbers.
    pub entries: Vec<(u64, Entry)>,
}

/// Verifies a log. Fails only where it cannot be read at all.
pub fn verify(source: &impl Source, expected: &Expectations) -> Result<Verdict, AuditError> {
    let mut check = Check { source, faults: Vec::new(), notes: Vec::new() };
    let checkpoints = check.checkpoints()?;
    let size = checkpoints.last_key_value().map_or(0, |(size, _)| *size);
    let read = check.entries(size)?;
    check.tiles(size, &read, &checkpoints)?;
    let sound = check.roots(&read.tree, &checkpoints);
    let started = match read.entries.first() {
        Some((0, Entry::Started(started))) => Some(started),
        _ => None,
    };
    // The roster ends with the rules.
    let rules = read.entries.iter().find(|(_, entry)| matches!(entry, Entry::Rules(_)));
    let roster_holds = rules.is_some_and(|(index, _)| *index < sound);
    let (cosignatures, signed) =
        check.signatures(started, &read.entries, &checkpoints, expected, roster_holds);
    check.kept(&read.tree, size, started, expected);
    let pending = check.pending()?.filter(|pending| pending.size > size);
    for seen in &expected.seen {
        // A crash between a hospital's signature and the checkpoint with it leaves the one that is pending.
        if pending.as_ref() != Some(seen) {
            check.continues(&read.tree, size, seen);
        }
    }
    if let Some(pending) = pending {
        check.notes.push(format!(
            "{} entries after the newest checkpoint are not signed by the hospitals yet: the run is writing or was killed, and continues from there",
            pending.size - size
        ));
    }
    let mut course = CourseCheck::default();
    for (index, entry) in &read.entries {
        for problem in course.take(*index, entry) {
            check.fault(Place::Entry(*index), problem);
        }
    }
    let mut summary = course.finish();
    summary.entries = read.tree.len();
    summary.checkpoints = checkpoints.len();
    summary.cosignatures = cosignatures;
    summary.signed = signed;
    if summary.finished.is_none() {
        check.notes.push(
            "the log does not end with the end of its run: the run goes on, was stopped, or the end was cut off"
                .to_owned(),
        );
    }
    if expected.keys.is_empty() {
        check.notes.push(
            "the keys were taken from the log itself: give keys that you have from elsewhere to know whose log it is"
                .to_owned(),
        );
    }
    let Check { faults, notes, .. } = check;
    Ok(Verdict { faults, notes, summary, entries: read.entries })
}

/// The entries as they are in the files.
#[derive(Debug, Default)]
struct Read {
    tree: Tree,
    entries: Vec<(u64, Entry)>,
}

struct Check<'a, S> {
    source: &'a S,
    faults: Vec<Fault>,
    notes: Vec<String>,
}

impl<S: Source> Check<'_, S> {
    fn fault(&mut self, place: Place, problem: Problem) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { place, problem });
        }
    }

    /// Reads a file; what is wrong with its size is a fault.
    fn file(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, AuditError> {
        let bytes = self.source.read(path, limit).map_err(AuditError::storage)?;
        match bytes {
            Some(bytes) if bytes.len() > limit => {
                let (found, limit) = (bytes.len() as u64, limit as u64);
                let problem = Problem::Malformed { problem: FormatProblem::TooLarge { found, limit } };
                self.fault(Place::File(path.to_owned()), problem);
                Ok(None)
            }
            bytes => Ok(bytes),
        }
    }

    /// Reads a file that has to be there.
    fn needed(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, AuditError> {
        let bytes = self.file(path, limit)?;
        let place = Place::File(path.to_owned());
        if bytes.is_none() && !self.faults.iter().any(|fault| fault.place == place) {
            self.fault(place, Problem::Missing);
        }
        Ok(bytes)
    }

    fn checkpoint(&mut self, path: &str) -> Result<Option<SignedCheckpoint>, AuditError> {
        let Some(bytes) = self.file(path, checkpoint::MAX_BYTES)? else { return Ok(None) };
        match SignedCheckpoint::parse(&bytes) {
            Ok(signed) => Ok(Some(signed)),
            Err(problem) => {
                self.fault(Place::File(path.to_owned()), Problem::Malformed { problem });
                Ok(None)
            }
        }
    }

    /// Every checkpoint by its number of entries.
    fn checkpoints(&mut self) -> Result<BTreeMap<u64, SignedCheckpoint>, AuditError> {
        let mut found = BTreeMap::new();
        let mut names = self.source.list(CHECKPOINTS).map_err(AuditError::storage)?;
        names.sort_unstable();
        for name in names {
            let path = format!("{CHECKPOINTS}/{name}");
            let Some(signed) = self.checkpoint(&path)? else { continue };
            let size = signed.checkpoint().size;
            if checkpoint_path(size) == path {
                found.insert(size, signed);
            } else {
                self.fault(Place::File(path), Problem::Swapped { size });
            }
        }
        let newest_path = || Place::File(NEWEST.to_owned());
        let listed = found.last_key_value().map(|(_, signed)| signed.clone());
        match (self.checkpoint(NEWEST)?, listed) {
            (None, None) if self.faults.is_empty() => {
                return Err(AuditError::Missing { path: NEWEST.to_owned() });
            }
            (None, Some(_)) if !self.faults.iter().any(|fault| fault.place == newest_path()) => {
                self.fault(newest_path(), Problem::Missing);
            }
            (Some(newest), listed) => {
                let size = newest.checkpoint().size;
                match listed {
                    Some(listed) if listed.checkpoint().size > size && found.contains_key(&size) => {
                        let newest = listed.checkpoint().size;
                        // A crash between the two writes left the older one, and what was pending.
                        if self.pending()?.map(|pending| pending.size) != Some(newest) {
                            self.fault(newest_path(), Problem::NotNewest { size, newest });
                        }
                    }
                    Some(_) if found.get(&size).is_some_and(|same| *same == newest) => {}
                    Some(_) if found.contains_key(&size) => {
                        self.fault(newest_path(), Problem::Differs { other: checkpoint_path(size) });
                    }
                    _ => {
                        self.fault(Place::File(checkpoint_path(size)), Problem::Missing);
                        found.insert(size, newest);
                    }
                }
            }
            _ => {}
        }
        Ok(found)
    }

    /// Reads the entries of the newest checkpoint, as far as they are there.
    fn entries(&mut self, size: u64) -> Result<Read, AuditError> {
        let mut read = Read::default();
        for tile in tile::of_row(Row::Entries, 0, size) {
            let place = Place::File(tile.path());
            let Some(bytes) = self.needed(&tile.path(), tile::MAX_ENTRIES)? else { break };
            let (entries, problem) = tile::scan_entries(&bytes, tile.width);
            for bytes in entries {
                let index = read.tree.len();
                read.tree.push(Digest::of_leaf(bytes));
                match Entry::decode(bytes) {
                    Ok(entry) => read.entries.push((index, entry)),
                    Err(problem) => self.fault(Place::Entry(index), Problem::Unreadable { problem }),
                }
            }
            if let Some(problem) = problem {
                // What follows would be counted wrongly.
                self.fault(place, Problem::Malformed { problem });
                break;
            }
        }
        Ok(read)
    }

    /// Compares the tiles of hashes with the entries. Where both differ, the newest checkpoint that knows
    /// the place tells which of them was changed.
    fn tiles(
        &mut self,
        size: u64,
        read: &Read,
        checkpoints: &BTreeMap<u64, SignedCheckpoint>,
    ) -> Result<(), AuditError> {
        let newest = checkpoints.get(&size).map(|signed| signed.checkpoint().root);
        let entries_hold = newest.is_some() && read.tree.root_at(size) == newest;
        let mut changed: Vec<u64> = Vec::new();
        for row in tile::rows(size).filter(|row| *row != Row::Entries) {
            for tile in tile::of_row(row, 0, size) {
                // Beyond the entries that are there, nothing can be compared.
                if tile.first() << row.height() >= read.tree.len() {
                    break;
                }
                let place = Place::File(tile.path());
                let Some(bytes) = self.needed(&tile.path(), tile::MAX_HASHES)? else { continue };
                let hashes = match tile::read_hashes(&bytes, tile.width) {
                    Ok(hashes) => hashes,
                    Err(problem) => {
                        self.fault(place, Problem::Malformed { problem });
                        continue;
                    }
                };
                for (index, hash) in (tile.first()..).zip(hashes) {
                    match read.tree.node(row.height(), index) {
                        None => break,
                        Some(node) if node == hash => {}
                        Some(_) if entries_hold => {
                            self.fault(place, Problem::HashChanged { index: index - tile.first() });
                            break;
                        }
                        Some(_) if row == Row::Hashes(0) => changed.push(index),
                        Some(_) => {}
                    }
                }
            }
        }
        for range in changed.chunk_by(|a, b| a + 1 == *b) {
            if let [first, .., last] = range {
                self.fault(Place::Entries(*first, *last), Problem::Changed);
            } else if let [only] = range {
                self.fault(Place::Entry(*only), Problem::Changed);
            }
        }
        Ok(())
    }

    /// Compares the root of every checkpoint with the entries; gives the newest that agrees.
    fn roots(&mut self, tree: &Tree, checkpoints: &BTreeMap<u64, SignedCheckpoint>) -> u64 {
        let agrees =
            |size: u64, signed: &SignedCheckpoint| tree.root_at(size) == Some(signed.checkpoint().root);
        let sound = checkpoints.iter().rev().find(|(size, signed)| agrees(**size, signed));
        let sound = sound.map_or(0, |(size, _)| *size);
        for (size, signed) in checkpoints.range(..sound) {
            if !agrees(*size, signed) {
                self.fault(Place::Checkpoint(*size), Problem::ForeignRoot);
            }
        }
        // Whatever is wrong with one entry is wrong with every checkpoint from there on: once is enough.
        let mut wrong = checkpoints.range(sound + 1..);
        if let Some((size, _)) = wrong.next() {
            let (later, found) = (wrong.count(), tree.len());
            let problem = if *size > found {
                Problem::EntriesMissing { found }
            } else {
                Problem::Root { sound, later }
            };
            self.fault(Place::Checkpoint(*size), problem);
        }
        sound
    }

    /// Checks the signatures of all checkpoints; gives the number of hospitals' signatures that hold, and
    /// the time of the newest in seconds since 1970.
    fn signatures(
        &mut self,
        started: Option<&Started>,
        entries: &[(u64, Entry)],
        checkpoints: &BTreeMap<u64, SignedCheckpoint>,
        expected: &Expectations,
        roster_holds: bool,
    ) -> (usize, Option<u64>) {
        let Some(started) = started else { return (0, None) };
        let name = KeyName::of_log(&started.run);
        let own = self.key(Place::Entry(0), name, KeyKind::Log, started.log_key, expected);
        let mut hospitals: BTreeMap<KeyName, PublicKey> = BTreeMap::new();
        for (index, entry) in entries {
            if let Entry::Hospital(hospital) = entry {
                let name = KeyName::of_site(&started.run, &hospital.site);
                let place = Place::Entry(*index);
                if let Some(key) = self.key(place, name.clone(), KeyKind::Cosigner, hospital.key, expected) {
                    hospitals.insert(name, key);
                }
            }
        }
        for key in &expected.keys {
            let known = own.iter().chain(hospitals.values()).any(|known| known.name() == key.name());
            if !known {
                self.fault(Place::Log, Problem::KeyUnused { name: key.name().clone() });
            }
        }
        let (mut sound, mut newest) = (0, None);
        for (size, signed) in checkpoints {
            let place = Place::Checkpoint(*size);
            let checkpoint = signed.checkpoint();
            if own.as_ref().is_some_and(|own| checkpoint.origin != *own.name()) {
                let problem = Problem::OtherLog { name: checkpoint.origin.clone() };
                self.fault(place.clone(), problem);
            }
            if own.as_ref().is_some_and(|own| !signed.is_signed_by(own)) {
                self.fault(place.clone(), Problem::Unsigned);
            }
            let text = checkpoint.text();
            let mut signers = BTreeSet::new();
            for signature in signed.signatures() {
                let name = signature.name();
                if own.as_ref().is_some_and(|own| own.is_named_by(signature)) {
                    continue;
                }
                match hospitals.get(name) {
                    Some(key) if key.verifies(&text, signature) => {
                        signers.insert(name.clone());
                        newest = newest.max(signature.time());
                    }
                    Some(_) => self.fault(place.clone(), Problem::Cosignature { name: name.clone() }),
                    None if roster_holds => {
                        self.fault(place.clone(), Problem::Stranger { name: name.clone() });
                    }
                    // The fault is that of the roster.
                    None => {}
                }
            }
            sound += signers.len();
            let required = usize::from(started.cosignatures);
            if signers.len() < required && roster_holds {
                let absent = hospitals.keys().filter(|name| !signers.contains(*name)).cloned().collect();
                let found = signers.len();
                self.fault(place, Problem::Cosignatures { found, required, absent });
            }
        }
        (sound, newest)
    }

    /// A key of the log, unless the reader knows another of that name.
    fn key(
        &mut self,
        place: Place,
        name: KeyName,
        kind: KeyKind,
        bytes: Digest,
        expected: &Expectations,
    ) -> Option<PublicKey> {
        let known = expected.keys.iter().find(|key| *key.name() == name && key.kind() == kind);
        match PublicKey::new(name, kind, bytes.as_bytes()) {
            Ok(key) => {
                if known.is_some_and(|known| *known != key) {
                    self.fault(place, Problem::KeyDiffers { name: key.name().clone() });
                }
                Some(known.cloned().unwrap_or(key))
            }
            Err(problem) => {
                self.fault(place, Problem::Malformed { problem });
                known.cloned()
            }
        }
    }

    /// The log continues every checkpoint that the reader kept.
    fn kept(&mut self, tree: &Tree, size: u64, started: Option<&Started>, expected: &Expectations) {
        for kept in &expected.since {
            let checkpoint = kept.checkpoint();
            let place = Place::Kept(checkpoint.size);
            let name = started.map(|started| KeyName::of_log(&started.run));
            if name.as_ref().is_some_and(|name| checkpoint.origin != *name) {
                self.fault(place, Problem::OtherLog { name: checkpoint.origin.clone() });
                continue;
            }
            let key = started.zip(name).and_then(|(started, name)| {
                let given = expected.keys.iter().find(|key| *key.name() == name).cloned();
                given.or_else(|| PublicKey::new(name, KeyKind::Log, started.log_key.as_bytes()).ok())
            });
            if key.is_some_and(|key| !kept.is_signed_by(&key)) {
                self.fault(place.clone(), Problem::Unsigned);
            }
            self.continues(tree, size, checkpoint);
        }
    }

    /// The log continues a checkpoint.
    fn continues(&mut self, tree: &Tree, size: u64, checkpoint: &Checkpoint) {
        let place = Place::Kept(checkpoint.size);
        if checkpoint.size > size {
            self.fault(place, Problem::RolledBack { size });
        } else if tree.root_at(checkpoint.size).is_some_and(|root| root != checkpoint.root) {
            self.fault(place, Problem::Forked);
        }
    }

    /// The checkpoint that hospitals have not signed yet, if there is one and its entries are all there.
    fn pending(&self) -> Result<Option<Checkpoint>, AuditError> {
        let read = |path: &str, limit| self.source.read(path, limit).map_err(AuditError::storage);
        let bytes = read(PENDING, checkpoint::MAX_BYTES)?;
        let signed = bytes.and_then(|bytes| SignedCheckpoint::parse(&bytes).ok());
        let Some(checkpoint) = signed.map(|signed| signed.checkpoint().clone()) else { return Ok(None) };
        let mut tree = Tree::default();
        for tile in tile::of_row(Row::Entries, 0, checkpoint.size) {
            let Some(bytes) = read(&tile.path(), tile::MAX_ENTRIES)? else { return Ok(None) };
            for entry in tile::scan_entries(&bytes, tile.width).0 {
                tree.push(Digest::of_leaf(entry));
            }
        }
        Ok((tree.root_at(checkpoint.size) == Some(checkpoint.root)).then_some(checkpoint))
    }
}

#[cfg(test)]
mod tests;
