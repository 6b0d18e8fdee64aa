//! Where a log is: in a results folder, in a folder of its own, in an exported file.

use crate::failure::Failure;
use medfed_audit::{Bundle, InclusionProof, KeyName, PublicKey, Source};
use medfed_store::audit::AUDIT;
use medfed_store::{AuditFolder, Reader, Store, StoreError};
use medfed_types::RunId;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a key file, a proof or an exported log at the most.
const MAX_FILE: u64 = 4 << 30;

/// What the path names.
pub(super) enum Opened {
    /// At least one log, the oldest first.
    Logs(Vec<Log>),
    /// The proof of an entry.
    Proof(Box<InclusionProof>),
}

/// A log that can be read.
pub(super) struct Log {
    path: PathBuf,
    files: Files,
    /// The run, where the folder's name says it.
    pub(super) run: Option<String>,
    /// The database beside it.
    pub(super) reader: Option<Arc<Reader>>,
}

enum Files {
    Folder(AuditFolder),
    Bundle(Bundle),
}

impl Log {
    fn folder(dir: &Path, run: Option<String>, reader: Option<Arc<Reader>>) -> Self {
        Self { path: dir.to_owned(), files: Files::Folder(AuditFolder::at(dir)), run, reader }
    }

    /// The folder or the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The newest checkpoint as it is in the file.
    pub(super) fn newest(&self) -> Result<Option<Vec<u8>>, Failure> {
        let limit = medfed_audit::checkpoint::MAX_BYTES;
        self.read("checkpoint", limit).map_err(crate::run::store_failure)
    }

    /// The run's id.
    pub(super) fn run_id(&self) -> Option<RunId> {
        self.run.as_deref().and_then(|run| RunId::try_from(run).ok())
    }

    /// Whether the key is of this log or of a hospital in it.
    pub(super) fn owns(&self, key: &PublicKey) -> bool {
        self.run_id().is_none_or(|run| {
            let log = KeyName::of_log(&run);
            let rest = key.name().as_str().strip_prefix(log.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Source for Log {
    type Error = StoreError;

    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.files {
            Files::Folder(folder) => folder.read(path, limit),
            Files::Bundle(bundle) => Ok(bundle.read(path, limit).unwrap_or_else(|never| match never {})),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        match &self.files {
            Files::Folder(files) => files.list(folder),
            Files::Bundle(bundle) => Ok(bundle.list(folder).unwrap_or_else(|never| match never {})),
        }
    }
}

/// Opens whatever the path names; of a results folder the log of `run`, or all.
pub(super) fn open(path: &Path, run: Option<&str>) -> Result<Opened, Failure> {
    if path.is_dir() {
        return folder(path, run).map(Opened::Logs);
    }
    let bytes = read_file(path)?;
    let unusable = |problem| {
        let place = path.display();
        Failure::user(anyhow::anyhow!("{place} is damaged: {problem}")).hint("ask for the file again")
    };
    if Bundle::is_one(&bytes) {
        let files = Files::Bundle(Bundle::parse(&bytes).map_err(unusable)?);
        return Ok(Opened::Logs(vec![Log { path: path.to_owned(), files, run: None, reader: None }]));
    }
    if InclusionProof::is_one(&bytes) {
        return InclusionProof::parse(&bytes).map(|proof| Opened::Proof(Box::new(proof))).map_err(unusable);
    }
    let other = anyhow::anyhow!("{} is neither an exported audit log nor a proof", path.display());
    Err(Failure::user(other).hint("`medfed audit export` and `medfed audit prove` write such files"))
}

fn folder(path: &Path, run: Option<&str>) -> Result<Vec<Log>, Failure> {
    let is_log =
        |dir: &Path| ["checkpoint", "pending", "checkpoints", "tile"].iter().any(|it| dir.join(it).exists());
    if is_log(path) {
        // The folder of a log is called like its run and lies two below the results.
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let results = path.parent().and_then(Path::parent);
        let reader = results.and_then(|results| Store::read_only(results).ok()).map(Arc::new);
        let known = |id: &String| {
            let id = RunId::try_from(id.as_str()).ok();
            reader.as_ref().zip(id).is_some_and(|(reader, id)| reader.run(&id).is_ok())
        };
        let run = name.filter(known);
        let reader = reader.clone().filter(|_| run.is_some());
        return Ok(vec![Log::folder(path, run, reader)]);
    }
    let reader = Store::read_only(path).ok().map(Arc::new);
    let all = path.join(AUDIT);
    let mut runs: Vec<String> = match std::fs::read_dir(&all) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .filter(|entry| is_log(&entry.path()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect(),
        Err(_) => Vec::new(),
    };
    // A run whose log was taken away is found by the database.
    if let Some(reader) = &reader {
        for known in reader.runs().map_err(crate::run::store_failure)? {
            let audited = &known.config["config"]["secure_aggregation"]["audit_enabled"];
            let id = known.id.to_string();
            if known.rounds > 0 && *audited == true && !runs.contains(&id) {
                let signed = reader.signed_checkpoints(&known.id).map_err(crate::run::store_failure)?;
                runs.extend((!signed.is_empty()).then_some(id));
            }
        }
    }
    runs.sort_unstable();
    if let Some(wanted) = run {
        if !runs.iter().any(|run| run == wanted) {
            let none = anyhow::anyhow!("{} holds no audit log of run {wanted}", path.display());
            return Err(Failure::user(none).hint(match runs.last() {
                Some(newest) => format!("the newest is {newest}; `medfed runs` lists the runs of a folder"),
                None => NOTHING.to_owned(),
            }));
        }
        runs.retain(|run| run == wanted);
    }
    if runs.is_empty() {
        let none = anyhow::anyhow!("{} holds no audit log", path.display());
        return Err(Failure::user(none).hint(NOTHING));
    }
    Ok(runs.into_iter().map(|run| Log::folder(&all.join(&run), Some(run), reader.clone())).collect())
}

const NOTHING: &str = "name a results folder, the folder of a log, or a file written by `medfed audit export`; a run with secure_aggregation.audit_enabled=false writes no log";

/// A whole file, of an ordinary size.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let cannot = |error: std::io::Error| {
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be read", path.display())))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}
