//! Faults on the way to the coordinator, found and named.

use crate::fixture::*;
use medfed_net::doctor::{Finding, Level, examine};
use medfed_net::{Route, clock};
use rustls::pki_types::PrivateKeyDer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const LIMIT: Duration = Duration::from_secs(10);

fn finding<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.check == check).expect("every check is reported")
}

async fn look(federation: &Federation, site: &str, route: &Route) -> Vec<Finding> {
    let findings = examine(&federation.holder(site), route, LIMIT).await;
    assert_eq!(findings.len(), 8, "{findings:?}");
    findings
}

#[tokio::test]
async fn a_sound_link_has_no_finding() {
    let federation = Federation::new(&["a"]);
    let coordinator = federation.coordinate().await;
    let findings = look(&federation, "a", &route(coordinator.address())).await;
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    let order: Vec<&str> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(order, ["key", "certificate", "name", "proxy", "tcp", "tls", "admission", "clock"]);
    assert!(finding(&findings, "admission").found.ends_with("as site a"));
}

#[tokio::test]
async fn each_fault_is_found_at_its_step() {
    let federation = Federation::new(&["a", "b", "c"]);
    let coordinator = federation.coordinate().await;
    let address = coordinator.address();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let findings = look(&federation, "a", &route(free)).await;
    assert_eq!(finding(&findings, "tcp").level, Level::Failure);
    assert_eq!(finding(&findings, "tls").level, Level::Skipped);
    let nowhere = Route { address: "coordinator.invalid".parse().unwrap(), proxy: None, pinned: None };
    assert_eq!(finding(&look(&federation, "a", &nowhere).await, "name").level, Level::Failure);
    federation.revoke("b");
    let findings = look(&federation, "b", &route(address)).await;
    let admission = finding(&findings, "admission");
    assert_eq!(admission.level, Level::Failure);
    assert!(admission.found.contains("revoked"), "{admission:?}");
    federation.enrol("c", &days(10), clock::now());
    let findings = look(&federation, "c", &route(address)).await;
    assert_eq!(finding(&findings, "certificate").level, Level::Warning);
    std::fs::remove_file(federation.holder("c").key_file()).unwrap();
    let findings = look(&federation, "c", &route(address)).await;
    assert_eq!(finding(&findings, "key").level, Level::Failure);
    assert_eq!(finding(&findings, "tcp").level, Level::Ok);
    let port: SocketAddr = address;
    let wrong =
        Route { address: format!("127.0.0.2:{}", port.port()).parse().unwrap(), proxy: None, pinned: None };
    // Everything on loopback answers, but the certificate is for other addresses; or nothing answers there.
    let findings = look(&federation, "a", &wrong).await;
    assert!(findings.iter().any(|finding| finding.level == Level::Failure), "{findings:?}");
}

#[tokio::test]
async fn a_proxy_that_opens_tls_is_named() {
    let federation = Federation::new(&["a"]);
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Inspecting Gateway");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await;
        }
    });
    let findings = look(&federation, "a", &route(address)).await;
    let tls = finding(&findings, "tls");
    assert_eq!(tls.level, Level::Failure);
    assert!(tls.found.contains("Inspecting Gateway") && tls.hint.contains("inspection"), "{tls:?}");
}
