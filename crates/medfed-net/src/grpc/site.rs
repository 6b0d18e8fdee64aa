//! A site's end: it dials out, and again whenever the connection is gone.

use super::blob::{self, BlobName};
use super::spool::{Spool, private};
use super::status;
use super::{
    CONNECTION_WINDOW, HEADERS, INLINE, LARGEST_FRAME, PROGRAM, PROTOCOL, QUEUE, SILENT_BEATS, STREAM_WINDOW,
    Timing,
};
use crate::certificate::Certificate;
use crate::clock;
use crate::dial::{self, Dialled, Route, timed_out};
use crate::error::NetError;
use crate::pki::{Holder, Identity, PkiError};
use crate::problem::LinkProblem;
use crate::tls::watched::Fault;
use crate::transport::{LinkState, SendError, SiteEvent, SiteTransport};
use crate::wire::federation_client::FederationClient;
use crate::wire::{self, coordinator_frame, site_frame};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rand::rand_core::TryRng as _;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Events that wait at most; then the coordinator is held back. Messages may be as large as a model.
const EVENTS: usize = 4;
/// Shortest and longest beat that a coordinator may set.
const BEATS: [Duration; 2] = [Duration::from_millis(10), Duration::from_mins(10)];

/// How a site reaches its coordinator.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// The way there.
    pub route: Route,
    /// Folder for what arrives. What was cut goes on from there, also after a restart.
    pub spool: PathBuf,
    /// Largest message that is taken from the coordinator, in bytes.
    pub largest_message: u64,
    /// How long things may take.
    pub timing: Timing,
}

/// A site's end of the built-in transport.
#[derive(Debug)]
pub struct GrpcSite {
    link: Arc<Link>,
    events: mpsc::Receiver<SiteEvent>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Link {
    holder: Holder,
    options: SiteOptions,
    spool: Spool,
    queue: Mutex<Option<Queue>>,
    state: watch::Sender<LinkState>,
}

/// Where messages wait while a connection lasts.
#[derive(Debug)]
struct Queue {
    messages: mpsc::Sender<Bytes>,
    largest: u64,
}

/// What the tasks of one connection share.
struct Session {
    client: Client,
    frames: mpsc::Sender<wire::SiteFrame>,
    heard: Mutex<Instant>,
    fault: Fault,
    own: Certificate,
    authority: String,
}

type Client = FederationClient<Channel>;

impl GrpcSite {
    /// Begins to connect with the key and certificate of a site's folder, which are read again at every
    /// attempt: a renewed certificate needs no restart. Has to be called within a tokio runtime.
    pub async fn start(holder: &Holder, options: SiteOptions) -> Result<Self, NetError> {
        match holder.load(clock::now()) {
            // It may be renewed while we wait.
            Ok(_) | Err(PkiError::Certificate { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = options.spool.clone();
        private(&folder).await.map_err(|source| NetError::Spool { path: folder.clone(), source })?;
        let (sender, events) = mpsc::channel(EVENTS);
        let (state, _) = watch::channel(LinkState::Connecting { attempt: 1 });
        let spool = Spool::new(folder, options.largest_message.saturating_mul(2));
        let link = Arc::new(Link { holder: holder.clone(), options, spool, queue: Mutex::default(), state });
        let task = tokio::spawn(keep_connected(link.clone(), sender));
        Ok(Self { link, events, task })
    }
}

impl Drop for GrpcSite {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SiteTransport for GrpcSite {
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

/// Connects again and again until the receiver of the events is gone. A problem is said once, not at every
/// attempt.
async fn keep_connected(link: Arc<Link>, events: mpsc::Sender<SiteEvent>) {
    let Timing { first_pause, longest_pause, .. } = link.options.timing;
    let (mut attempts, mut said) = (0_u32, None);
    loop {
        link.state.send_replace(LinkState::Connecting { attempt: attempts.saturating_add(1) });
        let connected = session(&link, &events).await;
        locked(&link.queue).take();
        let problem = match connected {
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
        let pause = if problem.needs_a_person() {
            longest_pause
        } else {
            first_pause.saturating_mul(1 << (attempts - 1).min(16)).min(longest_pause)
        };
        let pause = shortened(pause);
        let address = &link.options.route.address;
        if said.as_ref() == Some(&problem) {
            tracing::debug!("still not connected to {address} after {attempts} attempts: {problem}");
        } else {
            tracing::warn!(
                "not connected to {address}, trying again until it works: {problem}; {}",
                problem.hint()
            );
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

/// Leaves out up to half of a pause, by chance.
fn shortened(pause: Duration) -> Duration {
    // Without chance from the system the whole pause is kept.
    let chance = rand::rngs::SysRng.try_next_u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
}

/// When a session ended.
enum Ended {
    /// There was no connection.
    Before(LinkProblem),
    /// There was one.
    After(LinkProblem),
}

/// One connection, from dialling to its end.
async fn session(link: &Link, events: &mpsc::Sender<SiteEvent>) -> Ended {
    let (session, mut inbound, welcome, coordinator) = match open(link).await {
        Ok(opened) => opened,
        Err(problem) => return Ended::Before(problem),
    };
    let (messages, mut queue) = mpsc::channel(QUEUE);
    *locked(&link.queue) = Some(Queue { messages, largest: welcome.largest_message });
    link.state.send_replace(LinkState::Connected);
    tracing::info!("connected to {}", link.options.route.address);
    if events.send(SiteEvent::Connected { certificate: coordinator.clone() }).await.is_err() {
        return Ended::After(LinkProblem::Ended);
    }
    let beat = Duration::from_millis(u64::from(welcome.beat_ms)).clamp(BEATS[0], BEATS[1]);
    Ended::After(tokio::select! {
        biased;
        // First: it hears why, the others only that.
        problem = session.read(&mut inbound, link, events) => problem,
        problem = session.write(&mut queue) => problem,
        problem = session.beat(beat, &coordinator) => problem,
        () = events.closed() => LinkProblem::Ended,
    })
}

type Opened = (Session, Streaming<wire::CoordinatorFrame>, wire::Welcome, Certificate);

async fn open(link: &Link) -> Result<Opened, LinkProblem> {
    let SiteOptions { route, timing, .. } = &link.options;
    let identity = link.holder.load(clock::now()).map_err(|error| match error {
        PkiError::Certificate { problem, .. } => LinkProblem::Own(problem),
        error => LinkProblem::Files { detail: error.to_string() },
    })?;
    let stream = dial::connect(route, timing.step).await?;
    let (dialled, _) = dial::handshake(stream, &identity, route, timing.step).await;
    let (client, fault, coordinator) = client(dialled?, &identity, timing.step).await?;
    let (frames, outgoing) = mpsc::channel(8);
    let mut session = Session {
        client,
        frames,
        heard: Mutex::new(Instant::now()),
        fault,
        own: identity.certificate().clone(),
        authority: identity.authority().name().to_owned(),
    };
    session
        .put(site_frame::Content::Hello(wire::Hello { protocol: PROTOCOL, program: PROGRAM.to_owned() }))
        .await;
    let opening = async {
        let mut inbound = session.client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = inbound.message().await?;
        Ok::<_, Status>((inbound, first))
    };
    let opened = timeout(timing.step, opening).await;
    let opened = opened.map_err(|_| timed_out("waiting for the coordinator's welcome", timing.step))?;
    let (inbound, first) = opened.map_err(|error| session.problem(&error))?;
    match first.and_then(|frame| frame.content) {
        Some(coordinator_frame::Content::Welcome(welcome)) if welcome.protocol == PROTOCOL => {
            Ok((session, inbound, welcome, coordinator))
        }
        Some(coordinator_frame::Content::Welcome(welcome)) => {
            Err(LinkProblem::Version { found: welcome.protocol, ours: PROTOCOL })
        }
        _ => Err(protocol("the first frame is a welcome")),
    }
}

/// A client of gRPC over a connection that is made already, and over no other.
async fn client(
    dialled: Dialled,
    identity: &Identity,
    limit: Duration,
) -> Result<(Client, Fault, Certificate), LinkProblem> {
    let Dialled { stream, fault, coordinator } = dialled;
    let mut once = Some(stream);
    let connector = tower::service_fn(move |_| {
        let stream = once.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("http://coordinator")
        .origin(http_origin())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS);
    let channel = timeout(limit, endpoint.connect_with_connector(connector))
        .await
        .map_err(|_| timed_out("opening HTTP/2", limit))?
        .map_err(|error| {
            let known = dial::fault_problem(&fault, identity.certificate(), identity.authority().name());
            known.unwrap_or_else(|| LinkProblem::Broken { detail: error.to_string() })
        })?;
    let client = FederationClient::new(channel)
        .max_decoding_message_size(LARGEST_FRAME)
        .max_encoding_message_size(LARGEST_FRAME);
    Ok((client, fault, coordinator))
}

/// What the requests name as their origin; the connection behind it is made already.
fn http_origin() -> tonic::codegen::http::Uri {
    tonic::codegen::http::Uri::from_static("https://coordinator")
}

/// Asks the coordinator who it takes us for, and for its time, over a connection of its own.
pub(crate) async fn call_check(
    dialled: Dialled,
    identity: &Identity,
    limit: Duration,
) -> Result<wire::CheckAnswer, LinkProblem> {
    let (mut client, fault, _) = client(dialled, identity, limit).await?;
    let answer = timeout(limit, client.check(wire::CheckRequest {})).await;
    let answer = answer.map_err(|_| timed_out("asking the coordinator", limit))?;
    let (own, authority) = (identity.certificate(), identity.authority().name());
    answer.map(tonic::Response::into_inner).map_err(|error| problem_of(&error, &fault, own, authority))
}

impl Session {
    /// Queues a frame; the connection is gone when nobody takes it.
    async fn put(&self, content: site_frame::Content) {
        // Whoever reads from the connection finds out why it is gone.
        let _ = self.frames.send(wire::SiteFrame { content: Some(content) }).await;
    }

    fn heard(&self) {
        *locked(&self.heard) = Instant::now();
    }

    fn problem(&self, error: &Status) -> LinkProblem {
        problem_of(error, &self.fault, &self.own, &self.authority)
    }

    /// Sends what is queued, in order.
    async fn write(&self, queue: &mut mpsc::Receiver<Bytes>) -> LinkProblem {
        while let Some(message) = queue.recv().await {
            if message.len() <= INLINE {
                self.put(site_frame::Content::Message(message)).await;
                continue;
            }
            let name = BlobName::of(&message);
            if let Err(problem) = self.upload(name, message).await {
                return problem;
            }
            self.put(site_frame::Content::Blob(name.wire())).await;
        }
        LinkProblem::Ended
    }

    /// Puts a blob from where it was cut.
    async fn upload(&self, name: BlobName, content: Bytes) -> Result<(), LinkProblem> {
        let mut client = self.client.clone();
        let state = client.head_blob(name.wire()).await.map_err(|error| self.problem(&error))?;
        let present = state.into_inner().present;
        if present >= name.length {
            return Ok(());
        }
        if present > 0 {
            tracing::info!("sending goes on at {present} of {} bytes", name.length);
        }
        let chunks = tokio_stream::iter(blob::chunks(name, content, present));
        let state = client.put_blob(chunks).await.map_err(|error| self.problem(&error))?;
        if state.into_inner().present == name.length {
            Ok(())
        } else {
            Err(protocol("a blob was taken in part"))
        }
    }

    /// Reads frames and fetches blobs, in order.
    async fn read(
        &self,
        inbound: &mut Streaming<wire::CoordinatorFrame>,
        link: &Link,
        events: &mpsc::Sender<SiteEvent>,
    ) -> LinkProblem {
        loop {
            let frame = match inbound.message().await {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    let known = dial::fault_problem(&self.fault, &self.own, &self.authority);
                    return known.unwrap_or(LinkProblem::Ended);
                }
                Err(error) => return self.problem(&error),
            };
            self.heard();
            let bytes = match frame.content {
                Some(coordinator_frame::Content::Message(bytes)) if bytes.len() <= INLINE => bytes,
                Some(coordinator_frame::Content::Blob(blob)) => match self.fetch(&blob, link).await {
                    Ok(bytes) => bytes,
                    Err(problem) => return problem,
                },
                Some(coordinator_frame::Content::Beat(_)) => continue,
                Some(coordinator_frame::Content::Message(bytes)) => {
                    return LinkProblem::TooLarge { bytes: bytes.len() as u64, largest: INLINE as u64 };
                }
                Some(coordinator_frame::Content::Welcome(_)) => return protocol("a second welcome"),
                None => return protocol("an empty frame"),
            };
            // A receiver that is slow is not a coordinator that is silent.
            let handed = self.while_heard(events.send(SiteEvent::Message { bytes })).await;
            if handed.is_err() {
                return LinkProblem::Ended;
            }
        }
    }

    /// Waits for what is not the coordinator's doing.
    async fn while_heard<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                done = &mut future => {
                    self.heard();
                    return done;
                }
                () = sleep(BEATS[0]) => self.heard(),
            }
        }
    }

    /// Fetches a blob from where it was cut.
    async fn fetch(&self, blob: &wire::Blob, link: &Link) -> Result<Bytes, LinkProblem> {
        let name = BlobName::read(blob, link.options.largest_message)?;
        let present = link.spool.present(&name).await?;
        if present < name.length {
            if present > 0 {
                tracing::info!("fetching goes on at {present} of {} bytes", name.length);
            }
            let mut part = link.spool.begin(name, present, &BTreeSet::new()).await?;
            let range = wire::BlobRange { blob: Some(name.wire()), offset: present };
            let mut client = self.client.clone();
            let chunks = client.get_blob(range).await.map_err(|error| self.problem(&error))?;
            let mut chunks = chunks.into_inner();
            while let Some(chunk) = chunks.message().await.map_err(|error| self.problem(&error))? {
                self.heard();
                part.add(&chunk.data).await?;
            }
            if part.end().await? < name.length {
                return Err(protocol("a blob was sent in part"));
            }
        }
        let content = link.spool.read(&name).await?;
        self.put(site_frame::Content::Fetched(name.wire())).await;
        Ok(content)
    }

    /// Sends beats; ends when the coordinator is silent or its certificate is over.
    async fn beat(&self, pace: Duration, coordinator: &Certificate) -> LinkProblem {
        let mut beats = interval(pace);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if let Err(problem) = coordinator.in_time(clock::now()) {
                return LinkProblem::Peer(problem);
            }
            let silence = pace * SILENT_BEATS;
            if locked(&self.heard).elapsed() > silence {
                return timed_out("waiting for a sign of the coordinator", silence);
            }
            self.put(site_frame::Content::Beat(wire::Beat {})).await;
        }
    }
}

/// What a failed call means: what the coordinator says, else the first fault of the connection.
fn problem_of(error: &Status, fault: &Fault, own: &Certificate, authority: &str) -> LinkProblem {
    if let Some(problem) = status::problem(error, own) {
        return problem;
    }
    if let Some(problem) = dial::fault_problem(fault, own, authority) {
        return problem;
    }
    let detail: String = error.message().chars().filter(|it| !it.is_control()).take(300).collect();
    LinkProblem::Broken { detail }
}

fn protocol(detail: &str) -> LinkProblem {
    LinkProblem::Protocol { detail: detail.to_owned() }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
