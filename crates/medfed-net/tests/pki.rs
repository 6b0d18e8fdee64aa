//! Keys, requests, certificates, rosters: in their files, as the commands use them.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use medfed_net::pki::{Approval, Request};
use medfed_net::{
    AuthorityFolder, CertificateProblem, FileError, Fingerprint, Holder, Party, PkiError, Revocations, Roster,
};
use medfed_types::SiteId;
use std::path::Path;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 60 * 60;

fn party(name: &str) -> Party {
    Party::Site(SiteId::try_from(name).unwrap())
}

fn days(valid_days: u32) -> Approval {
    Approval { valid_days, fingerprint: None, replace: false }
}

fn authority(folder: &Path) -> AuthorityFolder {
    AuthorityFolder::create(folder, "Lung federation", 3650, NOW).unwrap()
}

#[test]
fn a_site_is_enrolled_renewed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, site) = (folder.path().join("fed"), Holder::site(&folder.path().join("site")));
    let mut ca = authority(&dir);
    let request = site.request(&party("a"), &[], false).unwrap();
    let read = Request::parse(&std::fs::read(site.request_file()).unwrap()).unwrap();
    assert_eq!(read, request);
    let given = Some(request.fingerprint());
    let certificate = ca.approve(&read, &Approval { fingerprint: given, ..days(365) }, NOW).unwrap();
    assert_eq!((certificate.party(), certificate.fingerprint()), (&party("a"), request.fingerprint()));
    assert_eq!(certificate.not_after(), NOW + 365 * DAY);
    let trusted = Some(ca.authority().fingerprint());
    site.install(ca.bundle(&certificate).as_bytes(), trusted, NOW).unwrap();
    let identity = site.load(NOW).unwrap();
    assert_eq!(identity.certificate(), &certificate);
    // The same key asks again: the same request, the same fingerprint, a newer certificate.
    let again = site.request(&party("a"), &[], false).unwrap();
    assert_eq!(again.fingerprint(), request.fingerprint());
    let renewed = ca.approve(&again, &days(365), NOW + 300 * DAY).unwrap();
    site.install(ca.bundle(&renewed).as_bytes(), None, NOW + 300 * DAY).unwrap();
    assert!(site.load(NOW + 400 * DAY).is_ok());
    assert_eq!(ca.revoke(&party("a"), NOW + 1).unwrap(), 2);
    assert_eq!(ca.revoke(&party("a"), NOW + 2).unwrap(), 0);
    let roster = Roster::read(&dir.join("roster.json")).unwrap();
    assert_eq!(&roster, ca.roster());
    assert!(roster.entries().iter().all(|entry| entry.revoked == Some(NOW + 1)));
    let list = Revocations::parse(&std::fs::read(dir.join("crl.pem")).unwrap(), ca.authority()).unwrap();
    assert_eq!((list.len(), list.contains(&certificate), list.made()), (2, true, NOW + 2));
    let verified = ca.authority().verify(certificate.der(), NOW, Some(&list));
    assert_eq!(verified, Err(CertificateProblem::Revoked));
    drop(ca);
    assert_eq!(AuthorityFolder::open(&dir).unwrap().roster(), &roster);
}

#[test]
fn a_key_is_exchanged_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, site) = (folder.path().join("fed"), Holder::site(&folder.path().join("site")));
    let mut ca = authority(&dir);
    let first = ca.approve(&site.request(&party("a"), &[], false).unwrap(), &days(30), NOW).unwrap();
    site.install(ca.bundle(&first).as_bytes(), None, NOW).unwrap();
    let request = site.request(&party("a"), &[], true).unwrap();
    assert_ne!(request.fingerprint(), first.fingerprint());
    // Until its certificate is there the old one works.
    assert!(site.load(NOW).is_ok());
    let refused = ca.approve(&request, &days(30), NOW);
    assert!(matches!(refused, Err(PkiError::NameTaken { .. })));
    let second = ca.approve(&request, &Approval { replace: true, ..days(30) }, NOW).unwrap();
    site.install(ca.bundle(&second).as_bytes(), None, NOW).unwrap();
    let identity = site.load(NOW).unwrap();
    assert_eq!(identity.certificate(), &second);
    assert!(!ca.roster().admits(&first) && ca.roster().admits(&second));
    // What was replaced cannot come back.
    assert!(matches!(site.install(ca.bundle(&first).as_bytes(), None, NOW), Err(PkiError::OtherKey { .. })));
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, site) = (folder.path().join("fed"), Holder::site(&folder.path().join("site")));
    let mut ca = authority(&dir);
    let mut other = authority(&folder.path().join("other"));
    let request = site.request(&party("a"), &[], false).unwrap();
    let wrong = Fingerprint::of_key(&[1; 32]);
    let refused = ca.approve(&request, &Approval { fingerprint: Some(wrong), ..days(9) }, NOW);
    assert!(matches!(refused, Err(PkiError::OtherRequest { .. })));
    assert!(matches!(ca.approve(&request, &days(5000), NOW), Err(PkiError::TooLong { .. })));
    assert!(ca.roster().entries().is_empty());
    let certificate = ca.approve(&request, &days(9), NOW).unwrap();
    let bundle = ca.bundle(&certificate);
    // Not the authority whose fingerprint was told.
    let refused = site.install(bundle.as_bytes(), Some(other.authority().fingerprint()), NOW);
    assert!(matches!(refused, Err(PkiError::OtherAuthority { .. })));
    // The authority's certificate is missing, on a first install.
    assert!(matches!(
        site.install(certificate.pem().as_bytes(), None, NOW),
        Err(PkiError::Certificate { .. })
    ));
    // Expired, and not yet valid.
    for (now, expired) in [(NOW + 10 * DAY, true), (NOW - DAY, false)] {
        match site.install(bundle.as_bytes(), None, now) {
            Err(PkiError::Certificate { problem: CertificateProblem::Expired { .. }, .. }) => {
                assert!(expired);
            }
            Err(PkiError::Certificate { problem: CertificateProblem::NotYetValid { .. }, .. }) => {
                assert!(!expired);
            }
            result => panic!("{result:?}"),
        }
    }
    assert_eq!(site.certificate().unwrap(), None);
    site.install(bundle.as_bytes(), None, NOW).unwrap();
    // Another authority, which certified the same key.
    let theirs = other.approve(&request, &days(9), NOW).unwrap();
    let refused = site.install(other.bundle(&theirs).as_bytes(), None, NOW);
    assert!(matches!(refused, Err(PkiError::OtherAuthority { .. })));
    // Another name in the same folder, another key for the same name.
    assert!(matches!(site.request(&party("b"), &[], false), Err(PkiError::OtherParty { .. })));
    let thief = Holder::site(&folder.path().join("thief"));
    let stolen = ca.approve(&thief.request(&party("a"), &[], false).unwrap(), &days(9), NOW);
    assert!(matches!(stolen, Err(PkiError::NameTaken { .. })));
    match ca.revoke(&party("z"), NOW) {
        Err(PkiError::Unknown { known, .. }) => assert_eq!(known, ["a"]),
        result => panic!("{result:?}"),
    }
    assert!(matches!(AuthorityFolder::create(&folder.path().join("none"), "x", 1, NOW).map(drop), Ok(())));
    drop(ca);
    assert!(matches!(AuthorityFolder::create(&dir, "x", 1, NOW).map(drop), Err(PkiError::Exists { .. })));
    let nowhere = AuthorityFolder::open(&folder.path().join("nowhere")).map(drop);
    assert!(matches!(nowhere, Err(PkiError::File(FileError::Missing { .. }))));
}

#[test]
fn certificates_are_for_their_party_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("fed");
    let mut ca = authority(&dir);
    let coordinator = Holder::coordinator(&dir);
    let hosts = ["fed.example".to_owned(), "192.0.2.7".to_owned(), "2001:db8::7".to_owned()];
    let request = coordinator.request(&Party::Coordinator, &hosts, false).unwrap();
    let certificate = ca.approve(&request, &days(9), NOW).unwrap();
    assert_eq!(certificate.hosts(), hosts);
    for host in ["", "a b", "https://fed.example", "fed.example:443", "*"] {
        let refused = coordinator.request(&Party::Coordinator, &[host.to_owned()], false);
        assert!(matches!(refused, Err(PkiError::Host { .. })), "{host}");
    }
    let site = Holder::site(&folder.path().join("site"));
    let made = site.request(&party("a"), &["fed.example".to_owned()], false).unwrap();
    // What a site wrote into its request is refused where it is read.
    let read = Request::parse(&std::fs::read(site.request_file()).unwrap());
    assert!(matches!(read, Err(PkiError::Request { .. })), "{made:?}");
    // The authority's own certificate is nobody's.
    let pem = std::fs::read(dir.join("authority.crt")).unwrap();
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap();
    let der: rustls::pki_types::CertificateDer<'static> = der;
    assert!(ca.authority().verify(&der, NOW, None).is_err());
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("fed");
    let site = Holder::site(&folder.path().join("site"));
    let mut ca = authority(&dir);
    let request = site.request(&party("a"), &[], false).unwrap();
    let certificate = ca.approve(&request, &days(9), NOW).unwrap();
    let csr = std::fs::read(site.request_file()).unwrap();
    let der = certificate.der().to_vec();
    // No byte of a certificate can be changed.
    for place in 0..der.len() {
        let mut changed = der.clone();
        changed[place] ^= 1 << (place % 8);
        assert!(ca.authority().verify(&changed, NOW, None).is_err(), "byte {place}");
    }
    for end in 0..der.len() {
        assert!(ca.authority().verify(&der[..end], NOW, None).is_err());
    }
    // No character of a request can, unless it means the same.
    for place in 0..csr.len() {
        let mut changed = csr.clone();
        changed[place] ^= 1;
        if let Ok(read) = Request::parse(&changed) {
            assert_eq!(read, request, "character {place}");
        }
    }
    let list = std::fs::read(dir.join("crl.pem")).unwrap();
    for place in 0..list.len() {
        let mut changed = list.clone();
        changed[place] ^= 2;
        if let Ok(read) = Revocations::parse(&changed, ca.authority()) {
            assert!(read.is_empty(), "character {place}");
        }
    }
    let roster = dir.join("roster.json");
    std::fs::write(&roster, "{\"version\":2,\"entries\":[]}").unwrap();
    assert!(matches!(Roster::read(&roster), Err(PkiError::Roster { .. })));
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("fed");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    drop(authority(&dir));
    assert_eq!(mode(&dir.join("authority")), 0o700);
    assert_eq!(mode(&dir.join("authority/authority.key")), 0o600);
    let site = Holder::site(&folder.path().join("site"));
    site.request(&party("a"), &[], false).unwrap();
    assert_eq!(mode(site.folder()), 0o700);
    assert_eq!(mode(&site.key_file()), 0o600);
    std::fs::set_permissions(site.key_file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = site.request(&party("a"), &[], false);
    assert!(matches!(refused, Err(PkiError::File(FileError::Open { mode: 0o640, .. }))));
    let text = std::fs::read_to_string(dir.join("authority/authority.key")).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
}
