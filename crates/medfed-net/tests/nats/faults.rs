//! A broker that is killed, and links to it that are down.

use crate::broker::{Broker, join_at};
use crate::fixture::*;
use crate::impaired::relay;
use bytes::Bytes;
use medfed_net::{CoordinatorTransport as _, SiteTransport as _};
use std::sync::atomic::Ordering::Relaxed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_started_again_loses_nothing() {
    let Some(mut broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut site = broker.join(&federation, "a");
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    // Some of it is at the broker already when it is killed, some on its way, some not sent.
    let messages: Vec<Bytes> =
        (0..12).map(|salt| content([9_000, 2_000_000][salt % 2], salt as u64)).collect();
    for message in &messages[..6] {
        site.send(message.clone()).unwrap();
        coordinator.send(&id("a"), message.clone()).unwrap();
    }
    assert!(coordinator_gets(&mut coordinator).await.1 == messages[0]);
    broker.kill();
    for message in &messages[6..] {
        site.send(message.clone()).unwrap();
        coordinator.send(&id("a"), message.clone()).unwrap();
    }
    broker.go();
    for message in &messages[1..] {
        assert!(coordinator_gets_next(&mut coordinator).await == *message);
    }
    for message in &messages {
        assert!(site_gets_next(&mut site).await == *message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_for_a_site_whose_link_is_down() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let (near, link) = relay(broker.address()).await;
    let mut site = join_at(near, &federation, "a", None);
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    link.silent.store(true, Relaxed);
    link.cut();
    let messages: Vec<Bytes> = (0..5).map(|salt| content([300, 400_000][salt % 2], salt as u64)).collect();
    for message in &messages {
        coordinator.send(&id("a"), message.clone()).unwrap();
    }
    let jetstream = async_nats::jetstream::new(broker.client().await);
    let mut stream = jetstream.get_stream(coordinator.federation().stream()).await.unwrap();
    while stream.info().await.unwrap().state.messages < messages.len() as u64 {}
    link.silent.store(false, Relaxed);
    link.cut();
    for message in &messages {
        assert!(site_gets_next(&mut site).await == *message);
    }
}

#[tokio::test]
async fn a_coordinator_that_is_killed_finds_its_sites_again() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let (near, link) = relay(broker.address()).await;
    let mut site = join_at(near, &federation, "a", None);
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    site.send(Bytes::from_static(b"before")).unwrap();
    // Gone without a farewell that anybody hears.
    link.silent.store(true, Relaxed);
    drop(coordinator);
    link.silent.store(false, Relaxed);
    link.cut();
    let mut coordinator = broker.coordinate(&federation).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    site.send(Bytes::from_static(b"after")).unwrap();
    assert_eq!(coordinator_gets(&mut coordinator).await.1, Bytes::from_static(b"after"));
}

/// The next event, which has to be a message.
async fn coordinator_gets_next(coordinator: &mut impl medfed_net::CoordinatorTransport) -> Bytes {
    match coordinator_hears(coordinator).await {
        medfed_net::CoordinatorEvent::Message { bytes, .. } => bytes,
        event => panic!("waited for a message, found {event:?}"),
    }
}

/// The next event, which has to be a message.
async fn site_gets_next(site: &mut impl medfed_net::SiteTransport) -> Bytes {
    match site_hears(site).await {
        medfed_net::SiteEvent::Message { bytes } => bytes,
        event => panic!("waited for a message, found {event:?}"),
    }
}
