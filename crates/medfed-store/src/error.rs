//! How storage fails.

use crate::files::ModelHash;
use medfed_types::RunId;
use std::path::{Path, PathBuf};

/// A failure of the store. Unless it says otherwise, the state is as it was before the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process writes to this directory.
    #[error("another medfed process is using {}", dir.display())]
    InUse {
        /// The results directory.
        dir: PathBuf,
    },
    /// The directory holds no runs.
    #[error("{} holds no runs", dir.display())]
    Missing {
        /// The results directory.
        dir: PathBuf,
    },
    /// A file or directory cannot be created or written.
    #[error("{} cannot be written", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No room is left.
    #[error("the disk that holds {} is full", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database is damaged or is something else.
    #[error("{} is not a sound medfed database: {detail}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong, in the words of the check that failed.
        detail: String,
    },
    /// A newer version of the program wrote the database.
    #[error("{} has format {found}, this program reads up to {supported}", path.display())]
    NewerVersion {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        supported: i64,
    },
    /// No run has this id.
    #[error("there is no run {id}")]
    UnknownRun {
        /// The id asked for.
        id: RunId,
        /// The most similar id.
        nearest: Option<RunId>,
    },
    /// The id is taken.
    #[error("there is a run {id} already")]
    DuplicateRun {
        /// The id.
        id: RunId,
    },
    /// The run has ended, so it takes no further records.
    #[error("run {id} has ended ({status})")]
    Ended {
        /// The run.
        id: RunId,
        /// How it ended.
        status: crate::record::RunStatus,
    },
    /// The ledger has grown under the writer's feet.
    #[error("ledger entry {position} cannot be written: the ledger has {found} entries")]
    LedgerPosition {
        /// Position that was to be written.
        position: usize,
        /// Entries found.
        found: usize,
    },
    /// A record of an event log is not as it was written.
    #[error("event {number} in the log of run {run} is damaged: {problem}")]
    EventLog {
        /// The run.
        run: RunId,
        /// The number of the record.
        number: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A model file is not there.
    #[error("the model file {} is missing", path.display())]
    MissingModel {
        /// Where it should be.
        path: PathBuf,
    },
    /// A content-addressed file does not have the content that its name says.
    #[error("{} is damaged: its SHA-256 is {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The digest of what is there.
        found: ModelHash,
    },
    /// A record cannot be written as JSON or read back.
    #[error("the {what} cannot be converted from or to JSON")]
    Json {
        /// The record.
        what: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
    /// The operating system gave no randomness for a site key.
    #[error("the operating system gave no randomness")]
    Randomness(#[from] rand::rngs::SysError),
    /// Another failure of the database.
    #[error("the database {} failed", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// Another failure of a file.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Names what the operating system reports about `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source: source.into() }
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
                Self::Unwritable { path, source: source.into() }
            }
            _ => Self::Io { path, source },
        }
    }

    /// Names what SQLite reports about the database at `path`.
    pub(crate) fn database(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, source: source.into() },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, detail: source.to_string() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::Unwritable { path, source: source.into() }
            }
            _ => Self::Database { path, source },
        }
    }
}
