//! Certificates that stop being acceptable, and ones that never were.

use crate::fixture::*;
use bytes::Bytes;
use medfed_net::{
    AuthorityFolder, CertificateProblem, CoordinatorTransport as _, Fingerprint, Holder, LinkProblem, Party,
    SendError, SiteTransport as _, Timing, clock,
};
use std::time::Duration;

#[tokio::test]
async fn a_revocation_takes_effect_in_mid_session_and_without_restart() {
    let federation = Federation::new(&["a", "b"]);
    let mut coordinator = federation.coordinate().await;
    let mut site = federation.join("a", coordinator.address()).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    federation.revoke("a");
    site.send(Bytes::from_static(b"too late")).unwrap();
    assert_eq!(coordinator_loses(&mut coordinator).await, LinkProblem::Peer(CertificateProblem::Revoked));
    assert_eq!(site_loses(&mut site).await, LinkProblem::Own(CertificateProblem::Revoked));
    // Nor does a handshake succeed any more.
    fails_as(&site, |problem| *problem == LinkProblem::Own(CertificateProblem::Revoked)).await;
    // Nor is anything sent to it; others go on.
    assert_eq!(coordinator.send(&id("a"), Bytes::new()), Err(SendError::NotConnected));
    let mut other = federation.join("b", coordinator.address()).await;
    site_connected(&mut other).await;
}

#[tokio::test]
async fn nothing_is_sent_to_a_site_that_was_revoked() {
    let federation = Federation::new(&["a"]);
    let mut coordinator = federation.coordinate().await;
    let mut site = federation.join("a", coordinator.address()).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    federation.revoke("a");
    assert_eq!(coordinator.send(&id("a"), Bytes::from_static(b"model")), Err(SendError::NotConnected));
    assert_eq!(site_loses(&mut site).await, LinkProblem::Own(CertificateProblem::Revoked));
    // Enrolled anew, it is back by itself.
    federation.enrol("a", &days(30), clock::now());
    site_connected(&mut site).await;
}

#[tokio::test]
async fn a_certificate_that_expires_in_mid_session_is_named_and_renewal_heals_it() {
    let federation = Federation::new(&[]);
    let timing = Timing { beat: Duration::from_millis(200), ..QUICK };
    // It ends two seconds from now.
    federation.enrol("a", &days(1), clock::now() - DAY + 2);
    let mut coordinator = federation.listen(([127, 0, 0, 1], 0).into(), timing).await;
    let mut site = federation.join_by("a", route(coordinator.address()), timing).await;
    connected(&mut coordinator, "a").await;
    site_connected(&mut site).await;
    let expired = |problem: &LinkProblem| match problem {
        LinkProblem::Own(problem) | LinkProblem::Peer(problem) => {
            matches!(problem, CertificateProblem::Expired { .. })
        }
        _ => false,
    };
    let seen = coordinator_loses(&mut coordinator).await;
    assert!(expired(&seen), "{seen:?}");
    let seen = site_loses(&mut site).await;
    assert!(expired(&seen), "{seen:?}");
    fails_as(&site, expired).await;
    federation.enrol("a", &days(30), clock::now());
    site_connected(&mut site).await;
    connected(&mut coordinator, "a").await;
}

#[tokio::test]
async fn the_coordinators_renewed_certificate_is_shown_without_restart() {
    let federation = Federation::new(&["a", "b"]);
    let coordinator = federation.coordinate().await;
    let mut first = federation.join("a", coordinator.address()).await;
    site_connected(&mut first).await;
    let holder = federation.coordinator();
    let now = clock::now();
    let request = holder.request(&Party::Coordinator, &["127.0.0.2".to_owned()], false).unwrap();
    let mut authority = federation.authority();
    let renewed = authority.approve(&request, &days(30), now).unwrap();
    holder.install(authority.bundle(&renewed).as_bytes(), None, now).unwrap();
    // The renewed one is for another address: that is how it is recognised.
    let site = federation.join("b", coordinator.address()).await;
    let dialled = "127.0.0.1".to_owned();
    let names = "127.0.0.2".to_owned();
    assert_eq!(fails(&site).await, LinkProblem::Peer(CertificateProblem::WrongHost { dialled, names }));
}

#[tokio::test]
async fn a_clock_that_is_behind_is_named() {
    let federation = Federation::new(&[]);
    federation.enrol("a", &days(30), clock::now() + 2 * 60 * 60);
    let coordinator = federation.coordinate().await;
    let site = federation.join("a", coordinator.address()).await;
    let problem = fails(&site).await;
    assert!(matches!(problem, LinkProblem::Own(CertificateProblem::NotYetValid { .. })), "{problem:?}");
}

#[tokio::test]
async fn a_site_of_another_federation_is_not_let_in_and_does_not_stay() {
    let (ours, theirs) = (Federation::new(&["a"]), Federation::new(&["a"]));
    let coordinator = ours.coordinate().await;
    let site = theirs.join("a", coordinator.address()).await;
    let problem = fails(&site).await;
    assert!(matches!(problem, LinkProblem::Peer(CertificateProblem::WrongAuthority { .. })), "{problem:?}");
}

#[tokio::test]
async fn a_site_that_the_roster_does_not_list_waits_outside() {
    let federation = Federation::new(&["a"]);
    let roster = federation.coordinator_folder().join("roster.json");
    let before = std::fs::read(&roster).unwrap();
    federation.enrol("b", &days(30), clock::now());
    let after = std::fs::read(&roster).unwrap();
    // The coordinator's copy is older than the authority's.
    std::fs::write(&roster, before).unwrap();
    let coordinator = federation.coordinate().await;
    let mut site = federation.join("b", coordinator.address()).await;
    fails_as(&site, |problem| *problem == LinkProblem::Own(CertificateProblem::NotOnRoster)).await;
    std::fs::write(&roster, after).unwrap();
    site_connected(&mut site).await;
}

#[tokio::test]
async fn a_pinned_key_is_the_only_one_that_counts() {
    let federation = Federation::new(&["a"]);
    let coordinator = federation.coordinate().await;
    let found = federation.coordinator().certificate().unwrap().unwrap().fingerprint();
    let mut site = federation.join_by("a", route_by(coordinator.address(), None, Some(found)), QUICK).await;
    site_connected(&mut site).await;
    let expected = Fingerprint::of_key(&[9; 32]);
    let site = federation.join_by("a", route_by(coordinator.address(), None, Some(expected)), QUICK).await;
    assert_eq!(fails(&site).await, LinkProblem::Pinned { expected, found });
}

#[tokio::test]
async fn a_site_cannot_answer_as_a_coordinator() {
    let federation = Federation::new(&["a", "b"]);
    // The site's key and certificate in the place of the coordinator's.
    let folder = tempfile::tempdir().unwrap();
    let from = federation.holder("a");
    for (source, name) in [
        (from.key_file(), "coordinator.key"),
        (from.certificate_file(), "coordinator.crt"),
        (from.authority_file(), "authority.crt"),
        (federation.coordinator_folder().join("crl.pem"), "crl.pem"),
        (federation.coordinator_folder().join("roster.json"), "roster.json"),
    ] {
        std::fs::copy(source, folder.path().join(name)).unwrap();
    }
    let options = medfed_net::CoordinatorOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        spool: folder.path().join("spool"),
        largest_message: LARGEST,
        timing: QUICK,
    };
    let false_one =
        medfed_net::GrpcCoordinator::bind(&Holder::coordinator(folder.path()), options).await.unwrap();
    let site = federation.join("b", false_one.address()).await;
    let problem = fails(&site).await;
    assert!(matches!(problem, LinkProblem::Peer(CertificateProblem::WrongParty { .. })), "{problem:?}");
}

#[tokio::test]
async fn a_damaged_list_of_revocations_lets_nobody_back_in() {
    let federation = Federation::new(&["a"]);
    federation.revoke("a");
    let coordinator = federation.coordinate().await;
    std::fs::write(federation.coordinator_folder().join("crl.pem"), "nothing").unwrap();
    // A list that another authority signed counts as little.
    let site = federation.join("a", coordinator.address()).await;
    fails_as(&site, |problem| *problem == LinkProblem::Own(CertificateProblem::Revoked)).await;
    let other = tempfile::tempdir().unwrap();
    AuthorityFolder::create(other.path(), "Other", 10, clock::now()).unwrap();
    std::fs::copy(other.path().join("crl.pem"), federation.coordinator_folder().join("crl.pem")).unwrap();
    let site = federation.join("a", coordinator.address()).await;
    fails_as(&site, |problem| *problem == LinkProblem::Own(CertificateProblem::Revoked)).await;
}
