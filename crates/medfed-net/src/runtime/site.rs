//! Runs a site's machine, run after run.

mod engine;
mod worker;

use super::error::{KeeperError, RuntimeError};
use crate::transport::{SendError, SiteEvent as Heard, SiteTransport};
use bytes::Bytes;
use engine::{Command, Engine, Outcome};
use medfed_federation::site::{LocalOutcome, TrainRequest};
use medfed_federation::{Announcement, SiteEvaluation, Snapshot};
use medfed_protocol::message::{DeclineCode, Offer};
use medfed_protocol::policy::Paid;
use medfed_protocol::site::{Authority, SiteNotice};
use medfed_protocol::{Packet, Payload};
use medfed_store::Store;
use medfed_types::{Cancel, RoundId, RunId, SecretKey, SiteId};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Packets that wait for the engine before the transport is made to wait too.
const WAITING: usize = 64;
/// How long a site that serves one run waits for the coordinator to have its last word.
const FAREWELL: Duration = Duration::from_secs(10);

/// The hospital behind a site: its images, its ledger, its training. It works on a thread of its own.
pub trait Hospital: Send {
    /// Makes a plan of an offer and the hospital's images. The offer is asked for again after a restart.
    fn prepare(&mut self, offer: &Offer) -> Result<Announcement, Trouble>;

    /// Puts the prepared hospital back to a state of its own.
    fn restore(&mut self, state: &Snapshot) -> Result<(), Trouble>;

    /// Trains; says how it ended and the state after it.
    fn train(&mut self, request: &TrainRequest, cancel: &Cancel) -> Result<LocalOutcome, Trouble>;

    /// Measures a model; nothing without validation images.
    fn evaluate(&mut self, parameters: &[f32]) -> Result<Option<SiteEvaluation>, Trouble>;

    /// Checks a checkpoint of the audit log against the one signed before, and signs it.
    fn cosign(&mut self, round: RoundId, checkpoint: &Payload) -> Result<Payload, Trouble>;

    /// The state to continue from; nothing before it is prepared.
    fn snapshot(&self) -> Option<Snapshot>;

    /// A round is over.
    fn end_round(&mut self);
}

/// Why a hospital did not do what it was asked.
#[derive(Debug)]
pub enum Trouble {
    /// The coordinator is told, and the site goes on.
    Unable {
        /// The code.
        code: DeclineCode,
        /// Why, in a sentence without full stop and without anything about patients.
        reason: String,
    },
    /// The site stops: its disk, or a fault of the program.
    Fatal(KeeperError),
}

/// What a site is to its runs: who it is, what it agrees to, how it gets at its images. Called on the
/// engine's thread.
pub trait SiteKeeper: Send {
    /// The hospital for a run that may have gone on before.
    fn hospital(&mut self, run: &RunId) -> Result<Box<dyn Hospital>, KeeperError>;

    /// The text of what the site agrees to, checked. It is read again and again: a change counts at once.
    fn policy(&mut self) -> Result<String, KeeperError>;

    /// Steps that the site has paid for in other runs.
    fn past(&mut self, run: &RunId) -> Result<Vec<Paid>, KeeperError>;

    /// Checks certificates of other sites.
    fn authority(&self) -> Box<dyn Authority>;

    /// The secret of a run, from which the randomness of secure aggregation follows: the same until the run
    /// ends.
    fn secret(&mut self, run: &RunId) -> Result<SecretKey, KeeperError>;

    /// Something happened.
    fn notice(&mut self, run: &RunId, notice: &SiteNotice) -> Result<(), KeeperError>;

    /// The link to the coordinator is there or gone.
    fn link(&mut self, connected: bool, detail: &str);

    /// The site's part in a run is over: its model is kept, its secrets are deleted.
    fn ended(&mut self, run: &RunId, end: &SiteEnd) -> Result<(), KeeperError>;
}

/// How a site's part in a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteEnd {
    /// How the run ended; nothing where the site took no part to its end.
    pub status: Option<medfed_federation::report::RunStatus>,
    /// Why, where that needs a sentence.
    pub reason: Option<String>,
    /// The round of the best model.
    pub best_round: Option<u32>,
    /// Its parameters; empty without.
    pub best: Payload,
}

/// Who a site is.
#[derive(Debug)]
pub struct SiteIdentity {
    /// Its name.
    pub site: SiteId,
    /// The seed of its Ed25519 key.
    pub key: SecretKey,
}

/// How a sitting of a site ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteStatus {
    /// The run that it was to serve is over, and how.
    Over(Option<medfed_federation::report::RunStatus>),
    /// It was asked to stop; it goes on where it was when it is started again.
    Stopped,
}

/// A site that is about to run.
#[derive(Debug)]
pub struct SiteRuntime<T> {
    transport: T,
    engine: Engine,
    once: bool,
}

impl<T: SiteTransport> SiteRuntime<T> {
    /// Takes up the unfinished run of the store, where there is one; otherwise waits for the first offer.
    /// With `once` it serves one run and ends.
    pub fn open(
        transport: T,
        store: Store,
        identity: SiteIdentity,
        keeper: Box<dyn SiteKeeper>,
        once: bool,
    ) -> Result<Self, RuntimeError> {
        Ok(Self { transport, engine: Engine::open(store, identity, keeper)?, once })
    }

    /// Runs until `stop` says so, or the run is over that it was to serve.
    pub async fn run(self, stop: CancellationToken) -> Result<SiteStatus, RuntimeError> {
        let Self { mut transport, engine, once } = self;
        let (commands, inbox) = mpsc::channel(WAITING);
        let (outbox, mut outcomes) = mpsc::unbounded_channel();
        let working = tokio::task::spawn_blocking({
            let commands = commands.downgrade();
            move || engine.work(inbox, &commands, &outbox)
        });
        let mut farewell = None;
        let status = loop {
            // The last place is the worker's, so that its answer never waits for the transport.
            let room = commands.capacity() > 1;
            tokio::select! {
                biased;
                () = stop.cancelled() => break Some(SiteStatus::Stopped),
                outcome = outcomes.recv() => match outcome {
                    Some(Outcome::Send(packet)) => send(&transport, &packet),
                    Some(Outcome::Over(status)) if once => {
                        farewell = Some((tokio::time::Instant::now() + FAREWELL, status));
                    }
                    Some(Outcome::Over(_) | Outcome::Done) => {}
                    // The engine has failed: its thread says how.
                    None => break None,
                },
                () = until(farewell.as_ref().map(|(at, _)| *at)) => {
                    break farewell.map(|(_, status)| SiteStatus::Over(status));
                }
                heard = transport.recv(), if room => match heard {
                    // The coordinator hangs up when it has heard everybody's last word.
                    Some(Heard::Disconnected { .. }) if farewell.is_some() => {
                        break farewell.map(|(_, status)| SiteStatus::Over(status));
                    }
                    Some(heard) => give(&commands, heard),
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

async fn until(alarm: Option<tokio::time::Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

/// There is room: it was looked for. An engine that has ended is noticed by what it leaves.
fn give(commands: &mpsc::Sender<Command>, heard: Heard) {
    let command = match heard {
        Heard::Connected { certificate } => Command::Connected(*certificate.key()),
        Heard::Disconnected { problem } => Command::Gone(problem.to_string()),
        Heard::Message { bytes } => Command::Packet(bytes),
    };
    let _ = commands.try_send(command);
}

/// What cannot be sent now is asked for again by the coordinator.
fn send(transport: &impl SiteTransport, packet: &Packet) {
    match transport.send(Bytes::from(packet.to_bytes())) {
        Ok(()) => {}
        Err(SendError::NotConnected) => tracing::debug!("not connected"),
        Err(error) => tracing::warn!("a message was not sent: {error}"),
    }
}
