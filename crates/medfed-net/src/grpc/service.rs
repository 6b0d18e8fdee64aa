//! What the coordinator answers to the calls of a site.

use super::accept::Peer;
use super::blob::{self, BlobName};
use super::session::{Incoming, Opened, Switch};
use super::status::status;
use super::{INLINE, PROGRAM, PROTOCOL, SILENT_BEATS};
use crate::clock;
use crate::dial::timed_out;
use crate::problem::LinkProblem;
use crate::wire::{self, coordinator_frame, site_frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// Time for the last word to a site before its connection is cut.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The service of the coordinator.
#[derive(Debug, Clone)]
pub(super) struct Service(pub(super) Arc<Switch>);

impl Service {
    /// Whose call it is, if its certificate still counts.
    fn peer<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no identity"))?;
        self.0.still(&peer.certificate).map_err(|problem| status(&problem))?;
        Ok(peer)
    }
}

#[tonic::async_trait]
impl wire::federation_server::Federation for Service {
    type ConnectStream = Frames;
    type GetBlobStream = Pin<Box<dyn Stream<Item = Result<wire::BlobChunk, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<wire::SiteFrame>>,
    ) -> Result<Response<Frames>, Status> {
        let peer = self.peer(&request)?;
        let mut frames = request.into_inner();
        let first = timeout(self.0.step, frames.message()).await;
        let first = first.map_err(|_| status(&timed_out("waiting for the first frame", self.0.step)))??;
        match first.and_then(|frame| frame.content) {
            Some(site_frame::Content::Hello(hello)) if hello.protocol == PROTOCOL => {
                tracing::debug!("site {} runs {}", peer.site, printable(&hello.program));
            }
            Some(site_frame::Content::Hello(hello)) => {
                return Err(status(&LinkProblem::Version { found: hello.protocol, ours: PROTOCOL }));
            }
            _ => return Err(status(&protocol("the first frame is a hello"))),
        }
        let Opened { number, frames: outgoing, sender, stop } = self.0.open(&peer);
        let welcome = coordinator_frame::Content::Welcome(wire::Welcome {
            protocol: PROTOCOL,
            program: PROGRAM.to_owned(),
            largest_message: self.0.largest,
            beat_ms: self.0.beat.as_millis().min(u128::from(u32::MAX)) as u32,
        });
        let (end, ended) = oneshot::channel();
        let reader = Reader { switch: self.0.clone(), peer, number, frames, sender, stop };
        tokio::spawn(reader.run(end));
        Ok(Response::new(Frames { welcome: Some(welcome), outgoing, ended, over: false }))
    }

    async fn head_blob(&self, request: Request<wire::Blob>) -> Result<Response<wire::BlobState>, Status> {
        let peer = self.peer(&request)?;
        let name = BlobName::read(request.get_ref(), self.0.largest).map_err(|it| status(&it))?;
        let uploads = self.0.uploads(&peer.site);
        // An attempt on a connection that broke may still be writing.
        let (_turn, _) = uploads.turn().await;
        let present = uploads.spool().present(&name).await.map_err(|it| logged(&peer, &it))?;
        Ok(Response::new(wire::BlobState { present }))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<wire::BlobChunk>>,
    ) -> Result<Response<wire::BlobState>, Status> {
        let peer = self.peer(&request)?;
        let mut chunks = request.into_inner();
        let uploads = self.0.uploads(&peer.site);
        let (_turn, newer) = uploads.turn().await;
        let mut part = None;
        loop {
            let chunk = tokio::select! {
                chunk = chunks.message() => chunk?,
                () = newer.cancelled() => return Err(status(&LinkProblem::Replaced)),
            };
            let Some(chunk) = chunk else { break };
            self.0.still(&peer.certificate).map_err(|problem| status(&problem))?;
            if part.is_none() {
                let begin = chunk.begin.as_ref().and_then(|it| Some((it.blob.as_ref()?, it.offset)));
                let (blob, offset) =
                    begin.ok_or_else(|| status(&protocol("the first chunk names the blob")))?;
                let name = BlobName::read(blob, self.0.largest).map_err(|it| status(&it))?;
                let needed = tokio::select! {
                    needed = uploads.needed() => needed,
                    () = newer.cancelled() => return Err(status(&LinkProblem::Replaced)),
                };
                let begun = uploads.spool().begin(name, offset, &needed).await;
                part = Some(begun.map_err(|it| logged(&peer, &it))?);
            } else if chunk.begin.is_some() {
                return Err(status(&protocol("only the first chunk names the blob")));
            }
            if let Some(part) = &mut part {
                part.add(&chunk.data).await.map_err(|it| logged(&peer, &it))?;
            }
        }
        let part = part.ok_or_else(|| status(&protocol("a blob without chunks")))?;
        let present = part.end().await.map_err(|it| logged(&peer, &it))?;
        Ok(Response::new(wire::BlobState { present }))
    }

    async fn get_blob(
        &self,
        request: Request<wire::BlobRange>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let peer = self.peer(&request)?;
        let range = request.into_inner();
        let blob = range.blob.ok_or_else(|| status(&protocol("a range without a blob")))?;
        let name = BlobName::read(&blob, self.0.largest).map_err(|it| status(&it))?;
        let content = self.0.offered(&peer.site, &name);
        let content = content.ok_or_else(|| status(&protocol("the blob was not announced")))?;
        if range.offset >= name.length {
            return Err(status(&protocol("the range begins after the blob's end")));
        }
        let chunks = blob::chunks(name, content, range.offset);
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks.map(Ok)))))
    }

    async fn check(
        &self,
        request: Request<wire::CheckRequest>,
    ) -> Result<Response<wire::CheckAnswer>, Status> {
        let peer = self.peer(&request)?;
        Ok(Response::new(wire::CheckAnswer {
            unix_ms: clock::now_ms(),
            program: PROGRAM.to_owned(),
            caller: peer.site.to_string(),
        }))
    }
}

/// The frames to a site: the welcome, what is queued, and why it ends.
#[derive(Debug)]
pub(super) struct Frames {
    welcome: Option<coordinator_frame::Content>,
    outgoing: mpsc::Receiver<wire::CoordinatorFrame>,
    ended: oneshot::Receiver<Status>,
    over: bool,
}

impl Stream for Frames {
    type Item = Result<wire::CoordinatorFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        // Before anything that is queued: a site that is no longer admitted gets nothing more.
        if let Poll::Ready(end) = Pin::new(&mut self.ended).poll(context) {
            self.over = true;
            return Poll::Ready(end.ok().map(Err));
        }
        if let Some(welcome) = self.welcome.take() {
            return Poll::Ready(Some(Ok(wire::CoordinatorFrame { content: Some(welcome) })));
        }
        self.outgoing.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// Reads the frames of a site until its session ends.
struct Reader {
    switch: Arc<Switch>,
    peer: Peer,
    number: u64,
    frames: Streaming<wire::SiteFrame>,
    sender: mpsc::Sender<wire::CoordinatorFrame>,
    stop: mpsc::Receiver<LinkProblem>,
}

impl Reader {
    async fn run(mut self, end: oneshot::Sender<Status>) {
        let Peer { site, certificate, cut } = self.peer.clone();
        let connected = Incoming::Connected { site: site.clone(), certificate };
        let problem = self.read(connected).await;
        tracing::debug!("the session of site {site} ends: {problem}");
        let own = self.switch.close(&site, self.number);
        // The stream may be gone.
        let _ = end.send(status(&problem));
        if own {
            // Fails when the transport has ended.
            let _ = self.switch.events.send(Incoming::Disconnected { site, problem }).await;
        }
        drop(self);
        tokio::time::sleep(LAST_WORD).await;
        cut.cancel();
    }

    async fn read(&mut self, connected: Incoming) -> LinkProblem {
        let (beat, silence) = (self.switch.beat, self.switch.beat * SILENT_BEATS);
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deliver = Some(connected);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some(problem) = self.stop.recv() => return problem,
                _ = beats.tick() => {
                    if let Err(problem) = self.switch.still(&self.peer.certificate) {
                        return problem;
                    }
                    // A full queue is a sign of its own: the site does not read.
                    let beat = coordinator_frame::Content::Beat(wire::Beat {});
                    let _ = self.sender.try_send(wire::CoordinatorFrame { content: Some(beat) });
                    if deliver.is_none() && heard.elapsed() > silence {
                        return timed_out("waiting for a sign of the site", silence);
                    }
                }
                permit = self.switch.events.reserve(), if deliver.is_some() => {
                    let Ok(permit) = permit else { return LinkProblem::Ended };
                    if let Some(event) = deliver.take() {
                        permit.send(event);
                    }
                    heard = Instant::now();
                }
                frame = self.frames.message(), if deliver.is_none() => {
                    heard = Instant::now();
                    if let Err(problem) = self.switch.still(&self.peer.certificate) {
                        return problem;
                    }
                    match frame {
                        Ok(Some(frame)) => match self.judge(frame).await {
                            Ok(event) => deliver = event,
                            Err(problem) => return problem,
                        },
                        Ok(None) => return LinkProblem::Ended,
                        Err(error) => return broken(&error),
                    }
                }
            }
        }
    }

    /// What a frame means.
    async fn judge(&self, frame: wire::SiteFrame) -> Result<Option<Incoming>, LinkProblem> {
        let from = self.peer.site.clone();
        match frame.content {
            Some(site_frame::Content::Message(bytes)) if bytes.len() <= INLINE => {
                Ok(Some(Incoming::Message { from, bytes }))
            }
            Some(site_frame::Content::Message(bytes)) => {
                Err(LinkProblem::TooLarge { bytes: bytes.len() as u64, largest: INLINE as u64 })
            }
            Some(site_frame::Content::Blob(blob)) => {
                let name = BlobName::read(&blob, self.switch.largest)?;
                if self.switch.uploads(&from).announce(name).await? {
                    Ok(Some(Incoming::Spooled { from, name }))
                } else {
                    Err(protocol("a blob is announced that was not put"))
                }
            }
            Some(site_frame::Content::Fetched(blob)) => {
                let name = BlobName::read(&blob, self.switch.largest)?;
                self.switch.fetched(&from, self.number, &name);
                Ok(None)
            }
            Some(site_frame::Content::Beat(_)) => Ok(None),
            Some(site_frame::Content::Hello(_)) => Err(protocol("a second hello")),
            None => Err(protocol("an empty frame")),
        }
    }
}

fn broken(error: &Status) -> LinkProblem {
    match error.code() {
        tonic::Code::OutOfRange | tonic::Code::InvalidArgument | tonic::Code::ResourceExhausted => {
            LinkProblem::Protocol { detail: printable(error.message()) }
        }
        _ => LinkProblem::Broken { detail: printable(error.message()) },
    }
}

fn logged(peer: &Peer, problem: &LinkProblem) -> Status {
    tracing::warn!("a blob of site {} was not taken: {problem}", peer.site);
    status(problem)
}

fn protocol(detail: &str) -> LinkProblem {
    LinkProblem::Protocol { detail: detail.to_owned() }
}

/// Text of a peer, as a log may show it.
fn printable(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(300).collect()
}
