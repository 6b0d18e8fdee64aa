//! Whoever else may publish on the federation's subjects, and a broker that repeats.

use crate::broker::{Broker, join_at};
use crate::fixture::*;
use bytes::Bytes;
use medfed_net::{
    CertificateProblem, CoordinatorEvent, CoordinatorTransport as _, Fingerprint, LinkProblem, SiteEvent,
    SiteTransport as _,
};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;

/// What is logged on this thread.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(words)
    }

    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything that was published on any subject of a federation, until `enough`.
async fn recorded(
    everything: &mut async_nats::Subscriber,
    enough: impl Fn(&[async_nats::Message]) -> bool,
) -> Vec<async_nats::Message> {
    let mut messages = Vec::new();
    while !enough(&messages) {
        messages.push(timeout(PATIENCE, everything.next()).await.unwrap().unwrap());
    }
    messages
}

#[tokio::test]
async fn what_is_repeated_does_nothing() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mallory = broker.client().await;
    let mut everything = mallory.subscribe("medfed.>").await.unwrap();
    mallory.flush().await.unwrap();
    let mut coordinator = broker.coordinate(&federation).await;
    let mut site = broker.join(&federation, "a");
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    site.send(Bytes::from_static(b"up")).unwrap();
    coordinator.send(&id("a"), Bytes::from_static(b"down")).unwrap();
    assert_eq!(coordinator_gets(&mut coordinator).await.1, Bytes::from_static(b"up"));
    assert_eq!(site_gets(&mut site).await, Bytes::from_static(b"down"));
    // Hello, answer, confirmation, a message each way, a beat each way at least.
    let messages = recorded(&mut everything, |messages| messages.len() >= 7).await;
    for message in &messages {
        mallory.publish(message.subject.clone(), message.payload.clone()).await.unwrap();
    }
    mallory.flush().await.unwrap();
    // What comes next is what was sent next, and not what was repeated.
    site.send(Bytes::from_static(b"up again")).unwrap();
    coordinator.send(&id("a"), Bytes::from_static(b"down again")).unwrap();
    let event = coordinator_hears(&mut coordinator).await;
    assert!(matches!(&event, CoordinatorEvent::Message { bytes, .. } if bytes == "up again"), "{event:?}");
    let event = site_hears(&mut site).await;
    assert!(matches!(&event, SiteEvent::Message { bytes } if bytes == "down again"), "{event:?}");

    // In the next session nothing of the older one counts.
    coordinator.disconnect(&id("a"));
    site_loses(&mut site).await;
    coordinator_loses(&mut coordinator).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
    for message in &messages {
        mallory.publish(message.subject.clone(), message.payload.clone()).await.unwrap();
    }
    mallory.flush().await.unwrap();
    site.send(Bytes::from_static(b"up at last")).unwrap();
    coordinator.send(&id("a"), Bytes::from_static(b"down at last")).unwrap();
    let event = coordinator_hears(&mut coordinator).await;
    assert!(matches!(&event, CoordinatorEvent::Message { bytes, .. } if bytes == "up at last"), "{event:?}");
    let event = site_hears(&mut site).await;
    assert!(matches!(&event, SiteEvent::Message { bytes } if bytes == "down at last"), "{event:?}");
}

#[tokio::test]
async fn garbage_and_what_others_signed_is_refused_and_named() {
    let Some(broker) = Broker::start() else { return };
    let log = Log::default();
    let _listening = log.listen();
    let (federation, foreign) = (Federation::new(&["a", "b"]), Federation::new(&["a"]));
    let mallory = broker.client().await;
    let mut everything = mallory.subscribe("medfed.>").await.unwrap();
    mallory.flush().await.unwrap();
    // A site of another federation says hello to nobody.
    let stranger = broker.join(&foreign, "a");
    let hello = recorded(&mut everything, |messages| !messages.is_empty()).await.remove(0).payload;
    drop(stranger);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut site = broker.join(&federation, "a");
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    let named = coordinator.federation().clone();
    let subject = |way: &str, name: &str| {
        let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("medfed.{named}.{way}.{digits}")
    };
    let own = recorded(&mut everything, |messages| {
        messages.iter().any(|it| *it.subject == subject("sign.up", "a"))
            && messages.iter().any(|it| *it.subject == subject("up", "a"))
    });
    let own = own.await;
    let of_site = |subject: String| own.iter().find(|it| *it.subject == subject).unwrap().payload.clone();
    let own_hello = of_site(subject("sign.up", "a"));
    let mut altered = own_hello.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let session: Vec<u8> = of_site(subject("up", "a"))[1..17].to_vec();
    let forged = [&[5], session.as_slice(), &0_u64.to_le_bytes(), &[7; 40]].concat();
    let beat = [&[3], session.as_slice(), &900_u64.to_le_bytes(), &[7; 40]].concat();
    for (way, name, bytes) in [
        ("sign.up", "a", Bytes::from_static(b"garbage")),
        ("sign.up", "a", hello),
        ("sign.up", "a", altered.into()),
        ("sign.up", "b", own_hello),
        ("sign.up", "a", beat.into()),
        ("up", "a", Bytes::from_static(b"garbage")),
        ("up", "b", forged.clone().into()),
        ("up", "a", forged.into()),
    ] {
        mallory.publish(subject(way, name), bytes).await.unwrap();
    }
    mallory.flush().await.unwrap();
    // The federation goes on as if nothing had been said.
    site.send(Bytes::from_static(b"a message")).unwrap();
    let event = coordinator_hears(&mut coordinator).await;
    assert!(matches!(&event, CoordinatorEvent::Message { bytes, .. } if bytes == "a message"), "{event:?}");
    let (signs, messages) = (subject("sign.up", "a"), subject("up", "a"));
    for refusal in [
        format!("refused on {signs}: something that is neither a hello nor a sign"),
        format!("refused on {signs}: a hello whose certificate is not accepted: it was issued by"),
        format!("refused on {signs}: a hello with the certificate of site a, signed by somebody else"),
        format!("refused on {}: a hello of site a on another site's subject", subject("sign.up", "b")),
        format!("refused on {signs}: a sign that is not a new one of site a"),
        format!("refused on {messages}: something that is no message"),
        format!("refused on {}: a message of site a on another site's subject", subject("up", "b")),
    ] {
        // Sign-ups and messages are read side by side, so what is refused may be said after a later message.
        let said = async {
            while !log.says(&refusal) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let said = timeout(PATIENCE, said).await;
        assert!(said.is_ok(), "{refusal}\n{}", String::from_utf8_lossy(&log.0.lock().unwrap()));
    }
}

#[tokio::test]
async fn a_site_keeps_to_its_own_authority_and_pin() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let found = coordinator.certificate().fingerprint();
    let expected = Fingerprint::of_key(&[1; 32]);
    let pinned = join_at(broker.address(), &federation, "a", Some(expected));
    fails_as(&pinned, |problem| *problem == LinkProblem::Pinned { expected, found }).await;
    let right = join_at(broker.address(), &federation, "a", Some(found));
    connected(&mut coordinator, "a").await;
    drop((pinned, right));
}

#[tokio::test]
async fn a_site_that_is_not_on_the_roster_is_told() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let roster = federation.coordinator_folder().join("roster.json");
    let before = std::fs::read(&roster).unwrap();
    federation.enrol("b", &days(30), medfed_net::clock::now());
    let after = std::fs::read(&roster).unwrap();
    std::fs::write(&roster, before).unwrap();
    let mut coordinator = broker.coordinate(&federation).await;
    let site = broker.join(&federation, "b");
    fails_as(&site, |problem| *problem == LinkProblem::Own(CertificateProblem::NotOnRoster)).await;
    std::fs::write(&roster, after).unwrap();
    connected(&mut coordinator, "b").await;
}
