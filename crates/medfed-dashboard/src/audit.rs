//! The audit log of a run, as it is in the results folder, and what `medfed audit verify` says about it.

use crate::app::App;
use medfed_audit::proof::{ProofProblem, Shown};
use medfed_audit::{
    AuditError, Entry, Expectations, Fault, InclusionProof, PublicKey, SignedCheckpoint, Source as _,
    Verdict, verify,
};
use medfed_store::{AuditFolder, StoreError};
use medfed_types::RunId;
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

/// Verifying reads everything and computes every ε anew: one at a time.
static VERIFYING: Semaphore = Semaphore::const_new(1);
/// Largest file of keys that is read: one line for each hospital.
const LARGEST_KEYS: usize = 1 << 20;

/// What a log says.
#[derive(Debug)]
pub(crate) struct AuditLog {
    /// The newest checkpoint.
    pub(crate) newest: SignedCheckpoint,
    /// Its keys, one a line.
    pub(crate) keys: String,
    /// Its entries, and what is wrong with them.
    pub(crate) verdict: Verdict,
}

impl AuditLog {
    /// Reads the log of a run; nothing where there is none.
    pub(crate) fn read(results: &Path, run: &RunId) -> Result<Option<Self>, AuditError> {
        let folder = folder(results, run);
        let Some(newest) = checkpoint(&folder, "checkpoint").map_err(AuditError::storage)? else {
            return Ok(None);
        };
        let keys = keys(&folder)?;
        match verify(&folder, &Expectations::default()) {
            Ok(verdict) => Ok(Some(Self { newest, keys, verdict })),
            Err(AuditError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Entries that are payments for privacy.
    pub(crate) fn payments(&self) -> usize {
        self.verdict.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Payment(_))).count()
    }
}

/// The newest checkpoint of the log of a run, unchecked; nothing where there is no log.
pub(crate) fn newest(results: &Path, run: &RunId) -> Result<Option<SignedCheckpoint>, AuditError> {
    checkpoint(&folder(results, run), "checkpoint").map_err(AuditError::storage)
}

/// Where the log of a run is, there or not.
pub(crate) fn folder(results: &Path, run: &RunId) -> AuditFolder {
    AuditFolder::at(results.join(medfed_store::audit::AUDIT).join(run.as_str()))
}

/// How many checkpoints the log of a run has, and those with these numbers, oldest first; nothing where
/// there is no log. A file that is no checkpoint is left out: verifying names it.
pub(crate) fn checkpoints(
    results: &Path,
    run: &RunId,
    wanted: Range<u64>,
) -> Result<Option<(u64, Vec<SignedCheckpoint>)>, AuditError> {
    let folder = folder(results, run);
    // Their names are their numbers of entries, with as many digits.
    let mut names = folder.list("checkpoints").map_err(AuditError::storage)?;
    if names.is_empty() {
        return Ok(None);
    }
    names.sort_unstable();
    let total = names.len() as u64;
    let within = |end: u64| usize::try_from(end.min(total)).unwrap_or(names.len());
    let read = names[within(wanted.start)..within(wanted.end)]
        .iter()
        .filter_map(|name| checkpoint(&folder, &format!("checkpoints/{name}")).transpose())
        .collect::<Result<_, _>>();
    Ok(Some((total, read.map_err(AuditError::storage)?)))
}

fn checkpoint(folder: &AuditFolder, path: &str) -> Result<Option<SignedCheckpoint>, StoreError> {
    let bytes = folder.read(path, medfed_audit::checkpoint::MAX_BYTES)?;
    Ok(bytes.and_then(|bytes| SignedCheckpoint::parse(&bytes).ok()))
}

/// An entry, proven by the keys that lie beside the log.
#[derive(Debug)]
pub(crate) struct Proven {
    /// What the proof shows.
    pub(crate) shown: Shown,
    /// The proof as a file has it.
    pub(crate) text: String,
}

/// Why an entry cannot be proven.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unproven {
    /// There is no log.
    #[error("this run has no audit log")]
    NoLog,
    /// The log cannot be read, or is not the one that was signed.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// The proof shows nothing.
    #[error(transparent)]
    Proof(#[from] ProofProblem),
}

/// Proves that an entry is in the log of a run.
pub(crate) fn prove(results: &Path, run: &RunId, index: u64) -> Result<Proven, Unproven> {
    let folder = folder(results, run);
    let keys = keys(&folder)?;
    let proof = match InclusionProof::of(&folder, index) {
        Err(AuditError::Missing { .. }) if !folder.dir().is_dir() => return Err(Unproven::NoLog),
        proof => proof?,
    };
    let keys: Vec<PublicKey> = keys.lines().filter_map(|line| PublicKey::parse(line).ok()).collect();
    Ok(Proven { shown: proof.verify(&keys)?, text: proof.to_text() })
}

/// The keys that lie beside a log, one a line.
fn keys(folder: &AuditFolder) -> Result<String, AuditError> {
    let keys = folder.read(medfed_audit::trail::KEYS, LARGEST_KEYS).map_err(AuditError::storage)?;
    Ok(String::from_utf8_lossy(&keys.unwrap_or_default()).into_owned())
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
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Found {
    /// Where.
    pub(crate) place: String,
    /// What.
    pub(crate) problem: String,
}

impl From<&Fault> for Found {
    fn from(fault: &Fault) -> Self {
        Self { place: fault.place.to_string(), problem: fault.problem.to_string() }
    }
}

/// Why a log was not verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unverified {
    /// There is none.
    #[error("this run has no audit log")]
    NoLog,
    /// The dashboard is ending.
    #[error("the dashboard is ending")]
    Ending,
    /// The verifier did not answer.
    #[error("the verifier did not answer: {said}")]
    Silent {
        /// What it said instead.
        said: String,
    },
    /// The verifier could not be started.
    #[error("the verifier could not be started")]
    Start(#[from] io::Error),
}

/// Verifies a log against signatures, ledgers and the saved model, by the program itself: what page and API
/// say is what the command line says.
pub(crate) async fn verified(app: &App, run: &RunId) -> Result<Verified, Unverified> {
    let turn = VERIFYING.acquire().await.map_err(|_| Unverified::Ending)?;
    let (app, run) = (app.clone(), run.clone());
    let work = move || {
        // Until the process has ended, also when nobody waits for its answer any more.
        let _turn = turn;
        let output = Command::new(app.control.program())
            .args(["audit", "verify", "--json", "--run", run.as_str()])
            .arg(app.source.dir())
            .stdin(Stdio::null())
            .output()?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let there = folder(app.source.dir(), &run).dir().is_dir();
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if there { Unverified::Silent { said } } else { Unverified::NoLog }
        })
    };
    // The task is not aborted; a panic goes where panics of handlers go.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
