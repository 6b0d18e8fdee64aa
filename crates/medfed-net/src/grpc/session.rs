//! The streams of sites at the coordinator: one for each site, a newer one in place of an older one.

use super::QUEUE;
use super::accept::Peer;
use super::blob::BlobName;
use super::spool::Spool;
use super::upload::Uploads;
use crate::certificate::Certificate;
use crate::clock;
use crate::problem::LinkProblem;
use crate::tls::guard::Guard;
use crate::transport::SendError;
use crate::wire;
use bytes::Bytes;
use medfed_types::SiteId;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use wire::coordinator_frame::Content;

/// What the coordinator's queue of events holds.
#[derive(Debug)]
pub(super) enum Incoming {
    Connected {
        site: SiteId,
        certificate: Certificate,
    },
    Disconnected {
        site: SiteId,
        problem: LinkProblem,
    },
    Message {
        from: SiteId,
        bytes: Bytes,
    },
    /// A message that lies in the spool.
    Spooled {
        from: SiteId,
        name: BlobName,
    },
}

/// Everything that the coordinator's tasks share.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) guard: Arc<Guard>,
    pub(super) largest: u64,
    pub(super) beat: Duration,
    pub(super) step: Duration,
    pub(super) events: mpsc::Sender<Incoming>,
    spool: PathBuf,
    sessions: Mutex<Sessions>,
    uploads: Mutex<BTreeMap<SiteId, Arc<Uploads>>>,
}

#[derive(Debug, Default)]
struct Sessions {
    last: u64,
    of: BTreeMap<SiteId, Session>,
    /// The name of the last large message: it often goes to every site.
    named: Option<(Bytes, BlobName)>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    certificate: Certificate,
    frames: mpsc::Sender<wire::CoordinatorFrame>,
    /// Blobs that the site was told of and has not fetched yet.
    offered: BTreeMap<[u8; 32], Bytes>,
    stop: mpsc::Sender<LinkProblem>,
}

/// A session as its own task holds it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) frames: mpsc::Receiver<wire::CoordinatorFrame>,
    pub(super) sender: mpsc::Sender<wire::CoordinatorFrame>,
    /// Why it has to end.
    pub(super) stop: mpsc::Receiver<LinkProblem>,
}

impl Switch {
    pub(super) fn new(
        guard: Arc<Guard>,
        largest: u64,
        timing: super::Timing,
        spool: PathBuf,
        events: mpsc::Sender<Incoming>,
    ) -> Self {
        Self {
            guard,
            largest,
            beat: timing.beat,
            step: timing.step,
            events,
            spool,
            sessions: Mutex::default(),
            uploads: Mutex::default(),
        }
    }

    /// What arrives from a site. There are never more than the roster has sites.
    pub(super) fn uploads(&self, site: &SiteId) -> Arc<Uploads> {
        let mut uploads = locked(&self.uploads);
        let of_site = uploads.entry(site.clone()).or_insert_with(|| {
            // A name such as `..` is no folder of its own.
            let folder = self.spool.join(format!("site {site}"));
            // One blob that nobody has taken yet, and the next one.
            Arc::new(Uploads::new(Spool::new(folder, self.largest.saturating_mul(2))))
        });
        of_site.clone()
    }

    /// Whether the certificate of a connection is still admitted.
    pub(super) fn still(&self, certificate: &Certificate) -> Result<(), LinkProblem> {
        self.guard.still(certificate, clock::now()).map_err(LinkProblem::Peer)
    }

    /// Opens the session of a site in place of an older one.
    pub(super) fn open(&self, peer: &Peer) -> Opened {
        let (sender, frames) = mpsc::channel(QUEUE);
        let (stopper, stop) = mpsc::channel(1);
        let mut sessions = locked(&self.sessions);
        sessions.last += 1;
        let number = sessions.last;
        let session = Session {
            number,
            certificate: peer.certificate.clone(),
            frames: sender.clone(),
            offered: BTreeMap::new(),
            stop: stopper,
        };
        if let Some(older) = sessions.of.insert(peer.site.clone(), session) {
            // Full: it ends already.
            let _ = older.stop.try_send(LinkProblem::Replaced);
        }
        Opened { number, frames, sender, stop }
    }

    /// Forgets a session; false when another one has its place.
    pub(super) fn close(&self, site: &SiteId, number: u64) -> bool {
        let mut sessions = locked(&self.sessions);
        let own = sessions.of.get(site).is_some_and(|session| session.number == number);
        if own {
            sessions.of.remove(site);
        }
        own
    }

    /// Asks a session to end.
    pub(super) fn stop(&self, site: &SiteId, problem: LinkProblem) {
        if let Some(session) = locked(&self.sessions).of.get(site) {
            // Full: it ends already.
            let _ = session.stop.try_send(problem);
        }
    }

    /// Asks every session to end.
    pub(super) fn stop_all(&self) {
        for session in locked(&self.sessions).of.values() {
            // Full: it ends already.
            let _ = session.stop.try_send(LinkProblem::Ended);
        }
    }

    /// Queues a message.
    pub(super) fn send(&self, to: &SiteId, message: Bytes) -> Result<(), SendError> {
        let bytes = message.len() as u64;
        if bytes > self.largest {
            return Err(SendError::TooLarge { bytes, largest: self.largest });
        }
        let mut sessions = locked(&self.sessions);
        let session = sessions.of.get(to).ok_or(SendError::NotConnected)?;
        if let Err(problem) = self.still(&session.certificate) {
            // Full: it ends already.
            let _ = session.stop.try_send(problem);
            return Err(SendError::NotConnected);
        }
        if message.len() <= super::INLINE {
            return queue(session, Content::Message(message));
        }
        let name = sessions.name(&message);
        let session = sessions.of.get_mut(to).ok_or(SendError::NotConnected)?;
        queue(session, Content::Blob(name.wire()))?;
        session.offered.insert(name.sha256, message);
        Ok(())
    }

    /// A blob that a site was told of in its session.
    pub(super) fn offered(&self, site: &SiteId, name: &BlobName) -> Option<Bytes> {
        let sessions = locked(&self.sessions);
        sessions.of.get(site)?.offered.get(&name.sha256).filter(|it| it.len() as u64 == name.length).cloned()
    }

    /// A site has a blob.
    pub(super) fn fetched(&self, site: &SiteId, number: u64, name: &BlobName) {
        let mut sessions = locked(&self.sessions);
        if let Some(session) = sessions.of.get_mut(site).filter(|session| session.number == number) {
            session.offered.remove(&name.sha256);
        }
    }
}

impl Sessions {
    fn name(&mut self, message: &Bytes) -> BlobName {
        let same = |known: &Bytes| known.as_ptr() == message.as_ptr() && known.len() == message.len();
        match &self.named {
            Some((known, name)) if same(known) => *name,
            _ => {
                let name = BlobName::of(message);
                self.named = Some((message.clone(), name));
                name
            }
        }
    }
}

fn queue(session: &Session, content: Content) -> Result<(), SendError> {
    use mpsc::error::TrySendError;
    session.frames.try_send(wire::CoordinatorFrame { content: Some(content) }).map_err(|error| match error {
        TrySendError::Full(_) => SendError::Full { queued: QUEUE },
        TrySendError::Closed(_) => SendError::NotConnected,
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
