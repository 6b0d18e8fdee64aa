//! The audit log of a run, as it is in the results folder, and what `medfed audit verify` says about it.

use medfed_audit::{AuditError, Entry, Expectations, SignedCheckpoint, Verdict, verify};
use medfed_store::{AuditFolder, StoreError};
use medfed_types::RunId;
use serde::Deserialize;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a log says.
#[derive(Debug)]
pub(crate) struct AuditLog {
    /// The newest checkpoint.
    pub(crate) newest: SignedCheckpoint,
    /// Its entries, and what is wrong with them.
    pub(crate) verdict: Verdict,
}

impl AuditLog {
    /// Reads the log of a run; nothing where there is none.
    pub(crate) fn read(results: &Path, run: &RunId) -> Result<Option<Self>, AuditError> {
        let folder = AuditFolder::at(results.join(medfed_store::audit::AUDIT).join(run.as_str()));
        let Some(newest) = checkpoint(&folder).map_err(|error| AuditError::Storage(Box::new(error)))? else {
            return Ok(None);
        };
        match verify(&folder, &Expectations::default()) {
            Ok(verdict) => Ok(Some(Self { newest, verdict })),
            Err(AuditError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Entries that are payments for privacy.
    pub(crate) fn payments(&self) -> usize {
        self.verdict.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Payment(_))).count()
    }
}

fn checkpoint(folder: &AuditFolder) -> Result<Option<SignedCheckpoint>, StoreError> {
    use medfed_audit::Source as _;
    let bytes = folder.read("checkpoint", medfed_audit::checkpoint::MAX_BYTES)?;
    Ok(bytes.and_then(|bytes| SignedCheckpoint::parse(&bytes).ok()))
}

/// What verifying found, as the program prints it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Verified {
    /// One for each log.
    pub(crate) logs: Vec<VerifiedLog>,
}

/// One log.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VerifiedLog {
    /// Whether nothing is wrong.
    pub(crate) sound: bool,
    /// What is wrong.
    pub(crate) faults: Vec<Found>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
}

/// One fault.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Found {
    /// Where.
    pub(crate) place: String,
    /// What.
    pub(crate) problem: String,
}

/// Verifies a log against signatures, ledgers and the saved model, by the program itself: what the page
/// says is what the command line says.
pub(crate) fn verified(program: &Path, results: &Path, run: &RunId) -> io::Result<Verified> {
    let output = Command::new(program)
        .args(["audit", "verify", "--json", "--run", run.as_str()])
        .arg(results)
        .stdin(Stdio::null())
        .output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
