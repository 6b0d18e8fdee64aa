//! Peers that mean harm: strangers, and sites with a valid certificate.

use crate::fixture::*;
use crate::wire::federation_client::FederationClient;
use crate::wire::{self, coordinator_frame, site_frame};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use medfed_net::{
    CoordinatorEvent, CoordinatorTransport as _, LinkProblem, SiteTransport as _, Timing, clock,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

type Client = FederationClient<Channel>;

fn tls(
    federation: &Federation,
    site: Option<&str>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ClientConfig {
    let mut roots = RootCertStore::empty();
    let authority = federation.coordinator_folder().join("authority.crt");
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match site {
        None => builder.with_no_client_auth(),
        Some(site) => {
            let holder = federation.holder(site);
            let chain = vec![CertificateDer::from_pem_file(holder.certificate_file()).unwrap()];
            let key = PrivateKeyDer::from_pem_file(holder.key_file()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn shake(config: rustls::ClientConfig, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A client of a site that keeps to no rule.
async fn client(federation: &Federation, site: &str, address: SocketAddr) -> Client {
    let stream = shake(tls(federation, Some(site), &[&rustls::version::TLS13]), address).await.unwrap();
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.take();
        async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    FederationClient::new(channel).max_encoding_message_size(64 << 20)
}

struct Talk {
    frames: mpsc::Sender<wire::SiteFrame>,
    inbound: Streaming<wire::CoordinatorFrame>,
}

impl Talk {
    async fn begin(client: &mut Client, first: site_frame::Content) -> Result<Self, Status> {
        let (frames, outgoing) = mpsc::channel(8);
        frames.send(wire::SiteFrame { content: Some(first) }).await.unwrap();
        let inbound = client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { frames, inbound })
    }

    async fn say(&self, content: Option<site_frame::Content>) {
        let _ = self.frames.send(wire::SiteFrame { content }).await;
    }

    /// What it is told in the end.
    async fn end(&mut self) -> Status {
        loop {
            match self.inbound.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

fn hello(protocol: u32) -> site_frame::Content {
    site_frame::Content::Hello(wire::Hello { protocol, program: "\u{1b}[2Jevil\n".to_owned() })
}

fn name(content: &[u8]) -> wire::Blob {
    wire::Blob { sha256: Sha256::digest(content).to_vec().into(), length: content.len() as u64 }
}

fn chunk(blob: Option<wire::Blob>, offset: u64, data: &[u8]) -> wire::BlobChunk {
    let begin = blob.map(|blob| wire::BlobRange { blob: Some(blob), offset });
    wire::BlobChunk { begin, data: Bytes::copy_from_slice(data) }
}

#[tokio::test]
async fn strangers_get_nowhere_and_sites_go_on() {
    let (federation, other) = (Federation::new(&["a"]), Federation::new(&["a"]));
    let mut coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let both = [&rustls::version::TLS13, &rustls::version::TLS12];
    // Nobody's certificate: the coordinator's alert comes after the handshake of TLS 1.3.
    let mut stream = shake(tls(&federation, None, &both), address).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    // Another authority's certificate, with a site's name that exists.
    let mut config = tls(&other, Some("a"), &both);
    let mut trusting = tls(&federation, None, &both);
    trusting.client_auth_cert_resolver = config.client_auth_cert_resolver.clone();
    config = trusting;
    let mut stream = shake(config, address).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("UnknownCA"), "{error}");
    // An older TLS.
    assert!(shake(tls(&federation, Some("a"), &[&rustls::version::TLS12]), address).await.is_err());
    // Garbage instead of a handshake.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&content(100_000, 9)).await.ok();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    let mut site = federation.join("a", address).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_keep_nobody_out() {
    let federation = Federation::new(&["a"]);
    let timing = Timing { step: Duration::from_secs(20), ..QUICK };
    let mut coordinator = federation.listen(([127, 0, 0, 1], 0).into(), timing).await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(TcpStream::connect(coordinator.address()).await.unwrap());
    }
    let mut site = federation.join("a", coordinator.address()).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
    // Those that waited longest were ended to make room.
    let ended = tokio::time::timeout(Duration::from_secs(10), idle[0].read_u8()).await.unwrap();
    assert!(ended.is_err());
}

#[tokio::test]
async fn a_handshake_has_to_end_in_time() {
    let federation = Federation::new(&["a"]);
    let timing = Timing { step: Duration::from_millis(200), ..QUICK };
    let coordinator = federation.listen(([127, 0, 0, 1], 0).into(), timing).await;
    let mut stream = TcpStream::connect(coordinator.address()).await.unwrap();
    // The beginning of a client's hello.
    stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await.unwrap();
    assert!(ended.is_err());
}

#[tokio::test]
async fn a_site_cannot_hold_many_connections() {
    let federation = Federation::new(&["a", "b"]);
    let mut coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let config = tls(&federation, Some("a"), &[&rustls::version::TLS13]);
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(shake(config.clone(), address).await.unwrap());
    }
    // Settings of HTTP/2 arrive, then nothing more: it was cut.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), streams[0].read_to_end(&mut rest)).await.unwrap();
    let mut site = federation.join("b", address).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "b").await;
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_and_cut() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let beat = || site_frame::Content::Beat(wire::Beat {});
    let large = || site_frame::Content::Message(content(100_000, 1));
    let huge = || site_frame::Content::Message(content(3 << 20, 1));
    let blob = |length: u64, digest: usize| {
        site_frame::Content::Blob(wire::Blob { sha256: vec![1; digest].into(), length })
    };
    let cases: [(&str, Option<site_frame::Content>, Code); 8] = [
        ("a second hello", Some(hello(1)), Code::InvalidArgument),
        ("an empty frame", None, Code::InvalidArgument),
        ("a message larger than a frame", Some(large()), Code::ResourceExhausted),
        ("a frame larger than any", Some(huge()), Code::InvalidArgument),
        ("a blob that was not put", Some(blob(100_000, 32)), Code::InvalidArgument),
        ("a blob that is too large", Some(blob(u64::MAX, 32)), Code::ResourceExhausted),
        ("a blob that is no blob", Some(blob(10, 32)), Code::InvalidArgument),
        ("a hash that is none", Some(blob(100_000, 31)), Code::InvalidArgument),
    ];
    for (what, frame, code) in cases {
        let mut client = client(&federation, "a", address).await;
        let mut talk = Talk::begin(&mut client, hello(1)).await.unwrap();
        talk.say(frame).await;
        let status = talk.end().await;
        assert_eq!(status.code(), code, "{what}: {status}");
        connected(&mut coordinator, "a").await;
        coordinator_loses(&mut coordinator).await;
    }
    let mut client = client(&federation, "a", address).await;
    let status = Talk::begin(&mut client, beat()).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = Talk::begin(&mut client, hello(2)).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
}

#[tokio::test]
async fn blobs_are_what_was_announced_and_within_the_quota() {
    let federation = Federation::new(&["a", "b"]);
    let mut coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let mut client = client(&federation, "a", address).await;
    let body = content(150_000, 2);
    let putting = client.clone();
    let put = |chunks: Vec<wire::BlobChunk>| {
        let mut client = putting.clone();
        async move { client.put_blob(tokio_stream::iter(chunks)).await.map(|it| it.into_inner().present) }
    };
    let code = |result: Result<u64, Status>| result.map_err(|status| status.code());
    // Too large, not from where it was cut, longer than announced, without a name, empty, another content.
    let too_large = wire::Blob { sha256: vec![1; 32].into(), length: LARGEST + 1 };
    assert_eq!(code(put(vec![chunk(Some(too_large), 0, b"x")]).await), Err(Code::ResourceExhausted));
    assert_eq!(code(put(vec![chunk(Some(name(&body)), 9, &body[9..])]).await), Err(Code::InvalidArgument));
    let mut longer = body.to_vec();
    longer.push(0);
    assert_eq!(code(put(vec![chunk(Some(name(&body)), 0, &longer)]).await), Err(Code::InvalidArgument));
    assert_eq!(code(put(vec![chunk(None, 0, &body)]).await), Err(Code::InvalidArgument));
    assert_eq!(code(put(vec![]).await), Err(Code::InvalidArgument));
    assert_eq!(code(put(vec![chunk(Some(name(&body)), 0, &[])]).await), Err(Code::InvalidArgument));
    let mut changed = body.to_vec();
    changed[70_000] ^= 1;
    assert_eq!(code(put(vec![chunk(Some(name(&body)), 0, &changed)]).await), Err(Code::InvalidArgument));
    // What was cut is there, and no more than that.
    assert_eq!(code(put(vec![chunk(Some(name(&body)), 0, &body[..100_000])]).await), Ok(100_000));
    let present = client.head_blob(name(&body)).await.unwrap().into_inner().present;
    assert_eq!(present, 100_000);
    assert_eq!(code(put(vec![chunk(Some(name(&body)), 100_000, &body[100_000..])]).await), Ok(150_000));
    // What a site was not told of it cannot fetch, whatever others were told of.
    let mut site = federation.join("b", address).await;
    site_connected(&mut site).await;
    connected(&mut coordinator, "b").await;
    let mut talk = Talk::begin(&mut client, hello(1)).await.unwrap();
    connected(&mut coordinator, "a").await;
    let model = content(200_000, 3);
    coordinator.send(&id("b"), model.clone()).unwrap();
    let range = |offset| wire::BlobRange { blob: Some(name(&model)), offset };
    let status = client.get_blob(range(0)).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    coordinator.send(&id("a"), model.clone()).unwrap();
    assert!(client.get_blob(range(0)).await.is_ok());
    assert!(client.get_blob(range(200_000)).await.is_err());
    // The message of a blob counts once it is announced, by the site that put it.
    talk.say(Some(site_frame::Content::Blob(name(&body)))).await;
    assert_eq!(coordinator_gets(&mut coordinator).await, (id("a"), body));
    while let Some(coordinator_frame::Content::Beat(_) | coordinator_frame::Content::Welcome(_)) =
        talk.inbound.message().await.unwrap().unwrap().content
    {}
}

#[tokio::test]
async fn a_revoked_site_gets_no_answer_on_a_connection_that_it_has() {
    let federation = Federation::new(&["a"]);
    let coordinator = federation.coordinate().await;
    let mut client = client(&federation, "a", coordinator.address()).await;
    let answer = client.check(wire::CheckRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.caller, "a");
    assert!(answer.unix_ms.abs_diff(clock::now_ms()) < 60_000);
    federation.revoke("a");
    let status = client.check(wire::CheckRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    let body = content(100_000, 2);
    let put = client.put_blob(tokio_stream::iter([chunk(Some(name(&body)), 0, &body)])).await;
    assert_eq!(put.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn who_sent_a_message_is_decided_by_the_certificate() {
    let federation = Federation::new(&["a", "b"]);
    let mut coordinator = federation.coordinate().await;
    let mut site = federation.join("b", coordinator.address()).await;
    site_connected(&mut site).await;
    // Whatever a message says of itself, it is of the site whose key shook hands.
    site.send(Bytes::from_static(b"from: a")).unwrap();
    let (from, _) = coordinator_gets(&mut coordinator).await;
    assert_eq!(from, id("b"));
}

#[tokio::test]
async fn a_session_without_a_hello_ends() {
    let federation = Federation::new(&["a"]);
    let timing = Timing { step: Duration::from_millis(200), ..QUICK };
    let mut coordinator = federation.listen(([127, 0, 0, 1], 0).into(), timing).await;
    let mut client = client(&federation, "a", coordinator.address()).await;
    let (_frames, outgoing) = mpsc::channel(1);
    let status =
        client.connect(ReceiverStream::<wire::SiteFrame>::new(outgoing)).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    // Nobody was connected.
    let mut site = federation.join("a", coordinator.address()).await;
    site_connected(&mut site).await;
    let first = coordinator_hears(&mut coordinator).await;
    assert!(matches!(first, CoordinatorEvent::Connected { .. }), "{first:?}");
    assert_ne!(site.state().borrow().clone(), medfed_net::LinkState::Connecting { attempt: 1 });
    drop(site);
    let lost = coordinator_loses(&mut coordinator).await;
    assert!(matches!(lost, LinkProblem::Broken { .. } | LinkProblem::Ended), "{lost:?}");
}
