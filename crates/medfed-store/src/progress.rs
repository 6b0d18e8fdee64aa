//! Where a run stands, so that it can go on after a stop: saved as a whole or not at all.

use crate::error::StoreError;
use crate::files::{Files, ModelHash};
use crate::reader::Reader;
use crate::store::{Failed, Store, json};
use medfed_types::RunId;
use rusqlite::Transaction;
use serde_json::Value;
use std::collections::HashSet;

/// The state of one owner: a site, or the coordinator.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressPart {
    /// Whose state.
    pub owner: String,
    /// Kind, round, step and whatever else is small.
    pub meta: Value,
    /// Parameter and optimiser buffers.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Replaces the saved state of a run by `parts`, one per owner, in one transaction: after a crash
    /// either all old parts are there or all new ones. Buffers that did not change are not written
    /// again.
    pub fn save_progress(&self, run: &RunId, parts: &[ProgressPart]) -> Result<(), StoreError> {
        self.change(run, |transaction, store| replace(transaction, store, run, parts))?;
        self.sweep()
    }

    /// Replaces one field of the small state of some owners, in one transaction; everything else that is
    /// saved stays. Fails where nothing is saved of an owner.
    pub fn amend_progress(
        &self,
        run: &RunId,
        field: &str,
        values: &[(String, Value)],
    ) -> Result<(), StoreError> {
        self.change(run, |transaction, _| {
            let sql =
                "UPDATE progress SET meta = json_set(meta, '$.' || ?, json(?)) WHERE run = ? AND owner = ?";
            for (owner, value) in values {
                let changed =
                    transaction.execute(sql, (field, json("progress", value)?, run.as_str(), owner))?;
                if changed == 0 {
                    return Err(rusqlite::Error::QueryReturnedNoRows.into());
                }
            }
            Ok(())
        })
    }

    /// Keeps a model under a label of its run, which may have had another model before, and returns
    /// its hash.
    pub fn put_model(&self, run: &RunId, label: &str, bytes: &[u8]) -> Result<ModelHash, StoreError> {
        let hash = self.change(run, |transaction, store| {
            let hash = Files::models(&store.dir).put(bytes)?;
            transaction.execute(
                "INSERT OR REPLACE INTO models (run, label, hash) VALUES (?, ?, ?)",
                (run.as_str(), label, hash.to_string()),
            )?;
            Ok(hash)
        })?;
        self.sweep()?;
        Ok(hash)
    }

    /// Removes content-addressed files that no row refers to.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        for (files, sql) in [
            (
                Files::blobs(self.dir()),
                "SELECT blob FROM progress UNION SELECT file FROM event_log WHERE file IS NOT NULL",
            ),
            (Files::models(self.dir()), "SELECT hash FROM models"),
        ] {
            let connection = self.connection();
            let names = connection
                .prepare_cached(sql)
                .and_then(|mut statement| {
                    statement.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<HashSet<String>>>()
                })
                .map_err(|error| self.failed(error))?;
            // The connection stays taken: no other thread adds a file between the query and the sweep.
            files.sweep(&names)?;
        }
        Ok(())
    }
}

/// Puts `parts` in the place of a run's saved state.
pub(crate) fn replace(
    transaction: &Transaction<'_>,
    store: &Reader,
    run: &RunId,
    parts: &[ProgressPart],
) -> Result<(), Failed> {
    let blobs = Files::blobs(&store.dir);
    transaction.execute("DELETE FROM progress WHERE run = ?", [run.as_str()])?;
    for part in parts {
        // The file is durable before the row that refers to it.
        let hash = blobs.put(&part.bytes)?;
        transaction.execute(
            "INSERT INTO progress (run, owner, meta, blob) VALUES (?, ?, ?, ?)",
            (run.as_str(), &part.owner, json("progress", &part.meta)?, hash.to_string()),
        )?;
    }
    Ok(())
}
