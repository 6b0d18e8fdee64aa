//! The program's dashboard as a process, and requests to it.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Longest wait for anything: far more than it takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running dashboard; ends with the test.
pub(crate) struct Dashboard {
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
    /// What it said before it was ready.
    pub(crate) said: String,
    /// What it said afterwards, line by line.
    later: Mutex<mpsc::Receiver<String>>,
    results: PathBuf,
}

impl Dashboard {
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_at(folder, "127.0.0.1:0", arguments)
    }

    pub(crate) fn start_at(folder: &Path, listen: &str, arguments: &[&str]) -> Self {
        let program = Command::new(assert_cmd::cargo::cargo_bin!("medfed"));
        Self::run(program, folder, listen, arguments)
    }

    /// A dashboard that may open so many files.
    #[cfg(unix)]
    pub(crate) fn start_with_files(folder: &Path, files: u32) -> Self {
        let mut shell = Command::new("sh");
        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        shell.args(["-c", &limited]).arg(assert_cmd::cargo::cargo_bin!("medfed"));
        Self::run(shell, folder, "127.0.0.1:0", &[])
    }

    fn run(mut program: Command, folder: &Path, listen: &str, arguments: &[&str]) -> Self {
        let mut process = program
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
        let (sender, later) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                // Nobody may want to know.
                let _ = sender.send(line);
            }
        });
        Self { process, address, said, later: Mutex::new(later), results: folder.join("results") }
    }

    /// Sends a request and returns status, head and body.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> (u16, String, String) {
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

    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> u16 {
        self.send("GET", path, headers, "").0
    }

    /// The next line that it says.
    pub(crate) fn next_line(&self) -> String {
        self.later.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    }

    /// Asks for JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, head, body) = self.send("GET", path, &[], "");
        assert_eq!(status, 200, "{path}: {head} {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Sends JSON, or nothing, and returns status and answer.
    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, head, body) = self.send("POST", path, &["Content-Type: application/json"], body);
        let answer = serde_json::from_str(&body);
        (status, answer.unwrap_or_else(|error| panic!("{path}: {error}: {head} {body}")))
    }

    /// Sends what has to be followed.
    pub(crate) fn order(&self, action: &str, body: &str) -> Value {
        let (status, answer) = self.post(&format!("/api/training/{action}"), body);
        assert_eq!((status, &answer["success"]), (200, &Value::Bool(true)), "{action}: {answer}");
        answer["state"].clone()
    }

    /// Where training stands.
    pub(crate) fn state(&self) -> Value {
        self.json("/api/training/status")["state"].clone()
    }

    /// Waits, event by event, until training stands where it should.
    pub(crate) fn wait(&self, until: impl Fn(&Value) -> bool) -> Value {
        let mut events = Events::open(self, &[]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if until(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "still {state}");
            assert!(events.next().is_some(), "the stream ended at {state}");
        }
    }

    /// Waits for a status.
    pub(crate) fn wait_for(&self, status: &str) -> Value {
        self.wait(|state| {
            let found = state["status"].as_str().unwrap();
            assert!(found == status || found != "failed", "{state}");
            found == status
        })
    }

    /// Waits until so many rounds of the newest run are done.
    pub(crate) fn wait_for_rounds(&self, rounds: usize) {
        self.wait(|_| self.rounds() >= rounds);
    }

    /// Rounds of the newest run that are done.
    pub(crate) fn rounds(&self) -> usize {
        self.json("/api/training/round_history")["round_history"].as_array().unwrap().len()
    }

    /// The process that trains.
    pub(crate) fn trainer(&self) -> String {
        medfed_store::writer(&self.results).unwrap().unwrap().to_string()
    }

    /// Gets a path over TLS, trusting one certificate alone, and returns the answer.
    pub(crate) fn over_tls(&self, certificate: &Path, path: &str) -> String {
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
    pub(crate) fn log_in(&self, name: &str) -> String {
        let (status, head, _) = self.form(name, PASSWORD);
        assert_eq!(status, 303, "{head}");
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        format!("Cookie: {}", cookie.split(';').next().unwrap())
    }

    pub(crate) fn form(&self, name: &str, password: &str) -> (u16, String, String) {
        let body = format!("name={name}&password={}&next=%2Fprivacy", password.replace(' ', "+"));
        self.send("POST", "/login", &["Content-Type: application/x-www-form-urlencoded"], &body)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Training goes on without it, and must not outlive the test.
        if let Some(Some(process)) = medfed_store::writer(&self.results) {
            let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
        }
    }
}

/// A stream of events.
pub(crate) struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    /// Opens it and reads the head of the answer.
    pub(crate) fn open(dashboard: &Dashboard, headers: &[&str]) -> Self {
        let mut stream = TcpStream::connect(dashboard.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /api/events HTTP/1.1\r\nConnection: close\r\nHost: {}\r\n", dashboard.address)
            .unwrap();
        for header in headers {
            write!(stream, "{header}\r\n").unwrap();
        }
        stream.write_all(b"\r\n").unwrap();
        let mut events = Self { lines: BufReader::new(stream) };
        let status = events.line().unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        while events.line().is_some_and(|line| !line.is_empty()) {}
        events
    }

    /// The kind of the next event; nothing once the stream has ended.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            if let Some(kind) = self.line()?.strip_prefix("event: ") {
                return Some(kind.to_owned());
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }
}

pub(crate) fn add_user(folder: &Path, name: &str, role: &str) {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .args(["dashboard", "user", "add", name, "--role", role, "--users", "users.json"])
        .current_dir(folder)
        .write_stdin(format!("{PASSWORD}\n"))
        .assert()
        .success();
}

/// Runs `medfed` to its end, which must be a good one, and returns what it printed.
pub(crate) fn medfed(folder: &Path, arguments: &[&str]) -> String {
    let command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .assert()
        .success();
    String::from_utf8(command.get_output().stdout.clone()).unwrap()
}

/// Writes a configuration of a run that is small, with so many rounds of so many steps.
pub(crate) fn configure(folder: &Path, rounds: u32, steps: u32) {
    let text = format!(
        "# A small run.
experiment:
  seed: 5
model:
  channels: [8, 8]
data:
  image_size: 28
  samples_per_client: 60
federated:
  num_rounds: {rounds}  # as many as the test needs
training:
  local_steps: {steps}
"
    );
    std::fs::write(folder.join("config.yaml"), text).unwrap();
}

/// A dashboard whose runs are small.
pub(crate) fn small(folder: &Path, rounds: u32, steps: u32) -> Dashboard {
    configure(folder, rounds, steps);
    Dashboard::start(folder, &["--config", "config.yaml"])
}
