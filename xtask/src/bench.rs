//! Measurements against PyTorch and Opacus, and against the speed of memory. What is compared is interleaved,
//! because machines are shared and clocks drift.

mod aggregate;
mod dashboard;
mod secagg;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::Verdict;
use crate::workspace::Workspace;
use aggregate::RuleTimes;
use dashboard::DashboardTimes;
use secagg::SessionTimes;
use table::Table;

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// One training step: ours plain and private, PyTorch plain, Opacus by hooks and by ghost norms
    Step(StepTimes),
    /// One round of every aggregation rule, against the time to read the updates once from memory
    Aggregate(RuleTimes),
    /// The dashboard's pages of a large run, and what open event streams cost training
    Dashboard(DashboardTimes),
    /// Sessions of secure aggregation, against the speed of the cipher that makes the masks
    Secagg(SessionTimes),
}

/// Measures one training step and prints a Markdown table.
#[derive(Debug, clap::Args)]
pub(crate) struct StepTimes {
    /// A Python with torch, torchvision and opacus; without it only our own rows are measured
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// The script that measures one PyTorch step; relative to the workspace root
    #[arg(long, value_name = "PATH", default_value = "scripts/torch_step.py")]
    torch_step: PathBuf,
    /// The rows to measure, separated by commas
    #[arg(long, value_name = "MODEL:PIXELS:BATCH", value_delimiter = ',', default_values = ROWS)]
    rows: Vec<Row>,
    /// How often each cell is measured; the table shows medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Threads for either side; all cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

const ROWS: [&str; 7] = [
    "simple_cnn:28:64",
    "simple_cnn:64:64",
    "simple_cnn:128:64",
    "resnet18:28:64",
    "resnet18:128:32",
    "densenet121:28:32",
    "densenet121:64:16",
];

/// A model, the side length of its images, and the images in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    model: String,
    pixels: u32,
    batch: u32,
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected MODEL:PIXELS:BATCH, such as {}, found {text}", ROWS[0]);
        let [model, pixels, batch] = text.split(':').collect::<Vec<_>>()[..] else { return Err(expected()) };
        let positive = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or_else(expected);
        if model.is_empty() {
            return Err(expected());
        }
        Ok(Self { model: model.to_owned(), pixels: positive(pixels)?, batch: positive(batch)? })
    }
}

/// Who takes the step, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Private,
    TorchPlain,
    OpacusHooks,
    OpacusGhost,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::Plain, Self::Private, Self::TorchPlain, Self::OpacusHooks, Self::OpacusGhost];

    /// The word by which the measuring program knows the mode.
    fn argument(self) -> &'static str {
        match self {
            Self::Plain | Self::TorchPlain => "plain",
            Self::Private => "private",
            Self::OpacusHooks => "hooks",
            Self::OpacusGhost => "ghost",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Plain | Self::Private)
    }
}

/// What one run of a measuring program said.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measurement {
    ms_per_sample: f64,
    peak_rss_gb: f64,
}

impl Bench {
    /// Measures, and prints the table to stdout.
    pub(crate) fn run(self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        match self {
            Self::Step(step) => step.run(workspace),
            Self::Aggregate(rules) => rules.run(workspace),
            Self::Dashboard(pages) => pages.run(workspace),
            Self::Secagg(sessions) => sessions.run(workspace),
        }
    }
}

impl StepTimes {
    fn run(&self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        let torch_step = workspace.root().join(&self.torch_step);
        if self.python.is_some() {
            ensure!(torch_step.is_file(), "no script at {}; name it with --torch-step", torch_step.display());
        }
        let medfed = build(workspace)?;
        let threads = match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().context("cannot count the cores")?.get(),
        };
        let modes: Vec<Mode> =
            Mode::ALL.into_iter().filter(|mode| mode.is_ours() || self.python.is_some()).collect();
        let mut table = Table::default();
        for row in &self.rows {
            let mut runs: Vec<(Mode, Measurement)> = Vec::new();
            for repeat in 1..=self.repeats {
                for &mode in &modes {
                    eprintln!(
                        "{} {} {}: {mode:?} {repeat}/{}",
                        row.model, row.pixels, row.batch, self.repeats
                    );
                    let command = match &self.python {
                        Some(python) if !mode.is_ours() => theirs(python, &torch_step, row, mode, threads),
                        _ => ours(&medfed, row, mode, threads),
                    };
                    runs.push((mode, measure(command)?));
                }
            }
            table.push(row, &runs);
        }
        println!("{table}");
        println!("{threads} threads, medians of {} interleaved runs.", self.repeats);
        if self.python.is_none() {
            println!("PyTorch and Opacus were not measured: name a Python that has them with --python.");
        }
        Ok(Verdict::Holds)
    }
}

/// Builds the release binary and says where it lies.
fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let status = workspace.cargo().args(["build", "--release", "--package", "medfed"]).status();
    ensure!(status.context("cannot start cargo build")?.success(), "medfed does not build");
    let metadata = workspace.metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("release").join(format!("medfed{}", std::env::consts::EXE_SUFFIX)))
}

fn ours(medfed: &Path, row: &Row, mode: Mode, threads: usize) -> Command {
    let mut command = Command::new(medfed);
    command.args(["bench", "step", "--json", "--model", &row.model, "--mode", mode.argument()]);
    command.args(["--pixels", &row.pixels.to_string(), "--batch", &row.batch.to_string()]);
    command.args(["--threads", &threads.to_string()]);
    command
}

fn theirs(python: &Path, script: &Path, row: &Row, mode: Mode, threads: usize) -> Command {
    let mut command = Command::new(python);
    command.arg(script).args([&row.model, &row.pixels.to_string(), &row.batch.to_string()]);
    command.args([mode.argument(), &threads.to_string()]);
    command
}

fn measure(mut command: Command) -> anyhow::Result<Measurement> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, complaint.trim());
    }
    parse(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{command:?} printed no measurement"))
}

/// Reads the one JSON object that a measuring program prints, possibly after other lines.
fn parse(stdout: &str) -> anyhow::Result<Measurement> {
    let object = stdout.find('{').map_or("", |at| &stdout[at..]);
    let object: Value = serde_json::from_str(object.trim())?;
    let number = |key: &str| object[key].as_f64().with_context(|| format!("no number under {key}"));
    Ok(Measurement { ms_per_sample: number("ms_per_sample")?, peak_rss_gb: number("peak_rss_gb")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_checked() {
        for row in ROWS {
            assert!(row.parse::<Row>().is_ok(), "{row}");
        }
        for broken in ["", "a", "a:1", "a:1:2:3", ":1:2", "a:0:2", "a:1:0", "a:x:2", "a:-1:2"] {
            assert!(broken.parse::<Row>().is_err(), "{broken}");
        }
    }

    #[test]
    fn both_programs_get_their_arguments() {
        let row: Row = "resnet18:128:32".parse().expect("the row is well formed");
        let words = |command: &Command| {
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let ours = ours(Path::new("medfed"), &row, Mode::Private, 2);
        let expected =
            "bench step --json --model resnet18 --mode private --pixels 128 --batch 32 --threads 2";
        assert_eq!(words(&ours), expected);
        let theirs = theirs(Path::new("python"), Path::new("step.py"), &row, Mode::OpacusGhost, 2);
        assert_eq!(words(&theirs), "step.py resnet18 128 32 ghost 2");
    }

    #[test]
    fn measurements_are_read_after_chatter() {
        let read =
            parse("warning: slow\n{\"ms_per_sample\": 1.5, \"peak_rss_gb\": 2}\n").expect("it is there");
        assert_eq!(read, Measurement { ms_per_sample: 1.5, peak_rss_gb: 2.0 });
        for broken in ["", "{}", "no object", "{\"ms_per_sample\": \"1\", \"peak_rss_gb\": 2}"] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
