//! Training steps: this engine plain and private, PyTorch, Opacus, and the machine's matrix product, cell by cell.
//! Each run becomes a line of a file, so that a session that was stopped goes on where it was.

mod record;
mod table;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::Verdict;
use crate::workspace::Workspace;
use record::Record;

/// Measures training steps and prints Markdown tables.
///
/// Every run is written to --results as it ends, and what is there is not measured again. All cells are measured
/// at batch 64 first, the small ones before the large.
#[derive(Debug, clap::Args)]
pub(crate) struct StepTimes {
    /// A Python with torch, torchvision and opacus; without it only our own runs are made
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// The script that measures PyTorch steps; relative to the workspace root
    #[arg(long, value_name = "PATH", default_value = "scripts/torch_step.py")]
    torch_step: PathBuf,
    /// Only these cells, separated by commas
    #[arg(long, value_name = "MODEL:PIXELS:BATCH", value_delimiter = ',')]
    only: Vec<Cell>,
    /// No run begins after this many minutes
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..))]
    budget: Option<u32>,
    /// Where runs are kept as lines of JSON; remove the file to begin anew
    #[arg(long, value_name = "PATH", default_value = "target/bench-step.jsonl")]
    results: PathBuf,
    /// Threads for either side; all cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print the tables of what --results holds, and measure nothing
    #[arg(long)]
    table: bool,
}

const MODELS: [&str; 3] = ["simple_cnn", "resnet18", "densenet121"];
const PIXELS: [u32; 4] = [28, 64, 128, 224];
const BATCHES: [u32; 2] = [64, 256];
/// Batches over which memory is to stay the same, of these models.
const MEMORY_BATCHES: [u32; 4] = [64, 256, 1024, 4096];
const MEMORY_MODELS: [&str; 2] = ["simple_cnn", "resnet18"];
/// With this code the script says that memory did not suffice.
const OUT_OF_MEMORY: i32 = 77;

/// A model, the side length of its images, and the images in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cell {
    model: String,
    pixels: u32,
    batch: u32,
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected MODEL:PIXELS:BATCH, such as resnet18:28:64, found {text}");
        let [model, pixels, batch] = text.split(':').collect::<Vec<_>>()[..] else { return Err(expected()) };
        let positive = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or_else(expected);
        if model.is_empty() {
            return Err(expected());
        }
        Ok(Self { model: model.to_owned(), pixels: positive(pixels)?, batch: positive(batch)? })
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.model, self.pixels, self.batch)
    }
}

impl Cell {
    /// All cells, in the order in which they are measured.
    fn all() -> Vec<Self> {
        let of = |batch, pixels| {
            MODELS.into_iter().map(move |model| Self { model: model.to_owned(), pixels, batch })
        };
        BATCHES.into_iter().flat_map(|batch| PIXELS.into_iter().flat_map(move |p| of(batch, p))).collect()
    }

    /// Timed steps of a run.
    fn steps(&self, run: Run) -> u32 {
        match run {
            Run::Plain | Run::Private => 3,
            Run::OpacusHooks | Run::OpacusGhost if self.pixels * self.batch > 64 * 64 => 3,
            Run::Memory => 1,
            _ => 5,
        }
    }
}

/// What one process measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Plain,
    Private,
    /// Private, with units of four images.
    Units,
    TorchPlain,
    OpacusHooks,
    OpacusGhost,
    /// A private step by its parts, and the matrix product.
    Parts,
    /// The same on one thread.
    PartsOne,
    /// A private step of any batch, for its memory.
    Memory,
}

impl Run {
    /// In the order of a cell; ours plain and private come on both sides of the others.
    const ORDER: [Self; 10] = [
        Self::Plain,
        Self::Private,
        Self::TorchPlain,
        Self::OpacusHooks,
        Self::OpacusGhost,
        Self::Units,
        Self::Parts,
        Self::PartsOne,
        Self::Private,
        Self::Plain,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Private => "private",
            Self::Units => "units",
            Self::TorchPlain => "torch_plain",
            Self::OpacusHooks => "opacus_hooks",
            Self::OpacusGhost => "opacus_ghost",
            Self::Parts => "parts",
            Self::PartsOne => "parts_one",
            Self::Memory => "memory",
        }
    }

    fn is_torch(self) -> bool {
        matches!(self, Self::TorchPlain | Self::OpacusHooks | Self::OpacusGhost)
    }
}

/// Who measures.
struct Programs<'a> {
    medfed: PathBuf,
    parts: PathBuf,
    python: Option<&'a Path>,
    script: PathBuf,
    threads: usize,
}

impl StepTimes {
    /// Measures what is not in the file yet, and prints the tables to stdout.
    pub(super) fn run(&self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        let path = workspace.root().join(&self.results);
        let mut records = record::read(&path)?;
        if !self.table {
            self.measure(workspace, &path, &mut records)?;
        }
        println!("{}", table::Tables::of(&records));
        Ok(Verdict::Holds)
    }

    fn measure(&self, workspace: &Workspace, path: &Path, records: &mut Vec<Record>) -> anyhow::Result<()> {
        let started = Instant::now();
        let script = workspace.root().join(&self.torch_step);
        if self.python.is_some() {
            ensure!(script.is_file(), "no script at {}; name it with --torch-step", script.display());
        }
        let threads = match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().context("cannot count the cores")?.get(),
        };
        let programs = Programs {
            medfed: super::build(workspace)?,
            parts: super::program(
                workspace,
                &["bench", "--no-run", "--package", "medfed-nn", "--features", "measure", "--bench", "parts"],
                "parts",
            )?,
            python: self.python.as_deref(),
            script,
            threads,
        };
        let mut work: Vec<(Cell, Run, usize)> = Vec::new();
        let cells = if self.only.is_empty() { Cell::all() } else { self.only.clone() };
        for cell in cells {
            for (lap, run) in Run::ORDER.into_iter().enumerate() {
                if self.python.is_some() || !run.is_torch() {
                    work.push((cell.clone(), run, lap));
                }
            }
        }
        if self.only.is_empty() {
            let flat = MEMORY_MODELS.into_iter().flat_map(|model| MEMORY_BATCHES.map(|batch| (model, batch)));
            // After the cells of batch 64.
            let at = work.iter().position(|(cell, ..)| cell.batch != BATCHES[0]).unwrap_or(work.len());
            work.splice(
                at..at,
                flat.map(|(m, batch)| (Cell { model: m.to_owned(), pixels: 28, batch }, Run::Memory, 0)),
            );
        }
        work.retain(|(cell, run, lap)| !records.iter().any(|record| record.is(cell, *run, *lap)));
        let mut file = OpenOptions::new().create(true).append(true).open(path);
        let file =
            file.as_mut().map_err(|error| anyhow::anyhow!("cannot write {}: {error}", path.display()))?;
        for (at, (cell, run, lap)) in work.iter().enumerate() {
            let minutes = started.elapsed().as_secs() / 60;
            if self.budget.is_some_and(|budget| minutes >= u64::from(budget)) {
                eprintln!("{} runs are left for another session", work.len() - at);
                break;
            }
            eprintln!("{cell} {}, {} of {}, {minutes} min", run.name(), at + 1, work.len());
            let record = Record::new(cell, *run, *lap, programs.measure(cell, *run)?);
            writeln!(file, "{}", record.line())
                .with_context(|| format!("cannot write {}", path.display()))?;
            records.push(record);
        }
        Ok(())
    }
}

impl Programs<'_> {
    fn command(&self, cell: &Cell, run: Run) -> Command {
        let Cell { model, pixels, batch } = cell;
        let (pixels, batch, steps) = (pixels.to_string(), batch.to_string(), cell.steps(run).to_string());
        let threads = if run == Run::PartsOne { 1 } else { self.threads }.to_string();
        let torch = |mode: &str| {
            let mut command = Command::new(self.python.unwrap_or(Path::new("python3")));
            command.arg(&self.script).args([&model[..], &pixels, &batch, mode, &threads, &steps]);
            command
        };
        let ours = |mode: &str, unit: &str| {
            let mut command = Command::new(&self.medfed);
            command.args(["bench", "step", "--json", "--model", model, "--mode", mode]);
            command.args(["--pixels", &pixels, "--batch", &batch, "--threads", &threads]);
            command.args(["--steps", &steps, "--unit-images", unit]);
            command
        };
        match run {
            Run::Plain => ours("plain", "1"),
            Run::Private | Run::Memory => ours("private", "1"),
            Run::Units => ours("private", "4"),
            Run::TorchPlain => torch("plain"),
            Run::OpacusHooks => torch("hooks"),
            Run::OpacusGhost => torch("ghost"),
            Run::Parts | Run::PartsOne => {
                let mut command = Command::new(&self.parts);
                command.args([&model[..], &pixels, &batch, "private", &threads]);
                command
            }
        }
    }

    /// The object that the program printed; with only `out_of_memory` in it where memory did not suffice.
    fn measure(&self, cell: &Cell, run: Run) -> anyhow::Result<Value> {
        let mut command = self.command(cell, run);
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        // A process that was killed has no code: on Linux that is what the kernel does when memory ends.
        if run.is_torch() && matches!(output.status.code(), Some(OUT_OF_MEMORY) | None) {
            eprintln!("{cell} {}: out of memory, left out", run.name());
            return Ok(json!({ "out_of_memory": true }));
        }
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("{command:?} failed ({}): {}", output.status, complaint.trim());
        }
        record::parse(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{command:?} printed no measurement"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_checked() {
        for cell in Cell::all() {
            assert_eq!(cell.to_string().parse(), Ok(cell));
        }
        for broken in ["", "a", "a:1", "a:1:2:3", ":1:2", "a:0:2", "a:1:0", "a:x:2", "a:-1:2"] {
            assert!(broken.parse::<Cell>().is_err(), "{broken}");
        }
    }

    #[test]
    fn every_program_gets_its_arguments() {
        let cell: Cell = "resnet18:128:64".parse().expect("the cell is well formed");
        let programs = Programs {
            medfed: "medfed".into(),
            parts: "parts".into(),
            python: None,
            script: "step.py".into(),
            threads: 2,
        };
        let words = |run| {
            let command = programs.command(&cell, run);
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            words(Run::Units),
            "bench step --json --model resnet18 --mode private --pixels 128 --batch 64 --threads 2 --steps 5 \
             --unit-images 4"
        );
        assert_eq!(words(Run::OpacusGhost), "step.py resnet18 128 64 ghost 2 3");
        assert_eq!(words(Run::PartsOne), "resnet18 128 64 private 1");
    }
}
