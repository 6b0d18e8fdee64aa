//! The dashboard under load: the pages of a large run, and what open event streams cost training.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::build;
use crate::Verdict;
use crate::workspace::Workspace;

/// Measures sizes and times of the pages of a large run, and training with and without listeners.
#[derive(Debug, clap::Args)]
pub(crate) struct DashboardTimes {
    /// Hospitals of the large run
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    hospitals: u16,
    /// Rounds of the large run
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Open event streams while training is timed; 0 leaves training out
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(..=500))]
    streams: u16,
    /// How often each page is asked for, and training timed; the tables show medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// A folder with `results` of a run to show, instead of one that is trained for this
    #[arg(long, value_name = "DIR")]
    of: Option<PathBuf>,
}

const PAGES: [&str; 12] = [
    "/",
    "/clinical",
    "/technical",
    "/technical/evaluation",
    "/technical/rounds",
    "/privacy",
    "/fairness",
    "/training",
    "/sites",
    "/runs",
    "/audit",
    "/docs",
];

/// Bytes that no page may pass.
const MOST_BYTES: usize = 100_000;
/// Milliseconds that no page may take.
const MOST_MILLISECONDS: f64 = 50.0;
/// How long a process or an answer is waited for.
const PATIENCE: Duration = Duration::from_mins(5);

impl DashboardTimes {
    /// Measures, and prints the tables to stdout.
    pub(super) fn run(&self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        let medfed = build(workspace)?;
        let own = workspace.root().join("target").join("bench-dashboard");
        let folder = match &self.of {
            Some(folder) => folder.clone(),
            None => self.large_run(&medfed, &own)?,
        };
        let verdict = self.pages(&medfed, &folder)?;
        if self.streams > 0 {
            self.training(&medfed, &own)?;
        }
        Ok(verdict)
    }

    /// A run of many hospitals and rounds with as little training as possible, kept for the next time.
    fn large_run(&self, medfed: &Path, own: &Path) -> anyhow::Result<PathBuf> {
        let folder = own.join(format!("{}x{}", self.hospitals, self.rounds));
        if folder.join("results").join("results.json").is_file() {
            return Ok(folder);
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        eprintln!("training {} rounds with {} hospitals", self.rounds, self.hospitals);
        let settings = [
            format!("federated.num_clients={}", self.hospitals),
            format!("federated.num_rounds={}", self.rounds),
            "model.channels=[8,8]".to_owned(),
            "data.image_size=28".to_owned(),
            "data.samples_per_client=40".to_owned(),
            "data.non_iid.enabled=false".to_owned(),
            "training.local_steps=1".to_owned(),
            "fairness.enabled=true".to_owned(),
            "secure_aggregation.use_masking=false".to_owned(),
        ];
        let mut command = Command::new(medfed);
        command.current_dir(&folder).args(["simulate", "--seed", "1", "--out", "results"]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        finished(command)?;
        Ok(folder)
    }

    fn pages(&self, medfed: &Path, folder: &Path) -> anyhow::Result<Verdict> {
        let dashboard = Dashboard::start(medfed, folder)?;
        let database = folder.join("results").join("medfed.sqlite");
        println!("| page | kB | first, ms | after a change, ms | then, ms |\n|---|---|---|---|---|");
        let mut beyond = Vec::new();
        for page in PAGES {
            let first = dashboard.get(page)?.1;
            let (mut size, mut changed, mut then) = (dashboard.settled(page)?, Vec::new(), Vec::new());
            for _ in 0..self.repeats {
                change(&database)?;
                changed.push(dashboard.get(page)?.1);
                size = size.max(dashboard.settled(page)?);
                then.push(dashboard.get(page)?.1);
            }
            let (changed, then) = (median(&mut changed), median(&mut then));
            println!("| `{page}` | {:.1} | {first:.1} | {changed:.1} | {then:.1} |", size as f64 / 1000.0);
            if size > MOST_BYTES || [first, changed, then].iter().any(|time| *time > MOST_MILLISECONDS) {
                beyond.push(page);
            }
        }
        println!();
        if beyond.is_empty() {
            return Ok(Verdict::Holds);
        }
        eprintln!("beyond {MOST_BYTES} bytes or {MOST_MILLISECONDS} ms: {}", beyond.join(", "));
        Ok(Verdict::Fails)
    }

    /// The same training alone and watched, alternately, because clocks drift.
    fn training(&self, medfed: &Path, own: &Path) -> anyhow::Result<()> {
        let (mut alone, mut watched, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        let cores = std::thread::available_parallelism().context("cannot count the cores")?.get() as f64;
        for repeat in 1..=self.repeats {
            eprintln!("training alone and with {} streams, {repeat}/{}", self.streams, self.repeats);
            alone.push(trained(medfed, &empty(&own.join("alone"))?)?);
            let folder = empty(&own.join("watched"))?;
            let dashboard = Dashboard::start(medfed, &folder)?;
            for _ in 0..self.streams {
                dashboard.listen()?;
            }
            let before = dashboard.processor_seconds()?;
            let seconds = trained(medfed, &folder)?;
            shares.push(100.0 * (dashboard.processor_seconds()? - before) / (seconds * cores));
            watched.push(seconds);
        }
        println!("| training | seconds, each | median |\n|---|---|---|");
        for (name, seconds) in [("alone", &mut alone), ("watched", &mut watched)] {
            let each: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
            println!("| {name} | {} | {:.2} |", each.join(", "), median(seconds));
        }
        println!();
        println!("{} streams, {cores} cores. With them, training took", self.streams);
        println!(
            "{:+.1} %; the dashboard's own part of the",
            100.0 * (median(&mut watched) / median(&mut alone) - 1.0)
        );
        println!("processors was {:.2} % (median).", median(&mut shares));
        Ok(())
    }
}

/// Writes to the store as a run does at the end of a round: whoever keeps what it said has to look again.
fn change(database: &Path) -> anyhow::Result<()> {
    let written = rusqlite::Connection::open(database).and_then(|store| {
        store.busy_timeout(PATIENCE)?;
        // SQLite leaves out what is as before, so the name changes and changes back.
        store.execute("UPDATE runs SET name = name || ' '", ())?;
        store.execute("UPDATE runs SET name = substr(name, 1, length(name) - 1)", ())
    });
    let rows = written.with_context(|| format!("cannot write to {}", database.display()))?;
    ensure!(rows > 0, "{} has no run", database.display());
    Ok(())
}

/// Seconds that a small run takes in `folder`.
fn trained(medfed: &Path, folder: &Path) -> anyhow::Result<f64> {
    let mut command = Command::new(medfed);
    // Short rounds: each is an event for every stream.
    let settings = [
        "model.channels=[8,16]",
        "data.image_size=28",
        "data.samples_per_client=300",
        "training.local_steps=10",
    ];
    command.current_dir(folder).args(["simulate", "--seed", "1", "--rounds", "12", "--out", "results"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let begun = Instant::now();
    finished(command)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn finished(mut command: Command) -> anyhow::Result<()> {
    let output =
        command.env("NO_COLOR", "1").output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, said.trim());
    Ok(())
}

fn empty(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// A dashboard that ends with this value.
#[derive(Debug)]
struct Dashboard {
    process: Child,
    address: SocketAddr,
}

impl Dashboard {
    fn start(medfed: &Path, folder: &Path) -> anyhow::Result<Self> {
        // A free port; between here and the start somebody could take it, and then the start fails.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.context("no port is free")?;
        let process = Command::new(medfed)
            .args(["dashboard", "--results", "results", "--listen", &address.to_string()])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the dashboard")?;
        let mut dashboard = Self { process, address };
        let deadline = Instant::now() + PATIENCE;
        while dashboard.get("/healthz").is_err() {
            ensure!(dashboard.process.try_wait()?.is_none(), "the dashboard ended at once");
            ensure!(Instant::now() < deadline, "the dashboard does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(dashboard)
    }

    fn ask(&self, path: &str, connection: &str) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).context("the dashboard takes no connection")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (host, end) = (self.address, "\r\n");
        let head = format!("GET {path} HTTP/1.1{end}Host: {host}{end}Connection: {connection}{end}{end}");
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }

    /// Bytes of a page that waits for nothing any more.
    fn settled(&self, path: &str) -> anyhow::Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.get(path)?.0;
            if !String::from_utf8_lossy(&page).contains("being checked") {
                return Ok(page.len());
            }
            ensure!(Instant::now() < deadline, "{path} does not come to an end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A page without its head, and milliseconds until all of it is there.
    fn get(&self, path: &str) -> anyhow::Result<(Vec<u8>, f64)> {
        let begun = Instant::now();
        let mut answer = Vec::new();
        self.ask(path, "close")?.read_to_end(&mut answer)?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            bail!("{path} has no end of head");
        };
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path} was not answered with a page");
        Ok((answer.split_off(end + 4), milliseconds))
    }

    /// Opens a stream of events and reads it for as long as it lasts.
    fn listen(&self) -> anyhow::Result<()> {
        let mut stream = self.ask("/api/events", "keep-alive")?;
        let reader = std::thread::Builder::new().stack_size(64 * 1024);
        reader.spawn(move || std::io::copy(&mut stream, &mut std::io::sink())).context("no more threads")?;
        Ok(())
    }

    /// Seconds that the dashboard has spent on processors, as Linux counts them.
    fn processor_seconds(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        processor_seconds(&text).with_context(|| format!("{path} is not as expected"))
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// User and system time of a `/proc/PID/stat`, in seconds: hundredths on every Linux in use.
fn processor_seconds(stat: &str) -> Option<f64> {
    // The name, in parentheses, may hold anything; the 14th and 15th fields follow as 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_whatever_the_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(processor_seconds("12 (medfed"), None);
    }

    #[test]
    fn medians_are_those_of_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
