//! The sessions of the sites: one for each, a newer one in place of an older one.

use crate::certificate::{Certificate, CertificateProblem};
use crate::clock;
use crate::nats::broker::{Broker, Verdict, site_of};
use crate::nats::seal::{Ephemeral, SessionId, Way, agree, transcript};
use crate::nats::session::{Arrival, Session};
use crate::nats::wire::{self, Content, Farewell, Hello, Packet, Said, Sign, Signed, Word};
use crate::nats::{PROTOCOL, QUEUE};
use crate::pki::{Holder, Identity};
use crate::problem::LinkProblem;
use crate::tls::guard::Guard;
use crate::transport::{CoordinatorEvent, SendError};
use bytes::Bytes;
use medfed_types::SiteId;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Sessions of one site that are not confirmed at most: a hello that somebody repeats begins one.
const PENDING: usize = 4;
/// Refusals that are remembered, so that each is said once.
const REFUSED: usize = 64;

/// What the coordinator's queue of events holds.
#[derive(Debug)]
pub(super) enum Incoming {
    Event(CoordinatorEvent),
    /// A message that the object store has.
    Object {
        from: SiteId,
        session: Arc<Session>,
        number: u64,
        length: u64,
        sha256: [u8; 32],
        /// Closed when the session is over.
        over: mpsc::Sender<LinkProblem>,
    },
}

/// Everything that the coordinator's tasks share.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) guard: Guard,
    holder: Holder,
    pub(super) broker: Broker,
    largest: u64,
    beat: Duration,
    events: mpsc::Sender<Incoming>,
    alive: Mutex<Option<mpsc::Sender<()>>>,
    sessions: Mutex<Sessions>,
    refused: Mutex<VecDeque<String>>,
}

#[derive(Debug, Default)]
struct Sessions {
    open: BTreeMap<SiteId, Open>,
    pending: BTreeMap<SiteId, VecDeque<Pending>>,
}

#[derive(Debug)]
struct Pending {
    session: Session,
    certificate: Certificate,
    transcript: [u8; 32],
}

#[derive(Debug, Clone)]
struct Open {
    session: Arc<Session>,
    certificate: Certificate,
    queue: mpsc::Sender<Bytes>,
    stop: mpsc::Sender<LinkProblem>,
}

impl Switch {
    pub(super) fn new(
        guard: Guard,
        holder: Holder,
        broker: Broker,
        largest: u64,
        beat: Duration,
        events: mpsc::Sender<Incoming>,
        alive: mpsc::Sender<()>,
    ) -> Self {
        Self {
            guard,
            holder,
            broker,
            largest,
            beat,
            events,
            alive: Mutex::new(Some(alive)),
            sessions: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// Something that was said on a subject for signs.
    pub(super) async fn sign(&self, subject: &str, bytes: &[u8]) {
        match Packet::read(bytes) {
            Some(Packet::Hello { signature, body }) => match self.answer(subject, signature, body) {
                Ok((site, answer)) => self.say(&site, answer).await,
                Err(why) => self.refuse(subject, &why),
            },
            Some(Packet::Sign { session, number, sealed }) => {
                let open = self.find(session);
                match open.as_ref().map(|(site, open)| (site, open.session.hear(number, sealed))) {
                    Some((_, Some(Sign::Beat))) => {}
                    Some((site, Some(Sign::Leave(_)))) => self.stop(site, LinkProblem::Ended),
                    Some((site, None)) => {
                        self.refuse(subject, &format!("a sign that is not a new one of site {site}"));
                    }
                    None => self.unknown(subject, session).await,
                }
            }
            _ => self.refuse(subject, "something that is neither a hello nor a sign"),
        }
    }

    /// Answers a hello: whose it is, and the packet to send. Or why there is no answer.
    fn answer(&self, subject: &str, signature: &[u8], body: &[u8]) -> Result<(SiteId, Vec<u8>), String> {
        let now = clock::now();
        let hello: Hello = wire::read(body).ok_or("a hello that cannot be read")?;
        let certificate = self.guard.authority().verify(&hello.certificate, now, None);
        let shown = match &certificate {
            Ok(certificate) => Ok(certificate.clone()),
            // To be told so, it has to be a site's of this federation.
            Err(CertificateProblem::Expired { not_after }) => {
                let then = self.guard.authority().verify(&hello.certificate, *not_after, None);
                then.map_err(|problem| problem.to_string())
            }
            Err(problem) => Err(problem.to_string()),
        };
        let shown =
            shown.map_err(|problem| format!("a hello whose certificate is not accepted: {problem}"))?;
        let site = shown.party().site().ok_or("a hello of something that is no site")?.clone();
        if !Signed::Hello.holds(shown.key(), body, signature) {
            return Err(format!("a hello with the certificate of site {site}, signed by somebody else"));
        }
        if subject != self.broker.federation.sign_up(&site) {
            return Err(format!("a hello of site {site} on another site's subject"));
        }
        let identity = self.holder.load(now).map_err(|error| format!("nothing can be answered: {error}"))?;
        let answer_to = Sha256::digest(body).into();
        let refused = |why| {
            let word = Word::Refused { answer_to, why };
            Ok((site.clone(), said(&identity, word).1))
        };
        if hello.protocol != PROTOCOL {
            return refused(Farewell::Version(PROTOCOL));
        }
        if let Err(problem) = certificate.and_then(|certificate| self.guard.still(&certificate, now)) {
            self.refuse(subject, &format!("the certificate of site {site}: {problem}"));
            return refused(Farewell::of(&LinkProblem::Peer(problem)));
        }
        let own = Ephemeral::generate().map_err(|error| format!("no random numbers: {error}"))?;
        let word = Word::Welcome {
            answer_to,
            ephemeral: own.public(),
            largest_message: self.largest,
            beat_ms: self.beat.as_millis().min(u128::from(u32::MAX)) as u32,
        };
        let (said, packet) = said(&identity, word);
        let transcript = transcript(body, &said);
        let agreed = agree(&own, hello.ephemeral, &transcript);
        let (id, keys) = agreed.ok_or_else(|| format!("a hello of site {site} with a useless key"))?;
        let session = Session::new(id, keys, Way::Down);
        let mut sessions = self.sessions();
        let pending = sessions.pending.entry(site.clone()).or_default();
        pending.push_back(Pending { session, certificate: shown, transcript });
        if pending.len() > PENDING {
            pending.pop_front();
        }
        drop(sessions);
        Ok((site, packet))
    }

    /// Tells whoever uses a session that is over.
    async fn unknown(&self, subject: &str, session: SessionId) {
        let pending = || self.sessions().pending.values().flatten().any(|it| it.session.id == session);
        let Some(site) = site_of(subject).filter(|_| !pending()) else { return };
        match self.holder.load(clock::now()) {
            Ok(identity) => self.say(&site, said(&identity, Word::Unknown { session }).1).await,
            Err(error) => tracing::error!("{error}"),
        }
    }

    async fn say(&self, site: &SiteId, packet: Vec<u8>) {
        let subject = self.broker.federation.sign_down(site);
        if let Err(error) = self.broker.say(subject, packet).await {
            tracing::debug!("an answer to site {site} was not given: {error}");
        }
    }

    /// Something that the stream delivered.
    pub(super) async fn arrive(self: &Arc<Self>, subject: &str, bytes: &[u8]) -> Verdict {
        match Packet::read(bytes) {
            Some(Packet::Confirm { session, signature }) => {
                self.confirm(subject, session, signature).await;
                Verdict::Done
            }
            Some(Packet::Message { session, number, sealed }) => {
                let Some((site, open)) = self.find(session) else {
                    if self.sessions().pending.values().flatten().any(|it| it.session.id == session) {
                        return Verdict::Later;
                    }
                    tracing::debug!("a message of a session that is over was passed over");
                    return Verdict::Done;
                };
                if subject != self.broker.federation.up(&site) {
                    self.refuse(subject, &format!("a message of site {site} on another site's subject"));
                    return Verdict::Done;
                }
                if let Err(problem) = self.still(&open.certificate) {
                    self.stop(&site, problem);
                    return Verdict::Done;
                }
                self.message(subject, site, &open, number, sealed).await
            }
            _ => {
                self.refuse(subject, "something that is no message");
                Verdict::Done
            }
        }
    }

    async fn message(&self, subject: &str, site: SiteId, open: &Open, number: u64, sealed: &[u8]) -> Verdict {
        let event = match open.session.arrive(number, sealed) {
            Arrival::Next(Content::Message(bytes)) => {
                Incoming::Event(CoordinatorEvent::Message { from: site, bytes: bytes.into() })
            }
            Arrival::Next(Content::Object { length, .. }) if length > self.largest => {
                self.stop(&site, LinkProblem::TooLarge { bytes: length, largest: self.largest });
                return Verdict::Done;
            }
            Arrival::Next(Content::Object { length, sha256 }) => {
                let (session, over) = (open.session.clone(), open.stop.clone());
                Incoming::Object { from: site, session, number, length, sha256, over }
            }
            Arrival::Before => return Verdict::Done,
            Arrival::Later => return Verdict::Later,
            Arrival::Foreign => {
                self.refuse(subject, &format!("a message that site {site} did not make"));
                return Verdict::Done;
            }
        };
        // Fails when the transport has ended.
        let _ = self.events.send(event).await;
        Verdict::Done
    }

    /// Opens a session that its site confirms.
    async fn confirm(self: &Arc<Self>, subject: &str, session: SessionId, signature: &[u8]) {
        let Some((site, certificate)) = self.confirmed(subject, session, signature) else {
            // Delivered twice, or by somebody else, or the coordinator was started anew meanwhile.
            if self.find(session).is_none() {
                self.unknown(subject, session).await;
            }
            return;
        };
        if let Err(problem) = self.still(&certificate) {
            tracing::warn!("site {site} is not admitted: {problem}");
            return;
        }
        if let Err(error) = self.broker.forget(&site).await {
            tracing::debug!("older messages to site {site} stay until they are too old: {error}");
        }
        let (queue, queued) = mpsc::channel(QUEUE);
        let (stop, stopped) = mpsc::channel(1);
        let open = {
            // At once: a session is pending or open, so that no sign of it is unknown.
            let mut sessions = self.sessions();
            let pending = sessions.pending.get_mut(&site);
            let Some(begun) = pending.and_then(|pending| {
                let place = pending.iter().position(|it| it.session.id == session)?;
                pending.remove(place)
            }) else {
                // Other hellos came meanwhile: the site says hello again.
                return;
            };
            let session = Arc::new(begun.session);
            let open = Open { session, certificate: certificate.clone(), queue, stop };
            if let Some(older) = sessions.open.insert(site.clone(), open.clone()) {
                // Full: it ends already.
                let _ = older.stop.try_send(LinkProblem::Replaced);
            }
            open
        };
        let event = CoordinatorEvent::Connected { site: site.clone(), certificate };
        // Fails when the transport has ended.
        let _ = self.events.send(Incoming::Event(event)).await;
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::spawn(self.clone().run(site, open, queued, stopped, alive));
    }

    /// Whose session it is that waits for this confirmation.
    fn confirmed(
        &self,
        subject: &str,
        session: SessionId,
        signature: &[u8],
    ) -> Option<(SiteId, Certificate)> {
        let site = site_of(subject).filter(|site| subject == self.broker.federation.up(site))?;
        let sessions = self.sessions();
        let pending = sessions.pending.get(&site)?.iter().find(|it| it.session.id == session)?;
        let holds = Signed::Confirm.holds(pending.certificate.key(), &pending.transcript, signature);
        holds.then(|| (site, pending.certificate.clone()))
    }

    /// One session, to its end.
    async fn run(
        self: Arc<Self>,
        site: SiteId,
        open: Open,
        mut queue: mpsc::Receiver<Bytes>,
        mut stop: mpsc::Receiver<LinkProblem>,
        alive: Option<mpsc::Sender<()>>,
    ) {
        let Open { session, certificate, .. } = open;
        let federation = &self.broker.federation;
        let (messages, signs) = (federation.down(&site, session.id), federation.sign_down(&site));
        let problem = tokio::select! {
            biased;
            Some(problem) = stop.recv() => problem,
            problem = session.beat(&self.broker, &signs, self.beat, || self.still(&certificate)) => problem,
            problem = session.write(&self.broker, &messages, &mut queue) => problem,
        };
        tracing::debug!("the session of site {site} ends: {problem}");
        // Whoever waits for its end hears of it.
        drop(stop);
        let own = {
            let mut sessions = self.sessions();
            let own = sessions.open.get(&site).is_some_and(|it| it.session.id == session.id);
            if own {
                sessions.open.remove(&site);
            }
            own
        };
        self.say(&site, session.sign(&Sign::Leave(Farewell::of(&problem)))).await;
        if own {
            let event = CoordinatorEvent::Disconnected { site, problem };
            // Fails when the transport has ended.
            let _ = self.events.send(Incoming::Event(event)).await;
        }
        drop(alive);
    }

    /// Queues a message.
    pub(super) fn send(&self, to: &SiteId, message: Bytes) -> Result<(), SendError> {
        use mpsc::error::TrySendError;
        let bytes = message.len() as u64;
        if bytes > self.largest {
            return Err(SendError::TooLarge { bytes, largest: self.largest });
        }
        let sessions = self.sessions();
        let open = sessions.open.get(to).ok_or(SendError::NotConnected)?;
        if let Err(problem) = self.still(&open.certificate) {
            // Full: it ends already.
            let _ = open.stop.try_send(problem);
            return Err(SendError::NotConnected);
        }
        open.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full { queued: QUEUE },
            TrySendError::Closed(_) => SendError::NotConnected,
        })
    }

    /// Asks a session to end.
    pub(super) fn stop(&self, site: &SiteId, problem: LinkProblem) {
        if let Some(open) = self.sessions().open.get(site) {
            // Full: it ends already.
            let _ = open.stop.try_send(problem);
        }
    }

    /// Asks every session to end, and opens none any more.
    pub(super) fn stop_all(&self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        for open in self.sessions().open.values() {
            // Full: it ends already.
            let _ = open.stop.try_send(LinkProblem::Ended);
        }
    }

    fn find(&self, session: SessionId) -> Option<(SiteId, Open)> {
        let sessions = self.sessions();
        let found = sessions.open.iter().find(|(_, open)| open.session.id == session);
        found.map(|(site, open)| (site.clone(), open.clone()))
    }

    fn still(&self, certificate: &Certificate) -> Result<(), LinkProblem> {
        self.guard.still(certificate, clock::now()).map_err(LinkProblem::Peer)
    }

    /// Says once what was refused and on which subject.
    fn refuse(&self, subject: &str, why: &str) {
        let text = format!("refused on {}: {}", wire::printable(subject), wire::printable(why));
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.contains(&text) {
            tracing::debug!("{text}");
            return;
        }
        tracing::warn!("{text}");
        refused.push_back(text);
        if refused.len() > REFUSED {
            refused.pop_front();
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Nothing in here is left half done by a panic.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the coordinator says: the signed body, and the packet.
fn said(identity: &Identity, word: Word) -> (Vec<u8>, Vec<u8>) {
    let body = wire::body(&Said { certificate: identity.certificate().der().to_vec(), word });
    let packet = wire::said(&Signed::Said.sign(identity.key(), &body), &body);
    (body, packet)
}
