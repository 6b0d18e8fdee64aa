//! The thread on which a site's machine works.

use super::worker::{Job, Worker};
use super::{SiteEnd, SiteIdentity, SiteKeeper};
use crate::clock;
use crate::runtime::error::{KeeperError, RuntimeError};
use crate::runtime::state::{from_parts, to_parts};
use bytes::Bytes;
use medfed_federation::report::RunStatus;
use medfed_protocol::coordinator::Admission;
use medfed_protocol::envelope::{self, Envelope};
use medfed_protocol::message::{Offer, ToSite};
use medfed_protocol::site::{SiteEffect, SiteEvent, SiteMachine, SiteTerms};
use medfed_protocol::{Packet, Signer};
use medfed_store::{Commit, RunRecord, Store, StoreError, Timestamp};
use medfed_types::{RunId, Seed};
use serde_json::json;
use tokio::sync::mpsc;

/// Name of the document that holds the offer of a run.
const OFFER: &str = "offer";

/// What the engine is told.
pub(super) enum Command {
    /// The coordinator is there, with this key.
    Connected([u8; 32]),
    /// It is gone, and why.
    Gone(String),
    /// It sent bytes.
    Packet(Bytes),
    /// The hospital has answered; `epoch` says for which run.
    Answer { epoch: u64, event: Result<SiteEvent, KeeperError> },
}

/// What the engine says.
pub(super) enum Outcome {
    /// Send a packet.
    Send(Packet),
    /// The last command is done.
    Done,
    /// The site's part in a run is over.
    Over(Option<RunStatus>),
}

/// A machine with its log and its hospital; none between two runs.
pub(super) struct Engine {
    store: Store,
    identity: SiteIdentity,
    keeper: Box<dyn SiteKeeper>,
    /// The coordinator's key, by its newest connection.
    coordinator: Option<[u8; 32]>,
    current: Option<Current>,
    /// Counts the runs of this sitting: an answer of an earlier hospital is dropped.
    epoch: u64,
    newest_ms: u64,
}

struct Current {
    run: RunId,
    machine: SiteMachine,
    worker: Option<Worker>,
    /// Its part is over, and nothing is logged any more.
    over: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.identity.site)
    }
}

impl Engine {
    /// Takes up the unfinished run of the store, where there is one.
    pub(super) fn open(
        store: Store,
        identity: SiteIdentity,
        keeper: Box<dyn SiteKeeper>,
    ) -> Result<Self, RuntimeError> {
        let mut engine =
            Self { store, identity, keeper, coordinator: None, current: None, epoch: 0, newest_ms: 0 };
        if let Some(run) = engine.store.newest_logged_run()? {
            let key = run.config["coordinator"].as_str().and_then(key_from_hex).ok_or_else(|| {
                let detail = format!("run {} does not say who coordinates it", run.id);
                StoreError::Corrupt { path: engine.store.dir().to_owned(), detail }
            })?;
            engine.store.resume_run(&run.id)?;
            engine.take_up(run.id, key)?;
        }
        Ok(engine)
    }

    /// Brings a new machine to where the store says that the run is.
    fn take_up(&mut self, run: RunId, coordinator: [u8; 32]) -> Result<(), RuntimeError> {
        let mut machine = self.machine(&run, coordinator)?;
        let state = from_parts(self.store.load_progress(&run)?);
        if !state.is_empty() {
            machine.restore(&state)?;
        }
        let mut logged = Vec::new();
        self.store.logged_events::<StoreError>(&run, |event| {
            logged.push(event);
            Ok(())
        })?;
        for event in logged {
            let number = event.number;
            let time = event.time.0.cast_unsigned();
            self.newest_ms = self.newest_ms.max(time);
            let event = SiteEvent::from_bytes(&event.bytes)
                .map_err(|source| RuntimeError::Event { number, source })?;
            for effect in machine.handle(time, event)? {
                if let SiteEffect::Commit { state } = effect {
                    let commit = Commit { state: to_parts(&state), through: number, ..Commit::default() };
                    self.store.commit_logged(&run, &commit)?;
                }
            }
        }
        self.current = Some(Current { run, machine, worker: None, over: false });
        Ok(())
    }

    fn machine(&mut self, run: &RunId, coordinator: [u8; 32]) -> Result<SiteMachine, RuntimeError> {
        let terms = SiteTerms { run: run.clone(), site: self.identity.site.clone(), coordinator };
        let secret = self.keeper.secret(run).map_err(RuntimeError::Keeper)?;
        Ok(SiteMachine::new(terms, &self.identity.key, secret, self.keeper.authority())?)
    }

    /// Works until nobody gives commands any more.
    pub(super) fn work(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        answers: &mpsc::WeakSender<Command>,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        let done = self.serve(&mut inbox, answers, outbox);
        // Before the hospital is waited for: it may wait for a place.
        drop(inbox);
        drop(self.current);
        done
    }

    fn serve(
        &mut self,
        inbox: &mut mpsc::Receiver<Command>,
        answers: &mpsc::WeakSender<Command>,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        if self.current.is_some() {
            self.employ(answers)?;
            self.agree(outbox)?;
            let pending = self.current.as_ref().map(|current| current.machine.pending());
            self.carry_out(0, pending.unwrap_or_default(), outbox)?;
        }
        while let Some(command) = inbox.blocking_recv() {
            match command {
                Command::Connected(key) => {
                    self.coordinator = Some(key);
                    self.keeper.link(true, "");
                    let hello = self.current.as_ref().and_then(|current| current.machine.hello());
                    if let Some(packet) = hello {
                        say(outbox, Outcome::Send(packet));
                    }
                }
                Command::Gone(problem) => self.keeper.link(false, &problem),
                Command::Packet(bytes) => self.hear(&bytes, answers, outbox)?,
                Command::Answer { epoch, event } if epoch == self.epoch => {
                    let event = event.map_err(RuntimeError::Keeper)?;
                    if let Some(worker) = self.current.as_mut().and_then(|current| current.worker.as_mut())
                        && !matches!(event, SiteEvent::Prepared { .. })
                    {
                        worker.trained();
                    }
                    self.happened(event, outbox)?;
                }
                Command::Answer { .. } => {}
            }
            say(outbox, Outcome::Done);
        }
        Ok(())
    }

    /// Gives the run its hospital, prepared and restored where it was before.
    fn employ(&mut self, answers: &mpsc::WeakSender<Command>) -> Result<(), RuntimeError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        self.epoch += 1;
        let hospital = self.keeper.hospital(&current.run).map_err(RuntimeError::Keeper)?;
        let worker = Worker::start(hospital, self.epoch, answers.clone())
            .map_err(|error| RuntimeError::Keeper(error.into()))?;
        if let Some(text) = self.store.document(&current.run, OFFER)? {
            let offer: Offer = serde_json::from_str(&text).map_err(RuntimeError::Report)?;
            worker.give(Job::Resume(Box::new(offer), current.machine.hospital().cloned()));
        }
        current.worker = Some(worker);
        Ok(())
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        answers: &mpsc::WeakSender<Command>,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        let packet = match Packet::from_bytes(bytes) {
            Ok(packet) => packet,
            Err(error) => return self.refuse(&error),
        };
        let envelope = match Packet::peek::<ToSite>(packet.head().as_bytes()) {
            Ok(envelope) => envelope,
            Err(error) => return self.refuse(&error),
        };
        if self.current.as_ref().is_none_or(|current| current.run != envelope.run) {
            if !self.begin(&envelope, &packet, outbox)? {
                return Ok(());
            }
            self.employ(answers)?;
        }
        self.agree(outbox)?;
        let Some(current) = &self.current else { return Ok(()) };
        match current.machine.admit(packet) {
            Ok(Admission::Fresh(_)) if current.over => Ok(()),
            Ok(Admission::Fresh(event)) => self.happened(event, outbox),
            Ok(Admission::Known(packets)) => {
                for packet in packets {
                    say(outbox, Outcome::Send(packet));
                }
                Ok(())
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// Tells the machine what the site agrees to, where that has changed since it was told.
    fn agree(&mut self, outbox: &mpsc::UnboundedSender<Outcome>) -> Result<(), RuntimeError> {
        let Some(current) = self.current.as_ref().filter(|current| !current.over) else { return Ok(()) };
        let text = self.keeper.policy().map_err(RuntimeError::Keeper)?;
        let past = self.keeper.past(&current.run).map_err(RuntimeError::Keeper)?;
        if current.machine.policy() == Some((text.as_str(), past.as_slice())) {
            return Ok(());
        }
        self.happened(SiteEvent::Policy { text, past }, outbox)
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the callers return what it returns")]
    fn refuse(&self, error: &dyn std::error::Error) -> Result<(), RuntimeError> {
        tracing::warn!("a message of the coordinator was not accepted: {error}");
        Ok(())
    }

    /// Turns to a run that the coordinator offers. A run that was unfinished is given up: the coordinator
    /// has one at a time. Says whether there is one now.
    fn begin(
        &mut self,
        envelope: &Envelope<ToSite>,
        packet: &Packet,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<bool, RuntimeError> {
        let Some(key) = self.coordinator else { return Ok(false) };
        let run = envelope.run.clone();
        match self.store.run(&run) {
            Err(StoreError::UnknownRun { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(found) if found.status.is_resumable() => {
                // It was given up for another one, or never got to its first event.
                self.store.resume_run(&run)?;
            }
            Ok(_) => {
                if let ToSite::Ended { .. } | ToSite::Refused { .. } = envelope.message {
                    self.say_left(&run, envelope.number, outbox);
                }
                return Ok(false);
            }
        }
        // Whatever is signed by somebody else makes no run.
        let signed = ed25519_dalek::VerifyingKey::from_bytes(&key)
            .is_ok_and(|key| packet.open::<ToSite>(&key).is_ok());
        let own = envelope::Party::Site(self.identity.site.clone());
        let addressed = envelope.from == envelope::Party::Coordinator && envelope.to == own;
        if !signed || !addressed || envelope.number == 0 {
            tracing::warn!("an offer that the coordinator did not sign for this site was not accepted");
            return Ok(false);
        }
        let unfinished = self.current.as_ref().is_some_and(|current| !current.over);
        if unfinished && !matches!(envelope.message, ToSite::Offer) {
            tracing::warn!("a message of run {run} came too late: another run goes on");
            return Ok(false);
        }
        if let Some(Current { run: old, over: false, worker, .. }) = self.current.take() {
            drop(worker);
            self.store.abandon_run(&old, Timestamp::now())?;
            tracing::warn!("run {old} was given up: the coordinator offers run {run}");
        }
        let record = RunRecord {
            id: run.clone(),
            name: self.identity.site.to_string(),
            created: Timestamp::now(),
            config: json!({ "coordinator": hex(&key) }),
            seed: Seed(0),
        };
        match self.store.create_run(&record) {
            Ok(()) | Err(StoreError::DuplicateRun { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let machine = self.machine(&run, key)?;
        self.current = Some(Current { run, machine, worker: None, over: false });
        Ok(true)
    }

    /// A run that is over is told to a coordinator that asks for a last word again.
    fn say_left(&self, run: &RunId, answers: u64, outbox: &mpsc::UnboundedSender<Outcome>) {
        let SiteIdentity { site, key } = &self.identity;
        let signer = Signer::new(envelope::Party::Site(site.clone()), key);
        let message = medfed_protocol::message::ToCoordinator::Left;
        let packet = signer.seal(
            run,
            envelope::Party::Coordinator,
            (u64::MAX, answers),
            message,
            medfed_protocol::Payload::default(),
        );
        say(outbox, Outcome::Send(packet));
    }

    /// Makes an event durable and does what follows from it.
    fn happened(
        &mut self,
        event: SiteEvent,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        let now = clock::now_ms().max(self.newest_ms);
        self.newest_ms = now;
        let Some(current) = self.current.as_mut().filter(|current| !current.over) else { return Ok(()) };
        let number = self.store.log_event(&current.run, Timestamp(now.cast_signed()), &event.to_bytes())?;
        let effects = current.machine.handle(now, event)?;
        self.carry_out(number, effects, outbox)
    }

    fn carry_out(
        &mut self,
        number: u64,
        effects: Vec<SiteEffect>,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        let Self { store, keeper, current, .. } = self;
        let Some(current) = current else { return Ok(()) };
        let Current { run, worker, over, .. } = current;
        let Some(worker) = worker else { return Ok(()) };
        for effect in effects {
            match effect {
                SiteEffect::Send(packet) => say(outbox, Outcome::Send(packet)),
                SiteEffect::Prepare(offer) => {
                    let text = serde_json::to_string(&offer).map_err(RuntimeError::Report)?;
                    store.put_document(run, OFFER, &text)?;
                    worker.give(Job::Prepare(offer));
                }
                SiteEffect::Train(request) => worker.train(request),
                SiteEffect::Stop => worker.stop(),
                SiteEffect::Evaluate { parameters } => worker.give(Job::Evaluate(parameters)),
                SiteEffect::Cosign { round, checkpoint } => worker.give(Job::Cosign(round, checkpoint)),
                SiteEffect::Commit { state } => {
                    let commit = Commit { state: to_parts(&state), through: number, ..Commit::default() };
                    store.commit_logged(run, &commit)?;
                    worker.give(Job::EndRound);
                }
                SiteEffect::Notice(notice) => keeper.notice(run, &notice).map_err(RuntimeError::Keeper)?,
                SiteEffect::Ended { status, reason, best_round, best } => {
                    let end = SiteEnd { status, reason, best_round, best };
                    keeper.ended(run, &end).map_err(RuntimeError::Keeper)?;
                    *over = true;
                    say(outbox, Outcome::Over(status));
                }
            }
        }
        Ok(())
    }
}

/// Whoever has stopped listening needs nothing any more.
fn say(outbox: &mpsc::UnboundedSender<Outcome>, outcome: Outcome) {
    let _ = outbox.send(outcome);
}

fn hex(key: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    key.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn key_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}
