//! A site's end: it says hello to the coordinator through the broker, and again whenever a session is over.

use super::broker::{Broker, Deliveries, Federation, Verdict, Whose, name, settle};
use super::seal::{Ephemeral, Way, agree, transcript};
use super::session::{Arrival, Session};
use super::wire::{self, Content, Farewell, Hello, Packet, Said, Sign, Signed, Word};
use super::{AGAIN, BrokerOptions, PROTOCOL, QUEUE};
use crate::certificate::{Certificate, CertificateProblem};
use crate::clock;
use crate::dial::timed_out;
use crate::error::NetError;
use crate::fingerprint::Fingerprint;
use crate::grpc::Timing;
use crate::party::Party;
use crate::pki::{Holder, Identity, PkiError};
use crate::problem::LinkProblem;
use crate::transport::{LinkState, SendError, SiteEvent, SiteTransport};
use bytes::Bytes;
use medfed_types::SiteId;
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;

/// Events that wait at most; then the broker keeps what comes. Messages may be as large as a model.
const EVENTS: usize = 4;
/// From one hello to the next while there is no answer.
const HELLO: Duration = Duration::from_secs(1);
/// Shortest and longest beat that a coordinator may set.
const BEATS: [Duration; 2] = [Duration::from_millis(10), Duration::from_mins(10)];

/// How a site reaches its coordinator through a broker.
#[derive(Debug, Clone)]
pub struct NatsSiteOptions {
    /// The broker.
    pub broker: BrokerOptions,
    /// Key that the coordinator must have, besides a certificate of the authority.
    pub pinned: Option<Fingerprint>,
    /// Largest message that is taken from the coordinator, in bytes.
    pub largest_message: u64,
    /// How long things may take. The coordinator's beat counts.
    pub timing: Timing,
}

/// A site's end of the transport through a broker.
#[derive(Debug)]
pub struct NatsSite {
    link: Arc<Link>,
    events: mpsc::Receiver<SiteEvent>,
}

#[derive(Debug)]
struct Link {
    holder: Holder,
    site: SiteId,
    options: NatsSiteOptions,
    broker: Mutex<Option<Broker>>,
    queue: Mutex<Option<Queue>>,
    state: watch::Sender<LinkState>,
}

/// Where messages wait while a session lasts.
#[derive(Debug)]
struct Queue {
    messages: mpsc::Sender<Bytes>,
    largest: u64,
}

impl NatsSite {
    /// Begins to connect with the key and certificate of a site's folder, which are read again at every
    /// attempt: a renewed certificate needs no restart. It ends when it is dropped, with a farewell if there
    /// is time for one. Has to be called within a tokio runtime.
    pub fn start(holder: &Holder, options: NatsSiteOptions) -> Result<Self, NetError> {
        match holder.load(clock::now()) {
            // It may be renewed while we wait.
            Ok(_) | Err(PkiError::Certificate { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let site = match holder.holds()? {
            Some(Party::Site(site)) => site,
            found => {
                let problem = CertificateProblem::WrongParty {
                    expected: "a site".to_owned(),
                    found: found.map_or_else(|| "nobody".to_owned(), |found| found.to_string()),
                };
                return Err(PkiError::Certificate { path: holder.certificate_file(), problem }.into());
            }
        };
        let (sender, events) = mpsc::channel(EVENTS);
        let (state, _) = watch::channel(LinkState::Connecting { attempt: 1 });
        let link = Arc::new(Link {
            holder: holder.clone(),
            site,
            options,
            broker: Mutex::default(),
            queue: Mutex::default(),
            state,
        });
        tokio::spawn(keep_connected(link.clone(), sender));
        Ok(Self { link, events })
    }
}

impl SiteTransport for NatsSite {
    fn send(&self, message: Bytes) -> Result<(), SendError> {
        use mpsc::error::TrySendError;
        let queue = locked(&self.link.queue);
        let queue = queue.as_ref().ok_or(SendError::NotConnected)?;
        let bytes = message.len() as u64;
        if bytes > queue.largest {
            return Err(SendError::TooLarge { bytes, largest: queue.largest });
        }
        queue.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full { queued: QUEUE },
            TrySendError::Closed(_) => SendError::NotConnected,
        })
    }

    async fn recv(&mut self) -> Option<SiteEvent> {
        self.events.recv().await
    }

    fn state(&self) -> watch::Receiver<LinkState> {
        self.link.state.subscribe()
    }
}

/// Opens a session again and again until the receiver of the events is gone. A problem is said once, not at
/// every attempt.
async fn keep_connected(link: Arc<Link>, events: mpsc::Sender<SiteEvent>) {
    let Timing { first_pause, longest_pause, step, .. } = link.options.timing;
    let (mut attempts, mut said) = (0_u32, None);
    loop {
        link.state.send_replace(LinkState::Connecting { attempt: attempts.saturating_add(1) });
        let ended = session(&link, &events).await;
        locked(&link.queue).take();
        let problem = match ended {
            Ended::Before(problem) => problem,
            Ended::After(problem) => {
                (attempts, said) = (0, None);
                if events.send(SiteEvent::Disconnected { problem: problem.clone() }).await.is_err() {
                    return;
                }
                problem
            }
        };
        if events.is_closed() {
            return;
        }
        attempts = attempts.saturating_add(1);
        let pause = first_pause.saturating_mul(1 << (attempts - 1).min(16)).min(longest_pause);
        let pause = match &problem {
            problem if problem.needs_a_person() => longest_pause,
            // The broker is there, the coordinator is not yet: asking costs little.
            LinkProblem::TimedOut { .. } => pause.min(step),
            _ => pause,
        };
        let address = &link.options.broker.server;
        if said.as_ref() == Some(&problem) {
            tracing::debug!("still not connected through {address} after {attempts} attempts: {problem}");
        } else {
            tracing::warn!("not connected through {address}: {problem}. Trying again until it works");
            said = Some(problem.clone());
        }
        let pause_ms = pause.as_millis() as u64;
        link.state.send_replace(LinkState::Waiting { attempts, problem, pause_ms });
        tokio::select! {
            () = sleep(pause) => {}
            () = events.closed() => return,
        }
    }
}

/// When a session ended.
enum Ended {
    /// There was none.
    Before(LinkProblem),
    /// There was one.
    After(LinkProblem),
}

/// A session that was opened.
struct Opened {
    broker: Broker,
    session: Arc<Session>,
    signs: async_nats::Subscriber,
    own: Certificate,
    coordinator: Certificate,
    largest: u64,
    beat: Duration,
}

/// One session, from the hello to its end.
async fn session(link: &Link, events: &mpsc::Sender<SiteEvent>) -> Ended {
    let opened = tokio::select! {
        opened = open(link) => opened,
        () = events.closed() => return Ended::Before(LinkProblem::Ended),
    };
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(problem) => return Ended::Before(problem),
    };
    let (messages, mut queue) = mpsc::channel(QUEUE);
    *locked(&link.queue) = Some(Queue { messages, largest: opened.largest });
    link.state.send_replace(LinkState::Connected);
    tracing::info!("connected through {}", link.options.broker.server);
    if events.send(SiteEvent::Connected { certificate: opened.coordinator.clone() }).await.is_err() {
        return Ended::After(LinkProblem::Ended);
    }
    let Opened { broker, session, signs, own, coordinator, beat, .. } = &mut opened;
    let (own, coordinator) = (&*own, &*coordinator);
    let (up, sign_up) = (broker.federation.up(&link.site), broker.federation.sign_up(&link.site));
    let still = || {
        let now = clock::now();
        own.in_time(now).map_err(LinkProblem::Own)?;
        coordinator.in_time(now).map_err(LinkProblem::Peer)
    };
    let problem = tokio::select! {
        biased;
        // First: it hears why.
        problem = hear(session, own, coordinator, signs) => problem,
        problem = session.beat(broker, &sign_up, *beat, still) => problem,
        problem = read(link, broker, session, events) => problem,
        problem = session.write(broker, &up, &mut queue) => problem,
        () = events.closed() => LinkProblem::Ended,
    };
    let farewell = session.sign(&Sign::Leave(Farewell::of(&problem)));
    // Who does not hear it notices the silence.
    if broker.say(sign_up, farewell).await.is_ok() {
        broker.flush().await;
    }
    Ended::After(problem)
}

async fn open(link: &Link) -> Result<Opened, LinkProblem> {
    let NatsSiteOptions { broker: options, pinned, timing, .. } = &link.options;
    let files = |error: PkiError| LinkProblem::Files { detail: error.to_string() };
    let identity = link.holder.load(clock::now()).map_err(|error| match error {
        PkiError::Certificate { problem, .. } => LinkProblem::Own(problem),
        error => files(error),
    })?;
    let known = locked(&link.broker).clone();
    let broker = match known.filter(|it| it.federation == Federation::of(identity.authority())) {
        Some(broker) => broker,
        None => {
            let broker = Broker::connect(options, Federation::of(identity.authority())).await?;
            locked(&link.broker).insert(broker).clone()
        }
    };
    let unreachable = |detail: String| LinkProblem::Unreachable { address: options.server.clone(), detail };
    if !broker.connected() {
        return Err(unreachable("the broker does not answer".to_owned()));
    }
    let signs = broker.listen(broker.federation.sign_down(&link.site)).await;
    let mut signs = signs.map_err(|error| unreachable(error.to_string()))?;
    let ephemeral =
        Ephemeral::generate().map_err(|error| LinkProblem::Files { detail: error.to_string() })?;
    let certificate = identity.certificate().der().to_vec();
    let hello = wire::body(&Hello { protocol: PROTOCOL, certificate, ephemeral: ephemeral.public() });
    let packet = wire::hello(&Signed::Hello.sign(identity.key(), &hello), &hello);
    let subject = broker.federation.sign_up(&link.site);
    let asking = async {
        // Nothing keeps a hello: a coordinator that starts meanwhile hears the next one.
        loop {
            broker
                .say(subject.clone(), packet.clone())
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            sleep(HELLO).await;
        }
    };
    let answered = timeout(timing.step, async {
        tokio::select! {
            answered = answer(&hello, &identity, *pinned, &mut signs) => answered,
            failed = asking => failed,
        }
    });
    let answered = answered.await;
    let answered = answered.map_err(|_| timed_out("waiting for the coordinator's answer", timing.step))??;
    let Answer { body, coordinator, ephemeral: other, largest, beat } = answered;
    let transcript = transcript(&hello, &body);
    let agreed = agree(&ephemeral, other, &transcript);
    let (id, keys) = agreed.ok_or_else(|| LinkProblem::Protocol { detail: "a useless key".to_owned() })?;
    let confirm = Bytes::from(wire::confirm(id, &Signed::Confirm.sign(identity.key(), &transcript)));
    let kept = timeout(timing.step, async {
        let (subject, name) = (broker.federation.up(&link.site), format!("{}-confirm", name(id, Way::Up, 0)));
        while let Err(error) = broker.keep(subject.clone(), &name, confirm.clone()).await {
            tracing::debug!("a confirmation waits for the broker: {error}");
            sleep(AGAIN).await;
        }
    });
    kept.await.map_err(|_| timed_out("waiting for the broker to keep a message", timing.step))?;
    let own = identity.certificate().clone();
    let session = Arc::new(Session::new(id, keys, Way::Up));
    Ok(Opened { broker, session, signs, own, coordinator, largest, beat })
}

/// The coordinator's answer to a hello.
struct Answer {
    body: Vec<u8>,
    coordinator: Certificate,
    ephemeral: [u8; 32],
    largest: u64,
    beat: Duration,
}

/// Waits for the answer to a hello; what is not one is passed over.
async fn answer(
    hello: &[u8],
    identity: &Identity,
    pinned: Option<Fingerprint>,
    signs: &mut async_nats::Subscriber,
) -> Result<Answer, LinkProblem> {
    let asked: [u8; 32] = Sha256::digest(hello).into();
    while let Some(sign) = signs.next().await {
        let Some(Packet::Said { signature, body }) = Packet::read(&sign.payload) else { continue };
        let Some(Said { certificate, word }) = wire::read(body) else { continue };
        let (Word::Welcome { answer_to, .. } | Word::Refused { answer_to, .. }) = &word else { continue };
        if *answer_to != asked {
            continue;
        }
        let authority = identity.authority();
        let coordinator = authority.verify(&certificate, clock::now(), None).map_err(LinkProblem::Peer)?;
        if *coordinator.party() != Party::Coordinator {
            return Err(LinkProblem::Peer(CertificateProblem::WrongParty {
                expected: Party::Coordinator.to_string(),
                found: coordinator.party().to_string(),
            }));
        }
        if !Signed::Said.holds(coordinator.key(), body, signature) {
            return Err(LinkProblem::Protocol {
                detail: "an answer with the coordinator's certificate, signed by somebody else".to_owned(),
            });
        }
        let found = coordinator.fingerprint();
        if let Some(expected) = pinned.filter(|expected| *expected != found) {
            return Err(LinkProblem::Pinned { expected, found });
        }
        return match word {
            Word::Welcome { ephemeral, largest_message: largest, beat_ms, .. } => {
                let beat = Duration::from_millis(u64::from(beat_ms)).clamp(BEATS[0], BEATS[1]);
                Ok(Answer { body: body.to_vec(), coordinator, ephemeral, largest, beat })
            }
            Word::Refused { why, .. } => Err(why.problem(identity.certificate())),
            Word::Unknown { .. } => continue,
        };
    }
    Err(LinkProblem::Ended)
}

/// Hears the coordinator's signs until it ends the session.
async fn hear(
    session: &Session,
    own: &Certificate,
    coordinator: &Certificate,
    signs: &mut async_nats::Subscriber,
) -> LinkProblem {
    while let Some(sign) = signs.next().await {
        match Packet::read(&sign.payload) {
            Some(Packet::Sign { session: of, number, sealed }) if of == session.id => {
                if let Some(Sign::Leave(why)) = session.hear(number, sealed) {
                    return why.problem(own);
                }
            }
            Some(Packet::Said { signature, body }) => {
                let Some(Said { word: Word::Unknown { session: of }, .. }) = wire::read(body) else {
                    continue;
                };
                // A coordinator with a new key is noticed by its silence.
                if of == session.id && Signed::Said.holds(coordinator.key(), body, signature) {
                    return LinkProblem::Ended;
                }
            }
            _ => {}
        }
    }
    LinkProblem::Ended
}

/// Takes what the stream delivers, in order.
async fn read(
    link: &Link,
    broker: &Broker,
    session: &Arc<Session>,
    events: &mpsc::Sender<SiteEvent>,
) -> LinkProblem {
    let mut deliveries = Deliveries::new(broker.clone(), Whose::Site(link.site.clone(), session.id));
    let largest = link.options.largest_message;
    loop {
        let message = deliveries.next().await;
        let arrival = match Packet::read(&message.payload) {
            Some(Packet::Message { session: of, number, sealed }) if of == session.id => {
                (number, session.arrive(number, sealed))
            }
            _ => (0, Arrival::Foreign),
        };
        let bytes = match arrival {
            (_, Arrival::Next(Content::Message(bytes))) => Bytes::from(bytes),
            (_, Arrival::Next(Content::Object { length, .. })) if length > largest => {
                return LinkProblem::TooLarge { bytes: length, largest };
            }
            (number, Arrival::Next(Content::Object { length, sha256 })) => {
                match session.fetch(broker, number, length, sha256).await {
                    Ok(bytes) => bytes,
                    Err(problem) => return problem,
                }
            }
            (_, Arrival::Before) => {
                settle(&message, Verdict::Done).await;
                continue;
            }
            (_, Arrival::Later) => {
                settle(&message, Verdict::Later).await;
                continue;
            }
            (_, Arrival::Foreign) => {
                tracing::warn!("a message that the coordinator did not make was refused");
                settle(&message, Verdict::Done).await;
                continue;
            }
        };
        if events.send(SiteEvent::Message { bytes }).await.is_err() {
            return LinkProblem::Ended;
        }
        settle(&message, Verdict::Done).await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
