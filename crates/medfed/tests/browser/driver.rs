//! A browser without a window, as a person uses it: Chromium, driven over WebDriver (W3C, level 2).
//!
//! The usual client crates stand on one whose licence this project does not admit; what the tests need of
//! the protocol is small.

use base64::Engine as _;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take until it counts as missing.
const PATIENCE: Duration = Duration::from_mins(1);

/// Milliseconds for a script that waits for something: a page that is left takes its script along unnoticed.
const SCRIPT: u32 = 1000;

/// An open browser, and the driver it belongs to; both end with it.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// A browser; nothing, with the reason on stderr, where none is installed. Under continuous integration
    /// it has to be there.
    pub(crate) fn open() -> Option<Self> {
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = match started {
            Ok(driver) => driver,
            Err(error) => {
                let hint = "install it (Debian: apt-get install chromium chromium-driver)";
                assert!(std::env::var_os("CI").is_none(), "chromedriver cannot be started: {error}; {hint}");
                eprintln!("skipped: chromedriver cannot be started: {error}; {hint}");
                return None;
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped"));
        let mut said = String::new();
        let port = loop {
            let from = said.len();
            let read = lines.read_line(&mut said).expect("chromedriver speaks UTF-8");
            assert!(read > 0, "chromedriver ended: {said}");
            if let Some((_, rest)) = said[from..].split_once("started successfully on port ") {
                break rest.trim().trim_end_matches('.').parse::<u16>().expect("a port is a number");
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let mut browser =
            Self { driver, address: (Ipv4Addr::LOCALHOST, port).into(), session: String::new() };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let wanted = json!({
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
            "acceptInsecureCerts": true,
            "timeouts": { "script": SCRIPT, "pageLoad": 60_000 },
        });
        let opened = browser.send("POST", "", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        let opened = opened.unwrap_or_else(|error| panic!("chromium does not open: {error}"));
        browser.session = format!("/{}", opened["sessionId"].as_str().expect("a session has an id"));
        browser.window(1280, 900);
        Some(browser)
    }

    /// Goes to an address and waits until the page is there.
    pub(crate) fn go(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page and gives what it returns.
    pub(crate) fn script(&self, body: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Runs a script that calls `done` with its result.
    pub(crate) fn asynchronous(&self, body: &str) -> Value {
        let body = format!("const done = arguments[arguments.length - 1]; {body}");
        self.command("/timeouts", &json!({ "script": 120_000 }));
        let result = self.command("/execute/async", &json!({ "script": body, "args": [] }));
        self.command("/timeouts", &json!({ "script": SCRIPT }));
        result
    }

    /// Waits until an expression of the page is true. The page may change meanwhile.
    pub(crate) fn wait(&self, what: &str, condition: &str) {
        let look = format!(
            "const done = arguments[arguments.length - 1], end = performance.now() + 500; \
             (function look() {{ let found = false; try {{ found = Boolean({condition}); }} catch {{}} \
             if (found || performance.now() > end) done(found); else setTimeout(look, 30); }})();"
        );
        let deadline = Instant::now() + PATIENCE;
        let mut failure = String::new();
        while Instant::now() < deadline {
            // A page that is left takes its script along; then the next one is asked.
            match self.send("POST", "/execute/async", &json!({ "script": look, "args": [] })) {
                Ok(Value::Bool(true)) => return,
                Ok(_) => {}
                Err(error) => failure = error,
            }
        }
        panic!("waited in vain for {what}; {failure}\n{}", self.text("body"));
    }

    /// Waits for the parts that a page loads after itself.
    pub(crate) fn wait_for_parts(&self) {
        let loaded =
            "[...document.querySelectorAll('[data-load]')].every((place) => place.querySelector('#loaded'))";
        self.wait("what the page loads afterwards", loaded);
    }

    /// The text of an element as it is shown.
    pub(crate) fn text(&self, css: &str) -> String {
        let element = self.element(css);
        let shown = self.read(&format!("/element/{element}/text"));
        shown.as_str().expect("text is a string").to_owned()
    }

    /// Clicks an element as a person would: what is hidden or covered cannot be clicked.
    pub(crate) fn click(&self, css: &str) {
        let element = self.element(css);
        self.command(&format!("/element/{element}/click"), &json!({}));
    }

    /// Replaces what a field holds.
    pub(crate) fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.command(&format!("/element/{element}/clear"), &json!({}));
        self.command(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses keys one after the other, wherever the focus is. The codes are those of WebDriver.
    pub(crate) fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        self.command(
            "/actions",
            &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }),
        );
    }

    /// The tab that is looked at.
    pub(crate) fn tab(&self) -> String {
        self.read("/window").as_str().expect("a tab has a name").to_owned()
    }

    /// Opens another tab and looks at it.
    pub(crate) fn new_tab(&self) {
        let opened = self.command("/window/new", &json!({ "type": "tab" }));
        self.to_tab(opened["handle"].as_str().expect("a tab has a name"));
    }

    /// Looks at another tab.
    pub(crate) fn to_tab(&self, tab: &str) {
        self.command("/window", &json!({ "handle": tab }));
    }

    /// Says yes to the question of a dialogue.
    pub(crate) fn accept(&self) {
        self.command("/alert/accept", &json!({}));
    }

    /// What went wrong on the pages since the last call, as the console tells it.
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.command("/se/log", &json!({ "type": "browser" }));
        let message = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().into_iter().flatten().map(message).collect()
    }

    /// The size of the window, in CSS pixels; narrow ones are those of a phone.
    pub(crate) fn window(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Whether the system prefers dark pages.
    pub(crate) fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": value });
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// The window as a PNG file.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let taken = self.read("/screenshot");
        let encoded = taken.as_str().expect("a picture is a string");
        base64::engine::general_purpose::STANDARD.decode(encoded).expect("a picture is base64")
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn element(&self, css: &str) -> String {
        // The page that it is on may be on its way.
        let deadline = Instant::now() + PATIENCE;
        let query = json!({ "using": "css selector", "value": css });
        let found = loop {
            match self.send("POST", "/element", &query) {
                Ok(found) => break found,
                Err(error) => assert!(Instant::now() < deadline, "{css} is not there: {error}"),
            }
        };
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.expect("an element has an id").to_owned()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.send("POST", path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    fn read(&self, path: &str) -> Value {
        self.send("GET", path, &Value::Null).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// One command of WebDriver: its value, or its error.
    fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = format!("{method} /session{}{path} HTTP/1.1\r\n", self.session);
        let length = body.len();
        write!(request, "Host: {}\r\nContent-Type: application/json\r\n", self.address).expect("it is text");
        write!(request, "Connection: close\r\nContent-Length: {length}\r\n\r\n{body}").expect("it is text");
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(2 * PATIENCE)).map_err(|error| error.to_string())?;
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let from = head.len();
            answer.read_line(&mut head).map_err(|error| error.to_string())?;
            let line = head[from..].trim().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().map_err(|_| format!("no length: {line}"))?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).map_err(|error| error.to_string())?;
        let body: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if head.starts_with("HTTP/1.1 200") {
            return Ok(body["value"].clone());
        }
        Err(body["value"]["message"].as_str().unwrap_or("no reason given").to_owned())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Either may have ended already.
        let _ = self.send("DELETE", "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
