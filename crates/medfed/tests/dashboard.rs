//! The dashboard over HTTP, against the program itself: who gets in, and who does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "dashboard/audit.rs"]
mod audit;
#[path = "dashboard/config.rs"]
mod config;
#[path = "dashboard/control.rs"]
mod control;
#[path = "dashboard/hostile.rs"]
mod hostile;
#[path = "dashboard/server.rs"]
mod server;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use server::{Dashboard, Events, PASSWORD, add_user, medfed};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn users_read_operators_change_and_the_removed_are_out() {
    let folder = tempfile::tempdir().unwrap();
    add_user(folder.path(), "ada", "operator");
    add_user(folder.path(), "eve", "viewer");
    let dashboard = Dashboard::start(folder.path(), &["--users", "users.json"]);

    let (status, head, _) = dashboard.send("GET", "/privacy?run=1", &[], "");
    assert_eq!(status, 303);
    assert!(head.contains("location: /login?next=/privacy%3Frun%3D1"), "{head}");
    for path in ["/api/data", "/api/training/status", "/api/events", "/metrics"] {
        assert_eq!(dashboard.get(path, &[]), 401, "{path}");
    }
    assert_eq!(dashboard.send("POST", "/api/training/stop", &[], "").0, 401);
    for path in ["/login", "/healthz", "/assets/style.css"] {
        assert_eq!(dashboard.get(path, &[]), 200, "{path}");
    }
    assert_eq!(dashboard.form("ada", "another long password").0, 401);
    assert_eq!(dashboard.form("nobody", PASSWORD).0, 401);

    let (ada, eve) = (dashboard.log_in("ada"), dashboard.log_in("eve"));
    assert_eq!(dashboard.get("/privacy", &[&eve]), 200);
    assert_eq!(dashboard.send("POST", "/api/training/stop", &[&eve], "").0, 403);
    assert_eq!(dashboard.send("POST", "/api/training/stop", &[&ada], "").0, 400, "nothing runs");
    assert_eq!(dashboard.get("/api/data", &["Cookie: medfed=00"]), 401);
    // Base64 of `ada:` and the password, and of `ada:wrong`.
    let basic = "Authorization: Basic YWRhOmNvcnJlY3QgaG9yc2UgYmF0dGVyeSBzdGFwbGU=";
    assert_eq!(dashboard.get("/api/data", &[basic]), 200);
    assert_eq!(dashboard.get("/api/data", &["Authorization: Basic YWRhOndyb25n"]), 401);

    assert_eq!(dashboard.send("POST", "/logout", &[&eve], "").0, 303);
    assert_eq!(dashboard.get("/api/data", &[&eve]), 401);
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .args(["dashboard", "user", "remove", "ada", "--users", "users.json"])
        .current_dir(folder.path())
        .assert()
        .success();
    assert_eq!(dashboard.get("/api/data", &[&ada]), 401);
    assert_eq!(dashboard.get("/api/data", &[basic]), 401);
}

#[test]
fn a_stream_ends_with_its_session_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ada", "eve", "max"] {
        add_user(folder.path(), name, "viewer");
    }
    let dashboard = Dashboard::start(folder.path(), &["--users", "users.json"]);
    let [ada, eve, max] = ["ada", "eve", "max"].map(|name| dashboard.log_in(name));
    let [mut of_ada, mut of_eve, mut of_max] =
        [&ada, &eve, &max].map(|cookie| Events::open(&dashboard, &[cookie]));
    assert_eq!(dashboard.send("POST", "/logout", &[&ada], "").0, 303);
    assert_eq!((of_ada.next().as_deref(), of_ada.next()), (Some("end"), None), "logged out");
    medfed(folder.path(), &["dashboard", "user", "remove", "eve", "--users", "users.json"]);
    assert_eq!((of_eve.next().as_deref(), of_eve.next()), (Some("end"), None), "removed");
    assert_eq!(dashboard.get("/api/data", &[&max]), 200);
    // Another password is another user: the session that knows the old one is over.
    add_user(folder.path(), "max", "operator");
    assert_eq!((of_max.next().as_deref(), of_max.next()), (Some("end"), None), "changed");
    assert_eq!(dashboard.get("/api/events", &[&max]), 401);
}

#[test]
fn users_that_are_added_at_once_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..6).map(|number| format!("user{number}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| add_user(folder.path(), name, "viewer"));
        }
    });
    let listed = medfed(folder.path(), &["dashboard", "user", "list", "--json", "--users", "users.json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
}

#[test]
fn guessing_has_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    add_user(folder.path(), "ada", "viewer");
    let dashboard = Dashboard::start(folder.path(), &["--users", "users.json"]);
    for _ in 0..10 {
        assert_eq!(dashboard.form("ada", "another long password").0, 401);
    }
    let (status, head, _) = dashboard.form("ada", PASSWORD);
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: "), "{head}");
}

#[test]
fn other_sites_other_names_and_other_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start(folder.path(), &["--host-name", "board.example"]);
    let own = format!("Origin: http://{}", dashboard.address);
    let stop = |header: &str| dashboard.send("POST", "/api/training/stop", &[header], "").0;
    assert_eq!(stop(&own), 400, "nothing runs");
    assert_eq!(stop("Origin: https://evil.example"), 403);
    assert_eq!(stop("Sec-Fetch-Site: cross-site"), 403);
    assert_eq!(dashboard.get("/", &["Host: evil.example"]), 403);
    assert_eq!(dashboard.get("/", &["Host: board.example"]), 200);
    std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    for path in [
        "/assets/../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/runs/..%2f../secret.txt",
        "/runs/../../secret.txt",
        "/api/runs/..%2fsecret.txt",
    ] {
        let (status, _, body) = dashboard.send("GET", path, &[], "");
        assert!((400..500).contains(&status) && body != "secret", "{path}: {status}");
    }
    // A head that never ends is cut off, and others are answered meanwhile.
    let mut stream = TcpStream::connect(dashboard.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    // The connection may be reset before all of it is written or the answer is read.
    let _ = stream.write_all(endless.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    let mut half = TcpStream::connect(dashboard.address).unwrap();
    half.write_all(b"GET / HT").unwrap();
    assert_eq!(dashboard.get("/", &[]), 200);
}

#[test]
fn other_addresses_need_users_and_are_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let refused = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .args(["dashboard", "--listen", "0.0.0.0:0", "--users", "users.json"])
        .current_dir(folder.path())
        .assert()
        .code(1);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("users.json holds no user") && said.contains("user add"), "{said}");
    add_user(folder.path(), "ada", "viewer");
    let arguments = ["--users", "users.json"];
    let mut dashboard = Dashboard::start_at(folder.path(), "0.0.0.0:0", &arguments);
    assert!(dashboard.said.contains("https://"), "{}", dashboard.said);
    // A request without TLS gets no answer of HTTP.
    let mut stream = TcpStream::connect(("127.0.0.1", dashboard.address.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The connection may be reset.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    assert!(dashboard.process.try_wait().unwrap().is_none());
    let answer = dashboard.over_tls(&folder.path().join("dashboard/tls-cert.pem"), "/login");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Log in"), "{answer}");
    let answer = dashboard.over_tls(&folder.path().join("dashboard/tls-cert.pem"), "/api/data");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");

    // The certificate's fingerprint is what was printed, and a certificate can be given.
    let certificate = CertificateDer::from_pem_file(folder.path().join("dashboard/tls-cert.pem")).unwrap();
    let digits = Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>();
    let certificate = ["--tls-cert", "dashboard/tls-cert.pem", "--tls-key", "dashboard/tls-key.pem"];
    let given = Dashboard::start(folder.path(), &certificate);
    for printed in [dashboard.next_line(), given.next_line()] {
        assert_eq!(printed, format!("certificate, SHA-256: {}", digits.join(":")));
    }
    let answer = given.over_tls(&folder.path().join("dashboard/tls-cert.pem"), "/api/data");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let swapped = ["--tls-cert", "dashboard/tls-key.pem", "--tls-key", "dashboard/tls-key.pem"];
    let refused = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .arg("dashboard")
        .args(swapped)
        .current_dir(folder.path())
        .assert()
        .code(1);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("tls-key.pem holds no certificate in PEM") && said.contains("hint: "), "{said}");
}
