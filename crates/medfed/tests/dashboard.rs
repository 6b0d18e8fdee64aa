//! The dashboard over HTTP, against the program itself: who gets in, and who does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const PASSWORD: &str = "correct horse battery staple";

/// A running dashboard; ends with the test.
struct Dashboard {
    process: Child,
    address: SocketAddr,
    /// What it said before it was ready.
    said: String,
}

impl Dashboard {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_at(folder, "127.0.0.1:0", arguments)
    }

    fn start_at(folder: &Path, listen: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
            .args(["dashboard", "--listen", listen, "--results", "results"])
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let from = said.len();
            assert!(lines.read_line(&mut said).unwrap() > 0, "the dashboard ended: {said}");
            if let Some((_, rest)) = said[from..].split_once("://") {
                break rest.split_once('/').unwrap().0.parse().unwrap();
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { process, address, said }
    }

    /// Sends a request and returns status, head and body.
    fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nConnection: close\r\n").unwrap();
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            write!(stream, "Host: {}\r\n", self.address).unwrap();
        }
        for header in headers {
            write!(stream, "{header}\r\n").unwrap();
        }
        write!(stream, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
    }

    fn get(&self, path: &str, headers: &[&str]) -> u16 {
        self.send("GET", path, headers, "").0
    }

    /// Gets a path over TLS, trusting one certificate alone, and returns the answer.
    fn over_tls(&self, certificate: &Path, path: &str) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap());
        let port = self.address.port();
        let mut stream =
            rustls::StreamOwned::new(connection.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
        stream.sock.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // The end may come without TLS's own farewell.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Logs in and returns the header with the cookie.
    fn log_in(&self, name: &str) -> String {
        let (status, head, _) = self.form(name, PASSWORD);
        assert_eq!(status, 303, "{head}");
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        format!("Cookie: {}", cookie.split(';').next().unwrap())
    }

    fn form(&self, name: &str, password: &str) -> (u16, String, String) {
        let body = format!("name={name}&password={}&next=%2Fprivacy", password.replace(' ', "+"));
        self.send("POST", "/login", &["Content-Type: application/x-www-form-urlencoded"], &body)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn add_user(folder: &Path, name: &str, role: &str) {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .args(["dashboard", "user", "add", name, "--role", role, "--users", "users.json"])
        .current_dir(folder)
        .write_stdin(format!("{PASSWORD}\n"))
        .assert()
        .success();
}

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
}
