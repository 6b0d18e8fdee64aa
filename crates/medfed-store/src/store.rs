//! Writing to a results directory, by one process at a time.

use crate::crash;
use crate::error::StoreError;
use crate::files::sync_directory;
use crate::reader::{DATABASE, LOCK, PATIENCE, Reader};
use crate::record::{RunRecord, RunStatus, Timestamp};
use crate::schema;
use medfed_types::{RoundId, RunId, SecretKey, SiteId};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use serde::Serialize;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroize;

/// The right to write to a results directory. Clones share it; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reader: Reader,
    /// Held, never read: the system releases it also when the process is killed.
    _lock: File,
}

impl Deref for Store {
    type Target = Reader;
    fn deref(&self) -> &Reader {
        &self.0.reader
    }
}

impl Store {
    /// Opens a results directory for writing and makes what is missing.
    ///
    /// Fails with [`StoreError::InUse`] while another process has it open. Runs that were `running`
    /// belong to a process that is gone: they are `interrupted` from now on. Files that nothing refers
    /// to are removed.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let lock = take_lock(dir)?;
        let path = dir.join(DATABASE);
        // SQLite keeps the mode that it finds, and gives it to the files beside the database.
        private_file(&path)?;
        let failed = |error| StoreError::database(&path, error);
        let mut connection = Connection::open(&path).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        schema::check(&connection, &path)?;
        for (pragma, value) in [
            ("journal_mode", "WAL"),
            ("synchronous", "FULL"),
            ("foreign_keys", "ON"),
            ("secure_delete", "ON"),
        ] {
            connection.pragma_update(None, pragma, value).map_err(failed)?;
        }
        schema::migrate(&mut connection, &path)?;
        connection
            .execute("UPDATE runs SET status = 'interrupted' WHERE status = 'running'", ())
            .map_err(failed)?;
        sync_directory(dir)?;
        let store = Self(Arc::new(Inner { reader: Reader::over(dir, path, connection), _lock: lock }));
        store.sweep()?;
        Ok(store)
    }

    /// Opens a results directory for reading only, also while another process writes to it.
    pub fn read_only(dir: impl AsRef<Path>) -> Result<Reader, StoreError> {
        Reader::open(dir.as_ref())
    }

    /// Records a new run as running.
    pub fn create_run(&self, run: &RunRecord) -> Result<(), StoreError> {
        let config = json("configuration", &run.config)?;
        let added = self
            .connection()
            .execute(
                "INSERT INTO runs (id, name, created, status, seed, config) VALUES (?, ?, ?, 'running', ?, ?)
                 ON CONFLICT DO NOTHING",
                (run.id.as_str(), &run.name, run.created.0, run.seed.0.cast_signed(), config),
            )
            .map_err(|error| self.failed(error))?;
        if added == 0 { Err(StoreError::DuplicateRun { id: run.id.clone() }) } else { Ok(()) }
    }

    /// Takes a stopped run up again: it has no end and no summary from now on.
    pub fn resume_run(&self, run: &RunId) -> Result<(), StoreError> {
        self.change(run, |transaction, _| {
            let sql = "UPDATE runs SET status = 'running', finished = NULL, summary = NULL WHERE id = ?";
            transaction.execute(sql, [run.as_str()])?;
            Ok(())
        })
    }

    /// Ends a run, or interrupts it.
    ///
    /// A run that cannot be resumed loses its resume state and its site keys, which are overwritten in
    /// the file.
    pub fn finish_run(
        &self,
        run: &RunId,
        status: RunStatus,
        finished: Timestamp,
        summary: &impl Serialize,
    ) -> Result<(), StoreError> {
        let summary = json("summary", summary)?;
        self.end(run, status, finished, Some(&summary))
    }

    /// Ends an interrupted run for good: it failed, keeps the summary it has, and loses its resume state
    /// and its site keys.
    pub fn abandon_run(&self, run: &RunId, finished: Timestamp) -> Result<(), StoreError> {
        self.end(run, RunStatus::Failed, finished, None)
    }

    fn end(
        &self,
        run: &RunId,
        status: RunStatus,
        finished: Timestamp,
        summary: Option<&str>,
    ) -> Result<(), StoreError> {
        self.change(run, |transaction, _| {
            transaction.execute(
                "UPDATE runs SET status = ?, finished = ?, summary = coalesce(?, summary) WHERE id = ?",
                (status.as_str(), finished.0, summary, run.as_str()),
            )?;
            if !status.is_resumable() {
                transaction.execute("DELETE FROM progress WHERE run = ?", [run.as_str()])?;
                transaction.execute("DELETE FROM site_secrets WHERE run = ?", [run.as_str()])?;
                transaction.execute("DELETE FROM audit_keys WHERE run = ?", [run.as_str()])?;
                transaction.execute("DELETE FROM run_secrets WHERE run = ?", [run.as_str()])?;
                transaction.execute("DELETE FROM event_log WHERE run = ?", [run.as_str()])?;
                transaction.execute("DELETE FROM event_log_heads WHERE run = ?", [run.as_str()])?;
            }
            Ok(())
        })?;
        if !status.is_resumable() {
            // The write-ahead log still has the pages with the keys. A reader can delay this; then the
            // last close does it.
            self.connection()
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
                .map_err(|error| self.failed(error))?;
        }
        self.sweep()
    }

    /// Records a round's report; a round that is repeated after a crash replaces its report.
    pub fn append_round(
        &self,
        run: &RunId,
        round: RoundId,
        report: &impl Serialize,
    ) -> Result<(), StoreError> {
        let report = json("round", report)?;
        self.change(run, |transaction, _| {
            let sql = "INSERT OR REPLACE INTO rounds (run, round, report) VALUES (?, ?, ?)";
            transaction.execute(sql, (run.as_str(), round.0, report))?;
            Ok(())
        })
    }

    /// Records what one site did in a round; a repeated round replaces it.
    pub fn append_site_round(
        &self,
        run: &RunId,
        round: RoundId,
        site: &SiteId,
        report: &impl Serialize,
    ) -> Result<(), StoreError> {
        let report = json("site round", report)?;
        self.change(run, |transaction, _| {
            let sql = "INSERT OR REPLACE INTO site_rounds (run, round, site, report) VALUES (?, ?, ?, ?)";
            transaction.execute(sql, (run.as_str(), round.0, site.as_str(), report))?;
            Ok(())
        })
    }

    /// Records something that happened.
    pub fn event(
        &self,
        run: &RunId,
        round: Option<RoundId>,
        time: Timestamp,
        kind: &str,
        detail: &impl Serialize,
    ) -> Result<(), StoreError> {
        let detail = json("event", detail)?;
        self.change(run, |transaction, _| {
            transaction.execute(
                "INSERT INTO events (time, run, round, kind, detail) VALUES (?, ?, ?, ?, ?)",
                (time.0, run.as_str(), round.map(|round| round.0), kind, detail),
            )?;
            Ok(())
        })
    }

    /// Keeps what was measured on a run as a whole (`fairness_report`, `mia_privacy_audit`) under a name,
    /// as JSON text; a later text under the same name replaces it.
    ///
    /// Unlike every other record it is also taken by a run that has ended: a model is audited afterwards.
    pub fn put_document(&self, run: &RunId, name: &str, text: &str) -> Result<(), StoreError> {
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map_err(|source| StoreError::Json { what: "document", source })?;
        let sql = "INSERT OR REPLACE INTO documents (run, name, json) SELECT id, ?, ? FROM runs WHERE id = ?";
        let written =
            self.connection().execute(sql, (name, text, run.as_str())).map_err(|error| self.failed(error))?;
        if written == 0 { Err(self.unknown(run)) } else { Ok(()) }
    }

    /// The noise key of a site, the same until the run ends. The first call keeps `given`, or a key
    /// from the operating system; later calls return what was kept.
    pub fn site_key(
        &self,
        run: &RunId,
        site: &SiteId,
        given: Option<SecretKey>,
    ) -> Result<SecretKey, StoreError> {
        self.change(run, |transaction, store| {
            let sql = "SELECT secret FROM site_secrets WHERE run = ? AND site = ?";
            let kept: Option<Vec<u8>> =
                transaction.query_row(sql, (run.as_str(), site.as_str()), |row| row.get(0)).optional()?;
            if let Some(mut kept) = kept {
                let key = <[u8; 32]>::try_from(kept.as_slice()).map(SecretKey::from_bytes);
                kept.zeroize();
                return key.map_err(|_| {
                    let detail = format!("the key of {site} does not have 32 bytes");
                    Failed::Store(StoreError::Corrupt { path: store.path.clone(), detail })
                });
            }
            let key = match given {
                Some(key) => key,
                None => SecretKey::generate().map_err(StoreError::from)?,
            };
            transaction.execute(
                "INSERT INTO site_secrets (run, site, secret) VALUES (?, ?, ?)",
                (run.as_str(), site.as_str(), key.expose()),
            )?;
            Ok(key)
        })
    }

    /// One transaction on a run that exists and has not ended; nothing of it stays when it fails.
    pub(crate) fn change<T>(
        &self,
        run: &RunId,
        work: impl FnOnce(&Transaction<'_>, &Reader) -> Result<T, Failed>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let done = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let sql = "SELECT status FROM runs WHERE id = ?";
            let word: Option<String> =
                transaction.query_row(sql, [run.as_str()], |row| row.get(0)).optional()?;
            let word = word.ok_or(Failed::UnknownRun)?;
            let ended = RunStatus::ALL.into_iter().find(|status| status.as_str() == word);
            if let Some(status) = ended.filter(|status| !status.is_resumable()) {
                return Err(StoreError::Ended { id: run.clone(), status }.into());
            }
            let result = work(&transaction, self)?;
            crash::point();
            transaction.commit()?;
            crash::point();
            Ok(result)
        })();
        drop(connection);
        done.map_err(|failed| match failed {
            Failed::Store(error) => error,
            Failed::Database(error) => self.failed(error),
            Failed::UnknownRun => self.unknown(run),
        })
    }
}

/// Why a transaction was rolled back.
pub(crate) enum Failed {
    Store(StoreError),
    Database(rusqlite::Error),
    UnknownRun,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// A record as JSON text.
pub(crate) fn json(what: &'static str, record: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|source| StoreError::Json { what, source })
}

/// Takes the directory's lock, which ends with the process whatever happens to it.
fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let mut lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| StoreError::io(&path, error))?;
    // A reader that looks whether there is a writer has the lock for an instant.
    for pause in [1, 5, 25, 125, 0] {
        match lock.try_lock() {
            Ok(()) => {
                // For whoever wants to ask this process to stop. A file that cannot hold a number is no
                // reason not to train.
                let _ =
                    lock.set_len(0).and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
                return Ok(lock);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(pause)),
            Err(TryLockError::Error(error)) => return Err(StoreError::io(&path, error)),
        }
    }
    Err(StoreError::InUse { dir: dir.to_owned() })
}

/// Makes sure that the file is there, for its owner's eyes only.
fn private_file(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| StoreError::io(path, error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_writer_is_known_while_it_writes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(crate::writer(dir.path()), None);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(crate::writer(dir.path()), Some(Some(std::process::id())));
        fs::write(dir.path().join(LOCK), "99999999999999999999").unwrap();
        assert_eq!(crate::writer(dir.path()), Some(None));
        drop(store);
        assert_eq!(crate::writer(dir.path()), None);
        assert_eq!(crate::last_writer(dir.path()), None, "the number cannot be read");
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(crate::last_writer(dir.path()), Some(std::process::id()));
    }

    #[test]
    fn the_version_changes_when_another_writes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let reader = Store::read_only(dir.path()).unwrap();
        let before = reader.version().unwrap();
        assert_eq!(reader.version().unwrap(), before);
        let record = RunRecord {
            id: RunId::try_from("new").unwrap(),
            name: String::new(),
            created: Timestamp(0),
            config: json!({}),
            seed: medfed_types::Seed(1),
        };
        store.create_run(&record).unwrap();
        assert_ne!(reader.version().unwrap(), before);
    }

    #[test]
    fn a_full_disk_is_named_and_leaves_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = RunId::try_from("full").unwrap();
        let record = RunRecord {
            id: id.clone(),
            name: String::new(),
            created: Timestamp(0),
            config: json!({}),
            seed: medfed_types::Seed(1),
        };
        store.create_run(&record).unwrap();
        store.append_round(&id, RoundId(1), &json!({ "auc": 0.5 })).unwrap();
        // SQLite answers a database that may not grow as it answers a disk that is full.
        store.connection().pragma_update(None, "max_page_count", 1).unwrap();
        let long = json!({ "note": "x".repeat(100_000) });
        let full = store.append_round(&id, RoundId(2), &long);
        assert!(matches!(full, Err(StoreError::DiskFull { .. })), "{full:?}");
        assert_eq!(store.rounds(&id).unwrap().len(), 1);
        store.connection().pragma_update(None, "max_page_count", 1_000_000).unwrap();
        store.append_round(&id, RoundId(2), &long).unwrap();
        assert_eq!(store.rounds(&id).unwrap().len(), 2);
        for (code, named) in [(28, true), (122, true), (5, false)] {
            let error = StoreError::io(dir.path(), std::io::Error::from_raw_os_error(code));
            assert_eq!(matches!(error, StoreError::DiskFull { .. }), named, "{error:?}");
        }
    }

    #[test]
    fn a_panic_inside_a_change_undoes_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = RunId::try_from("panic").unwrap();
        let (name, created, config) = (String::new(), Timestamp(0), json!({}));
        let seed = medfed_types::Seed(1);
        store.create_run(&RunRecord { id: id.clone(), name, created, config, seed }).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.change(&id, |transaction, _| -> Result<(), Failed> {
                transaction.execute("DELETE FROM runs", ())?;
                panic!("on purpose")
            })
        }));
        assert!(panicked.is_err());
        assert!(store.run(&id).is_ok());
    }
}
