//! The coordinator as a machine: events in, effects out.
//!
//! ```text
//! Joining ─► Training ─► Masking ─► Evaluating ─► Sealing ─► Cosigning ─► commit ─┬─► Training …
//!               ▲        (masks)                  (audit log)                     ├─► Waiting (too few)
//!               └── aborted: the same round again, or the next ◄──────────────────┴─► Measuring ─► Ended
//! ```
//!
//! The machine knows no clock, no socket and no file. Whoever runs it
//!
//! 1. gives every packet from a site to [`CoordinatorMachine::admit`], which changes nothing;
//! 2. makes what is fresh durable as a [`CoordinatorEvent`], with the time;
//! 3. hands it to [`CoordinatorMachine::handle`] and carries out the effects in their order;
//! 4. at [`CoordinatorMachine::wake_at`] makes [`CoordinatorEvent::Wake`] durable and hands it over;
//! 5. sends [`CoordinatorMachine::outstanding`] to a site that has connected anew.
//!
//! After a restart: a new machine, [`CoordinatorMachine::restore`] where a round was committed, then every
//! event of the log again with its time. Of the effects of old events only
//! [`CoordinatorEffect::Commit`] is carried out: it would have emptied the log. Then
//! [`CoordinatorMachine::pending`].
//!
//! One message to each site is under way at a time, and it is sent again until it is answered: what the network
//! loses, doubles or reorders changes nothing.
//!
//! Held in memory: the global model, its average and the best model; in a round with open updates one update
//! for each hospital that trains (rules and detector compare them all, `fedavg` included); under masks what
//! the driver holds, which is one sum.

mod effect;
mod ending;
mod event;
mod founding;
mod joining;
mod link;
mod masking;
mod rounds;
mod state;

pub use effect::{AfterAbort, CoordinatorEffect, Finished, Notice};
pub use event::CoordinatorEvent;
pub use founding::{Configured, Founding};

use crate::envelope::{Envelope, Packet, Party, Signer, verifying_key};
use crate::error::{ProtocolError, Rejected};
use crate::message::{DeclineCode, Offer, ToCoordinator, ToSite};
use crate::patience::Patience;
use crate::payload::Payload;
use link::Link;
use medfed_federation::coordinator::{Coordinator, Evaluating, Training};
use medfed_federation::masking::Opening;
use medfed_federation::report::{RoundReport, RunStatus, SecurityReport, SiteDecision};
use medfed_federation::{Announcement, SiteEvaluation};
use medfed_types::{RunId, SecretKey, SiteId};
use std::collections::{BTreeMap, BTreeSet};

/// What a run goes by, as far as messages are concerned.
#[derive(Debug, Clone)]
pub struct CoordinatorTerms {
    /// The run.
    pub run: RunId,
    /// What sites are offered; its cohort are the sites that may take part.
    pub offer: Offer,
    /// The Ed25519 key of each of them, from its verified certificate.
    pub keys: BTreeMap<SiteId, [u8; 32]>,
    /// How long it waits, and what follows.
    pub patience: Patience,
    /// Whether rounds are written into an audit log that sites sign.
    pub audited: bool,
}

/// The coordinator of one run.
pub struct CoordinatorMachine {
    terms: CoordinatorTerms,
    signer: Signer,
    /// From which the sessions of secure aggregation follow.
    secret: SecretKey,
    founding: Box<dyn Founding>,
    links: BTreeMap<SiteId, Link>,
    announcements: BTreeMap<SiteId, Announcement>,
    /// Attempt at the round in progress, from 1.
    attempt: u32,
    /// Rounds in a row that came to nothing.
    lost: u32,
    /// Sites that gave no answer in this attempt.
    missed: BTreeSet<SiteId>,
    phase: Phase,
}

/// Whom an answer is expected from, and until when.
#[derive(Debug)]
struct Asked {
    pending: BTreeSet<SiteId>,
    until: u64,
}

#[expect(clippy::large_enum_variant, reason = "there is one, and it changes in place")]
enum Phase {
    New,
    Joining {
        asked: Asked,
    },
    Waiting {
        core: Box<Coordinator>,
        until: u64,
    },
    Training {
        training: Training,
        asked: Asked,
    },
    Masking {
        training: Training,
        opening: Opening,
        asked: Asked,
    },
    Evaluating {
        evaluating: Evaluating,
        asked: Asked,
    },
    Sealing {
        core: Coordinator,
        report: Box<RoundReport>,
    },
    Cosigning {
        core: Coordinator,
        report: Box<RoundReport>,
        signed: BTreeMap<SiteId, Payload>,
        asked: Asked,
    },
    Measuring {
        core: Coordinator,
        end: End,
        found: BTreeMap<SiteId, SiteEvaluation>,
        asked: Asked,
    },
    Ended {
        finished: Box<Finished>,
        asked: Asked,
    },
    /// A call is at work, or one has failed.
    Moving,
}

/// How a run ends, before the last measurement.
struct End {
    status: RunStatus,
    reason: Option<String>,
    decisions: Vec<SiteDecision>,
    aborted: Option<SecurityReport>,
}

/// What a packet from a site is.
#[derive(Debug)]
pub enum Admission<E> {
    /// News: make it durable, then handle it.
    Fresh(E),
    /// Known already. Nothing changes; the packets are the answer.
    Known(Vec<Packet>),
}

impl CoordinatorMachine {
    /// The coordinator before anything happened. `key` is the seed of its Ed25519 key, `secret` a key of the
    /// run that its store keeps until the run ends.
    pub fn new(
        terms: CoordinatorTerms,
        key: &SecretKey,
        secret: SecretKey,
        founding: Box<dyn Founding>,
    ) -> Result<Self, ProtocolError> {
        let mut links = BTreeMap::new();
        for certified in &terms.offer.cohort {
            let site = &certified.site;
            let cohort = |problem| ProtocolError::Cohort { problem };
            let key = terms.keys.get(site).and_then(verifying_key);
            let key = key.ok_or_else(|| cohort(format!("{site} has no key that can be used")))?;
            if links.values().any(|link: &Link| link.key == key) {
                return Err(cohort(format!("{site} has the key of another site")));
            }
            if links.insert(site.clone(), Link::new(key)).is_some() {
                return Err(cohort(format!("{site} is there twice")));
            }
        }
        Ok(Self {
            terms,
            signer: Signer::new(Party::Coordinator, key),
            secret,
            founding,
            links,
            announcements: BTreeMap::new(),
            attempt: 1,
            lost: 0,
            missed: BTreeSet::new(),
            phase: Phase::New,
        })
    }

    /// What a packet on the connection of `from` is. Verifies everything and changes nothing.
    pub fn admit(&self, from: &SiteId, packet: Packet) -> Result<Admission<CoordinatorEvent>, Rejected> {
        let link = self.links.get(from).ok_or_else(|| Rejected::Unknown { site: from.clone() })?;
        let number = self.open(from, link, &packet)?.number;
        if number == link.talk.heard && packet.head().hash() != link.talk.heard_hash {
            return Err(Rejected::Changed { from: from.to_string(), number });
        }
        if number > link.talk.heard || link.talk.away {
            return Ok(Admission::Fresh(CoordinatorEvent::Message { from: from.clone(), packet }));
        }
        Ok(Admission::Known(self.outstanding(from).into_iter().collect()))
    }

    /// Moves on. `now_ms` is the time in milliseconds, the one that is kept with the event.
    pub fn handle(
        &mut self,
        now_ms: u64,
        event: CoordinatorEvent,
    ) -> Result<Vec<CoordinatorEffect>, ProtocolError> {
        let mut out = Vec::new();
        match event {
            CoordinatorEvent::Started => self.invite(now_ms, &mut out),
            CoordinatorEvent::Message { from, packet } => self.hear(now_ms, &from, &packet, &mut out)?,
            CoordinatorEvent::Sealed { checkpoint } => {
                self.collect_signatures(now_ms, &checkpoint, &mut out);
            }
            CoordinatorEvent::Wake => {}
        }
        while self.settle(now_ms, &mut out)? {}
        Ok(out)
    }

    /// What is to be sent to a site that has connected anew; nothing where it owes no answer.
    pub fn outstanding(&self, site: &SiteId) -> Option<Packet> {
        let link = self.links.get(site).filter(|link| link.awaiting)?;
        link.task.clone()
    }

    /// After a restart: what was asked for and has not been answered.
    pub fn pending(&self) -> Vec<CoordinatorEffect> {
        let sites = self.links.keys();
        let mut out: Vec<CoordinatorEffect> = sites
            .filter_map(|site| {
                Some(CoordinatorEffect::Send { to: site.clone(), packet: self.outstanding(site)? })
            })
            .collect();
        match &self.phase {
            Phase::Sealing { report, .. } => out.push(CoordinatorEffect::Seal { report: report.clone() }),
            Phase::Ended { finished, .. } => out.push(CoordinatorEffect::Finished(finished.clone())),
            _ => {}
        }
        out
    }

    /// The time of the next deadline, in milliseconds.
    pub fn wake_at(&self) -> Option<u64> {
        match &self.phase {
            Phase::Waiting { until, .. } => Some(*until),
            _ => self.asked().map(|asked| asked.until),
        }
    }

    /// Whether the run is over and every site has heard of it, or had the time to.
    pub fn is_over(&self) -> bool {
        matches!(&self.phase, Phase::Ended { asked, .. } if asked.pending.is_empty())
    }

    /// Sites that an answer is expected from.
    pub fn waiting_for(&self) -> impl Iterator<Item = &SiteId> {
        self.asked().into_iter().flat_map(|asked| &asked.pending)
    }

    fn asked(&self) -> Option<&Asked> {
        match &self.phase {
            Phase::Joining { asked }
            | Phase::Training { asked, .. }
            | Phase::Masking { asked, .. }
            | Phase::Evaluating { asked, .. }
            | Phase::Cosigning { asked, .. }
            | Phase::Measuring { asked, .. }
            | Phase::Ended { asked, .. } => Some(asked),
            Phase::New | Phase::Waiting { .. } | Phase::Sealing { .. } | Phase::Moving => None,
        }
    }

    fn asked_mut(&mut self) -> Option<&mut Asked> {
        match &mut self.phase {
            Phase::Joining { asked }
            | Phase::Training { asked, .. }
            | Phase::Masking { asked, .. }
            | Phase::Evaluating { asked, .. }
            | Phase::Cosigning { asked, .. }
            | Phase::Measuring { asked, .. }
            | Phase::Ended { asked, .. } => Some(asked),
            Phase::New | Phase::Waiting { .. } | Phase::Sealing { .. } | Phase::Moving => None,
        }
    }

    fn open(&self, from: &SiteId, link: &Link, packet: &Packet) -> Result<Envelope<ToCoordinator>, Rejected> {
        let envelope = packet.open::<ToCoordinator>(&link.key)?;
        if envelope.run != self.terms.run {
            return Err(Rejected::Run { found: envelope.run });
        }
        if envelope.from != Party::Site(from.clone()) || envelope.to != Party::Coordinator {
            let (from, to) = (envelope.from.to_string(), envelope.to.to_string());
            return Err(Rejected::Address { from, to });
        }
        Ok(envelope)
    }

    fn hear(
        &mut self,
        now: u64,
        from: &SiteId,
        packet: &Packet,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let saved = |problem: String| ProtocolError::Saved { owner: from.to_string(), problem };
        let link = self.links.get(from).ok_or_else(|| saved("it is not in the cohort".to_owned()))?;
        let envelope = self.open(from, link, packet).map_err(|error| saved(error.to_string()))?;
        let link = self.links.get_mut(from).ok_or_else(|| saved("it is not in the cohort".to_owned()))?;
        let returned = std::mem::take(&mut link.talk.away);
        if envelope.number > link.talk.heard {
            (link.talk.heard, link.talk.heard_hash) = (envelope.number, packet.head().hash());
            self.take(from, envelope, packet.attachment(), out);
        }
        if returned {
            out.push(CoordinatorEffect::Notice(Notice::Returned { site: from.clone() }));
            if matches!(self.phase, Phase::Waiting { .. })
                && let Phase::Waiting { core, until } = std::mem::replace(&mut self.phase, Phase::Moving)
            {
                self.advance(*core, now, out)?;
                // The time runs from when too few were there.
                if let Phase::Waiting { until: next, .. } = &mut self.phase {
                    *next = until;
                }
            }
        }
        Ok(())
    }

    /// What a site says for the first time.
    fn take(
        &mut self,
        from: &SiteId,
        envelope: Envelope<ToCoordinator>,
        attachment: &Payload,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        let Some(link) = self.links.get_mut(from) else { return };
        if !link.awaiting || envelope.answers != link.talk.sent {
            // It answers what is over. If it has not heard of what is going on now, it is told.
            let packet = link.task.clone().filter(|_| link.awaiting);
            if !link.talk.out {
                out.push(CoordinatorEffect::Notice(Notice::Late { site: from.clone() }));
            }
            out.extend(packet.map(|packet| CoordinatorEffect::Send { to: from.clone(), packet }));
            return;
        }
        link.awaiting = false;
        let fits = match envelope.message {
            ToCoordinator::Join => self.join(from, attachment, out),
            ToCoordinator::Declined { round, code, reason } => {
                self.decline(from, round, code, &reason, out);
                true
            }
            ToCoordinator::Trained { round, result } => self.trained(from, round, result, attachment, out),
            ToCoordinator::Masking { round } => self.masked(from, round, attachment, out),
            ToCoordinator::Evaluated { round } => self.evaluated(from, round, attachment, out),
            ToCoordinator::Cosigned { round } => self.cosigned(from, round, attachment),
            ToCoordinator::Left => true,
        };
        if !fits {
            let reason = "it sent an answer to something else than it was asked".to_owned();
            self.decline(from, None, DeclineCode::Order, &reason, out);
        }
        if let Some(asked) = self.asked_mut() {
            asked.pending.remove(from);
        }
    }

    /// Ends the phase if everyone has answered or its time is up. Says whether it did.
    fn settle(&mut self, now: u64, out: &mut Vec<CoordinatorEffect>) -> Result<bool, ProtocolError> {
        if let Phase::Waiting { until, .. } = &self.phase {
            if now < *until {
                return Ok(false);
            }
            self.give_up_waiting(now, out);
            return Ok(true);
        }
        let Some(asked) = self.asked() else { return Ok(false) };
        let silent: Vec<SiteId> = asked.pending.iter().cloned().collect();
        if matches!(self.phase, Phase::Ended { .. }) {
            // Sites that did not hear of the end may ask as long as somebody runs the machine.
            if now >= asked.until
                && let Some(asked) = self.asked_mut()
            {
                asked.pending.clear();
            }
            return Ok(false);
        }
        if !silent.is_empty() && now < asked.until {
            return Ok(false);
        }
        for site in &silent {
            self.give_up_on(site, out);
        }
        match std::mem::replace(&mut self.phase, Phase::Moving) {
            Phase::Joining { .. } => self.found(now, out)?,
            Phase::Training { training, .. } => self.trained_all(training, now, out)?,
            Phase::Masking { training, opening, .. } => self.close_step(training, opening, now, out)?,
            Phase::Evaluating { evaluating, .. } => self.evaluated_all(evaluating, now, out)?,
            Phase::Cosigning { core, report, signed, .. } => self.commit(core, report, signed, now, out)?,
            Phase::Measuring { core, end, found, .. } => self.finish(&core, end, &found, now, out)?,
            other => self.phase = other,
        }
        Ok(true)
    }

    /// The time of `site` is up.
    fn give_up_on(&mut self, site: &SiteId, out: &mut Vec<CoordinatorEffect>) {
        let (phase, seconds) = match &self.phase {
            Phase::Joining { .. } => ("the offer", self.terms.patience.join_ms / 1000),
            Phase::Training { .. } => ("the request to train", self.terms.patience.train_ms / 1000),
            Phase::Masking { .. } => ("a step of secure aggregation", self.terms.patience.phase_ms / 1000),
            Phase::Cosigning { .. } => ("the checkpoint to sign", self.terms.patience.phase_ms / 1000),
            _ => ("the request to measure", self.terms.patience.phase_ms / 1000),
        };
        if let Phase::Training { training, .. } = &mut self.phase {
            training.miss(site.clone(), format!("it gave no answer within {seconds} s"));
        }
        if matches!(self.phase, Phase::Training { .. } | Phase::Masking { .. }) {
            self.missed.insert(site.clone());
        }
        if let Some(link) = self.links.get_mut(site) {
            link.talk.away = true;
            link.awaiting = false;
        }
        out.push(CoordinatorEffect::Notice(Notice::Silent { site: site.clone(), phase, seconds }));
    }

    fn say(&mut self, site: &SiteId, message: ToSite, attachment: Payload, out: &mut Vec<CoordinatorEffect>) {
        let Self { links, signer, terms, .. } = self;
        if let Some(link) = links.get_mut(site) {
            let packet = link.say(signer, &terms.run, site, message, attachment);
            out.push(CoordinatorEffect::Send { to: site.clone(), packet });
        }
    }

    /// Members that are there.
    fn present(&self) -> Vec<SiteId> {
        let there = |site: &&SiteId| self.links.get(*site).is_some_and(|link| !link.talk.away);
        self.announcements.keys().filter(there).cloned().collect()
    }
}

impl std::fmt::Debug for CoordinatorMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CoordinatorMachine({}, {} sites)", self.terms.run, self.links.len())
    }
}
