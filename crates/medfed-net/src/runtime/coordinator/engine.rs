//! The thread on which the machine works.

use super::CoordinatorKeeper;
use crate::runtime::clock::UpTime;
use crate::runtime::error::RuntimeError;
use crate::runtime::state::{from_parts, to_parts};
use bytes::Bytes;
use medfed_federation::Snapshot;
use medfed_federation::report::RoundReport;
use medfed_protocol::coordinator::{Admission, CoordinatorEffect, CoordinatorEvent, CoordinatorMachine};
use medfed_protocol::{Packet, Payload};
use medfed_store::{Commit, LoggedEvent, ProgressPart, RoundReports, Store, StoreError, Timestamp};
use medfed_types::{RoundId, RunId, SiteId};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;

/// Owner of the part of the saved state that holds the time of the commit.
const CLOCK: &str = "clock";

/// What the engine is told.
#[derive(Debug)]
pub(super) enum Command {
    /// A site connected.
    Connected(SiteId),
    /// A site is gone, and why.
    Gone(SiteId, String),
    /// A site sent bytes.
    Packet(SiteId, Bytes),
    /// The alarm rang.
    Wake,
}

/// What the engine says.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Send a packet.
    Send { to: SiteId, packet: Packet },
    /// The last command is done; the next alarm is due so much later, if one is.
    Done { wake_in: Option<Duration> },
    /// The run is over.
    Over,
}

/// A machine with its log.
pub(super) struct Engine {
    store: Store,
    run: RunId,
    machine: CoordinatorMachine,
    keeper: Box<dyn CoordinatorKeeper>,
    clock: UpTime,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.run)
    }
}

impl Engine {
    /// Brings a new machine to where the store says that the run is.
    pub(super) fn open(
        store: Store,
        run: RunId,
        machine: CoordinatorMachine,
        keeper: Box<dyn CoordinatorKeeper>,
    ) -> Result<Self, RuntimeError> {
        let mut engine = Self { store, run, machine, keeper, clock: UpTime::after(0) };
        let state = from_parts(engine.store.load_progress(&engine.run)?);
        if !state.is_empty() {
            let reports: Result<Vec<RoundReport>, _> = engine
                .store
                .rounds(&engine.run)?
                .into_iter()
                .map(|round| serde_json::from_value(round.report))
                .collect();
            engine.machine.restore(&state, reports.map_err(RuntimeError::Report)?)?;
        }
        let mut logged = Vec::new();
        engine.store.logged_events::<StoreError>(&engine.run, |event| {
            logged.push(event);
            Ok(())
        })?;
        let last = logged.last().map(|event| event.time.0.cast_unsigned());
        let newest = last.or_else(|| committed_at(&state)).unwrap_or_default();
        for event in logged {
            engine.replay(event)?;
        }
        engine.clock = UpTime::after(newest);
        Ok(engine)
    }

    /// An event of the log again. What it led to has been done, but for a commit, which would have emptied
    /// the log.
    fn replay(&mut self, LoggedEvent { number, time, bytes }: LoggedEvent) -> Result<(), RuntimeError> {
        let event =
            CoordinatorEvent::from_bytes(&bytes).map_err(|source| RuntimeError::Event { number, source })?;
        for effect in self.machine.handle(time.0.cast_unsigned(), event)? {
            if let CoordinatorEffect::Commit { report, state, cosignatures } = effect {
                self.commit(number, time, &report, &state, &cosignatures)?;
            }
        }
        Ok(())
    }

    /// Works until nobody gives commands any more, or the run is over.
    pub(super) fn work(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        let begun = self.store.newest_event(&self.run)? > 0;
        let effects = self.machine.pending();
        // Nothing of it is a commit: that was carried out with the events of the log.
        let time = Timestamp(self.clock.now_ms().cast_signed());
        for event in self.carry_out(0, time, effects, outbox)? {
            self.happened(event, outbox)?;
        }
        if !begun {
            self.happened(CoordinatorEvent::Started, outbox)?;
        }
        self.done(outbox);
        while let Some(command) = inbox.blocking_recv() {
            self.obey(command, outbox)?;
            self.done(outbox);
        }
        Ok(())
    }

    fn obey(
        &mut self,
        command: Command,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        match command {
            Command::Connected(site) => {
                self.keeper.link(&site, true, "");
                if let Some(packet) = self.machine.outstanding(&site) {
                    say(outbox, Outcome::Send { to: site, packet });
                }
                Ok(())
            }
            Command::Gone(site, problem) => {
                self.keeper.link(&site, false, &problem);
                Ok(())
            }
            Command::Packet(from, bytes) => self.hear(&from, &bytes, outbox),
            Command::Wake => match self.machine.wake_at() {
                Some(due) if due <= self.clock.now_ms() => self.happened(CoordinatorEvent::Wake, outbox),
                _ => Ok(()),
            },
        }
    }

    fn hear(
        &mut self,
        from: &SiteId,
        bytes: &[u8],
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        let packet = match Packet::from_bytes(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                tracing::warn!(site = from.as_str(), "a message was not accepted: {error}");
                return Ok(());
            }
        };
        match self.machine.admit(from, packet) {
            Ok(Admission::Fresh(event)) => self.happened(event, outbox),
            Ok(Admission::Known(packets)) => {
                for packet in packets {
                    say(outbox, Outcome::Send { to: from.clone(), packet });
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(site = from.as_str(), "a message was not accepted: {error}");
                Ok(())
            }
        }
    }

    /// Makes an event durable and does what follows from it, and from what follows from that.
    fn happened(
        &mut self,
        event: CoordinatorEvent,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<(), RuntimeError> {
        let mut next = VecDeque::from([event]);
        while let Some(event) = next.pop_front() {
            let now = self.clock.now_ms();
            let time = Timestamp(now.cast_signed());
            let number = self.store.log_event(&self.run, time, &event.to_bytes())?;
            let effects = self.machine.handle(now, event)?;
            next.extend(self.carry_out(number, time, effects, outbox)?);
        }
        Ok(())
    }

    /// Carries effects out in their order; the events that this gives are still to be handled.
    fn carry_out(
        &mut self,
        number: u64,
        time: Timestamp,
        effects: Vec<CoordinatorEffect>,
        outbox: &mpsc::UnboundedSender<Outcome>,
    ) -> Result<Vec<CoordinatorEvent>, RuntimeError> {
        let mut events = Vec::new();
        for effect in effects {
            match effect {
                CoordinatorEffect::Send { to, packet } => say(outbox, Outcome::Send { to, packet }),
                CoordinatorEffect::Seal { report } => {
                    let checkpoint = self.keeper.seal(&report).map_err(RuntimeError::Keeper)?;
                    events.push(CoordinatorEvent::Sealed { checkpoint });
                }
                CoordinatorEffect::Commit { report, state, cosignatures } => {
                    self.commit(number, time, &report, &state, &cosignatures)?;
                }
                CoordinatorEffect::Notice(notice) => {
                    self.keeper.notice(&notice).map_err(RuntimeError::Keeper)?;
                }
                CoordinatorEffect::Finished(finished) => {
                    self.keeper.finished(&finished).map_err(RuntimeError::Keeper)?;
                }
            }
        }
        Ok(events)
    }

    fn commit(
        &mut self,
        through: u64,
        time: Timestamp,
        report: &RoundReport,
        state: &[Snapshot],
        cosignatures: &BTreeMap<SiteId, Payload>,
    ) -> Result<(), RuntimeError> {
        let json = |value: serde_json::Result<serde_json::Value>| value.map_err(RuntimeError::Report);
        let sites = report
            .hospitals
            .iter()
            .map(|hospital| Ok((hospital.hospital.clone(), json(serde_json::to_value(hospital))?)));
        let sites = sites.collect::<Result<Vec<_>, RuntimeError>>()?;
        let documents = self.keeper.commit(report, state, cosignatures).map_err(RuntimeError::Keeper)?;
        let mut state = to_parts(state);
        state.push(ProgressPart {
            owner: CLOCK.to_owned(),
            meta: json(serde_json::to_value(time))?,
            bytes: Vec::new(),
        });
        let commit = Commit {
            round: Some(RoundReports {
                round: RoundId(report.round_num),
                report: json(serde_json::to_value(report))?,
                sites,
            }),
            documents,
            state,
            through,
        };
        self.store.commit_logged(&self.run, &commit)?;
        self.keeper.committed(report);
        Ok(())
    }

    fn done(&self, outbox: &mpsc::UnboundedSender<Outcome>) {
        let due = self.machine.wake_at().map(|due| due.saturating_sub(self.clock.now_ms()));
        say(outbox, Outcome::Done { wake_in: due.map(Duration::from_millis) });
        if self.machine.is_over() {
            say(outbox, Outcome::Over);
        }
    }
}

/// Whoever has stopped listening needs nothing any more.
fn say(outbox: &mpsc::UnboundedSender<Outcome>, outcome: Outcome) {
    let _ = outbox.send(outcome);
}

/// The time of the commit that left this state.
fn committed_at(state: &[Snapshot]) -> Option<u64> {
    let clock = state.iter().find(|snapshot| snapshot.owner == CLOCK)?;
    let time: Timestamp = serde_json::from_value(clock.meta.clone()).ok()?;
    Some(time.0.cast_unsigned())
}
