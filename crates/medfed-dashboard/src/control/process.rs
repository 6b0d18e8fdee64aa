//! The process that trains: what it says, how it ends, and the signal that asks it to.

use super::Refusal;
use medfed_store::Timestamp;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::UNIX_EPOCH;

/// Output of a failed start that is shown.
const TAIL: u64 = 4000;
/// The code of a run that was interrupted and has saved.
const INTERRUPTED: i32 = 130;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As it should, or interrupted and saved.
    Orderly,
    /// By the signal that asks it to stop, before it could listen to it.
    Interrupted,
    /// By another signal.
    Signal(i32),
    /// By a fault that it has written about.
    Fault,
}

impl End {
    pub(super) fn of(exit: ExitStatus) -> Self {
        match exit.code() {
            Some(0 | INTERRUPTED) => Self::Orderly,
            Some(_) => Self::Fault,
            #[cfg(unix)]
            None => match std::os::unix::process::ExitStatusExt::signal(&exit) {
                Some(2) => Self::Interrupted,
                signal => Self::Signal(signal.unwrap_or_default()),
            },
            #[cfg(not(unix))]
            None => Self::Fault,
        }
    }

    /// What people are told of an end that nobody asked for.
    pub(super) fn reason(self, results: &Path) -> Option<String> {
        match self {
            Self::Orderly | Self::Interrupted => None,
            Self::Signal(9) => Some(
                "the training process was killed (signal 9), by somebody or because memory ran out"
                    .to_owned(),
            ),
            Self::Signal(signal) => Some(format!("the training process was ended by signal {signal}")),
            Self::Fault => Some(
                tail(&output_path(results))
                    .unwrap_or_else(|| "the training process failed and said nothing".to_owned()),
            ),
        }
    }
}

/// Whether a run that was started at this time has read its data and begun: then it says where it stands.
pub(super) fn opened(results: &Path, started: Timestamp) -> bool {
    let written = fs::metadata(results.join("progress.json")).and_then(|metadata| metadata.modified());
    let since_1970 = written.ok().and_then(|written| written.duration_since(UNIX_EPOCH).ok());
    since_1970
        .is_some_and(|written| i64::try_from(written.as_millis()).is_ok_and(|written| written >= started.0))
}

/// Where the output of the training process goes.
pub(super) fn output_path(results: &Path) -> PathBuf {
    results.join("dashboard_training.log")
}

/// The process that was asked to pause, as an earlier start of the dashboard remembered it.
pub(super) fn to_pause(results: &Path) -> Option<u32> {
    let mut text = String::new();
    // A process number has at most ten digits; whatever else is in there is none.
    fs::File::open(pause_path(results)).ok()?.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Remembers the process that was asked to pause; that there is none any more without one.
pub(super) fn remember_to_pause(results: &Path, process: Option<u32>) -> std::io::Result<()> {
    let path = pause_path(results);
    match process {
        Some(process) => fs::write(path, process.to_string()),
        None => match fs::remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
    }
}

fn pause_path(results: &Path) -> PathBuf {
    results.join("dashboard_pause")
}

/// The end of what a failed process said.
fn tail(path: &Path) -> Option<String> {
    let mut file = OpenOptions::new().read(true).open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // From the error on; what came before is progress.
    let from = text.rfind("error: ").map_or(0, |at| at + "error: ".len());
    Some(text[from..].trim().to_owned()).filter(|text| !text.is_empty())
}

/// A free name beside the results folder.
pub(super) fn aside(results: &Path) -> PathBuf {
    let digits: String = Timestamp::now().to_string().chars().filter(char::is_ascii_digit).collect();
    let name = results.file_name().map_or_else(|| "results".into(), |name| name.to_string_lossy());
    let named = |suffix: &str| results.with_file_name(format!("{name}-{digits}{suffix}"));
    let mut free = named("");
    let mut number = 1;
    while free.exists() {
        number += 1;
        free = named(&format!("-{number}"));
    }
    free
}

/// Sends the process what Ctrl-C sends.
#[cfg(unix)]
pub(super) fn interrupt(process: u32) -> Result<(), Refusal> {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let process = process.ok_or(Refusal::Unreachable)?;
    rustix::process::kill_process(process, rustix::process::Signal::INT).map_err(|error| Refusal::System {
        what: "the training process cannot be asked to stop".to_owned(),
        source: error.into(),
    })
}

#[cfg(not(unix))]
pub(super) fn interrupt(_: u32) -> Result<(), Refusal> {
    Err(Refusal::Unreachable)
}
