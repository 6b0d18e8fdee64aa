//! Watches the results folder: what it says now, and what has changed since.

use crate::audit::AuditLog;
use crate::events::Hub;
use crate::view::{RunView, View};
use medfed_audit::AuditError;
use medfed_report::{ReportError, RunRecord};
use medfed_store::{Reader, RunStatus, Store, StoreError};
use medfed_types::RunId;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

/// Largest `progress.json` that is read.
const PROGRESS_LIMIT: u64 = 256 * 1024;
/// Earlier runs that are kept in memory for comparison.
const KEPT_RUNS: usize = 8;

/// Where the run in progress stands, as `progress.json` says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Live {
    /// The run.
    pub(crate) run: String,
    /// What it does.
    pub(crate) phase: String,
    /// The round in progress, or the last one.
    pub(crate) round: u32,
    /// Local steps by hospital.
    pub(crate) hospitals: BTreeMap<String, Steps>,
}

/// Local steps of a hospital in the round.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Steps {
    /// Done.
    pub(crate) done: u64,
    /// Planned.
    pub(crate) of: u64,
}

impl Live {
    /// Share of the round's steps that is done.
    pub(crate) fn fraction(&self) -> f64 {
        let (done, of) = self.hospitals.values().fold((0_u64, 0_u64), |(done, of), steps| {
            (done.saturating_add(steps.done), of.saturating_add(steps.of))
        });
        if of == 0 { 0.0 } else { (done as f64 / of as f64).min(1.0) }
    }
}

/// A results folder, watched.
#[derive(Debug)]
pub(crate) struct Source {
    dir: PathBuf,
    reader: Mutex<Option<Opened>>,
    view: RwLock<Arc<View>>,
    live: RwLock<Option<Arc<Live>>>,
    /// What makes the view unreadable, if anything.
    problem: RwLock<Option<String>>,
    earlier: Mutex<Vec<Arc<RunView>>>,
    /// Runs as reports know them.
    records: Mutex<Vec<Kept<RunRecord>>>,
    /// The audit log that was checked last.
    audited: Mutex<Option<Kept<AuditLog>>>,
    /// Held while a log is checked: one checks, the others wait for what it finds.
    auditing: Mutex<()>,
}

/// Something about a run, with the store as of when it was read.
#[derive(Debug)]
struct Kept<T> {
    run: RunId,
    reader: Arc<Reader>,
    version: i64,
    value: Arc<T>,
}

impl<T> Kept<T> {
    fn is_of(&self, run: &RunId, reader: &Arc<Reader>) -> bool {
        self.run == *run && Arc::ptr_eq(&self.reader, reader)
    }
}

#[derive(Debug)]
struct Opened {
    reader: Arc<Reader>,
    /// Tells a database from another one under the same name.
    identity: Option<(u64, u64)>,
    version: Option<i64>,
    /// Whether a process was writing: how a run that was killed is shown depends on it.
    writing: bool,
}

impl Source {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            reader: Mutex::default(),
            view: RwLock::default(),
            live: RwLock::default(),
            problem: RwLock::default(),
            earlier: Mutex::default(),
            records: Mutex::default(),
            audited: Mutex::default(),
            auditing: Mutex::default(),
        }
    }

    /// The results folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The contents as of the last look.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the run in progress stands.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the folder cannot be read, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One run in full: the newest from memory, others from the store.
    pub(crate) fn run(&self, id: &RunId) -> Result<Option<Arc<RunView>>, StoreError> {
        let view = self.view();
        if let Some(latest) = view.latest().filter(|latest| latest.run.id == *id) {
            return Ok(Some(Arc::clone(latest)));
        }
        let Some(run) = view.runs.iter().find(|run| run.id == *id) else { return Ok(None) };
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = earlier.iter().find(|kept| kept.run == *run) {
            return Ok(Some(Arc::clone(found)));
        }
        let Some(reader) = self.reader() else { return Ok(None) };
        let read = Arc::new(RunView::read(&reader, run.clone())?);
        earlier.retain(|kept| kept.run.id != *id);
        if earlier.len() == KEPT_RUNS {
            earlier.remove(0);
        }
        earlier.push(Arc::clone(&read));
        Ok(Some(read))
    }

    /// Everything the store knows about a run; what has come since is read when the store has changed.
    pub(crate) fn record(&self, id: &RunId) -> Result<Arc<RunRecord>, ReportError> {
        let missing = || StoreError::Missing { dir: self.dir.clone() };
        let reader = self.reader().ok_or_else(missing)?;
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked before reading: what is written meanwhile is read the next time.
        let version = reader.version()?;
        let earlier = records.iter().position(|kept| kept.is_of(id, &reader));
        let earlier = earlier.map(|at| records.remove(at));
        let value = match earlier {
            Some(kept) if kept.version == version => kept.value,
            Some(kept) => Arc::new(kept.value.read_again(&reader)?),
            None => Arc::new(RunRecord::read(&reader, id)?),
        };
        // The one that was asked for last is at the end.
        if records.len() == KEPT_RUNS {
            records.remove(0);
        }
        records.push(Kept { run: id.clone(), reader, version, value: Arc::clone(&value) });
        Ok(value)
    }

    /// The audit log of a run, checked anew when the store has changed; nothing where there is none.
    pub(crate) fn audit(&self, id: &RunId) -> Result<Option<Arc<AuditLog>>, AuditError> {
        let _auditing = self.auditing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((log, true)) = self.audited(id) {
            return Ok(Some(log));
        }
        let reader = self.reader();
        let version = reader.as_ref().and_then(|reader| reader.version().ok());
        let log = AuditLog::read(&self.dir, id)?.map(Arc::new);
        let kept = reader.zip(version).zip(log.clone()).map(|((reader, version), value)| Kept {
            run: id.clone(),
            reader,
            version,
            value,
        });
        *self.audited.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(log)
    }

    /// The audit log of a run as it was checked last, and whether nothing has changed since.
    pub(crate) fn audited(&self, id: &RunId) -> Option<(Arc<AuditLog>, bool)> {
        let reader = self.reader()?;
        let version = reader.version().ok();
        let audited = self.audited.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = audited.as_ref().filter(|kept| kept.is_of(id, &reader))?;
        Some((Arc::clone(&kept.value), Some(kept.version) == version))
    }

    /// Whether a log is being checked.
    pub(crate) fn is_auditing(&self) -> bool {
        matches!(self.auditing.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// The open store, if there is one.
    pub(crate) fn reader(&self) -> Option<Arc<Reader>> {
        let opened = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map(|opened| Arc::clone(&opened.reader))
    }

    /// Looks at the folder and tells `hub` what is new. Called again and again by one thread.
    pub(crate) fn look(&self, hub: &Hub) {
        self.look_at_progress(hub);
        let read = self.look_at_store();
        let problem = match read {
            Ok(None) => return,
            Ok(Some(view)) => {
                let before = std::mem::replace(
                    &mut *self.view.write().unwrap_or_else(PoisonError::into_inner),
                    Arc::new(view),
                );
                let now = self.view();
                announce(&before, &now, hub);
                self.prepare(&before, &now);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let mut known = self.problem.write().unwrap_or_else(PoisonError::into_inner);
        if *known != problem {
            if let Some(problem) = &problem {
                tracing::error!("{} cannot be read: {problem}", self.dir.display());
            }
            hub.send("state", &json!({ "problem": problem }));
            *known = problem;
        }
    }

    /// Reads a run that has not been seen before in full, so that nobody waits for all of it.
    fn prepare(&self, before: &View, now: &View) {
        let id = |view: &View| view.latest().map(|run| run.run.id.clone());
        if let Some(run) = id(now).filter(|run| id(before).as_ref() != Some(run))
            && let Err(error) = self.record(&run)
        {
            // The page that needs it says so too.
            tracing::warn!("run {run} cannot be read in full: {error}");
        }
    }

    /// The new contents, if anything has changed.
    fn look_at_store(&self) -> Result<Option<View>, StoreError> {
        let mut opened = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = identity(&self.dir.join("medfed.sqlite"));
        if opened.as_ref().is_some_and(|opened| opened.identity != identity) {
            *opened = None;
            if identity.is_none() {
                return Ok(Some(View::default()));
            }
        }
        let known = match &mut *opened {
            Some(known) => known,
            None if identity.is_none() => return Ok(None),
            None => match Store::read_only(&self.dir) {
                Ok(reader) => opened.insert(Opened {
                    reader: Arc::new(reader),
                    identity,
                    version: None,
                    writing: false,
                }),
                // It is being made this moment.
                Err(StoreError::Missing { .. }) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let version = known.reader.version()?;
        let writing = medfed_store::writer(&self.dir).is_some();
        if known.version == Some(version) && known.writing == writing {
            return Ok(None);
        }
        let before = known.version.map(|_| self.view());
        let view = View::read(&known.reader, before.as_deref())?;
        (known.version, known.writing) = (Some(version), writing);
        Ok(Some(view))
    }

    fn look_at_progress(&self, hub: &Hub) {
        let live = read_progress(&self.dir.join("progress.json")).map(Arc::new);
        let mut known = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if *known == live {
            return;
        }
        known.clone_from(&live);
        drop(known);
        let progress = live.as_deref().map(|live| {
            json!({
                "run": live.run,
                "phase": live.phase,
                "round": live.round,
                "round_progress": live.fraction(),
                "hospitals": live.hospitals.iter()
                    .map(|(hospital, steps)| json!({ "hospital": hospital, "done": steps.done, "of": steps.of }))
                    .collect::<Vec<_>>(),
            })
        });
        hub.send("progress", &progress);
    }
}

/// What has come since `before`.
fn announce(before: &View, now: &View, hub: &Hub) {
    let status = |view: &View| view.latest().map(|run| (run.run.id.clone(), run.run.status));
    let Some(run) = now.latest() else {
        hub.send("state", &json!({ "run": null }));
        return;
    };
    let known = before.latest().filter(|known| known.run.id == run.run.id);
    let rounds = known.map_or(0, |known| known.rounds.len());
    for round in run.rounds.iter().skip(rounds) {
        hub.send("round", &json!({ "run": run.run.id, "round": round }));
    }
    let events = known.map_or(0, |known| known.events.len());
    for event in run.events.iter().skip(events) {
        hub.send("notice", &json!({ "run": run.run.id, "event": event }));
    }
    let documents = |run: &RunView| run.documents.clone();
    if status(before) != status(now) || known.is_none_or(|known| documents(known) != documents(run)) {
        let running = run.run.status == RunStatus::Running;
        hub.send("state", &json!({ "run": run.run.id, "status": run.run.status, "is_running": running }));
    }
}

fn read_progress(path: &Path) -> Option<Live> {
    let file = fs::File::open(path).ok()?;
    let mut text = Vec::new();
    file.take(PROGRESS_LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Device and number of a file, or nothing where there is none.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.exists().then_some((0, 0))
}
