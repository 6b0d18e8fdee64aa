//! Good links.

use crate::fixture::*;
use bytes::Bytes;
use medfed_net::{CoordinatorTransport as _, LinkProblem, SendError, SiteTransport as _};
use std::collections::BTreeMap;

#[tokio::test]
async fn messages_of_every_size_arrive_in_order_both_ways() {
    let federation = Federation::new(&["St. Märy"]);
    let mut coordinator = federation.coordinate().await;
    let mut site = federation.join("St. Märy", coordinator.address()).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "St. Märy").await;
    let sizes = [1, 0, 64 << 10, (64 << 10) + 1, 3_500_000, 7, 1 << 20, 100_000];
    let messages: Vec<Bytes> = (1..).zip(sizes).map(|(salt, size)| content(size, salt)).collect();
    for message in &messages {
        site.send(message.clone()).unwrap();
        coordinator.send(&id("St. Märy"), message.clone()).unwrap();
    }
    for message in &messages {
        let (from, bytes) = coordinator_gets(&mut coordinator).await;
        assert_eq!((from, bytes == *message), (id("St. Märy"), true));
        assert!(site_gets(&mut site).await == *message);
    }
    let large = content(LARGEST as usize + 1, 1);
    let refused = SendError::TooLarge { bytes: LARGEST + 1, largest: LARGEST };
    assert_eq!(site.send(large.clone()), Err(refused.clone()));
    assert_eq!(coordinator.send(&id("St. Märy"), large), Err(refused));
    assert_eq!(coordinator.send(&id("nobody"), Bytes::new()), Err(SendError::NotConnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_sites_exchange_a_model() {
    let names: Vec<String> = (0..100).map(|number| format!("site-{number}")).collect();
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    let federation = Federation::new(&named);
    let mut coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let mut sites = BTreeMap::new();
    for name in &names {
        sites.insert(id(name), federation.join(name, address).await);
    }
    for _ in 0..names.len() {
        let event = coordinator_hears(&mut coordinator).await;
        assert!(matches!(event, medfed_net::CoordinatorEvent::Connected { .. }), "{event:?}");
    }
    let model = content(300_000, 5);
    for name in sites.keys() {
        coordinator.send(name, model.clone()).unwrap();
    }
    for (number, site) in (0..).zip(sites.values_mut()) {
        assert!(site_gets(site).await == model);
        site.send(content(70_000, number)).unwrap();
    }
    let mut heard = BTreeMap::new();
    while heard.len() < names.len() {
        let (from, bytes) = coordinator_gets(&mut coordinator).await;
        heard.insert(from, bytes);
    }
    for (number, (_, bytes)) in (0..).zip(heard) {
        assert!(bytes == content(70_000, number));
    }
}

#[tokio::test]
async fn a_newer_process_of_a_site_takes_the_older_ones_place() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let mut older = federation.join("a", coordinator.address()).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut older).await;
    let mut newer = federation.join("a", coordinator.address()).await;
    assert_eq!(site_loses(&mut older).await, LinkProblem::Replaced);
    drop(older);
    site_connected(&mut newer).await;
    let message = Bytes::from_static(b"from the newer one");
    newer.send(message.clone()).unwrap();
    assert_eq!(coordinator_gets(&mut coordinator).await, (id("a"), message));
}

#[tokio::test]
async fn a_coordinator_takes_leave_and_comes_back() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let mut site = federation.join("a", address).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    coordinator.disconnect(&id("a"));
    assert_eq!(coordinator_loses(&mut coordinator).await, LinkProblem::Ended);
    assert_eq!(site_loses(&mut site).await, LinkProblem::Ended);
    site_connected(&mut site).await;
    coordinator.close().await;
    site_loses(&mut site).await;
    assert_eq!(site.send(Bytes::new()), Err(SendError::NotConnected));
    let mut coordinator = federation.listen(address, QUICK).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
}
