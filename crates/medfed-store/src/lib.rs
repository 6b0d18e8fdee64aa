//! What a run leaves behind: one SQLite file, content-addressed model files, and the lock that keeps a
//! second process out.
//!
//! Rounds, events, ledger entries and resume states enter, typed by their producers; the same leave
//! after a crash at any point, because everything that was acknowledged is durable and everything that
//! was not is absent. A results directory holds
//!
//! - `medfed.sqlite`: runs, rounds, events, ledgers, site keys, resume states, the log of a
//!   process in a federation between machines (mode 0600, since the site
//!   keys predict the noise while a run lasts);
//! - `models/<sha256>.safetensors`: models that [`Store::put_model`] was given;
//! - `blobs/<sha256>`: the buffers of resume states and large logged events;
//! - `audit/<run>/`: the audit log of each run;
//! - `medfed.lock`: held by the one process that writes.
//!
//! *Not protected*: whoever can read the directory while a run lasts can read the site keys and so
//! subtract the noise. A finished run's keys are overwritten in the file, which does not reach copies
//! that a file system or a disk keeps.

pub mod audit;
mod crash;
pub mod error;
pub mod event_log;
mod files;
pub mod ledger;
pub mod progress;
pub mod reader;
pub mod record;
mod schema;
pub mod store;

pub use audit::AuditFolder;
pub use error::StoreError;
pub use event_log::{Commit, LoggedEvent, RoundReports};
pub use files::ModelHash;
pub use ledger::{Payment, SqliteLedger};
pub use progress::ProgressPart;
pub use reader::{Reader, last_writer, writer};
pub use record::{Event, Round, Run, RunRecord, RunStatus, SiteRound, Timestamp};
pub use store::Store;
