//! The processes of one federation, started from the commands that the demo prints.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Small and quick: what is tested is not the model.
const SETTINGS: [&str; 9] = [
    "federated.num_rounds=2",
    "federated.num_clients=3",
    "model.channels=[8]",
    "training.local_steps=2",
    "training.batch_size=16",
    "privacy.noise_multiplier=1.0",
    "privacy.accountant=rdp",
    "data.samples_per_client=60",
    "fairness.enabled=false",
];
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(20);

/// The program.
pub(crate) fn medfed() -> Command {
    Command::new(env!("CARGO_BIN_EXE_medfed"))
}

/// Arguments that make the demo small.
pub(crate) fn settings(more: &[&str]) -> Vec<String> {
    SETTINGS.iter().chain(more).flat_map(|set| ["--set".to_owned(), (*set).to_owned()]).collect()
}

/// What two runs have in common if nothing was lost, paid twice or drawn anew.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    models: Vec<Value>,
    epsilons: Vec<Value>,
}

impl Outcome {
    /// Of a `results.json`.
    pub(crate) fn of(results: &Value) -> Self {
        let rounds = results["rounds"].as_array().unwrap();
        let models = rounds.iter().map(|round| round["model_hash"].clone()).collect();
        let hospitals = rounds.iter().flat_map(|round| round["hospitals"].as_array().unwrap());
        let epsilons = hospitals.map(|hospital| hospital["privacy"]["epsilon_total"].clone()).collect();
        Self { models, epsilons }
    }

    /// Of its text.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self::of(&serde_json::from_slice(text).unwrap())
    }
}

/// A federation in a folder of its own. Dropping it kills what still runs.
pub(crate) struct Federation {
    dir: tempfile::TempDir,
    commands: Vec<Vec<String>>,
    running: Vec<Option<Child>>,
    done: Vec<bool>,
    deaths: u32,
}

impl Federation {
    /// Keys, certificates, policies and a configuration; nothing runs yet.
    pub(crate) fn new(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let output = medfed()
            .args(["federation-demo", "--prepare", "--seed", "7", "--out"])
            .arg(dir.path().join("f"))
            .args(settings(more))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let words = |line: &str| line.split(' ').skip(1).map(str::to_owned).collect();
        let commands: Vec<Vec<String>> = text.lines().map(words).collect();
        let running = commands.iter().map(|_| None).collect();
        let done = vec![false; commands.len()];
        Self { dir, commands, running, done, deaths: 0 }
    }

    /// A folder within the federation's.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join("f").join(name)
    }

    /// The folder of a site, counted from 1.
    pub(crate) fn site_folder(&self, number: usize) -> PathBuf {
        self.folder(&format!("sites/hospital_{number}"))
    }

    /// What a simulation of the same configuration gives.
    pub(crate) fn simulated(&self) -> Outcome {
        let out = tempfile::tempdir().unwrap();
        let output = medfed()
            .args(["simulate", "--json", "--config"])
            .arg(self.folder("federation.yaml"))
            .arg("--out")
            .arg(out.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Outcome::parse(&output.stdout)
    }

    /// The coordinator's command, not started.
    pub(crate) fn coordinator_command(&self) -> Command {
        self.command(0)
    }

    /// The command of a site, counted from 1, not started.
    pub(crate) fn site_command(&self, number: usize) -> Command {
        self.command(number)
    }

    fn command(&self, index: usize) -> Command {
        let mut command = medfed();
        command.args(&self.commands[index]).stdin(Stdio::null());
        command
    }

    /// Starts the coordinator, which dies at `point`.
    pub(crate) fn start_coordinator(&mut self, point: Option<u32>) {
        self.start(0, point);
    }

    /// Starts every site; each dies at `point`.
    pub(crate) fn start_sites(&mut self, point: Option<u32>) {
        (1..self.commands.len()).for_each(|index| self.start(index, point));
    }

    fn start(&mut self, index: usize, point: Option<u32>) {
        let mut command = self.command(index);
        if let Some(point) = point {
            command.env("MEDFED_TEST_CRASH_POINT", point.to_string());
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log(index)).unwrap();
        self.running[index] = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    fn log(&self, index: usize) -> PathBuf {
        self.folder(&format!("process_{index}.log"))
    }

    /// Kills a process, if it runs, and starts it again.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(child) = &mut self.running[index] {
            // It may have ended in the meantime.
            let _ = child.kill();
            child.wait().unwrap();
            self.start(index, None);
        }
    }

    /// Lets the processes run; says whether any of them still does.
    pub(crate) fn run_for(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until && self.look() {
            std::thread::sleep(LOOK);
        }
        self.running[0].is_some()
    }

    /// Starts again what has died, until every process has done its part.
    pub(crate) fn restart_what_dies(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.look() {
            if Instant::now() > until {
                let logs = (0..self.commands.len()).map(|index| tail(&self.log(index)));
                panic!("not done in time:\n{}", logs.collect::<Vec<_>>().join("\n"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Looks at every process; one that was killed by a signal is started again.
    fn look(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        for index in 0..self.running.len() {
            let Some(child) = &mut self.running[index] else { continue };
            let Some(status) = child.try_wait().unwrap() else { continue };
            self.running[index] = None;
            if status.signal().is_some() {
                self.deaths += 1;
                self.start(index, None);
            } else {
                // A site that declines fails by itself; what it costs the run is checked elsewhere.
                assert!(status.success() || index > 0, "{}", tail(&self.log(index)));
                self.done[index] = true;
            }
        }
        // A site whose last word was lost waits for another run: the coordinator's end is the run's.
        if self.done[0] && self.running.iter().any(Option::is_some) {
            self.stop();
        }
        self.running.iter().any(Option::is_some)
    }

    /// How often a process died by itself.
    pub(crate) fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Kills whatever runs.
    pub(crate) fn stop(&mut self) {
        for child in self.running.iter_mut().filter_map(Option::take) {
            let mut child = child;
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The coordinator's results.
    pub(crate) fn results(&self) -> Value {
        let text = std::fs::read(self.folder("coordinator/results/results.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// What the run came to.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::of(&self.results())
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        self.stop();
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(12).collect();
    format!("{}:\n{}", path.display(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
