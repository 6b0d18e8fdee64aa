//! `progress.json` in the results folder: where the run stands right now, for whoever watches it from
//! another process. It is rewritten a few times a second and removed when the run ends.

use super::display::Display;
use medfed_federation::{Observer, Progress};
use medfed_types::{RunId, SiteId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two versions of the file.
const PAUSE: Duration = Duration::from_millis(250);

/// Passes progress on to the display and keeps the file.
#[derive(Debug)]
pub(super) struct Live {
    display: Arc<Display>,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    snapshot: Snapshot,
    written: Option<Instant>,
}

#[derive(Debug, Serialize)]
struct Snapshot {
    run: RunId,
    /// `starting`, `training`, `evaluating` or `between_rounds`.
    phase: &'static str,
    /// The round in progress, or the last one.
    round: u32,
    /// Rounds planned.
    rounds: u32,
    /// Local steps of each hospital in this round.
    hospitals: BTreeMap<SiteId, Steps>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Steps {
    done: u64,
    of: u64,
}

impl Live {
    /// Begins to keep `progress.json` at `path`, after `done` of `rounds` rounds.
    pub(super) fn new(display: Arc<Display>, path: PathBuf, run: RunId, done: u32, rounds: u32) -> Self {
        let snapshot =
            Snapshot { run, phase: "starting", round: done, rounds, hospitals: BTreeMap::default() };
        let live = Self { display, path, state: Mutex::new(State { snapshot, written: None }) };
        live.change(true, |_| {});
        live
    }

    /// Changes the snapshot, and writes it when it is time or `now`.
    fn change(&self, now: bool, change: impl FnOnce(&mut Snapshot)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.snapshot);
        if !now && state.written.is_some_and(|written| written.elapsed() < PAUSE) {
            return;
        }
        state.written = Some(Instant::now());
        let Ok(text) = serde_json::to_vec(&state.snapshot) else { return };
        let temporary = self.path.with_extension("json.tmp");
        // Whoever watches does without; the run does not stop for it.
        if let Err(error) =
            std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &self.path))
        {
            tracing::debug!("{} is not written: {error}", self.path.display());
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Observer for Live {
    fn notice(&self, progress: &Progress<'_>) {
        match progress {
            Progress::RoundStarted { round, sites } => self.change(true, |snapshot| {
                snapshot.phase = "training";
                snapshot.round = round.0;
                let steps = |of: u64| Steps { done: 0, of };
                snapshot.hospitals = sites.iter().map(|(site, of)| (site.clone(), steps(*of))).collect();
            }),
            Progress::Step { site, done, of, .. } => self.change(false, |snapshot| {
                snapshot.hospitals.insert((*site).clone(), Steps { done: *done, of: *of });
            }),
            Progress::Evaluating { .. } => self.change(true, |snapshot| snapshot.phase = "evaluating"),
            Progress::RoundFinished { .. } => self.change(true, |snapshot| snapshot.phase = "between_rounds"),
            _ => {}
        }
        self.display.notice(progress);
    }
}
