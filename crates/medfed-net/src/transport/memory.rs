//! A transport within one process, for tests of what drives it: no sockets, no files, the same rules.
//!
//! Links can be cut and restored, so that a driver's behaviour at a broken connection can be tested without
//! a network.

use super::{CoordinatorEvent, CoordinatorTransport, LinkState, SendError, SiteEvent, SiteTransport};
use crate::certificate::Certificate;
use crate::problem::LinkProblem;
use bytes::Bytes;
use medfed_types::SiteId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};

/// Messages that wait for one site at most.
const QUEUE: usize = 64;

/// The switch of a federation within one process.
#[derive(Debug, Clone)]
pub struct MemoryNetwork {
    hub: Arc<Mutex<Hub>>,
    coordinator: Certificate,
}

#[derive(Debug)]
struct Hub {
    up: BTreeMap<SiteId, Port>,
    events: mpsc::UnboundedSender<CoordinatorEvent>,
}

#[derive(Debug)]
struct Port {
    certificate: Certificate,
    connected: bool,
    events: mpsc::UnboundedSender<SiteEvent>,
    state: watch::Sender<LinkState>,
    waiting: Arc<std::sync::atomic::AtomicUsize>,
}

/// The coordinator's end within one process.
#[derive(Debug)]
pub struct MemoryCoordinator {
    hub: Arc<Mutex<Hub>>,
    events: mpsc::UnboundedReceiver<CoordinatorEvent>,
}

/// A site's end within one process.
#[derive(Debug)]
pub struct MemorySite {
    hub: Arc<Mutex<Hub>>,
    site: SiteId,
    events: mpsc::UnboundedReceiver<SiteEvent>,
    state: watch::Receiver<LinkState>,
    waiting: Arc<std::sync::atomic::AtomicUsize>,
}

impl MemoryNetwork {
    /// A network with a coordinator that has this certificate, and no sites yet.
    pub fn new(coordinator: Certificate) -> (Self, MemoryCoordinator) {
        let (sender, events) = mpsc::unbounded_channel();
        let hub = Arc::new(Mutex::new(Hub { up: BTreeMap::new(), events: sender }));
        (Self { hub: hub.clone(), coordinator }, MemoryCoordinator { hub, events })
    }

    /// Adds the site of a certificate, connected. Nothing for a certificate that is no site's.
    pub fn join(&self, certificate: Certificate) -> Option<MemorySite> {
        let site = certificate.party().site()?.clone();
        let (sender, events) = mpsc::unbounded_channel();
        let (state, states) = watch::channel(LinkState::Connecting { attempt: 1 });
        let waiting = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let port = Port { certificate, connected: false, events: sender, state, waiting: waiting.clone() };
        locked(&self.hub).up.insert(site.clone(), port);
        self.restore(&site);
        Some(MemorySite { hub: self.hub.clone(), site, events, state: states, waiting })
    }

    /// Cuts the link of a site.
    pub fn cut(&self, site: &SiteId) {
        locked(&self.hub).cut(site);
    }

    /// Restores the link of a site.
    pub fn restore(&self, site: &SiteId) {
        let mut hub = locked(&self.hub);
        let Some(port) = hub.up.get_mut(site) else { return };
        port.connected = true;
        port.state.send_replace(LinkState::Connected);
        // Whoever has dropped its end hears nothing.
        let _ = port.events.send(SiteEvent::Connected { certificate: self.coordinator.clone() });
        let event = CoordinatorEvent::Connected { site: site.clone(), certificate: port.certificate.clone() };
        let _ = hub.events.send(event);
    }
}

impl Hub {
    fn cut(&mut self, site: &SiteId) {
        let problem = LinkProblem::Broken { detail: "the link was cut".to_owned() };
        let Some(port) = self.up.get_mut(site) else { return };
        if !std::mem::take(&mut port.connected) {
            return;
        }
        port.state.send_replace(LinkState::Waiting { attempts: 1, problem: problem.clone(), pause_ms: 0 });
        // Whoever has dropped its end hears nothing.
        let _ = port.events.send(SiteEvent::Disconnected { problem: problem.clone() });
        let _ = self.events.send(CoordinatorEvent::Disconnected { site: site.clone(), problem });
    }
}

impl CoordinatorTransport for MemoryCoordinator {
    fn send(&self, to: &SiteId, message: Bytes) -> Result<(), SendError> {
        let hub = locked(&self.hub);
        let port = hub.up.get(to).filter(|port| port.connected).ok_or(SendError::NotConnected)?;
        let queued = port.waiting.load(std::sync::atomic::Ordering::Relaxed);
        if queued >= QUEUE {
            return Err(SendError::Full { queued });
        }
        port.waiting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        port.events.send(SiteEvent::Message { bytes: message }).map_err(|_| SendError::NotConnected)
    }

    async fn recv(&mut self) -> Option<CoordinatorEvent> {
        self.events.recv().await
    }

    fn disconnect(&self, site: &SiteId) {
        locked(&self.hub).cut(site);
    }
}

impl SiteTransport for MemorySite {
    fn send(&self, message: Bytes) -> Result<(), SendError> {
        let hub = locked(&self.hub);
        if !hub.up.get(&self.site).is_some_and(|port| port.connected) {
            return Err(SendError::NotConnected);
        }
        let event = CoordinatorEvent::Message { from: self.site.clone(), bytes: message };
        hub.events.send(event).map_err(|_| SendError::NotConnected)
    }

    async fn recv(&mut self) -> Option<SiteEvent> {
        let event = self.events.recv().await?;
        if matches!(event, SiteEvent::Message { .. }) {
            self.waiting.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
        Some(event)
    }

    fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }
}

fn locked(hub: &Mutex<Hub>) -> MutexGuard<'_, Hub> {
    hub.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
