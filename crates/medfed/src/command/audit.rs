//! `medfed audit`: what happened in a run, and whether the log of it can be believed.

mod location;
mod report;
mod results_folder;

use crate::failure::Failure;
use crate::output::print;
use location::{Log, Opened, read_file};
use medfed_audit::{
    AuditError, Bundle, Digest, Expectations, InclusionProof, PublicKey, SignedCheckpoint, Verdict, verify,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Verify, show and hand on the audit log of a run.
///
/// A run writes down, as it goes, who took part under which rules, what each hospital's ledger paid for and
/// what became of the model. After every round the log is signed, also by every hospital that finds it to
/// continue what it saw before. docs/audit.md says what is in it and what it proves.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed audit verify                               every log of the folder results
  medfed audit verify results --key keys.txt        with keys that you have from the hospitals
  medfed audit verify results --since checkpoint    it continues the checkpoint that you kept
  medfed audit show --json | jq '.entries[].kind'
  medfed audit export --out run.audit               one file for another hospital
  medfed audit verify run.audit --key keys.txt      what it does with it, offline")]
pub(crate) struct AuditCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Verify(VerifyArgs),
    Show(ShowArgs),
    Prove(ProveArgs),
    Export(ExportArgs),
}

/// Which log.
#[derive(Debug, clap::Args)]
struct Where {
    /// Results folder, folder of a log, or file written by `medfed audit export`.
    #[arg(value_name = "PATH", default_value = "results")]
    path: PathBuf,
    /// The run, where a results folder holds several.
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Check a log, an exported log or a proof: signatures, entries, epsilon, models. Works offline.
///
/// Exit code 1 when anything is wrong; every fault is named with its place. Without --run every log of a
/// results folder is verified, and compared with the folder's database: what the ledgers paid for, what the
/// hospitals signed last, the saved model.
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    log: Where,
    /// File with public keys that you trust, one a line, as a log's file `keys` has them (repeatable).
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Checkpoint that you kept; the log must continue it (repeatable).
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// Model file that must be the one the run saved.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Print the entries of a log, checked or not.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    log: Where,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Write the proof that an entry is in a log: a file that is verified without the log.
#[derive(Debug, clap::Args)]
struct ProveArgs {
    /// Number of the entry, as `medfed audit show` counts.
    #[arg(value_name = "ENTRY")]
    entry: u64,
    #[command(flatten)]
    log: Where,
    /// File to write [default: stdout].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Write a log into one file, for whoever is to verify it elsewhere.
#[derive(Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    log: Where,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl AuditCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Verify(args) => verify_all(&args),
            Action::Show(args) => show(&args),
            Action::Prove(args) => prove(&args),
            Action::Export(args) => export(&args),
        }
    }
}

fn verify_all(args: &VerifyArgs) -> Result<(), Failure> {
    let keys = keys(&args.key)?;
    let since = args.since.iter().map(|path| checkpoint(path)).collect::<Result<Vec<_>, _>>()?;
    let logs = match location::open(&args.log.path, args.log.run.as_deref())? {
        Opened::Proof(proof) => return verify_proof(&args.log.path, &proof, &keys, args.json),
        Opened::Logs(logs) => logs,
    };
    let model = match args.model.as_deref() {
        Some(path) => Some((path, Digest::of(&read_file(path)?))),
        None => None,
    };
    if logs.len() > 1 && (model.is_some() || !since.is_empty()) {
        let runs: Vec<&str> = logs.iter().filter_map(|log| log.run.as_deref()).collect();
        let several = anyhow::anyhow!("{} holds the logs of several runs", args.log.path.display());
        return Err(Failure::user(several).hint(format!("choose one with --run: {}", runs.join(", "))));
    }
    let (mut texts, mut objects, mut unsound) = (Vec::new(), Vec::new(), 0);
    for log in &logs {
        let of_log: Vec<PublicKey> = match logs.len() {
            1 => keys.clone(),
            // Keys of the other logs of the folder are none of this one's.
            _ => keys.iter().filter(|key| log.owns(key)).cloned().collect(),
        };
        let expected = Expectations { keys: of_log, since: since.clone(), seen: Vec::new() };
        let mut faults: Vec<(String, String)> = Vec::new();
        let mut verdict = judge(log, &expected)?.unwrap_or_default();
        if verdict.summary.checkpoints == 0 && verdict.faults.is_empty() {
            faults.push((
                log.path().display().to_string(),
                "the log is missing or has no checkpoint".to_owned(),
            ));
        }
        if let Some((path, found)) = &model {
            faults.extend(model_fault(path, *found, &verdict));
        }
        faults.extend(results_folder::compare(log, &verdict)?);
        let found =
            verdict.faults.drain(..).map(|fault| (fault.place.to_string(), fault.problem.to_string()));
        faults.splice(0..0, found);
        unsound += usize::from(!faults.is_empty());
        if args.json {
            objects.push(report::verdict_json(log, &verdict, &faults));
        } else {
            texts.push(report::verdict_text(log, &verdict, &faults));
        }
    }
    print(&if args.json { report::pretty(&json!({ "logs": objects })) } else { texts.join("\n") })?;
    if unsound == 0 {
        return Ok(());
    }
    let failed = match logs.len() {
        1 => anyhow::anyhow!("the audit log is not sound"),
        all => anyhow::anyhow!("{unsound} of {all} audit logs are not sound"),
    };
    Err(Failure::user(failed).hint(
        "ask the other hospitals for the checkpoints that they signed: `medfed audit verify --since FILE` tells which copy was changed",
    ))
}

/// Verifies a log, again if it grew meanwhile: a run replaces unfinished files. Nothing where there is no
/// log.
fn judge(log: &Log, expected: &Expectations) -> Result<Option<Verdict>, Failure> {
    let mut left = 5;
    loop {
        let newest = log.newest()?;
        let mut expected = expected.clone();
        expected.seen = results_folder::signed(log)?;
        let verdict = match verify(log, &expected) {
            Ok(verdict) => verdict,
            Err(AuditError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(audit_failure(error, log.path())),
        };
        left -= 1;
        if verdict.faults.is_empty() || left == 0 || log.newest()? == newest {
            return Ok(Some(verdict));
        }
    }
}

fn model_fault(path: &Path, found: Digest, verdict: &Verdict) -> Option<(String, String)> {
    let place = path.display().to_string();
    match verdict.summary.finished.as_ref().map(|finished| finished.file) {
        Some(Some(file)) if file == found => None,
        Some(Some(file)) => Some((place, format!("its SHA-256 is {found}, the run saved {file}"))),
        Some(None) => Some((place, "the run saved no model".to_owned())),
        None => Some((place, "the run has not finished, so no model file belongs to it".to_owned())),
    }
}

fn verify_proof(path: &Path, proof: &InclusionProof, keys: &[PublicKey], json: bool) -> Result<(), Failure> {
    let shown = proof.verify(keys).map_err(|problem| {
        let hint = match &problem {
            medfed_audit::proof::ProofProblem::NoKey { .. } => {
                "give the log's public key with --key FILE; the file `keys` in the log's folder has it, a hospital that you trust is the better source"
            }
            _ => "ask for the proof again, or for the whole log (`medfed audit export`)",
        };
        Failure::user(anyhow::Error::new(problem).context(format!("{} proves nothing", path.display()))).hint(hint)
    })?;
    let signers: Vec<&str> = shown.signers.iter().map(medfed_audit::KeyName::as_str).collect();
    let entry = json!(shown.entry);
    print(&if json {
        report::pretty(&json!({
            "entry": shown.index, "size": shown.size, "signers": signers, "content": entry,
        }))
    } else {
        format!(
            "{}: entry {} is in the log of {} entries\nsigned by {}\n{}",
            path.display(),
            shown.index,
            shown.size,
            signers.join(", "),
            report::pretty(&entry),
        )
    })
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let log = one(&args.log)?;
    let verdict = judge(&log, &Expectations::default())?.ok_or_else(|| {
        let missing = AuditError::Missing { path: "checkpoint".to_owned() };
        audit_failure(missing, log.path())
    })?;
    print(&if args.json {
        report::pretty(&report::entries_json(&log, &verdict))
    } else {
        report::entries_text(&log, &verdict)
    })
}

fn prove(args: &ProveArgs) -> Result<(), Failure> {
    let log = one(&args.log)?;
    let proof = InclusionProof::of(&log, args.entry).map_err(|error| audit_failure(error, log.path()))?;
    match &args.out {
        Some(out) => crate::run::replace_file(out, proof.to_text().as_bytes()),
        None => print(&proof.to_text()),
    }
}

fn export(args: &ExportArgs) -> Result<(), Failure> {
    let log = one(&args.log)?;
    let bundle = Bundle::of(&log).map_err(|error| audit_failure(error, log.path()))?;
    let bytes = bundle.to_bytes().map_err(Failure::internal)?;
    crate::run::replace_file(&args.out, &bytes)
}

/// The log that is meant: the newest of a results folder.
fn one(log: &Where) -> Result<Log, Failure> {
    match location::open(&log.path, log.run.as_deref())? {
        Opened::Logs(mut logs) => Ok(logs.pop().expect("a folder without a log is refused")),
        Opened::Proof(_) => {
            let proof = anyhow::anyhow!("{} is a proof of one entry, not a log", log.path.display());
            Err(Failure::user(proof).hint("verify it with `medfed audit verify`"))
        }
    }
}

/// The keys in files, one a line; `#` begins a comment.
fn keys(paths: &[PathBuf]) -> Result<Vec<PublicKey>, Failure> {
    let mut keys: Vec<PublicKey> = Vec::new();
    for path in paths {
        let bytes = read_file(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = (1..).zip(text.lines().map(str::trim));
        let before = keys.len();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let key = PublicKey::parse(line).map_err(|problem| {
                let place = format!("{}:{number}", path.display());
                Failure::user(anyhow::anyhow!("{place}: not a public key: {problem}"))
                    .hint("a key is one line NAME+ID+BASE64, as in the file `keys` of a log's folder")
            })?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.len() == before {
            let none = anyhow::anyhow!("{} holds no key that was not given before", path.display());
            return Err(Failure::user(none).hint("a key is one line NAME+ID+BASE64"));
        }
    }
    Ok(keys)
}

fn checkpoint(path: &Path) -> Result<SignedCheckpoint, Failure> {
    SignedCheckpoint::parse(&read_file(path)?).map_err(|problem| {
        let place = path.display();
        Failure::user(anyhow::anyhow!("{place} is not a signed checkpoint: {problem}"))
            .hint("keep a copy of the file `checkpoint` in a log's folder")
    })
}

/// What a log that cannot be read asks of the user.
fn audit_failure(error: AuditError, path: &Path) -> Failure {
    let hint = match &error {
        AuditError::NoEntry { .. } => "`medfed audit show` lists the entries",
        AuditError::Storage(_) => "check the folder's owner and permissions",
        _ => "`medfed audit verify` names everything that is wrong with the log",
    };
    Failure::user(
        anyhow::Error::new(error).context(format!("the audit log {} cannot be used", path.display())),
    )
    .hint(hint)
}
