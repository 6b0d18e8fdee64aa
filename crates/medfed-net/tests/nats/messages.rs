//! A broker that works.

use crate::broker::{Broker, at};
use crate::fixture::*;
use bytes::Bytes;
use medfed_net::nats::{Kept, NatsCoordinator, NatsCoordinatorOptions};
use medfed_net::{
    CertificateProblem, CoordinatorTransport as _, LinkProblem, NetError, SendError, SiteTransport as _,
};
use std::collections::BTreeMap;

#[tokio::test]
async fn messages_of_every_size_arrive_in_order_both_ways() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["St. Märy"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut site = broker.join(&federation, "St. Märy");
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
async fn a_message_of_20_mb_arrives_both_ways_and_nothing_of_it_stays_at_the_broker() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut site = broker.join(&federation, "a");
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
    let (up, down) = (content(20 << 20, 3), content(20 << 20, 4));
    site.send(up.clone()).unwrap();
    assert!(coordinator_gets(&mut coordinator).await.1 == up);
    coordinator.send(&id("a"), down.clone()).unwrap();
    assert!(site_gets(&mut site).await == down);
    // Everything before has been settled when this one is here.
    site.send(Bytes::new()).unwrap();
    coordinator_gets(&mut coordinator).await;
    let jetstream = async_nats::jetstream::new(broker.client().await);
    let name = coordinator.federation().stream();
    let mut objects = jetstream.get_stream(format!("OBJ_{name}")).await.unwrap();
    assert!(objects.info().await.unwrap().state.bytes < 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_sites_exchange_a_model() {
    let Some(broker) = Broker::start() else { return };
    let names: Vec<String> = (0..30).map(|number| format!("site-{number}")).collect();
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    let federation = Federation::new(&named);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut sites: BTreeMap<_, _> =
        names.iter().map(|name| (id(name), broker.join(&federation, name))).collect();
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
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut older = broker.join(&federation, "a");
    connected(&mut coordinator, "a").await;
    site_connected(&mut older).await;
    let mut newer = broker.join(&federation, "a");
    assert_eq!(site_loses(&mut older).await, LinkProblem::Replaced);
    drop(older);
    site_connected(&mut newer).await;
    let message = Bytes::from_static(b"from the newer one");
    newer.send(message.clone()).unwrap();
    assert_eq!(coordinator_gets(&mut coordinator).await, (id("a"), message));
}

#[tokio::test]
async fn a_coordinator_takes_leave_and_comes_back() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut site = broker.join(&federation, "a");
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    coordinator.disconnect(&id("a"));
    assert_eq!(coordinator_loses(&mut coordinator).await, LinkProblem::Ended);
    assert_eq!(site_loses(&mut site).await, LinkProblem::Ended);
    site_connected(&mut site).await;
    coordinator.close().await;
    site_loses(&mut site).await;
    assert_eq!(site.send(Bytes::new()), Err(SendError::NotConnected));
    let mut coordinator = broker.coordinate(&federation).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
}

#[tokio::test]
async fn a_revoked_site_is_told_and_gets_nothing_more() {
    let Some(broker) = Broker::start() else { return };
    let federation = Federation::new(&["a"]);
    let mut coordinator = broker.coordinate(&federation).await;
    let mut site = broker.join(&federation, "a");
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    federation.revoke("a");
    assert_eq!(coordinator.send(&id("a"), Bytes::new()), Err(SendError::NotConnected));
    let revoked = CertificateProblem::Revoked;
    assert_eq!(coordinator_loses(&mut coordinator).await, LinkProblem::Peer(revoked.clone()));
    assert_eq!(site_loses(&mut site).await, LinkProblem::Own(revoked.clone()));
    fails_as(&site, |problem| *problem == LinkProblem::Own(CertificateProblem::Revoked)).await;
}

#[tokio::test]
async fn a_broker_with_tls_is_known_by_its_authority() {
    let broker = Broker::start_with(|folder| {
        let (authority_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(parameters, authority_key);
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        let file = |name: &str| folder.join(name).display().to_string();
        std::fs::write(file("authority.crt"), authority.pem()).unwrap();
        std::fs::write(file("broker.crt"), certificate.pem()).unwrap();
        std::fs::write(file("broker.key"), key.serialize_pem()).unwrap();
        let [certificate, key] = ["broker.crt", "broker.key"].map(file);
        ["--tls", "--tlscert", &certificate, "--tlskey", &key].map(str::to_owned).to_vec()
    });
    let Some(broker) = broker else { return };
    let federation = Federation::new(&["a"]);
    let start = async |authorities| {
        let server = format!("tls://localhost:{}", broker.address().port());
        let options = NatsCoordinatorOptions {
            broker: medfed_net::nats::BrokerOptions { server, credentials: None, authorities },
            kept: Kept::default(),
            largest_message: LARGEST,
            timing: QUICK,
        };
        NatsCoordinator::start(&federation.coordinator(), options).await
    };
    let certificate = broker.folder().join("authority.crt");
    start(Some(certificate)).await.map(drop).unwrap();
    assert!(matches!(start(None).await, Err(NetError::Broker { .. })));
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named() {
    let Some(mut broker) = Broker::start() else { return };
    broker.kill();
    let federation = Federation::new(&["a"]);
    let options = NatsCoordinatorOptions {
        broker: at(broker.address()),
        kept: Kept::default(),
        largest_message: LARGEST,
        timing: QUICK,
    };
    let error = NatsCoordinator::start(&federation.coordinator(), options).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), format!("the broker nats://{} cannot be used", broker.address()));
    let site = broker.join(&federation, "a");
    assert!(matches!(fails(&site).await, LinkProblem::Unreachable { .. }));
}
