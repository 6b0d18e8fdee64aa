//! A site as a machine: events in, effects out.
//!
//! ```text
//! Offer ─► policy ─► Prepare ─► Join ─┬─► Train ─► Trained ─► (Masking …) ─► Evaluate ─► Cosign ─┐
//!             │                       │                                                        │ RoundOver
//!             ▼                       └──◄─────────────── commit ◄─────────────────────────────┘
//!         Declined                                                     Ended ─► Left
//! ```
//!
//! The machine knows no clock, no socket, no file and no image: it checks, remembers and answers, and asks
//! whoever runs it to do the work ([`SiteEffect`]). It is run as the
//! [coordinator's](crate::coordinator) is: admit, make durable, handle, carry out. After a restart: a new
//! machine, [`SiteMachine::restore`] where something was committed, every event of the log again, of whose
//! effects only [`SiteEffect::Commit`] is carried out; the hospital is put back to
//! [`SiteMachine::hospital`]; then [`SiteMachine::pending`].
//!
//! What was done is not done twice. The result of training is an event, so a restart repeats no training that
//! had ended; training that had not is asked for again, and the ledger gives the same grant without a second
//! payment. A step of secure aggregation is answered from the run's key and the messages of the log, so it is
//! answered with the same bytes; [`Party`] refuses another call for a step that was answered.

mod effect;
mod event;
mod rounds;
mod state;

pub use effect::{SiteEffect, SiteNotice};
pub use event::{LocalResult, SiteEvent};

use crate::coordinator::Admission;
use crate::envelope::{self, Envelope, Packet, Signer, verifying_key};
use crate::error::{ProtocolError, Rejected};
use crate::message::{Certified, DeclineCode, Offer, ToCoordinator, ToSite, encode};
use crate::payload::Payload;
use crate::policy::{Paid, Policy, Refusal, Release};
use ed25519_dalek::VerifyingKey;
use medfed_config::Config;
use medfed_federation::masking::{MaskingPlan, Party, Session};
use medfed_federation::report::RunStatus;
use medfed_federation::{Announcement, Snapshot};
use medfed_secagg::{Identity, Roster};
use medfed_types::{NoiseMultiplier, RoundId, RunId, SecretKey, SiteId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a site goes by in a run.
#[derive(Debug, Clone)]
pub struct SiteTerms {
    /// The run.
    pub run: RunId,
    /// The site.
    pub site: SiteId,
    /// The coordinator's Ed25519 key, from its verified certificate.
    pub coordinator: [u8; 32],
}

/// Checks certificates of other sites: against the authority that the site enrolled with, and the list of
/// revoked ones that the authority signed.
pub trait Authority: Send {
    /// The Ed25519 key that a certificate binds to the site's name; why not, in a sentence without full stop.
    fn verify(&self, certified: &Certified, revocations: &[u8], now_ms: u64) -> Result<[u8; 32], String>;
}

/// One site in one run.
pub struct SiteMachine {
    terms: SiteTerms,
    coordinator: VerifyingKey,
    signer: Signer,
    party: Party,
    authority: Box<dyn Authority>,
    talk: Talk,
    /// What the site agrees to.
    agreed: Option<Agreed>,
    /// What was agreed to.
    joined: Option<Joined>,
    /// Read from the offer.
    reading: Option<Reading>,
    /// Payments of this run.
    paid: Vec<Paid>,
    /// The newest round that is over.
    done: RoundId,
    open: Option<Open>,
    /// What the hospital is doing.
    work: Option<Work>,
    /// A message that waits for the work to end.
    next: Option<(Envelope<ToSite>, Packet)>,
    /// The newest answer, where the newest message has one.
    answer: Option<Packet>,
    /// The hospital's newest state.
    hospital: Option<Snapshot>,
    ended: Option<Ended>,
}

/// Where the conversation stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Talk {
    sent: u64,
    heard: u64,
    heard_hash: [u8; 32],
}

/// The policy, and what the site paid for in other runs.
struct Agreed {
    text: String,
    policy: Policy,
    past: Vec<Paid>,
}

/// What is kept of the offer and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Joined {
    offer: Offer,
    keys: BTreeMap<SiteId, [u8; 32]>,
    announcement: Option<Announcement>,
    /// Why it takes no part.
    declined: Option<(DeclineCode, String)>,
}

/// What follows from the offer alone.
struct Reading {
    config: Config,
    plan: Option<MaskingPlan>,
    roster: Roster,
}

/// The round in progress.
#[derive(Debug)]
struct Open {
    round: RoundId,
    model: Payload,
    noise: Option<NoiseMultiplier>,
    result: Option<LocalResult>,
    session: Option<Session>,
}

/// What the hospital is asked to do.
#[derive(Debug, Clone, PartialEq)]
enum Work {
    Prepare,
    Train,
    Stop,
    Evaluate { round: Option<RoundId>, model: Payload },
    Cosign { round: RoundId, checkpoint: Payload },
}

/// The end of the site's part.
#[derive(Debug, Clone, PartialEq)]
struct Ended {
    status: Option<RunStatus>,
    reason: Option<String>,
    best_round: Option<u32>,
    best: Payload,
}

impl SiteMachine {
    /// The site before it was offered anything. `key` is the seed of its one Ed25519 key, `secret` a key of
    /// this run that its store keeps until the run ends: randomness of secure aggregation follows from it.
    pub fn new(
        terms: SiteTerms,
        key: &SecretKey,
        secret: SecretKey,
        authority: Box<dyn Authority>,
    ) -> Result<Self, ProtocolError> {
        let coordinator = verifying_key(&terms.coordinator).ok_or_else(|| ProtocolError::Cohort {
            problem: "the coordinator has no key that can be used".to_owned(),
        })?;
        let signer = Signer::new(envelope::Party::Site(terms.site.clone()), key);
        let party = Party::new(Identity::new(terms.site.clone(), key), secret);
        Ok(Self {
            coordinator,
            signer,
            party,
            authority,
            talk: Talk::default(),
            agreed: None,
            joined: None,
            reading: None,
            paid: Vec::new(),
            done: RoundId(0),
            open: None,
            work: None,
            next: None,
            answer: None,
            hospital: None,
            ended: None,
            terms,
        })
    }

    /// What a packet from the coordinator is. Verifies everything and changes nothing.
    pub fn admit(&self, packet: Packet) -> Result<Admission<SiteEvent>, Rejected> {
        let number = self.open_packet(&packet)?.number;
        if number == self.talk.heard && packet.head().hash() != self.talk.heard_hash {
            return Err(Rejected::Changed { from: envelope::Party::Coordinator.to_string(), number });
        }
        if number > self.talk.heard {
            return Ok(Admission::Fresh(SiteEvent::Message { packet }));
        }
        let repeated = number == self.talk.heard;
        Ok(Admission::Known(self.answer.iter().filter(|_| repeated).cloned().collect()))
    }

    /// Moves on. `now_ms` is the time in milliseconds, the one that is kept with the event.
    pub fn handle(&mut self, now_ms: u64, event: SiteEvent) -> Result<Vec<SiteEffect>, ProtocolError> {
        let mut out = Vec::new();
        match event {
            SiteEvent::Policy { text, past } => self.agree(text, past)?,
            SiteEvent::Message { packet } => self.hear(packet, &mut out)?,
            SiteEvent::Prepared { announcement } => self.prepared(&announcement, &mut out),
            SiteEvent::Trained { round, result, state } => self.trained(round, result, *state, &mut out),
            SiteEvent::Stopped { state } => {
                self.hospital = Some(*state);
                if matches!(self.work, Some(Work::Train | Work::Stop)) {
                    self.work = None;
                }
            }
            SiteEvent::Evaluated { evaluation } => self.evaluated(evaluation.as_deref(), &mut out),
            SiteEvent::Cosigned { note } => self.cosigned(note, &mut out),
            SiteEvent::Unable { code, reason, state } => {
                self.hospital = state.map(|state| *state).or(self.hospital.take());
                self.unable(Refusal { code, reason }, &mut out);
            }
        }
        self.go_on(now_ms, &mut out);
        Ok(out)
    }

    /// What to send when the connection is there again: that the site is there, once it has answered the
    /// offer. The coordinator sends what it waits for.
    pub fn hello(&self) -> Option<Packet> {
        self.joined.as_ref().filter(|joined| joined.announcement.is_some() || joined.declined.is_some())?;
        Some(self.answer_to_offer())
    }

    /// After a restart: what was asked for and has not been answered.
    pub fn pending(&self) -> Vec<SiteEffect> {
        let mut out: Vec<SiteEffect> = self.answer.iter().cloned().map(SiteEffect::Send).collect();
        out.extend(self.work.as_ref().and_then(|work| self.effect_of(work)));
        out.extend(self.ended.as_ref().map(Ended::effect));
        out
    }

    /// The hospital's newest state that is not yet committed, or the last one that was.
    pub fn hospital(&self) -> Option<&Snapshot> {
        self.hospital.as_ref()
    }

    /// The policy's text and the payments of other runs that it goes by; nothing before the first
    /// [`SiteEvent::Policy`]. Where the file or the payments have changed, that event comes again.
    pub fn policy(&self) -> Option<(&str, &[Paid])> {
        self.agreed.as_ref().map(|agreed| (agreed.text.as_str(), agreed.past.as_slice()))
    }

    /// Whether the site's part in the run is over.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    fn open_packet(&self, packet: &Packet) -> Result<Envelope<ToSite>, Rejected> {
        let envelope = packet.open::<ToSite>(&self.coordinator)?;
        if envelope.run != self.terms.run {
            return Err(Rejected::Run { found: envelope.run });
        }
        let own = envelope::Party::Site(self.terms.site.clone());
        if envelope.from != envelope::Party::Coordinator || envelope.to != own {
            let (from, to) = (envelope.from.to_string(), envelope.to.to_string());
            return Err(Rejected::Address { from, to });
        }
        Ok(envelope)
    }

    fn hear(&mut self, packet: Packet, out: &mut Vec<SiteEffect>) -> Result<(), ProtocolError> {
        let envelope = self.open_packet(&packet).map_err(|error| ProtocolError::Saved {
            owner: self.terms.site.to_string(),
            problem: error.to_string(),
        })?;
        if envelope.number <= self.talk.heard {
            return Ok(());
        }
        (self.talk.heard, self.talk.heard_hash) = (envelope.number, packet.head().hash());
        self.answer = None;
        let trains_on = match (&self.work, &envelope.message, &self.open) {
            (Some(Work::Train), ToSite::Train { round, .. }, Some(open)) => *round == open.round,
            (Some(Work::Train), _, _) => false,
            _ => true,
        };
        self.next = Some((envelope, packet));
        if !trains_on {
            self.work = Some(Work::Stop);
            out.push(SiteEffect::Stop);
        }
        Ok(())
    }

    fn agree(&mut self, text: String, past: Vec<Paid>) -> Result<(), ProtocolError> {
        let policy = Policy::from_yaml(&text, "the policy").map_err(|error| ProtocolError::Saved {
            owner: self.terms.site.to_string(),
            problem: error.to_string(),
        })?;
        self.agreed = Some(Agreed { text, policy, past });
        Ok(())
    }

    /// What leaves; nothing without a policy.
    fn release(&self) -> Release {
        self.agreed.as_ref().map(|agreed| agreed.policy.release()).unwrap_or_default()
    }

    /// Sends the answer to the newest message.
    fn say(&mut self, message: ToCoordinator, attachment: Payload, out: &mut Vec<SiteEffect>) {
        self.talk.sent += 1;
        let (run, to) = (&self.terms.run, envelope::Party::Coordinator);
        let packet = self.signer.seal(run, to, (self.talk.sent, self.talk.heard), message, attachment);
        self.answer = Some(packet.clone());
        out.push(SiteEffect::Send(packet));
    }

    fn decline(&mut self, round: Option<RoundId>, refusal: Refusal, out: &mut Vec<SiteEffect>) {
        let Refusal { code, reason } = refusal;
        let text = reason.clone();
        out.push(SiteEffect::Notice(SiteNotice::Declined { round, code, reason: text }));
        self.say(ToCoordinator::Declined { round, code, reason }, Payload::default(), out);
    }

    /// The first message of the site: it is signed again with the same bytes.
    fn answer_to_offer(&self) -> Packet {
        let (message, attachment) = match self.joined.as_ref() {
            Some(Joined { declined: Some((code, reason)), .. }) => {
                let (code, reason) = (*code, reason.clone());
                (ToCoordinator::Declined { round: None, code, reason }, Payload::default())
            }
            Some(Joined { announcement: Some(announcement), .. }) => {
                (ToCoordinator::Join, encode(announcement).into())
            }
            _ => (ToCoordinator::Left, Payload::default()),
        };
        self.signer.seal(&self.terms.run, envelope::Party::Coordinator, (1, 1), message, attachment)
    }

    fn effect_of(&self, work: &Work) -> Option<SiteEffect> {
        Some(match work {
            Work::Prepare => SiteEffect::Prepare(Box::new(self.joined.as_ref()?.offer.clone())),
            Work::Train => SiteEffect::Train(self.open.as_ref()?.request()?),
            Work::Stop => SiteEffect::Stop,
            Work::Evaluate { model, .. } => {
                SiteEffect::Evaluate { parameters: Arc::new(model.to_values().ok()?) }
            }
            Work::Cosign { round, checkpoint } => {
                SiteEffect::Cosign { round: *round, checkpoint: checkpoint.clone() }
            }
        })
    }

    fn start(&mut self, work: Work, out: &mut Vec<SiteEffect>) {
        out.extend(self.effect_of(&work));
        self.work = Some(work);
    }

    /// Reads what an offer says.
    fn read(offer: &Offer, keys: &BTreeMap<SiteId, [u8; 32]>) -> Result<Reading, Refusal> {
        let refuse = |reason: String| Refusal { code: DeclineCode::Configuration, reason };
        let config = Config::from_yaml(&offer.configuration, "the offer", &[])
            .map_err(|errors| refuse(errors.to_string()))?;
        let plan = MaskingPlan::configured(&config).map_err(|error| refuse(error.to_string()))?;
        let roster = Roster::new(keys.iter().map(|(site, key)| (site.clone(), *key)));
        let roster =
            roster.map_err(|error| Refusal { code: DeclineCode::Cohort, reason: error.to_string() })?;
        Ok(Reading { config, plan, roster })
    }
}

impl Ended {
    fn effect(&self) -> SiteEffect {
        let Self { status, reason, best_round, best } = self.clone();
        SiteEffect::Ended { status, reason, best_round, best }
    }
}

impl std::fmt::Debug for SiteMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SiteMachine({} in {}, {} rounds over)", self.terms.site, self.terms.run, self.done)
    }
}
