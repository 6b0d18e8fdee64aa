//! Server-sent events: what changed, numbered, so that a browser that was away can catch up.

use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Events that a browser may have missed and still gets.
const KEPT: usize = 512;
/// Events that a slow browser may lag behind before it is told to load the page anew.
const LAG: usize = 128;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Rises by one; later starts of the dashboard begin above all earlier ones.
    pub(crate) id: u64,
    /// `state`, `progress`, `round`, `notice`, `audit` or `resync`.
    pub(crate) kind: &'static str,
    /// JSON.
    pub(crate) data: Arc<str>,
}

/// Gives events to whoever listens. It never waits for a listener.
#[derive(Debug)]
pub(crate) struct Hub {
    sender: broadcast::Sender<Event>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    events: VecDeque<Event>,
}

impl Hub {
    /// A hub whose first event has the number `first`.
    pub(crate) fn new(first: u64) -> Self {
        let kept = Kept { next: first, events: VecDeque::with_capacity(KEPT) };
        Self { sender: broadcast::Sender::new(LAG), kept: Mutex::new(kept) }
    }

    /// Tells everybody. What cannot be written as JSON is nothing anybody could use.
    pub(crate) fn send(&self, kind: &'static str, data: &impl Serialize) {
        let Ok(data) = serde_json::to_string(data) else { return };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event { id: kept.next, kind, data: data.into() };
        kept.next += 1;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Nobody listening is no fault. The lock is held, so that nobody subscribes in between.
        let _ = self.sender.send(event);
    }

    /// What came after the event numbered `last`, and everything from now on. Without `last` only the
    /// latter; a `resync` when too much was missed.
    pub(crate) fn subscribe(&self, last: Option<u64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let Some(last) = last else { return (Vec::new(), receiver) };
        let oldest = kept.events.front().map_or(kept.next, |event| event.id);
        // A number from before this start, or from further back than is kept, or that was never given out.
        let missed = if last.saturating_add(1) < oldest || last >= kept.next {
            vec![resync(kept.next.saturating_sub(1))]
        } else {
            kept.events.iter().filter(|event| event.id > last).cloned().collect()
        };
        (missed, receiver)
    }
}

/// Tells a browser that it has missed something: it loads the page anew.
pub(crate) fn resync(id: u64) -> Event {
    Event { id, kind: "resync", data: "{}".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn whoever_was_away_catches_up_or_is_told_to_start_over() {
        let hub = Hub::new(100);
        for n in 0..5 {
            hub.send("round", &n);
        }
        assert!(hub.subscribe(None).0.is_empty());
        assert_eq!(ids(&hub.subscribe(Some(101)).0), [102, 103, 104]);
        assert!(hub.subscribe(Some(104)).0.is_empty());
        for strange in [7, 98, 105, u64::MAX] {
            let (missed, _) = hub.subscribe(Some(strange));
            assert_eq!((missed.len(), missed[0].kind), (1, "resync"), "{strange}");
        }
        for n in 0..2 * KEPT {
            hub.send("round", &n);
        }
        assert_eq!(hub.subscribe(Some(104)).0[0].kind, "resync");
        assert_eq!(hub.kept.lock().unwrap().events.len(), KEPT);
    }

    #[test]
    fn a_listener_that_sleeps_costs_nothing_and_learns_that_it_missed_something() {
        let hub = Hub::new(1);
        let (_, mut receiver) = hub.subscribe(None);
        for n in 0..=LAG {
            hub.send("progress", &n);
        }
        assert!(matches!(receiver.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
        assert!(receiver.try_recv().is_ok());
    }
}
