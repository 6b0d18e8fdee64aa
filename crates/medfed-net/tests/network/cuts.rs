//! Links that are slow, silent, or cut in the middle of a chunk.

use crate::fixture::*;
use crate::impaired::relay;
use medfed_net::{
    CoordinatorEvent, CoordinatorTransport as _, LinkProblem, SiteEvent, SiteTransport as _, Timing,
};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const LARGE: usize = 20 << 20;
/// What a cut may cost at most: a chunk, what was under way, the handshake and HTTP/2 around it.
const COST: u64 = 3 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_to_the_coordinator_survives_cuts_without_starting_over() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let (address, link) = relay(coordinator.address()).await;
    link.cut_after.store(6_500_000, Relaxed);
    let mut site = federation.join("a", address).await;
    let message = content(LARGE, 3);
    let mut arriving = std::pin::pin!(coordinator_gets(&mut coordinator));
    let (_, bytes) = loop {
        tokio::select! {
            arrived = &mut arriving => break arrived,
            // Whoever uses the transport sends again what was not answered.
            event = site_hears(&mut site) => if matches!(event, SiteEvent::Connected { .. }) {
                site.send(message.clone()).unwrap();
            },
        }
    };
    assert!(bytes == message);
    let (connections, up) = (link.connections.load(Relaxed), link.up.load(Relaxed));
    assert!(connections >= 4, "{connections} connections");
    assert!(up < LARGE as u64 + connections * COST, "{up} bytes over {connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_to_a_site_survives_cuts_without_starting_over() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let (address, link) = relay(coordinator.address()).await;
    link.cut_after.store(6_500_000, Relaxed);
    let mut site = federation.join("a", address).await;
    let message = content(LARGE, 4);
    let mut arriving = std::pin::pin!(site_gets(&mut site));
    let bytes = loop {
        tokio::select! {
            arrived = &mut arriving => break arrived,
            event = coordinator_hears(&mut coordinator) => {
                if matches!(event, CoordinatorEvent::Connected { .. }) {
                    coordinator.send(&id("a"), message.clone()).unwrap();
                }
            }
        }
    };
    assert!(bytes == message);
    let (connections, down) = (link.connections.load(Relaxed), link.down.load(Relaxed));
    assert!(connections >= 4, "{connections} connections");
    assert!(down < LARGE as u64 + connections * COST, "{down} bytes over {connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_coordinator_goes_on_with_what_arrived_before() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let (near, link) = relay(address).await;
    link.bandwidth.store(20 << 20, Relaxed);
    let mut site = federation.join("a", near).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
    let message = content(LARGE, 5);
    site.send(message.clone()).unwrap();
    while link.up.load(Relaxed) < 8 << 20 {
        tokio::task::yield_now().await;
    }
    // Gone without a word, as a killed process is.
    link.cut();
    drop(coordinator);
    site_loses(&mut site).await;
    let before = link.up.load(Relaxed);
    link.bandwidth.store(0, Relaxed);
    let mut coordinator = federation.coordinate_again(address).await;
    site_connected(&mut site).await;
    site.send(message.clone()).unwrap();
    assert!(coordinator_gets(&mut coordinator).await.1 == message);
    let again = link.up.load(Relaxed) - before;
    assert!(again < LARGE as u64 + COST - (8 << 20) + COST, "{again} bytes after the restart");
}

#[tokio::test]
async fn a_slow_link_with_delay_carries_a_message() {
    let federation = Federation::new(&["a"]);
    let timing = Timing { beat: Duration::from_millis(1200), ..QUICK };
    let mut coordinator = federation.listen(([127, 0, 0, 1], 0).into(), timing).await;
    let (address, link) = relay(coordinator.address()).await;
    link.delay_ms.store(20, Relaxed);
    link.bandwidth.store(200_000, Relaxed);
    let mut site = federation.join_by("a", route(address), timing).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
    // Longer under way than three beats: a slow site is no silent one.
    let message = content(900_000, 6);
    site.send(message.clone()).unwrap();
    assert!(coordinator_gets(&mut coordinator).await.1 == message);
    let message = content(150_000, 7);
    coordinator.send(&id("a"), message.clone()).unwrap();
    assert!(site_gets(&mut site).await == message);
    assert_eq!(link.connections.load(Relaxed), 1);
}

#[tokio::test]
async fn a_silent_link_is_noticed_by_both_sides_and_comes_back() {
    let federation = Federation::new(&["a"]);
    let timing = Timing { beat: Duration::from_millis(60), step: Duration::from_millis(500), ..QUICK };
    let mut coordinator = federation.listen(([127, 0, 0, 1], 0).into(), timing).await;
    let (address, link) = relay(coordinator.address()).await;
    let mut site = federation.join_by("a", route(address), timing).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
    link.silent.store(true, Relaxed);
    assert!(matches!(site_loses(&mut site).await, LinkProblem::TimedOut { .. }));
    let lost = coordinator_loses(&mut coordinator).await;
    assert!(
        matches!(lost, LinkProblem::TimedOut { .. } | LinkProblem::Broken { .. } | LinkProblem::Ended),
        "{lost:?}"
    );
    fails_as(&site, |problem| matches!(problem, LinkProblem::TimedOut { .. })).await;
    link.silent.store(false, Relaxed);
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
}
