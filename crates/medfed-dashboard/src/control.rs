//! Training as the dashboard controls it: a process of its own, so that neither a slow browser nor the
//! dashboard's end can touch it.
//!
//! The state is never remembered where it can be seen: a run is running when a process holds the lock on
//! the results folder, whoever started it, and how it ended is in the store. What is remembered is only
//! what was asked of it, to tell `pausing` from `stopping`; that it was to pause is remembered in a file, so
//! that a dashboard that is started again knows it.
//!
//! Pausing asks the process to finish its step, save and end; resuming starts `--resume`. Stopping is the
//! same, with another word for the state. No step is lost or paid twice by either.

mod process;

use crate::source::Live;
use crate::view::View;
use medfed_store::{RunStatus, Timestamp};
use process::{End, aside, interrupt, output_path};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// How long a request to start waits to hear that it failed at once.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Where training is started and what it is started with.
#[derive(Debug, Clone)]
pub(crate) struct Trainer {
    /// The program, called as `PROGRAM simulate --config FILE --out DIR`.
    pub(crate) program: PathBuf,
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// The results folder.
    pub(crate) results: PathBuf,
}

/// Starts training and asks it to stop.
#[derive(Debug)]
pub(crate) struct Control {
    trainer: Trainer,
    asked: Mutex<Asked>,
    /// Held while a process starts, so that of two requests one starts. The state can be asked meanwhile.
    starting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Asked {
    child: Option<Child>,
    /// What is asked for.
    wish: Wish,
    /// The process that it is asked of, and that `error` is about.
    of: Option<u32>,
    /// When training was started here.
    started: Option<Timestamp>,
    /// What a process that ended without a run in the store had to say.
    error: Option<String>,
    /// What came before this is not shown (`reset`).
    cleared: Option<Timestamp>,
}

/// Who trains, as of one look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// The process that was started here, while it lives.
    child: Option<u32>,
    /// Whether a process writes to the results folder, whoever started it.
    writing: bool,
    /// Its number, where it can be read.
    writer: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Wish {
    #[default]
    Run,
    Pause,
    Stop,
}

/// Where training stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Nothing was trained yet, or the state was reset.
    Idle,
    /// A process was started and has not opened its run yet.
    Starting,
    /// A run trains.
    Running,
    /// It finishes its step and then pauses.
    Pausing,
    /// It can be resumed.
    Paused,
    /// It finishes its step and then stops.
    Stopping,
    /// It was stopped, or its process ended without a word while nobody looked; it can be resumed.
    Stopped,
    /// Every planned round is done.
    Completed,
    /// The privacy budget ended it before its last round.
    BudgetExhausted,
    /// It ended without a result.
    Failed,
}

/// The state of training, as `/api/training/status` gives it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct TrainingState {
    /// Whether a process trains or is about to.
    pub(crate) is_running: bool,
    /// Where it stands.
    pub(crate) status: Status,
    /// The same for people.
    pub(crate) message: String,
    /// When the run began, in UTC.
    pub(crate) start_time: Option<String>,
    /// The round in progress, or the last one.
    pub(crate) current_round: u32,
    /// Rounds planned.
    pub(crate) total_rounds: u32,
    /// What went wrong.
    pub(crate) error: Option<String>,
    /// Whether there is an unfinished run that `resume` goes on with.
    pub(crate) resumable: bool,
    /// The newest measurements.
    pub(crate) live_metrics: LiveMetrics,
}

/// The newest measurements of a run under way, or of the last run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct LiveMetrics {
    /// The run.
    pub(crate) run: Option<String>,
    /// `starting`, `training`, `evaluating` or `between_rounds`; null when nothing trains.
    pub(crate) phase: Option<String>,
    /// Share of the round's local steps that is done, from 0 to 1.
    pub(crate) round_progress: f64,
    /// Mean training loss.
    pub(crate) train_loss: Option<f64>,
    /// Mean validation loss.
    pub(crate) val_loss: Option<f64>,
    /// Mean validation accuracy.
    pub(crate) accuracy: Option<f64>,
    /// Mean validation AUROC.
    pub(crate) auc: Option<f64>,
    /// Largest ε spent at a hospital.
    pub(crate) epsilon_total: Option<f64>,
    /// Smallest noise multiplier in use.
    pub(crate) noise_multiplier: Option<f64>,
}

/// What a start may change in the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartOrder {
    /// `federated.num_rounds`.
    #[schema(minimum = 1, maximum = 10_000)]
    pub(crate) num_rounds: Option<u32>,
    /// `federated.num_clients`.
    #[schema(minimum = 1, maximum = 1000)]
    pub(crate) num_clients: Option<u32>,
    /// `privacy.epsilon_budget`.
    #[schema(exclusive_minimum = 0.0)]
    pub(crate) epsilon_budget: Option<f64>,
    /// `privacy.noise_multiplier`.
    #[schema(minimum = 0.0)]
    pub(crate) noise_multiplier: Option<f64>,
}

impl StartOrder {
    /// As `--set` takes them.
    pub(crate) fn settings(&self) -> Vec<String> {
        let mut set = Vec::new();
        let mut add =
            |key: &str, value: Option<String>| set.extend(value.map(|value| format!("{key}={value}")));
        add("federated.num_rounds", self.num_rounds.map(|value| value.to_string()));
        add("federated.num_clients", self.num_clients.map(|value| value.to_string()));
        add("privacy.epsilon_budget", self.epsilon_budget.map(|value| value.to_string()));
        add("privacy.noise_multiplier", self.noise_multiplier.map(|value| value.to_string()));
        set
    }
}

/// Why a request to train, pause or stop was not followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Something trains already.
    #[error("training is already running")]
    Running,
    /// Nothing trains.
    #[error("no training is running")]
    NotRunning,
    /// There is no unfinished run.
    #[error("there is no unfinished run to resume")]
    NothingToResume,
    /// The process ended at once; this is what it said.
    #[error("{output}")]
    Ended {
        /// Its output.
        output: String,
    },
    /// The process that trains cannot be asked.
    #[error("the process that trains cannot be asked to stop; end it where it was started")]
    Unreachable,
    /// The system refuses.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Control {
    pub(crate) fn new(trainer: Trainer) -> Self {
        // Who wrote since then was not asked to pause.
        let paused = process::to_pause(&trainer.results);
        let paused = paused.filter(|of| medfed_store::last_writer(&trainer.results) == Some(*of));
        let wish = if paused.is_some() { Wish::Pause } else { Wish::Run };
        let asked = Mutex::new(Asked { wish, of: paused, ..Asked::default() });
        Self { trainer, asked, starting: Mutex::default() }
    }

    /// The `medfed` program.
    pub(crate) fn program(&self) -> &Path {
        &self.trainer.program
    }

    /// Starts a new run. A second request, from wherever, is refused while the first is under way.
    pub(crate) fn start(&self, order: &StartOrder) -> Result<(), Refusal> {
        let config = self.trainer.config.is_file().then_some(&self.trainer.config);
        let mut arguments: Vec<std::ffi::OsString> = Vec::new();
        if let Some(config) = config {
            arguments.extend(["--config".into(), config.into()]);
        }
        for setting in order.settings() {
            arguments.extend(["--set".into(), setting.into()]);
        }
        self.launch(&arguments)
    }

    /// Continues the newest unfinished run.
    pub(crate) fn resume(&self, view: &View) -> Result<(), Refusal> {
        let unfinished = view.latest().is_some_and(|run| run.run.status.is_resumable());
        if !unfinished {
            return Err(Refusal::NothingToResume);
        }
        self.launch(&["--resume".into()])
    }

    /// Asks the run to save after its step and to pause.
    pub(crate) fn pause(&self) -> Result<(), Refusal> {
        self.ask(Wish::Pause)
    }

    /// Asks the run to save after its step and to stop. A paused run only changes its word for it.
    pub(crate) fn stop(&self, view: &View) -> Result<(), Refusal> {
        match self.ask(Wish::Stop) {
            Err(Refusal::NotRunning) => {
                let mut asked = self.asked();
                let unfinished = view.latest().is_some_and(|run| run.run.status.is_resumable());
                if asked.wish != Wish::Pause || !unfinished {
                    return Err(Refusal::NotRunning);
                }
                asked.wish = Wish::Stop;
                self.remember(&asked);
                Ok(())
            }
            done => done,
        }
    }

    /// Forgets errors and states of earlier runs; with `clear` moves the results folder aside. Nothing is
    /// deleted: the ledgers in it say how much of each budget is spent. Returns where the folder went.
    pub(crate) fn reset(&self, clear: bool) -> Result<Option<PathBuf>, Refusal> {
        let mut asked = self.asked();
        if self.is_busy(&mut asked) {
            return Err(Refusal::Running);
        }
        let results = &self.trainer.results;
        let aside = (clear && results.exists()).then(|| aside(results));
        if let Some(aside) = &aside {
            fs::rename(results, aside).map_err(|source| Refusal::System {
                what: format!("{} cannot be moved to {}", results.display(), aside.display()),
                source,
            })?;
        }
        *asked = Asked { cleared: Some(Timestamp::now()), ..Asked::default() };
        self.remember(&asked);
        Ok(aside)
    }

    /// Where training stands, from what the store and the lock say.
    pub(crate) fn state(&self, view: &View, live: Option<&Live>) -> TrainingState {
        let mut asked = self.asked();
        let Seen { child, writing, .. } = self.look(&mut asked);
        let child = child.is_some();
        let latest = view
            .latest()
            .filter(|run| writing || asked.cleared.is_none_or(|cleared| run.run.created > cleared));
        // A run that is older than the start that was asked for says nothing about it.
        let current = latest.filter(|run| {
            run.run.status == RunStatus::Running
                || asked.started.is_none_or(|started| run.run.finished.is_none_or(|end| end >= started))
        });
        let unfinished = view.latest().is_some_and(|run| run.run.status == RunStatus::Running);
        // The process has just ended and the view is from before: how it ended shows in the next one.
        let busy = child || writing || unfinished;
        let status = match (busy, asked.wish) {
            (true, Wish::Pause) => Status::Pausing,
            (true, Wish::Stop) => Status::Stopping,
            (true, Wish::Run) if (writing || !child) && unfinished => Status::Running,
            (true, Wish::Run) => Status::Starting,
            (false, _) if asked.error.is_some() => Status::Failed,
            (false, wish) => match current.map(|run| run.run.status) {
                None => Status::Idle,
                Some(RunStatus::Completed) => Status::Completed,
                Some(RunStatus::BudgetExhausted) => Status::BudgetExhausted,
                Some(RunStatus::Failed) => Status::Failed,
                Some(RunStatus::Running | RunStatus::Interrupted) if wish == Wish::Pause => Status::Paused,
                Some(RunStatus::Running | RunStatus::Interrupted) => Status::Stopped,
            },
        };
        let resumable = !busy && view.latest().is_some_and(|run| run.run.status.is_resumable());
        // Whoever saves in time writes down when.
        let vanished = status == Status::Stopped && current.is_some_and(|run| run.run.finished.is_none());
        let shown = if status == Status::Starting { None } else { latest };
        let live = live.filter(|live| writing && shown.is_some_and(|run| run.run.id.as_str() == live.run));
        let last = shown.and_then(|run| run.rounds.last());
        let total = shown.map_or(0, |run| run.planned_rounds());
        let round = live.map_or_else(|| last.map_or(0, |round| round.round_num), |live| live.round);
        TrainingState {
            is_running: busy,
            status,
            message: message(status, round, total, resumable, vanished),
            start_time: match status {
                Status::Idle => None,
                Status::Starting => asked.started,
                _ => shown.map(|run| run.run.created),
            }
            .map(|time| time.to_string()),
            current_round: round,
            total_rounds: total,
            error: asked.error.clone(),
            resumable,
            live_metrics: LiveMetrics {
                run: shown.map(|run| run.run.id.to_string()),
                phase: live.map(|live| live.phase.clone()),
                round_progress: live.map_or(0.0, Live::fraction),
                train_loss: last.and_then(|round| round.train_loss),
                val_loss: last.and_then(|round| round.val_loss),
                accuracy: last.and_then(|round| round.accuracy),
                auc: last.and_then(|round| round.auc),
                epsilon_total: last.and_then(|round| round.epsilon_total),
                noise_multiplier: last.and_then(|round| round.noise_multiplier),
            },
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        // Every change below is complete before anything can panic.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the process.
    fn launch(&self, arguments: &[std::ffi::OsString]) -> Result<(), Refusal> {
        let _starting = match self.starting.try_lock() {
            Ok(starting) => starting,
            // There is nothing in it that could be half changed.
            Err(TryLockError::Poisoned(starting)) => starting.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Refusal::Running),
        };
        let results = &self.trainer.results;
        {
            let mut asked = self.asked();
            if self.is_busy(&mut asked) {
                return Err(Refusal::Running);
            }
            let child = self.spawn(arguments)?;
            let (of, started) = (Some(child.id()), Some(Timestamp::now()));
            *asked = Asked { child: Some(child), of, started, ..Asked::default() };
            self.remember(&asked);
        }
        // Most mistakes show at once; then the answer can say so.
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut asked = self.asked();
            if asked.started.is_some_and(|started| process::opened(results, started)) {
                return Ok(());
            }
            if !self.is_child_alive(&mut asked) {
                return match &asked.error {
                    Some(output) => Err(Refusal::Ended { output: output.clone() }),
                    None => Ok(()),
                };
            }
            drop(asked);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn spawn(&self, arguments: &[std::ffi::OsString]) -> Result<Child, Refusal> {
        let results = &self.trainer.results;
        let failed = |what: String| move |source| Refusal::System { what, source };
        fs::create_dir_all(results).map_err(failed(format!("{} cannot be made", results.display())))?;
        let path = output_path(results);
        // Emptied and appended to: what another process may still write into it stays in one piece.
        let output = OpenOptions::new().create(true).append(true).open(&path);
        let output = output.and_then(|output| output.set_len(0).map(|()| output));
        let output = output.map_err(failed(format!("{} cannot be written", path.display())))?;
        let copy = output.try_clone().map_err(failed(format!("{} cannot be written", path.display())))?;
        let mut command = Command::new(&self.trainer.program);
        command.arg("simulate").args(arguments).arg("--out").arg(results);
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(copy).stderr(output);
        // Ctrl-C in the dashboard's terminal is for the dashboard.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = self.trainer.program.display();
        command.spawn().map_err(failed(format!("{program} cannot be started")))
    }

    fn ask(&self, wish: Wish) -> Result<(), Refusal> {
        let mut asked = self.asked();
        let seen = self.look(&mut asked);
        if seen.child.is_none() && !seen.writing {
            return Err(Refusal::NotRunning);
        }
        let process = seen.child.or(seen.writer).ok_or(Refusal::Unreachable)?;
        // A second signal would end the process at once: a second request changes the word only.
        if asked.wish == Wish::Run {
            interrupt(process)?;
        }
        (asked.wish, asked.of) = (wish, Some(process));
        self.remember(&asked);
        Ok(())
    }

    /// Remembers whom a pause was asked of, for the next start of the dashboard.
    fn remember(&self, asked: &Asked) {
        let process = asked.of.filter(|_| asked.wish == Wish::Pause);
        if let Err(error) = process::remember_to_pause(&self.trainer.results, process) {
            // The run is paused all the same; a dashboard that starts later calls it stopped.
            tracing::warn!("the pause cannot be remembered: {error}");
        }
    }

    fn is_busy(&self, asked: &mut Asked) -> bool {
        let seen = self.look(asked);
        seen.child.is_some() || seen.writing
    }

    /// Looks who trains.
    fn look(&self, asked: &mut Asked) -> Seen {
        let alive = self.is_child_alive(asked);
        let child = asked.child.as_ref().map(Child::id).filter(|_| alive);
        let writer = medfed_store::writer(&self.trainer.results);
        let seen = Seen { child, writing: writer.is_some(), writer: writer.flatten() };
        if child.is_none() && seen.writer.zip(asked.of).is_some_and(|(writer, of)| writer != of) {
            // Somebody else's: what was asked of an earlier process says nothing about it.
            *asked = Asked { cleared: asked.cleared, ..Asked::default() };
            self.remember(asked);
        }
        seen
    }

    /// Looks after the process that was started here; keeps what it said when it failed.
    fn is_child_alive(&self, asked: &mut Asked) -> bool {
        let Some(child) = &mut asked.child else { return false };
        match child.try_wait() {
            Ok(None) => true,
            Ok(Some(exit)) => {
                asked.error = End::of(exit).reason(&self.trainer.results);
                asked.child = None;
                false
            }
            Err(error) => {
                asked.error = Some(format!("the training process cannot be watched: {error}"));
                asked.child = None;
                false
            }
        }
    }
}

fn message(status: Status, round: u32, total: u32, resumable: bool, vanished: bool) -> String {
    match status {
        Status::Idle => "Ready to train".to_owned(),
        Status::Starting => "Training is starting: data and plans are being prepared".to_owned(),
        Status::Running => format!("Round {} of {total}", round.max(1)),
        Status::Pausing => "Finishing the step, then pausing".to_owned(),
        Status::Paused => format!("Paused in round {} of {total}; nothing is lost", (round + 1).min(total)),
        Status::Stopping => "Finishing the step, then stopping".to_owned(),
        Status::Stopped if vanished => format!(
            "Interrupted after {round} of {total} rounds: its process ended without saving; it can be resumed"
        ),
        Status::Stopped => format!("Stopped after {round} of {total} rounds; it can be resumed"),
        Status::Completed => format!("Completed {round} of {total} rounds"),
        Status::BudgetExhausted => format!("The privacy budget was spent after {round} of {total} rounds"),
        Status::Failed if resumable => {
            format!("Training failed after {round} of {total} rounds; it can be resumed")
        }
        Status::Failed => "Training failed".to_owned(),
    }
}
