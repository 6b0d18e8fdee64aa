//! Tables, and how a database of an older format becomes one of the newest.

use crate::error::StoreError;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// `MEDF`: marks the file as ours.
const APPLICATION: i64 = 0x4d45_4446;

/// Step n takes format n to format n + 1. Steps are never changed once released.
const MIGRATIONS: [&str; 4] = [
    // Main numbers of a round are columns for whoever queries the file; the report is their only source.
    "CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        created INTEGER NOT NULL,
        finished INTEGER,
        status TEXT NOT NULL,
        seed INTEGER NOT NULL,
        config TEXT NOT NULL,
        summary TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rounds (
        run TEXT NOT NULL REFERENCES runs,
        round INTEGER NOT NULL,
        report TEXT NOT NULL,
        status TEXT AS (report ->> '$.status'),
        epsilon REAL AS (report ->> '$.epsilon_total'),
        noise_multiplier REAL AS (report ->> '$.noise_multiplier'),
        train_loss REAL AS (report ->> '$.train_loss'),
        val_loss REAL AS (report ->> '$.val_loss'),
        accuracy REAL AS (report ->> '$.accuracy'),
        auc REAL AS (report ->> '$.auc'),
        PRIMARY KEY (run, round)
    ) WITHOUT ROWID;
    CREATE TABLE site_rounds (
        run TEXT NOT NULL REFERENCES runs,
        round INTEGER NOT NULL,
        site TEXT NOT NULL,
        report TEXT NOT NULL,
        PRIMARY KEY (run, round, site)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        time INTEGER NOT NULL,
        run TEXT NOT NULL REFERENCES runs,
        round INTEGER,
        kind TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_run ON events (run, number);
    CREATE TABLE ledger (
        run TEXT NOT NULL REFERENCES runs,
        site TEXT NOT NULL,
        position INTEGER NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (run, site, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE site_secrets (
        run TEXT NOT NULL REFERENCES runs,
        site TEXT NOT NULL,
        secret BLOB NOT NULL,
        PRIMARY KEY (run, site)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE progress (
        run TEXT NOT NULL REFERENCES runs,
        owner TEXT NOT NULL,
        meta TEXT NOT NULL,
        blob TEXT NOT NULL,
        PRIMARY KEY (run, owner)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE models (
        run TEXT NOT NULL REFERENCES runs,
        label TEXT NOT NULL,
        hash TEXT NOT NULL,
        PRIMARY KEY (run, label)
    ) STRICT, WITHOUT ROWID;",
    // What was measured on a run as a whole, also after its end: one JSON text under each name.
    "CREATE TABLE documents (
        run TEXT NOT NULL REFERENCES runs,
        name TEXT NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (run, name)
    ) STRICT, WITHOUT ROWID;",
    // Who signs the audit log of a run, what it commits to, and what each site has signed.
    "CREATE TABLE audit_keys (
        run TEXT NOT NULL REFERENCES runs,
        owner TEXT NOT NULL,
        secret BLOB NOT NULL,
        PRIMARY KEY (run, owner)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE audit_salts (
        run TEXT NOT NULL REFERENCES runs,
        owner TEXT NOT NULL,
        secret BLOB NOT NULL,
        PRIMARY KEY (run, owner)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE signed_checkpoints (
        run TEXT NOT NULL REFERENCES runs,
        site TEXT NOT NULL,
        checkpoint TEXT NOT NULL,
        PRIMARY KEY (run, site)
    ) STRICT, WITHOUT ROWID;",
    // What a process of a federation between machines has received since its last commit, the secrets of its
    // runs, and when a ledger entry was paid.
    "CREATE TABLE event_log (
        run TEXT NOT NULL REFERENCES runs,
        number INTEGER NOT NULL,
        time INTEGER NOT NULL,
        event BLOB,
        file TEXT,
        digest BLOB NOT NULL,
        PRIMARY KEY (run, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE event_log_heads (
        run TEXT PRIMARY KEY REFERENCES runs,
        next INTEGER NOT NULL,
        digest BLOB NOT NULL,
        base BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE run_secrets (
        run TEXT NOT NULL REFERENCES runs,
        owner TEXT NOT NULL,
        secret BLOB NOT NULL,
        PRIMARY KEY (run, owner)
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE ledger ADD COLUMN paid INTEGER NOT NULL DEFAULT 0;",
];

/// The newest format.
pub(crate) const VERSION: i64 = (MIGRATIONS.len() as u32) as i64;

/// Refuses a database that is not ours, damaged, or newer than this program; returns its format.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let failed = |error| StoreError::database(path, error);
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let found = number("user_version").map_err(failed)?;
    let application = number("application_id").map_err(failed)?;
    let corrupt = |detail: &str| StoreError::Corrupt { path: path.to_owned(), detail: detail.to_owned() };
    if application != APPLICATION {
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        if (application, found, tables) != (0, 0, 0) {
            return Err(corrupt("another program made it"));
        }
    }
    if found > VERSION {
        return Err(StoreError::NewerVersion { path: path.to_owned(), found, supported: VERSION });
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(corrupt(&verdict));
    }
    usize::try_from(found).map_err(|_| corrupt("its format is below 0"))?;
    Ok(found)
}

/// Brings the database to the newest format, in one transaction.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = check(connection, path)?;
    if found == VERSION {
        return Ok(());
    }
    let failed = |error| StoreError::database(path, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for step in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)
}
