//! `/api/audit`: the audit log of a run, page by page, with proofs, and the verifier's answer.

use super::asked::{Asked, Named};
use super::failure::Failure;
use crate::app::App;
use crate::audit::{self, AuditLog, Found, Unproven, Unverified};
use crate::view::RunView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medfed_audit::verify::Summary;
use medfed_audit::{AuditError, Entry, SignedCheckpoint};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Entries or checkpoints of one page at the most.
const LARGEST_PAGE: u64 = 1000;
/// Largest whole number that every program reads alike (RFC 8259, section 6).
const LARGEST_OFFSET: u64 = (1 << 53) - 1;

/// Which run.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfRun {
    /// The run's id; the newest run without it.
    run: Option<String>,
}

/// Which part of a long list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// The run's id; the newest run without it.
    run: Option<String>,
    /// Number of the first one to give, counted from 0.
    #[serde(default)]
    #[param(default = 0, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    offset: u64,
    /// How many to give at the most.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: u64,
}

fn hundred() -> u64 {
    100
}

/// The log in short.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Log {
    /// Always true.
    success: bool,
    /// The run.
    run: String,
    /// Whether nothing is wrong with the log by itself. `/api/audit/verify` compares it with ledgers and
    /// model as well.
    sound: bool,
    /// What is wrong.
    faults: Vec<Found>,
    /// What a reader should know.
    notes: Vec<String>,
    /// Entries under the newest checkpoint.
    tree_size: u64,
    /// Root of the tree over them (RFC 6962), in hexadecimal digits.
    root: String,
    /// The newest checkpoint as its file has it, with all signatures. Keep it: later ones must continue it.
    checkpoint: String,
    /// Public keys of the log and of the hospitals, one a line.
    keys: String,
    /// What the log says, in a few numbers.
    #[schema(value_type = Object)]
    summary: Summary,
}

/// Entries of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryPage {
    /// Always true.
    success: bool,
    /// The run.
    run: String,
    /// Entries that there are.
    total: u64,
    /// Number of the first one given.
    offset: u64,
    /// Entries in order, each with `index`, `kind` and what it says.
    #[schema(value_type = Vec<Object>)]
    entries: Vec<Value>,
}

/// Checkpoints of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointPage {
    /// Always true.
    success: bool,
    /// The run.
    run: String,
    /// Checkpoints that there are.
    total: u64,
    /// Number of the first one given.
    offset: u64,
    /// Oldest first.
    checkpoints: Vec<OneCheckpoint>,
}

/// A checkpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneCheckpoint {
    /// Entries under it.
    tree_size: u64,
    /// Root of the tree over them, in hexadecimal digits.
    root: String,
    /// Signatures under it.
    signatures: usize,
    /// The checkpoint as its file has it.
    text: String,
}

/// An entry with its proof.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProvenEntry {
    /// Always true.
    success: bool,
    /// The run.
    run: String,
    /// The entry, with `index`, `kind` and what it says.
    #[schema(value_type = Object)]
    entry: Value,
    /// Entries under the checkpoint of the proof.
    tree_size: u64,
    /// Keys of the log itself that have signed that checkpoint, by name.
    signed_by: Vec<String>,
    /// The proof, as `medfed audit prove` writes it and `medfed audit verify` reads it.
    proof: String,
}

/// What verifying found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Verification {
    /// Always true: it was verified. `sound` is the answer.
    success: bool,
    /// The run.
    run: String,
    /// Whether nothing is wrong.
    sound: bool,
    /// What is wrong, and where.
    faults: Vec<Found>,
    /// What a reader should know.
    notes: Vec<String>,
}

/// The audit log of a run: its newest checkpoint, and what it says in short.
#[utoipa::path(get, path = "/api/audit", tag = "audit", params(OfRun), responses(
    (status = 200, description = "The log in short", body = Log),
    (status = 404, description = "There is no such run, or it has no audit log", body = Failure)))]
pub(crate) async fn log(State(app): State<App>, Asked(of): Asked<OfRun>) -> Result<Json<Log>, Failure> {
    let (run, log) = opened(&app, of.run).await?;
    let verdict = &log.verdict;
    Ok(Json(Log {
        success: true,
        run: run.run.id.to_string(),
        sound: verdict.faults.is_empty(),
        faults: verdict.faults.iter().map(Found::from).collect(),
        notes: verdict.notes.clone(),
        tree_size: log.newest.checkpoint().size,
        root: log.newest.checkpoint().root.to_string(),
        checkpoint: log.newest.to_text(),
        keys: log.keys.clone(),
        summary: verdict.summary.clone(),
    }))
}

/// Entries of the audit log, in order.
#[utoipa::path(get, path = "/api/audit/entries", tag = "audit", params(Part), responses(
    (status = 200, description = "A part of the entries", body = EntryPage),
    (status = 400, description = "`offset` or `limit` does not fit", body = Failure),
    (status = 404, description = "There is no such run, or it has no audit log", body = Failure)))]
pub(crate) async fn entries(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<EntryPage>, Failure> {
    let (from, to) = part.range()?;
    let (run, log) = opened(&app, part.run).await?;
    let wanted = log.verdict.entries.iter().filter(|(index, _)| (from..to).contains(index));
    Ok(Json(EntryPage {
        success: true,
        run: run.run.id.to_string(),
        total: log.verdict.summary.entries,
        offset: from,
        entries: wanted.map(|(index, entry)| shown(*index, entry)).collect(),
    }))
}

/// Checkpoints of the audit log: one for each round, each signed by the log and by the hospitals.
#[utoipa::path(get, path = "/api/audit/checkpoints", tag = "audit", params(Part), responses(
    (status = 200, description = "A part of the checkpoints", body = CheckpointPage),
    (status = 400, description = "`offset` or `limit` does not fit", body = Failure),
    (status = 404, description = "There is no such run, or it has no audit log", body = Failure)))]
pub(crate) async fn checkpoints(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<CheckpointPage>, Failure> {
    let (from, to) = part.range()?;
    let run = found(&app, part.run).await?;
    let (reading, id) = (app.clone(), run.run.id.clone());
    let read = blocking(move || audit::checkpoints(reading.source.dir(), &id, from..to)).await?;
    let (total, checkpoints) = read.map_err(|error| failed(&error))?.ok_or_else(no_log)?;
    Ok(Json(CheckpointPage {
        success: true,
        run: run.run.id.to_string(),
        total,
        offset: from,
        checkpoints: checkpoints.iter().map(OneCheckpoint::from).collect(),
    }))
}

/// One entry of the audit log, with the proof that it is in it.
#[utoipa::path(get, path = "/api/audit/entry/{index}", tag = "audit",
    params(("index" = u64, Path, description = "The entry's number, counted from 0"), OfRun),
    responses(
        (status = 200, description = "The entry and its proof", body = ProvenEntry),
        (status = 404, description = "There is no such run, log or entry", body = Failure),
        (status = 409, description = "The log is not sound: nothing can be proven", body = Failure)))]
pub(crate) async fn entry(
    State(app): State<App>,
    Named(index): Named,
    Asked(of): Asked<OfRun>,
) -> Result<Json<ProvenEntry>, Failure> {
    let no_entry =
        || Failure::new(StatusCode::NOT_FOUND, "there is no such entry; /api/audit says how many there are");
    let index: u64 = index.parse().map_err(|_| no_entry())?;
    let run = found(&app, of.run).await?;
    let (reading, id) = (app.clone(), run.run.id.clone());
    let proven = blocking(move || audit::prove(reading.source.dir(), &id, index)).await?;
    let proven = proven.map_err(|error| match error {
        Unproven::Log(AuditError::NoEntry { .. }) => no_entry(),
        Unproven::NoLog => no_log(),
        Unproven::Log(AuditError::Storage(_)) => Failure::internal(&error),
        error => Failure::new(StatusCode::CONFLICT, format!("nothing can be proven: {error}")),
    })?;
    Ok(Json(ProvenEntry {
        success: true,
        run: run.run.id.to_string(),
        entry: shown(index, &proven.shown.entry),
        tree_size: proven.shown.size,
        signed_by: proven.shown.signers.iter().map(ToString::to_string).collect(),
        proof: proven.text,
    }))
}

/// Verify the audit log of a run against signatures, hospitals' ledgers and the saved model, as
/// `medfed audit verify` does.
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit", params(OfRun), responses(
    (status = 200, description = "What verifying found: `sound`, or `faults` that are named", body = Verification),
    (status = 404, description = "There is no such run, or it has no audit log", body = Failure)))]
pub(crate) async fn verify(
    State(app): State<App>,
    Asked(of): Asked<OfRun>,
) -> Result<Json<Verification>, Failure> {
    let run = found(&app, of.run).await?;
    let verified = match audit::verified(&app, &run.run.id).await {
        Ok(verified) => verified,
        Err(Unverified::NoLog) => return Err(no_log()),
        Err(error) => return Err(Failure::internal(&error)),
    };
    let faults: Vec<Found> = verified.logs.iter().flat_map(|log| log.faults.clone()).collect();
    Ok(Json(Verification {
        success: true,
        run: run.run.id.to_string(),
        sound: !verified.logs.is_empty() && verified.logs.iter().all(|log| log.sound),
        faults,
        notes: verified.logs.into_iter().flat_map(|log| log.notes).collect(),
    }))
}

impl Part {
    /// The numbers from the first to before the last.
    fn range(&self) -> Result<(u64, u64), Failure> {
        if !(1..=LARGEST_PAGE).contains(&self.limit) {
            let message = format!("limit must be a whole number from 1 to {LARGEST_PAGE}");
            return Err(Failure::new(StatusCode::BAD_REQUEST, message).about("limit"));
        }
        if self.offset > LARGEST_OFFSET {
            let message = format!("offset must be a whole number up to {LARGEST_OFFSET}");
            return Err(Failure::new(StatusCode::BAD_REQUEST, message).about("offset"));
        }
        Ok((self.offset, self.offset + self.limit))
    }
}

impl From<&SignedCheckpoint> for OneCheckpoint {
    fn from(signed: &SignedCheckpoint) -> Self {
        Self {
            tree_size: signed.checkpoint().size,
            root: signed.checkpoint().root.to_string(),
            signatures: signed.signatures().len(),
            text: signed.to_text(),
        }
    }
}

/// The run that is asked for.
async fn found(app: &App, id: Option<String>) -> Result<Arc<RunView>, Failure> {
    match id.filter(|id| !id.is_empty()) {
        Some(id) => super::runs::find(app, &id).await,
        None => app.view().latest().map(Arc::clone).ok_or_else(|| {
            Failure::new(StatusCode::NOT_FOUND, "there is no run yet: a run writes its audit log as it goes")
        }),
    }
}

/// The run that is asked for and its log.
async fn opened(app: &App, id: Option<String>) -> Result<(Arc<RunView>, Arc<AuditLog>), Failure> {
    let run = found(app, id).await?;
    let (reading, id) = (app.clone(), run.run.id.clone());
    let read = blocking(move || reading.source.audit(&id)).await?;
    Ok((run, read.map_err(|error| failed(&error))?.ok_or_else(no_log)?))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::internal(&error))
}

fn no_log() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "this run has no audit log; a run writes one while secure_aggregation.audit_enabled is true",
    )
}

/// A log whose files cannot be read.
fn failed(error: &AuditError) -> Failure {
    Failure::internal(error)
}

/// An entry for programs: what was logged as text of one form is shown as what it is.
fn shown(index: u64, entry: &Entry) -> Value {
    let mut value = json!(entry);
    value["index"] = json!(index);
    for key in ["json", "detail"] {
        if let Some(text) = value[key].as_str() {
            value[key] = serde_json::from_str(text).unwrap_or(Value::Null);
        }
    }
    value
}
