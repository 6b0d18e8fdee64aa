//! The broker: its connection, its stream, its object store.

use super::seal::SessionId;
use super::{AGAIN, BrokerOptions, Kept};
use crate::certificate::{Authority, hex};
use crate::problem::LinkProblem;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::message::{AckKind, Message};
use async_nats::jetstream::object_store::{GetErrorKind, ObjectMetadata};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{self, Context, object_store};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, HeaderMap};
use bytes::Bytes;
use medfed_types::SiteId;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio_stream::StreamExt as _;

/// Longest time that the broker may take for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Time in which the broker knows a message again that is published twice.
const DUPLICATES: Duration = Duration::from_mins(2);
/// After so long without an acknowledgement the broker delivers a message again.
const REDELIVERY: Duration = Duration::from_secs(5);
/// Messages of one consumer that are delivered and not acknowledged at most.
const UNACKNOWLEDGED: i64 = 64;
/// Messages of one pull at most.
const PULL: usize = 32;
/// After so long a pull ends and the next begins: a broker that was restarted knows of none.
const PULL_TIME: Duration = Duration::from_secs(2);
/// A site's consumer that nobody asks is removed after this time.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// Why the broker did not do something, for a log.
pub(super) type BrokerError = Box<dyn std::error::Error + Send + Sync>;

/// The part of all subjects that names the federation: the first eight bytes of its authority's fingerprint,
/// in hexadecimal. Operators need it for permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation(String);

impl Federation {
    /// Of an authority.
    pub fn of(authority: &Authority) -> Self {
        Self(hex(&authority.fingerprint().bytes()[..8]))
    }

    /// Name of the stream and of the object store.
    pub fn stream(&self) -> String {
        format!("medfed-{self}")
    }

    pub(super) fn up(&self, site: &SiteId) -> String {
        format!("medfed.{self}.up.{}", token(site))
    }

    pub(super) fn down(&self, site: &SiteId, session: SessionId) -> String {
        format!("medfed.{self}.down.{}.{}", token(site), hex(&session.0))
    }

    pub(super) fn sign_up(&self, site: &SiteId) -> String {
        format!("medfed.{self}.sign.up.{}", token(site))
    }

    pub(super) fn every_sign_up(&self) -> String {
        format!("medfed.{self}.sign.up.*")
    }

    pub(super) fn sign_down(&self, site: &SiteId) -> String {
        format!("medfed.{self}.sign.down.{}", token(site))
    }
}

/// The site of a subject to the coordinator, by its last part.
pub(super) fn site_of(subject: &str) -> Option<SiteId> {
    let digits = subject.rsplit('.').next()?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let name: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    SiteId::try_from(String::from_utf8(name?).ok()?).ok()
}

impl fmt::Display for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A site's name as a part of a subject: names may hold spaces and dots.
fn token(site: &SiteId) -> String {
    hex(site.as_str().as_bytes())
}

/// A connection to the broker, which comes back by itself.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    client: Client,
    jetstream: Context,
    pub(super) federation: Federation,
}

impl Broker {
    /// Connects once; later it reconnects by itself, for ever.
    pub(super) async fn connect(
        options: &BrokerOptions,
        federation: Federation,
    ) -> Result<Self, LinkProblem> {
        let address = || options.server.clone();
        let mut connect = ConnectOptions::new()
            .name("medfed")
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(100).saturating_mul(1 << attempts.min(6) as u32)
            })
            .event_callback(async |event| tracing::debug!("the broker: {event}"));
        if let Some(path) = &options.credentials {
            connect = connect.credentials_file(path).await.map_err(|error| LinkProblem::Files {
                detail: format!("the broker's credentials {}: {error}", path.display()),
            })?;
        }
        if let Some(path) = &options.authorities {
            connect = connect.require_tls(true).add_root_certificates(path.clone());
        }
        let client = connect.connect(&options.server).await.map_err(|error| match error.kind() {
            ConnectErrorKind::Tls => LinkProblem::Tls { detail: error.to_string() },
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                LinkProblem::Unreachable {
                    address: address(),
                    detail: "the broker refuses the credentials".to_owned(),
                }
            }
            _ => LinkProblem::Unreachable { address: address(), detail: error.to_string() },
        })?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        Ok(Self { client, jetstream, federation })
    }

    /// Whether the connection is there now.
    pub(super) fn connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Makes stream and object store where they are missing.
    pub(super) async fn prepare(&self, kept: Kept) -> Result<(), BrokerError> {
        let name = self.federation.stream();
        let stream = Config {
            name: name.clone(),
            description: Some("Messages of a federation".to_owned()),
            subjects: vec![
                format!("medfed.{}.up.*", self.federation),
                format!("medfed.{}.down.*.*", self.federation),
            ],
            // Gone when it is taken.
            retention: RetentionPolicy::WorkQueue,
            // A full stream refuses the next message, so that nothing that waits is lost.
            discard: DiscardPolicy::New,
            max_bytes: kept.messages.min(i64::MAX as u64).cast_signed(),
            max_age: kept.age,
            max_message_size: super::wire::LARGEST as i32,
            duplicate_window: DUPLICATES.min(kept.age),
            ..Config::default()
        };
        self.jetstream.get_or_create_stream(stream).await?;
        if self.jetstream.get_object_store(&name).await.is_err() {
            let store = object_store::Config {
                bucket: name,
                description: Some("Large messages of a federation".to_owned()),
                max_bytes: kept.objects.min(i64::MAX as u64).cast_signed(),
                max_age: kept.age,
                num_replicas: 1,
                ..object_store::Config::default()
            };
            self.jetstream.create_object_store(store).await?;
        }
        Ok(())
    }

    /// The consumer of somebody's messages, which goes on where the one before it was.
    async fn consumer(&self, whose: &Whose) -> Result<Consumer<pull::Config>, BrokerError> {
        let stream = self.jetstream.get_stream(self.federation.stream()).await?;
        let (name, filter_subject, inactive_threshold) = match whose {
            Whose::Coordinator => {
                ("coordinator".to_owned(), format!("medfed.{}.up.*", self.federation), Duration::ZERO)
            }
            Whose::Site(site, session) => (hex(&session.0), self.federation.down(site, *session), FORGOTTEN),
        };
        let consumer = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject,
            inactive_threshold,
            ack_policy: AckPolicy::Explicit,
            ack_wait: REDELIVERY,
            max_ack_pending: UNACKNOWLEDGED,
            ..pull::Config::default()
        };
        Ok(stream.get_or_create_consumer(&name, consumer).await?)
    }

    /// Forgets what waits for a site in older sessions.
    pub(super) async fn forget(&self, site: &SiteId) -> Result<(), BrokerError> {
        let stream = self.jetstream.get_stream(self.federation.stream()).await?;
        stream.purge().filter(format!("medfed.{}.down.{}.*", self.federation, token(site))).await?;
        Ok(())
    }

    /// Publishes what nothing keeps.
    pub(super) async fn say(&self, subject: String, bytes: Vec<u8>) -> Result<(), BrokerError> {
        Ok(tokio::time::timeout(ANSWER, self.client.publish(subject, bytes.into())).await??)
    }

    /// Hands over everything that was said.
    pub(super) async fn flush(&self) {
        // Without a connection it would wait for one.
        let _ = tokio::time::timeout(ANSWER, self.client.flush()).await;
    }

    /// What is said on a subject.
    pub(super) async fn listen(&self, subject: String) -> Result<async_nats::Subscriber, BrokerError> {
        let subscriber = self.client.subscribe(subject).await?;
        // What is said from now on is heard.
        self.flush().await;
        Ok(subscriber)
    }

    /// Puts a message into the stream and waits until the broker keeps it. With the same `id` once more it
    /// changes nothing.
    pub(super) async fn keep(&self, subject: String, id: &str, bytes: Bytes) -> Result<(), BrokerError> {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        self.jetstream.publish_with_headers(subject, headers, bytes).await?.await?;
        Ok(())
    }

    /// Puts an object.
    pub(super) async fn put(&self, name: &str, content: &[u8]) -> Result<(), BrokerError> {
        let store = self.jetstream.get_object_store(self.federation.stream()).await?;
        let meta = ObjectMetadata { name: name.to_owned(), ..ObjectMetadata::default() };
        store.put(meta, &mut &*content).await?;
        Ok(())
    }

    /// Gets an object of this length and SHA-256; nothing when there is none.
    pub(super) async fn get(
        &self,
        name: &str,
        length: u64,
        sha256: [u8; 32],
    ) -> Result<Option<Vec<u8>>, BrokerError> {
        let store = self.jetstream.get_object_store(self.federation.stream()).await?;
        let object = match store.get(name).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut content = Vec::new();
        // The broker may say and send what it likes.
        object.take(length.saturating_add(1)).read_to_end(&mut content).await?;
        let right = content.len() as u64 == length && <[u8; 32]>::from(Sha256::digest(&content)) == sha256;
        Ok(right.then_some(content))
    }

    /// Removes an object; one that stays goes with its age.
    pub(super) async fn remove(&self, name: &str) {
        let removed = async {
            let store = self.jetstream.get_object_store(self.federation.stream()).await?;
            store.delete(name).await?;
            Ok::<_, BrokerError>(())
        };
        if let Err(error) = removed.await {
            tracing::debug!("an object stays at the broker until it is too old: {error}");
        }
    }
}

/// Whose messages are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those to the coordinator.
    Coordinator,
    /// Those to a site in a session.
    Site(SiteId, SessionId),
}

/// Messages of a consumer, one after the other, over every fault of the broker.
pub(super) struct Deliveries {
    broker: Broker,
    whose: Whose,
    consumer: Option<Consumer<pull::Config>>,
    batch: Option<pull::Batch>,
}

/// What becomes of a message that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken, or never will be.
    Done,
    /// It comes too early: deliver it again.
    Later,
}

impl Deliveries {
    /// Begins with what waits already.
    pub(super) fn new(broker: Broker, whose: Whose) -> Self {
        Self { broker, whose, consumer: None, batch: None }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Message {
        loop {
            match self.attempt().await {
                Ok(Some(message)) => return message,
                // A pull ends after a while without messages.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!("the broker delivers nothing: {error}");
                    (self.consumer, self.batch) = (None, None);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Option<Message>, BrokerError> {
        if self.consumer.is_none() {
            self.consumer = Some(self.broker.consumer(&self.whose).await?);
        }
        if self.batch.is_none()
            && let Some(consumer) = &self.consumer
        {
            self.batch = Some(consumer.batch().max_messages(PULL).expires(PULL_TIME).messages().await?);
        }
        let next = match &mut self.batch {
            Some(batch) => batch.next().await.transpose()?,
            None => None,
        };
        if next.is_none() {
            self.batch = None;
        }
        Ok(next)
    }
}

/// Says what becomes of a message. What the broker does not hear it asks again.
pub(super) async fn settle(message: &Message, verdict: Verdict) {
    let kind = match verdict {
        Verdict::Done => AckKind::Ack,
        Verdict::Later => AckKind::Nak(Some(AGAIN)),
    };
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!("a message was not acknowledged: {error}");
    }
}

/// Name of a message: of its session, way and number.
pub(super) fn name(session: SessionId, way: super::seal::Way, number: u64) -> String {
    let way = match way {
        super::seal::Way::Up => "up",
        super::seal::Way::Down => "down",
    };
    format!("{}-{way}-{number}", hex(&session.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_letters_is_one_part_of_a_subject() {
        let federation = Federation("0011223344556677".to_owned());
        let site = SiteId::try_from("St. Märy").unwrap();
        assert_eq!(federation.up(&site), "medfed.0011223344556677.up.53742e204dc3a47279");
        assert_eq!(
            federation.down(&site, SessionId([1; 16])),
            format!("medfed.0011223344556677.down.53742e204dc3a47279.{}", "01".repeat(16))
        );
        assert_eq!(federation.stream(), "medfed-0011223344556677");
        assert_eq!(site_of(&federation.up(&site)), Some(site));
        for wrong in
            ["", "medfed.x.up.", "medfed.x.up.5", "medfed.x.up.zz", "medfed.x.up.ff", "medfed.x.up.0a"]
        {
            assert_eq!(site_of(wrong), None, "{wrong}");
        }
    }
}
