//! From an address to an encrypted connection, one step after another, each with its own problem.

use crate::address::{CoordinatorAddress, Proxy};
use crate::certificate::{Certificate, CertificateProblem};
use crate::clock;
use crate::fingerprint::Fingerprint;
use crate::pki::Identity;
use crate::problem::LinkProblem;
use crate::tls::client::{self, Seen};
use crate::tls::watched::{Cause, Fault, Watched};
use rustls::AlertDescription;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// Bytes of a proxy's answer at most.
const ANSWER: usize = 8 << 10;

/// How to reach the coordinator.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where it is.
    pub address: CoordinatorAddress,
    /// The proxy on the way.
    pub proxy: Option<Proxy>,
    /// Fingerprint of the key that it must have, besides a certificate of the authority.
    pub pinned: Option<Fingerprint>,
}

/// A connection, with what its handshake has shown.
pub(crate) struct Dialled {
    pub(crate) stream: Watched<TlsStream<TcpStream>>,
    pub(crate) fault: Fault,
    pub(crate) coordinator: Certificate,
}

/// Addresses of a host.
pub(crate) async fn resolve(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, LinkProblem> {
    let unknown = |detail: String| LinkProblem::Name { host: host.to_owned(), detail };
    let found = timeout(limit, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| timed_out("resolving the name", limit))?
        .map_err(|error| unknown(error.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(found) }
}

/// A TCP connection to the coordinator, through the proxy where there is one.
pub(crate) async fn connect(route: &Route, limit: Duration) -> Result<TcpStream, LinkProblem> {
    let (host, port) = match &route.proxy {
        Some(proxy) => (proxy.host(), proxy.port()),
        None => (route.address.host(), route.address.port()),
    };
    let addresses = resolve(host, port, limit).await?;
    let mut problem = None;
    for address in addresses {
        let stream = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                problem = Some(LinkProblem::Unreachable {
                    address: address.to_string(),
                    detail: error.to_string(),
                });
                continue;
            }
            Err(_) => {
                problem = Some(timed_out("connecting", limit));
                continue;
            }
        };
        prepare(&stream);
        return match &route.proxy {
            None => Ok(stream),
            Some(proxy) => timeout(limit, through(stream, proxy, &route.address))
                .await
                .map_err(|_| timed_out("asking the proxy", limit))?,
        };
    }
    Err(problem.expect("a name that resolves has an address"))
}

/// Small messages leave at once, and a peer that is gone is noticed.
pub(crate) fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("an option was not set: {error}");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, 60_000) {
        tracing::debug!("an option was not set: {error}");
    }
}

/// Asks a proxy for the connection.
async fn through(
    mut stream: TcpStream,
    proxy: &Proxy,
    address: &CoordinatorAddress,
) -> Result<TcpStream, LinkProblem> {
    let failed = |detail: String| LinkProblem::Proxy {
        proxy: proxy.to_string(),
        address: address.to_string(),
        detail,
    };
    stream.write_all(proxy.request(address).as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to TLS.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= ANSWER {
            return Err(failed("its answer is too long".to_owned()));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Err(failed("it closed the connection".to_owned())),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    let text = String::from_utf8_lossy(&head);
    let line: String =
        text.lines().next().unwrap_or_default().chars().filter(|it| !it.is_control()).collect();
    let mut words = line.splitn(3, ' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match code.parse::<u16>() {
        Ok(200..=299) if version.starts_with("HTTP/1.") => Ok(stream),
        Ok(407) => {
            Err(failed("it wants a user and a password: --proxy http://USER:PASSWORD@HOST:PORT".to_owned()))
        }
        _ => Err(failed(format!("it answered {line:?}"))),
    }
}

/// The handshake. What the other side's certificate was is told also when it fails.
pub(crate) async fn handshake(
    stream: TcpStream,
    identity: &Identity,
    route: &Route,
    limit: Duration,
) -> (Result<Dialled, LinkProblem>, Seen) {
    let (config, verifier) = match client::config(identity, route.pinned) {
        Ok(made) => made,
        Err(error) => return (Err(LinkProblem::Tls { detail: error.to_string() }), Seen::default()),
    };
    let connected =
        timeout(limit, TlsConnector::from(Arc::new(config)).connect(route.address.server_name(), stream))
            .await;
    let seen = verifier.seen();
    let result = match connected {
        Err(_) => Err(timed_out("shaking hands", limit)),
        Ok(Err(error)) => Err(seen.problem.clone().unwrap_or_else(|| broken_handshake(&error, identity))),
        Ok(Ok(stream)) => match seen.accepted.clone() {
            Some(coordinator) => {
                let fault = Fault::default();
                let stream = Watched::new(stream, fault.clone(), CancellationToken::new());
                Ok(Dialled { stream, fault, coordinator })
            }
            None => Err(LinkProblem::Peer(CertificateProblem::Missing)),
        },
    };
    (result, seen)
}

fn broken_handshake(error: &std::io::Error, identity: &Identity) -> LinkProblem {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => tls_problem(tls, identity.certificate(), identity.authority().name()),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => LinkProblem::Tls {
            detail: "the other side closed the connection during the handshake".to_owned(),
        },
        None => LinkProblem::Broken { detail: error.to_string() },
    }
}

/// The problem behind the first fault of a connection.
pub(crate) fn fault_problem(fault: &Fault, own: &Certificate, authority: &str) -> Option<LinkProblem> {
    match fault.cause()? {
        Cause::Tls(error) => Some(tls_problem(&error, own, authority)),
        Cause::Io(detail) => Some(LinkProblem::Broken { detail }),
    }
}

/// What an alert of the coordinator says about our own certificate.
fn tls_problem(error: &rustls::Error, own: &Certificate, authority: &str) -> LinkProblem {
    let rustls::Error::AlertReceived(alert) = error else {
        return LinkProblem::Tls { detail: error.to_string() };
    };
    LinkProblem::Own(match alert {
        AlertDescription::CertificateExpired => match own.in_time(clock::now()) {
            Err(problem) => problem,
            Ok(()) => CertificateProblem::Refused {
                detail: format!(
                    "by its clock it is not valid, by ours it is (until {})",
                    crate::certificate::date(own.not_after())
                ),
            },
        },
        AlertDescription::CertificateRevoked => CertificateProblem::Revoked,
        AlertDescription::UnknownCA => CertificateProblem::WrongAuthority { issuer: authority.to_owned() },
        AlertDescription::AccessDenied => CertificateProblem::NotOnRoster,
        AlertDescription::CertificateRequired => CertificateProblem::Missing,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => {
            CertificateProblem::Refused { detail: format!("it says {alert:?}") }
        }
        other => return LinkProblem::Tls { detail: format!("the other side says {other:?}") },
    })
}

pub(crate) fn timed_out(doing: &'static str, limit: Duration) -> LinkProblem {
    LinkProblem::TimedOut { doing, seconds: limit.as_secs().max(1) }
}
