//! The coordinator's end.

mod switch;

use super::broker::{Broker, Deliveries, Federation, Whose, settle};
use super::{BrokerOptions, Kept};
use crate::certificate::Certificate;
use crate::clock;
use crate::error::NetError;
use crate::grpc::Timing;
use crate::pki::Holder;
use crate::problem::LinkProblem;
use crate::tls::guard::Guard;
use crate::transport::{CoordinatorEvent, CoordinatorTransport, SendError};
use bytes::Bytes;
use medfed_types::SiteId;
use std::sync::Arc;
use std::time::Duration;
use switch::{Incoming, Switch};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

/// Events that wait for the coordinator at most; then the broker keeps what comes. Large messages stay there
/// until their turn.
const EVENTS: usize = 256;
/// Time for the last words when the transport closes.
const CLOSING: Duration = Duration::from_secs(5);

/// How the coordinator uses the broker.
#[derive(Debug, Clone)]
pub struct NatsCoordinatorOptions {
    /// The broker.
    pub broker: BrokerOptions,
    /// What it keeps at most.
    pub kept: Kept,
    /// Largest message, in bytes.
    pub largest_message: u64,
    /// How long things may take.
    pub timing: Timing,
}

/// The coordinator's end of the transport through a broker.
#[derive(Debug)]
pub struct NatsCoordinator {
    switch: Arc<Switch>,
    events: mpsc::Receiver<Incoming>,
    /// A large message on its way from the broker.
    fetching: Option<(SiteId, JoinHandle<Result<Bytes, LinkProblem>>)>,
    /// Closed when every session has ended.
    sessions: mpsc::Receiver<()>,
    tasks: [JoinHandle<()>; 2],
}

impl NatsCoordinator {
    /// Connects to the broker, makes what is missing there, and admits whom the roster and the list of
    /// revocations of the coordinator's folder admit, as they change.
    pub async fn start(holder: &Holder, options: NatsCoordinatorOptions) -> Result<Self, NetError> {
        let guard = Guard::open(holder, clock::now())?;
        let NatsCoordinatorOptions { broker: options, kept, largest_message, timing } = options;
        let server = options.server.clone();
        let failed = |doing, source| NetError::Broker { server: server.clone(), doing, source };
        let broker = Broker::connect(&options, Federation::of(guard.authority())).await;
        let broker = broker.map_err(|problem| failed("cannot be used", problem.into()))?;
        broker.prepare(kept).await.map_err(|error| failed("does not keep messages", error))?;
        let signs = broker.listen(broker.federation.every_sign_up()).await;
        let mut signs = signs.map_err(|error| failed("refuses the federation's subjects", error))?;
        let (sender, events) = mpsc::channel(EVENTS);
        let (alive, sessions) = mpsc::channel(1);
        let switch = Switch::new(guard, holder.clone(), broker, largest_message, timing.beat, sender, alive);
        let switch = Arc::new(switch);
        let listening = tokio::spawn({
            let switch = switch.clone();
            async move {
                while let Some(sign) = signs.next().await {
                    switch.sign(&sign.subject, &sign.payload).await;
                }
            }
        });
        let receiving = tokio::spawn({
            let switch = switch.clone();
            async move {
                let mut deliveries = Deliveries::new(switch.broker.clone(), Whose::Coordinator);
                loop {
                    let message = deliveries.next().await;
                    let verdict = switch.arrive(&message.subject, &message.payload).await;
                    settle(&message, verdict).await;
                }
            }
        });
        Ok(Self { switch, events, fetching: None, sessions, tasks: [listening, receiving] })
    }

    /// The coordinator's certificate, as it was at the start.
    pub fn certificate(&self) -> &Certificate {
        self.switch.guard.certificate()
    }

    /// Names the federation in the broker's subjects.
    pub fn federation(&self) -> &Federation {
        &self.switch.broker.federation
    }

    /// Takes leave of every site, and ends.
    pub async fn close(mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.switch.stop_all();
        // Whoever does not hear it notices the silence.
        let _ = timeout(CLOSING, self.sessions.recv()).await;
        self.switch.broker.flush().await;
    }
}

impl Drop for NatsCoordinator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.switch.stop_all();
    }
}

impl CoordinatorTransport for NatsCoordinator {
    fn send(&self, to: &SiteId, message: Bytes) -> Result<(), SendError> {
        self.switch.send(to, message)
    }

    async fn recv(&mut self) -> Option<CoordinatorEvent> {
        loop {
            // Kept until it is complete: the caller may drop this future.
            if let Some((from, task)) = &mut self.fetching {
                let (from, fetched) = (from.clone(), task.await);
                self.fetching = None;
                match fetched {
                    Ok(Ok(bytes)) => return Some(CoordinatorEvent::Message { from, bytes }),
                    Ok(Err(problem)) => {
                        tracing::error!("a message of site {from} was lost: {problem}");
                        self.switch.stop(&from, problem);
                    }
                    // The runtime ends.
                    Err(_) => return None,
                }
            }
            match self.events.recv().await? {
                Incoming::Event(event) => return Some(event),
                Incoming::Object { from, session, number, length, sha256, over } => {
                    let broker = self.switch.broker.clone();
                    let task = tokio::spawn(async move {
                        tokio::select! {
                            fetched = session.fetch(&broker, number, length, sha256) => fetched,
                            // A broker that is away keeps it: the site sends it again.
                            () = over.closed() => Err(LinkProblem::Ended),
                        }
                    });
                    self.fetching = Some((from, task));
                }
            }
        }
    }

    fn disconnect(&self, site: &SiteId) {
        self.switch.stop(site, LinkProblem::Ended);
    }
}
