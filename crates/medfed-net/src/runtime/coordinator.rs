//! Runs the coordinator's machine.

mod engine;

use super::error::{KeeperError, RuntimeError};
use crate::transport::{CoordinatorEvent as Heard, CoordinatorTransport, SendError};
use bytes::Bytes;
use engine::{Command, Engine, Outcome};
use medfed_federation::Snapshot;
use medfed_federation::report::RoundReport;
use medfed_protocol::coordinator::{CoordinatorMachine, Finished, Notice};
use medfed_protocol::{Packet, Payload};
use medfed_store::Store;
use medfed_types::{RunId, SiteId};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Packets that wait for the engine before the transport is made to wait too.
const WAITING: usize = 64;

/// Keeps what people see of a run: its audit log, its files, its events. Called on the engine's thread.
pub trait CoordinatorKeeper: Send {
    /// Writes a round into the audit log, durably, once however often it is called for the round. Returns the
    /// checkpoint for the sites to sign; empty where there is none.
    fn seal(&mut self, report: &RoundReport) -> Result<Payload, KeeperError>;

    /// A round is about to be committed: files beside the store are written here, again after a crash. Returns
    /// documents that are kept with the round.
    fn commit(
        &mut self,
        report: &RoundReport,
        state: &[Snapshot],
        cosignatures: &BTreeMap<SiteId, Payload>,
    ) -> Result<Vec<(String, String)>, KeeperError>;

    /// A round is committed.
    fn committed(&mut self, report: &RoundReport);

    /// Something happened.
    fn notice(&mut self, notice: &Notice) -> Result<(), KeeperError>;

    /// A site connected or is gone; nothing of the run depends on it.
    fn link(&mut self, site: &SiteId, connected: bool, detail: &str);

    /// The run is over.
    fn finished(&mut self, finished: &Finished) -> Result<(), KeeperError>;
}

/// How a sitting of the coordinator ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorStatus {
    /// The run is over, and every site that is there has heard of it.
    Over,
    /// It was asked to stop; it goes on where it was when it is started again.
    Stopped,
}

/// A coordinator that is about to run.
#[derive(Debug)]
pub struct CoordinatorRuntime<T> {
    transport: T,
    engine: Engine,
}

impl<T: CoordinatorTransport> CoordinatorRuntime<T> {
    /// Takes up the run where its store left it: the state of the last commit, then every event of the log.
    ///
    /// `machine` is new; the run is in the store already.
    pub fn open(
        transport: T,
        store: Store,
        run: RunId,
        machine: CoordinatorMachine,
        keeper: Box<dyn CoordinatorKeeper>,
    ) -> Result<Self, RuntimeError> {
        Ok(Self { transport, engine: Engine::open(store, run, machine, keeper)? })
    }

    /// Runs until the run is over or `stop` says so.
    pub async fn run(self, stop: CancellationToken) -> Result<CoordinatorStatus, RuntimeError> {
        let Self { mut transport, engine } = self;
        let (commands, inbox) = mpsc::channel(WAITING);
        let (outbox, mut outcomes) = mpsc::unbounded_channel();
        let working = tokio::task::spawn_blocking(move || engine.work(inbox, &outbox));
        let mut alarm: Option<Instant> = None;
        let status = loop {
            // An engine that is busy is heard before the transport is asked for more.
            let room = commands.capacity() > 0;
            tokio::select! {
                biased;
                () = stop.cancelled() => break Some(CoordinatorStatus::Stopped),
                outcome = outcomes.recv() => match outcome {
                    Some(Outcome::Send { to, packet }) => send(&transport, &to, &packet),
                    Some(Outcome::Done { wake_in }) => alarm = wake_in.map(|pause| Instant::now() + pause),
                    Some(Outcome::Over) => break Some(CoordinatorStatus::Over),
                    // The engine has failed: its thread says how.
                    None => break None,
                },
                () = until(alarm), if room => {
                    alarm = None;
                    give(&commands, Command::Wake);
                }
                heard = transport.recv(), if room => match heard {
                    Some(heard) => give(&commands, command(heard)),
                    None => return Err(RuntimeError::Transport),
                },
            }
        };
        drop(commands);
        // What the engine is at is finished: it is between two events when it ends.
        working.await.map_err(|_| RuntimeError::Panicked)??;
        status.ok_or(RuntimeError::Panicked)
    }
}

/// Until the alarm; for ever without one.
async fn until(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

/// There is room: it was looked for, and nobody else gives commands. An engine that has ended is noticed by
/// what it leaves.
fn give(commands: &mpsc::Sender<Command>, command: Command) {
    let _ = commands.try_send(command);
}

fn command(heard: Heard) -> Command {
    match heard {
        Heard::Connected { site, .. } => Command::Connected(site),
        Heard::Disconnected { site, problem } => Command::Gone(site, problem.to_string()),
        Heard::Message { from, bytes } => Command::Packet(from, bytes),
    }
}

/// A packet that cannot be sent now is sent again when the site connects anew.
fn send(transport: &impl CoordinatorTransport, to: &SiteId, packet: &Packet) {
    match transport.send(to, Bytes::from(packet.to_bytes())) {
        Ok(()) => {}
        Err(SendError::NotConnected) => tracing::debug!(%to, "not connected"),
        Err(SendError::Full { queued }) => {
            tracing::warn!(%to, queued, "the site does not take what is sent to it; its link is made anew");
            transport.disconnect(to);
        }
        Err(error) => tracing::error!(%to, "{error}"),
    }
}
