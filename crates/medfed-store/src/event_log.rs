//! The durable log of a process in a federation between machines: what it has received, in order, before it
//! did anything about it.
//!
//! A state machine that is given the state of the last commit and then the events of the log again is where
//! it was. Each record carries a running SHA-256 over all records since the log began, and the log's head
//! (its next number and its digest) is kept apart: a record that was changed, lost, swapped or cut off is
//! named when the log is read. Events of more than [`INLINE`] bytes lie in content-addressed files, which are
//! durable before the record that names them.
//!
//! [`Store::commit_logged`] writes what a commit leaves (reports, documents, state) and forgets the events
//! that led to it in one transaction.

use crate::error::StoreError;
use crate::files::{Files, ModelHash};
use crate::progress::ProgressPart;
use crate::reader::Reader;
use crate::record::{Run, Timestamp};
use crate::store::{Failed, Store, json};
use medfed_types::{RoundId, RunId, SiteId};
use rusqlite::{OptionalExtension, Transaction};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Events up to so many bytes lie in the database itself.
pub const INLINE: usize = 64 << 10;

/// An event as it was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its number, counted from 1 over the whole run.
    pub number: u64,
    /// When it was logged.
    pub time: Timestamp,
    /// What was logged.
    pub bytes: Vec<u8>,
}

/// What is reported of a round.
#[derive(Debug, Clone)]
pub struct RoundReports {
    /// The round.
    pub round: RoundId,
    /// Its report.
    pub report: Value,
    /// What each site did in it.
    pub sites: Vec<(SiteId, Value)>,
}

/// What a commit leaves of the events that led to it.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// What is reported of the round that ended; nothing where none ended.
    pub round: Option<RoundReports>,
    /// Documents by name, each as JSON text.
    pub documents: Vec<(String, String)>,
    /// The state from which the next events go on; it replaces all earlier state.
    pub state: Vec<ProgressPart>,
    /// The number of the last event that is part of the state.
    pub through: u64,
}

/// Where a log stands.
struct Head {
    next: u64,
    digest: Vec<u8>,
    /// The digest before the oldest record that is kept.
    base: Vec<u8>,
}

impl Store {
    /// Adds an event to the log of a run. When this returns, the event survives a crash and a loss of power.
    pub fn log_event(&self, run: &RunId, time: Timestamp, bytes: &[u8]) -> Result<u64, StoreError> {
        self.change(run, |transaction, store| {
            let head = head(transaction, run)?;
            let number = head.next;
            let digest = record_digest(&head.digest, number, time, &Sha256::digest(bytes));
            let (inline, file) = if bytes.len() > INLINE {
                // The file is durable before the row that refers to it.
                (None, Some(Files::blobs(&store.dir).put(bytes)?.to_string()))
            } else {
                (Some(bytes), None)
            };
            transaction.execute(
                "INSERT INTO event_log (run, number, time, event, file, digest) VALUES (?, ?, ?, ?, ?, ?)",
                (run.as_str(), number.cast_signed(), time.0, inline, file, digest.as_slice()),
            )?;
            transaction.execute(
                "INSERT INTO event_log_heads (run, next, digest, base) VALUES (?, ?, ?, ?)
                 ON CONFLICT (run) DO UPDATE SET next = excluded.next, digest = excluded.digest",
                (run.as_str(), (number + 1).cast_signed(), digest.as_slice(), &head.base),
            )?;
            Ok(number)
        })
    }

    /// Writes what a commit leaves and forgets the events that led to it: all of it or nothing.
    pub fn commit_logged(&self, run: &RunId, commit: &Commit) -> Result<(), StoreError> {
        self.change(run, |transaction, store| {
            let name = run.as_str();
            if let Some(RoundReports { round, report, sites }) = &commit.round {
                transaction.execute(
                    "INSERT OR REPLACE INTO rounds (run, round, report) VALUES (?, ?, ?)",
                    (name, round.0, json("round", report)?),
                )?;
                let sql = "INSERT OR REPLACE INTO site_rounds (run, round, site, report) VALUES (?, ?, ?, ?)";
                for (site, report) in sites {
                    let report = json("site round", report)?;
                    transaction.execute(sql, (name, round.0, site.as_str(), report))?;
                }
            }
            for (document, text) in &commit.documents {
                let sql = "INSERT OR REPLACE INTO documents (run, name, json) VALUES (?, ?, ?)";
                transaction.execute(sql, (name, document, text))?;
            }
            crate::progress::replace(transaction, store, run, &commit.state)?;
            forget(transaction, run, commit.through)
        })?;
        self.sweep()
    }
}

impl Store {
    /// The newest unfinished run whose process keeps a log of events.
    pub fn newest_logged_run(&self) -> Result<Option<Run>, StoreError> {
        let mut runs = self.runs()?;
        runs.retain(|run| run.status.is_resumable());
        while let Some(run) = runs.pop() {
            if self.log_head(&run.id)?.is_some() {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }
}

impl Reader {
    /// Gives the logged events of a run to `each`, oldest first. The log is checked as it is read;
    /// [`StoreError::EventLog`] names the record that is not as it was written.
    pub fn logged_events<E: From<StoreError>>(
        &self,
        run: &RunId,
        mut each: impl FnMut(LoggedEvent) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(head) = self.log_head(run)? else { return Ok(()) };
        let sql = "SELECT number, time, event, file, digest FROM event_log WHERE run = ? ORDER BY number";
        let rows = self.select(sql, [run.as_str()], |row| {
            Ok((
                self.column::<i64>(row, 0)?.cast_unsigned(),
                Timestamp(self.column(row, 1)?),
                self.column::<Option<Vec<u8>>>(row, 2)?,
                self.column::<Option<String>>(row, 3)?,
                self.column::<Vec<u8>>(row, 4)?,
            ))
        })?;
        let damaged = |number, problem| StoreError::EventLog { run: run.clone(), number, problem };
        let blobs = Files::blobs(&self.dir);
        let mut digest = head.base;
        let first = head.next - (rows.len() as u64).min(head.next);
        for (expected, (number, time, inline, file, kept)) in (first..).zip(rows) {
            if number != expected {
                return Err(damaged(expected, "it is missing").into());
            }
            let bytes = match (inline, file) {
                (Some(bytes), None) => bytes,
                (None, Some(name)) => {
                    let hash =
                        ModelHash::try_from(name).map_err(|_| damaged(number, "its file has no name"))?;
                    blobs.get(hash)?.ok_or_else(|| damaged(number, "its file is missing"))?
                }
                _ => return Err(damaged(number, "it has no content").into()),
            };
            digest = record_digest(&digest, number, time, &Sha256::digest(&bytes));
            if digest != kept {
                return Err(damaged(number, "its checksum is wrong").into());
            }
            each(LoggedEvent { number, time, bytes })?;
        }
        if digest != head.digest {
            return Err(damaged(head.next - 1, "it is missing").into());
        }
        Ok(())
    }

    /// The number of the newest event of a run, 0 before the first.
    pub fn newest_event(&self, run: &RunId) -> Result<u64, StoreError> {
        Ok(self.log_head(run)?.map_or(0, |head| head.next - 1))
    }

    fn log_head(&self, run: &RunId) -> Result<Option<Head>, StoreError> {
        let sql = "SELECT next, digest, base FROM event_log_heads WHERE run = ?";
        let found = self.select(sql, [run.as_str()], |row| {
            Ok(Head {
                next: self.column::<i64>(row, 0)?.cast_unsigned(),
                digest: self.column(row, 1)?,
                base: self.column(row, 2)?,
            })
        })?;
        Ok(found.into_iter().next())
    }
}

/// Where the log of a run stands; a log that nobody has written to begins with number 1.
fn head(transaction: &Transaction<'_>, run: &RunId) -> Result<Head, Failed> {
    let sql = "SELECT next, digest, base FROM event_log_heads WHERE run = ?";
    let found = transaction
        .query_row(sql, [run.as_str()], |row| {
            Ok(Head { next: row.get::<_, i64>(0)?.cast_unsigned(), digest: row.get(1)?, base: row.get(2)? })
        })
        .optional()?;
    Ok(found.unwrap_or_else(|| {
        let digest = Sha256::new_with_prefix(b"medfed event log v1\0").chain_update(run.as_str()).finalize();
        Head { next: 1, digest: digest.to_vec(), base: digest.to_vec() }
    }))
}

/// Removes the records up to `through`, whose digest becomes the base of the rest.
fn forget(transaction: &Transaction<'_>, run: &RunId, through: u64) -> Result<(), Failed> {
    let sql = "SELECT digest FROM event_log WHERE run = ? AND number = ?";
    let of = (run.as_str(), through.cast_signed());
    let digest: Option<Vec<u8>> = transaction.query_row(sql, of, |row| row.get(0)).optional()?;
    if let Some(digest) = digest {
        let sql = "UPDATE event_log_heads SET base = ? WHERE run = ?";
        transaction.execute(sql, (digest, run.as_str()))?;
        transaction.execute("DELETE FROM event_log WHERE run = ? AND number <= ?", of)?;
    }
    Ok(())
}

/// The running digest after a record.
fn record_digest(before: &[u8], number: u64, time: Timestamp, content: &[u8]) -> Vec<u8> {
    Sha256::new_with_prefix(b"medfed logged event v1\0")
        .chain_update(before)
        .chain_update(number.to_le_bytes())
        .chain_update(time.0.to_le_bytes())
        .chain_update(content)
        .finalize()
        .to_vec()
}
