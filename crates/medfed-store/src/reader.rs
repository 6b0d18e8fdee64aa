//! Reading a results directory, with or without the right to write to it.

use crate::error::StoreError;
use crate::files::{Files, ModelHash};
use crate::progress::ProgressPart;
use crate::record::{Event, Round, Run, RunStatus, SiteRound, Timestamp};
use crate::schema;
use medfed_types::{RoundId, RunId, Seed, SiteId};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const DATABASE: &str = "medfed.sqlite";
pub(crate) const LOCK: &str = "medfed.lock";
/// How long a connection waits for another's transaction.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Reads runs, rounds, events, resume states and models. [`Store`](crate::Store) dereferences to it.
#[derive(Debug)]
pub struct Reader {
    pub(crate) dir: PathBuf,
    pub(crate) path: PathBuf,
    connection: Mutex<Connection>,
}

impl Reader {
    /// Opens a results directory for reading, also while another process writes to it.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(DATABASE);
        let missing = || StoreError::Missing { dir: dir.to_owned() };
        if !path.exists() {
            return Err(missing());
        }
        let failed = |error| StoreError::database(&path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        // Format 0 is a database whose maker was stopped before its first transaction.
        if schema::check(&connection, &path)? == 0 {
            return Err(missing());
        }
        Ok(Self::over(dir, path, connection))
    }

    pub(crate) fn over(dir: &Path, path: PathBuf, connection: Connection) -> Self {
        Self { dir: dir.to_owned(), path, connection: Mutex::new(connection) }
    }

    /// The results directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.select(&format!("{RUN} ORDER BY created, id"), (), |row| self.run_of(row))
    }

    /// One run.
    pub fn run(&self, id: &RunId) -> Result<Run, StoreError> {
        let found = self.select(&format!("{RUN} WHERE id = ?"), [id.as_str()], |row| self.run_of(row))?;
        match found.into_iter().next() {
            Some(run) => Ok(run),
            None => Err(self.unknown(id)),
        }
    }

    /// The newest run that can go on and has saved where it stands.
    pub fn latest_resumable(&self) -> Result<Option<Run>, StoreError> {
        let sql = format!(
            "{RUN} WHERE status IN ('running', 'interrupted') AND id IN (SELECT run FROM progress)
             ORDER BY created DESC, id DESC LIMIT 1"
        );
        Ok(self.select(&sql, (), |row| self.run_of(row))?.pop())
    }

    /// The rounds of a run, in order.
    pub fn rounds(&self, run: &RunId) -> Result<Vec<Round>, StoreError> {
        self.rounds_from(run, RoundId(0))
    }

    /// The rounds of a run from `first` on, in order: for whoever has read the earlier ones, which do not
    /// change any more.
    pub fn rounds_from(&self, run: &RunId, first: RoundId) -> Result<Vec<Round>, StoreError> {
        let sql = "SELECT round, report FROM rounds WHERE run = ? AND round >= ? ORDER BY round";
        self.select(sql, (run.as_str(), first.0), |row| {
            Ok(Round { round: RoundId(self.column(row, 0)?), report: self.json(row, 1, "round")? })
        })
    }

    /// What the sites did in the rounds of a run, in order of round and site.
    pub fn site_rounds(&self, run: &RunId) -> Result<Vec<SiteRound>, StoreError> {
        let sql = "SELECT round, site, report FROM site_rounds WHERE run = ? ORDER BY round, site";
        self.select(sql, [run.as_str()], |row| {
            Ok(SiteRound {
                round: RoundId(self.column(row, 0)?),
                site: self.parsed(row, 1)?,
                report: self.json(row, 2, "site round")?,
            })
        })
    }

    /// The ledger records of a run by site, oldest first.
    pub fn ledgers(&self, run: &RunId) -> Result<BTreeMap<SiteId, Vec<Vec<u8>>>, StoreError> {
        let sql = "SELECT site, record FROM ledger WHERE run = ? ORDER BY site, position";
        let rows = self.select(sql, [run.as_str()], |row| {
            Ok((self.parsed::<SiteId>(row, 0)?, self.column::<Vec<u8>>(row, 1)?))
        })?;
        let mut ledgers: BTreeMap<SiteId, Vec<Vec<u8>>> = BTreeMap::new();
        for (site, record) in rows {
            ledgers.entry(site).or_default().push(record);
        }
        Ok(ledgers)
    }

    /// The JSON text kept for a run under a name, if there is one.
    pub fn document(&self, run: &RunId, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT json FROM documents WHERE run = ? AND name = ?";
        self.optional_documents(|| self.select(sql, (run.as_str(), name), |row| self.column(row, 0)))
            .map(|mut found| found.pop())
    }

    /// The names of the documents of a run, in order.
    pub fn documents(&self, run: &RunId) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM documents WHERE run = ? ORDER BY name";
        self.optional_documents(|| self.select(sql, [run.as_str()], |row| self.column(row, 0)))
    }

    /// Nothing from a database that nobody has written to since documents exist: a reader does not
    /// migrate.
    fn optional_documents<T>(
        &self,
        read: impl FnOnce() -> Result<Vec<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'documents'";
        if self.select(sql, (), |_| Ok(()))?.is_empty() { Ok(Vec::new()) } else { read() }
    }

    /// The events of a run, oldest first.
    pub fn events(&self, run: &RunId) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT time, round, kind, detail FROM events WHERE run = ? ORDER BY number";
        self.select(sql, [run.as_str()], |row| {
            Ok(Event {
                time: Timestamp(self.column(row, 0)?),
                round: self.column::<Option<u32>>(row, 1)?.map(RoundId),
                kind: self.column(row, 2)?,
                detail: self.json(row, 3, "event")?,
            })
        })
    }

    /// Where a run stands, part by part in order of owners; empty when nothing was saved.
    pub fn load_progress(&self, run: &RunId) -> Result<Vec<ProgressPart>, StoreError> {
        let sql = "SELECT owner, meta, blob FROM progress WHERE run = ? ORDER BY owner";
        let blobs = Files::blobs(&self.dir);
        self.select(sql, [run.as_str()], |row| {
            let hash: ModelHash = self.parsed(row, 2)?;
            let bytes =
                blobs.get(hash)?.ok_or_else(|| StoreError::MissingModel { path: blobs.path(hash) })?;
            Ok(ProgressPart { owner: self.column(row, 0)?, meta: self.json(row, 1, "progress")?, bytes })
        })
    }

    /// The models of a run by label, in order of labels.
    pub fn models(&self, run: &RunId) -> Result<Vec<(String, ModelHash)>, StoreError> {
        let sql = "SELECT label, hash FROM models WHERE run = ? ORDER BY label";
        self.select(sql, [run.as_str()], |row| Ok((self.column(row, 0)?, self.parsed(row, 1)?)))
    }

    /// The bytes of a model, checked against its hash.
    pub fn get_model(&self, hash: ModelHash) -> Result<Vec<u8>, StoreError> {
        let models = Files::models(&self.dir);
        models.get(hash)?.ok_or_else(|| StoreError::MissingModel { path: models.path(hash) })
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere rolled its transaction back: the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::database(&self.path, error)
    }

    pub(crate) fn unknown(&self, id: &RunId) -> StoreError {
        let ids = self.select("SELECT id FROM runs", (), |row| self.parsed::<RunId>(row, 0));
        let likeness = |other: &RunId| strsim::jaro_winkler(other.as_str(), id.as_str());
        let nearest = ids
            .unwrap_or_default()
            .into_iter()
            .filter(|other| likeness(other) > 0.7)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        StoreError::UnknownRun { id: id.clone(), nearest }
    }

    /// All rows of a query. `read` must not query: the connection is taken.
    pub(crate) fn select<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(sql).map_err(|error| self.failed(error))?;
        let mut rows = statement.query(parameters).map_err(|error| self.failed(error))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    pub(crate) fn column<T: FromSql>(&self, row: &Row<'_>, index: usize) -> Result<T, StoreError> {
        row.get(index).map_err(|error| self.failed(error))
    }

    /// A column that holds the text of a checked type.
    pub(crate) fn parsed<T>(&self, row: &Row<'_>, index: usize) -> Result<T, StoreError>
    where
        T: TryFrom<String, Error: std::fmt::Display>,
    {
        let text: String = self.column(row, index)?;
        T::try_from(text).map_err(|error| self.corrupt(error.to_string()))
    }

    fn corrupt(&self, detail: String) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), detail }
    }

    fn json(&self, row: &Row<'_>, index: usize, what: &'static str) -> Result<Value, StoreError> {
        let text: String = self.column(row, index)?;
        serde_json::from_str(&text).map_err(|source| StoreError::Json { what, source })
    }

    fn run_of(&self, row: &Row<'_>) -> Result<Run, StoreError> {
        let word: String = self.column(row, 4)?;
        let status = RunStatus::ALL.into_iter().find(|status| status.as_str() == word);
        let mut status = status.ok_or_else(|| self.corrupt(format!("a run has the status {word:?}")))?;
        // Whoever wrote "running" may have been killed; then nobody holds the lock.
        if status == RunStatus::Running && !self.has_writer() {
            status = RunStatus::Interrupted;
        }
        let summary: Option<String> = self.column(row, 7)?;
        let summary = summary.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Run {
            id: self.parsed(row, 0)?,
            name: self.column(row, 1)?,
            created: Timestamp(self.column(row, 2)?),
            finished: self.column::<Option<i64>>(row, 3)?.map(Timestamp),
            status,
            seed: Seed(self.column::<i64>(row, 5)?.cast_unsigned()),
            config: self.json(row, 6, "configuration")?,
            summary: summary.map_err(|source| StoreError::Json { what: "summary", source })?,
            rounds: self.column(row, 8)?,
        })
    }

    /// A number that changes whenever another connection has committed something.
    pub fn version(&self) -> Result<i64, StoreError> {
        let found = self.select("PRAGMA data_version", (), |row| self.column(row, 0))?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// Whether a process, this one included, holds the lock on the directory.
    fn has_writer(&self) -> bool {
        writer(&self.dir).is_some()
    }
}

/// The process that writes to a results directory, if there is one.
///
/// Its number comes from the lock file; `Some(None)` is a writer whose number cannot be read.
pub fn writer(dir: &Path) -> Option<Option<u32>> {
    let mut lock = File::open(dir.join(LOCK)).ok()?;
    lock.try_lock_shared().is_err().then(|| number(&mut lock))
}

/// The process that writes to a results directory or was the last to do so, where its number can be read.
pub fn last_writer(dir: &Path) -> Option<u32> {
    number(&mut File::open(dir.join(LOCK)).ok()?)
}

fn number(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    // A process number has at most ten digits; whatever else is in there is none.
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

const RUN: &str = "SELECT id, name, created, finished, status, seed, config, summary,
    (SELECT count(*) FROM rounds WHERE rounds.run = runs.id) FROM runs";
