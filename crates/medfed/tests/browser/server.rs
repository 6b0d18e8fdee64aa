//! The dashboard as a process, and runs for it to show.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

const BINARY: &str = env!("CARGO_BIN_EXE_medfed");

/// Settings that make a run small.
pub(crate) const SMALL: &str = "\
experiment:
  seed: 3
model:
  channels: [8, 8]
data:
  image_size: 28
  samples_per_client: 120
training:
  local_steps: 3
federated:
  num_rounds: 4
secure_aggregation:
  enabled: true
  use_masking: true
  audit_enabled: true
";

/// A running dashboard; ends with the test, and so does what it trains.
pub(crate) struct Dashboard {
    process: Child,
    /// Where it is, without a slash at the end.
    pub(crate) url: String,
}

impl Dashboard {
    /// The dashboard of the folder `results` in `folder`.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(BINARY)
            .args(["dashboard", "--listen", "127.0.0.1:0", "--results", "results"])
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut said = String::new();
        let url = loop {
            let from = said.len();
            assert!(lines.read_line(&mut said).expect("it is UTF-8") > 0, "the dashboard ended: {said}");
            if let Some(at) = said[from..].find("http") {
                let url = said[from + at..].split_whitespace().next().expect("an address follows");
                break url.trim_end_matches('/').to_owned();
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { process, url }
    }

    /// The address of a page.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `medfed`, which must succeed with one of `codes`.
pub(crate) fn medfed(folder: &Path, arguments: &[&str], input: &str, codes: &[i32]) {
    let command = assert_cmd::Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .write_stdin(input)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&command.stderr);
    assert!(command.status.code().is_some_and(|code| codes.contains(&code)), "{arguments:?}: {said}");
}

/// A folder with two finished runs, made once: an older one without anything to remark on, masked and
/// private; the newest under attack and beyond thresholds of fairness.
pub(crate) fn two_runs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = fresh("two-runs");
        std::fs::write(folder.join("small.yaml"), SMALL).expect("the folder can be written");
        let common = ["simulate", "--config", "small.yaml", "--out", "results", "--threads", "1"];
        medfed(&folder, &common, "", &[0]);
        let troubled = [
            "federated.num_clients=7",
            "secure_aggregation.use_masking=false",
            "robust_aggregation.enabled=true",
            "robust_aggregation.method=median",
            "robust_aggregation.enable_detection=true",
            "fairness.enabled=true",
            "fairness.thresholds.hospital_variance=0.0000001",
            "fairness.thresholds.accuracy_parity=0.0001",
        ];
        let set = troubled.iter().flat_map(|setting| ["--set", setting]);
        let attacked = ["--attack", "scaling", "--attackers", "1"];
        let arguments: Vec<&str> = common.into_iter().chain(set).chain(attacked).collect();
        medfed(&folder, &arguments, "", &[0]);
        folder
    })
}

/// An empty folder of this name, which the next run of the tests empties again.
pub(crate) fn fresh(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old folder can be removed");
    }
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}
