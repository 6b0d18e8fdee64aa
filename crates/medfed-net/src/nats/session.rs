//! A session as both ends hold it: numbers, seals, when the other was heard.

use super::broker::{Broker, name};
use super::seal::{Keys, Purpose, SessionId, TAG, Way};
use super::wire::{self, Content, Sign};
use super::{AGAIN, INLINE, SILENT_BEATS};
use crate::dial::timed_out;
use crate::problem::LinkProblem;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// One end of a session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    keys: Keys,
    /// Which way this end sends.
    way: Way,
    /// The number of the next sign.
    signs: AtomicU64,
    received: Mutex<Received>,
}

#[derive(Debug)]
struct Received {
    /// The number of the next message.
    message: u64,
    /// The least number that the next sign may have.
    sign: u64,
    heard: Instant,
}

/// What a message in the stream turned out to be.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The next one.
    Next(Content),
    /// It was here before.
    Before,
    /// Others come first.
    Later,
    /// The other end did not make it.
    Foreign,
}

impl Session {
    /// A session that begins now; this end sends `way`.
    pub(super) fn new(id: SessionId, keys: Keys, way: Way) -> Self {
        let received = Received { message: 0, sign: 0, heard: Instant::now() };
        Self { id, keys, way, signs: AtomicU64::new(0), received: Mutex::new(received) }
    }

    fn other_way(&self) -> Way {
        match self.way {
            Way::Up => Way::Down,
            Way::Down => Way::Up,
        }
    }

    /// A sign for the other end.
    pub(super) fn sign(&self, sign: &Sign) -> Vec<u8> {
        let number = self.signs.fetch_add(1, Ordering::Relaxed);
        wire::sign(self.id, number, &self.keys.seal(self.way, Purpose::Sign, number, wire::body(sign)))
    }

    /// A sign of the other end; nothing when it is not one, or an old one.
    pub(super) fn hear(&self, number: u64, sealed: &[u8]) -> Option<Sign> {
        let opened = self.keys.open(self.other_way(), Purpose::Sign, number, sealed.to_vec())?;
        let sign = wire::read(&opened)?;
        let mut received = self.received();
        if number < received.sign {
            return None;
        }
        received.sign = number.checked_add(1)?;
        received.heard = Instant::now();
        Some(sign)
    }

    /// A message of the other end. The next one counts as received.
    pub(super) fn arrive(&self, number: u64, sealed: &[u8]) -> Arrival {
        let mut received = self.received();
        if number < received.message {
            return Arrival::Before;
        }
        let opened = self.keys.open(self.other_way(), Purpose::Message, number, sealed.to_vec());
        let Some(content) = opened.and_then(Content::read) else { return Arrival::Foreign };
        received.heard = Instant::now();
        if number > received.message {
            return Arrival::Later;
        }
        received.message += 1;
        Arrival::Next(content)
    }

    /// Sends what is queued, in order, each until the broker has it. Ends when nobody can queue any more.
    pub(super) async fn write(
        self: &Arc<Self>,
        broker: &Broker,
        subject: &str,
        queue: &mut mpsc::Receiver<Bytes>,
    ) -> LinkProblem {
        let mut number = 0;
        while let Some(message) = queue.recv().await {
            if message.len() <= INLINE {
                self.post(broker, subject, number, &Content::Message(message.to_vec())).await;
            } else {
                let (this, length) = (self.clone(), message.len() as u64);
                let sealed = tokio::task::spawn_blocking(move || {
                    let sealed = this.keys.seal(this.way, Purpose::Object, number, message.to_vec());
                    let sha256 = Sha256::digest(&sealed).into();
                    (sealed, sha256)
                });
                let Ok((sealed, sha256)) = sealed.await else { return LinkProblem::Ended };
                let object = name(self.id, self.way, number);
                while let Err(error) = broker.put(&object, &sealed).await {
                    tracing::debug!("an object waits for the broker: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
                drop(sealed);
                self.post(broker, subject, number, &Content::Object { length, sha256 }).await;
            }
            number += 1;
        }
        LinkProblem::Ended
    }

    async fn post(&self, broker: &Broker, subject: &str, number: u64, content: &Content) {
        let sealed = self.keys.seal(self.way, Purpose::Message, number, content.to_bytes());
        let bytes = Bytes::from(wire::message(self.id, number, &sealed));
        let id = name(self.id, self.way, number);
        while let Err(error) = broker.keep(subject.to_owned(), &id, bytes.clone()).await {
            tracing::debug!("a message waits for the broker: {error}");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The message behind an object of the other end, which is removed from the broker.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        broker: &Broker,
        number: u64,
        length: u64,
        sha256: [u8; 32],
    ) -> Result<Bytes, LinkProblem> {
        let object = name(self.id, self.other_way(), number);
        let sealed = loop {
            match broker.get(&object, length.saturating_add(TAG as u64), sha256).await {
                Ok(Some(sealed)) => break sealed,
                Ok(None) => {
                    let detail = "an object at the broker is missing, or not what was announced".to_owned();
                    return Err(LinkProblem::Protocol { detail });
                }
                Err(error) => {
                    tracing::debug!("an object does not arrive: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let (this, way) = (self.clone(), self.other_way());
        let opened =
            tokio::task::spawn_blocking(move || this.keys.open(way, Purpose::Object, number, sealed));
        let detail = || "an object at the broker was sealed by somebody else".to_owned();
        let opened = opened.await.ok().flatten();
        let opened = opened.ok_or_else(|| LinkProblem::Protocol { detail: detail() })?;
        broker.remove(&object).await;
        Ok(opened.into())
    }

    /// Gives signs of life until the other end has given none for too long, or `still` objects.
    pub(super) async fn beat(
        &self,
        broker: &Broker,
        subject: &str,
        beat: Duration,
        still: impl Fn() -> Result<(), LinkProblem>,
    ) -> LinkProblem {
        let silence = beat * SILENT_BEATS;
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if let Err(problem) = still() {
                return problem;
            }
            if self.received().heard.elapsed() > silence {
                return timed_out("waiting for a sign of the other side through the broker", silence);
            }
            if let Err(error) = broker.say(subject.to_owned(), self.sign(&Sign::Beat)).await {
                tracing::debug!("a sign of life was not given: {error}");
            }
        }
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        // Numbers and a time: nothing is half done.
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::{Ephemeral, agree, transcript};
    use super::*;

    fn pair() -> (Session, Session) {
        let (a, b) = (Ephemeral::generate().unwrap(), Ephemeral::generate().unwrap());
        let said = transcript(b"hello", b"answer");
        let end = |own: &Ephemeral, other: &Ephemeral, way| {
            let (id, keys) = agree(own, other.public(), &said).unwrap();
            Session::new(id, keys, way)
        };
        (end(&a, &b, Way::Up), end(&b, &a, Way::Down))
    }

    fn sealed(session: &Session, number: u64) -> Vec<u8> {
        let content = Content::Message(vec![number as u8]);
        session.keys.seal(session.way, Purpose::Message, number, content.to_bytes())
    }

    #[test]
    fn messages_count_once_and_in_their_order() {
        let (site, coordinator) = pair();
        let arrive = |number| coordinator.arrive(number, &sealed(&site, number));
        assert!(matches!(arrive(1), Arrival::Later));
        assert!(matches!(arrive(0), Arrival::Next(Content::Message(it)) if it == [0]));
        assert!(matches!(arrive(0), Arrival::Before));
        assert!(matches!(arrive(1), Arrival::Next(Content::Message(it)) if it == [1]));
        assert!(matches!(coordinator.arrive(2, &sealed(&coordinator, 2)), Arrival::Foreign));
        assert!(matches!(coordinator.arrive(2, b"garbage"), Arrival::Foreign));
        assert!(matches!(arrive(2), Arrival::Next(_)));
    }

    #[test]
    fn an_old_sign_is_none() {
        let (site, coordinator) = pair();
        let signs: Vec<Vec<u8>> = (0..3).map(|_| site.sign(&Sign::Beat)).collect();
        let hear = |bytes: &[u8]| match wire::Packet::read(bytes) {
            Some(wire::Packet::Sign { number, sealed, .. }) => coordinator.hear(number, sealed),
            _ => None,
        };
        assert_eq!(hear(&signs[1]), Some(Sign::Beat));
        assert_eq!(hear(&signs[1]), None);
        assert_eq!(hear(&signs[0]), None);
        assert_eq!(hear(&signs[2]), Some(Sign::Beat));
    }
}
