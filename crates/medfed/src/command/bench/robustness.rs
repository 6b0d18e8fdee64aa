//! `medfed bench robustness`: every aggregation rule under every attack.

mod document;
mod grid;
mod measure;

use crate::failure::Failure;
use crate::output;
use crate::run::{data_failure, replace_file};
use grid::{Cell, RULES, SETTINGS, Setting, attacks};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use measure::{Record, measure};
use medfed_config::section::SimulatedAttack;
use medfed_data::{Dataset, LoadOptions};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Trains with every aggregation rule under every attack and writes a table and heat maps.
///
/// 10 hospitals, 2 of them attackers (11 where Bulyan needs them), alike hospitals and different ones
/// (Dirichlet 0.5), with and without differential privacy. Every finished run is a line of the results
/// file; started again, the command goes on where it was stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed bench robustness --data pneumoniamnist.npz
  medfed bench robustness --data pneumoniamnist.npz --rules median,krum --attacks none,sign_flip
  medfed bench robustness --data pneumoniamnist.npz --out docs/robustness.md --images docs/images")]
pub(super) struct Args {
    /// Images: an .npz file or a folder, as for `medfed simulate`; at least 11 hospitals have to find
    /// enough in it
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Rounds of each run
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Seeds; the table shows their mean
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Rules [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = rule_names())]
    rules: Vec<String>,
    /// Attacks, `none` for the column without one [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = attack_names())]
    attacks: Vec<String>,
    /// Settings [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = setting_names())]
    settings: Vec<String>,
    /// Lines of finished runs, read and continued
    #[arg(long, value_name = "FILE", default_value = "robustness.jsonl")]
    results: PathBuf,
    /// Document whose part between the two marks is replaced; made if it is not there
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Folder for the heat maps, with --out
    #[arg(long, value_name = "DIR", default_value = "docs/images")]
    images: PathBuf,
    /// Runs side by side, each on one thread [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// What all runs have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    rounds: u32,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let shape = Shape { rounds: args.rounds };
    let cells = args.cells();
    let mut done = read_results(&args.results)?;
    let dataset = Arc::new(Dataset::load(&args.data, &LoadOptions::default()).map_err(data_failure)?);
    let mut open = Vec::new();
    for cell in &cells {
        let hash = cell.config(&args.data, shape)?.hash();
        if !done.iter().any(|record| record.is_of(cell, &hash)) {
            open.push(*cell);
        }
    }
    if open.len() < cells.len() {
        output::note(&format!(
            "{} of {} runs are in {}",
            cells.len() - open.len(),
            cells.len(),
            args.results.display()
        ));
    }
    done.extend(args.measure_all(&open, &dataset, shape)?);
    let mut records = Vec::new();
    for cell in &cells {
        let hash = cell.config(&args.data, shape)?.hash();
        records.extend(done.iter().rfind(|record| record.is_of(cell, &hash)).cloned());
    }
    let part = document::part(&records, &cells, shape);
    let Some(out) = &args.out else { return output::print(&part) };
    for (name, chart) in document::heat_maps(&records, &cells) {
        std::fs::create_dir_all(&args.images).map_err(|error| unwritable(&args.images, error))?;
        replace_file(&args.images.join(format!("{name}.svg")), chart.svg().as_bytes())?;
        let picture = medfed_report::png(&chart).map_err(Failure::internal)?;
        replace_file(&args.images.join(format!("{name}.png")), &picture)?;
    }
    let old = if out.is_file() {
        std::fs::read_to_string(out).map_err(|error| unwritable(out, error))?
    } else {
        String::new()
    };
    replace_file(out, document::replaced(&old, &part).as_bytes())?;
    output::note(&format!("written: {} and the heat maps in {}", out.display(), args.images.display()));
    Ok(())
}

impl Args {
    /// The runs asked for, setting by setting.
    fn cells(&self) -> Vec<Cell> {
        let asked = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
        let mut cells = Vec::new();
        for seed in &self.seeds {
            for setting in SETTINGS.into_iter().filter(|setting| asked(&self.settings, setting.name())) {
                for attack in attacks().into_iter().filter(|attack| asked(&self.attacks, attack.as_str())) {
                    for rule in RULES.into_iter().filter(|rule| asked(&self.rules, rule.name)) {
                        cells.push(Cell { setting, rule, attack, seed: *seed });
                    }
                }
            }
        }
        cells
    }

    /// Runs `cells`, several side by side; each is in the results file as soon as it is done.
    fn measure_all(
        &self,
        cells: &[Cell],
        dataset: &Arc<Dataset>,
        shape: Shape,
    ) -> Result<Vec<Record>, Failure> {
        if cells.is_empty() {
            return Ok(Vec::new());
        }
        let threads = self.threads.map_or_else(rayon::current_num_threads, usize::from).min(cells.len());
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.results)
            .map_err(|error| unwritable(&self.results, error))?;
        let bar = progress(cells.len());
        let (next, lines) = (AtomicUsize::new(0), Mutex::new((file, Vec::new())));
        let work = || -> Result<(), Failure> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(Failure::internal)?;
            while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                let record = pool.install(|| measure(cell, dataset, &self.data, shape))?;
                let auc = record.auc.map_or_else(|| "n/a".to_owned(), |auc| format!("{auc:.3}"));
                let text = format!(
                    "{}, {}, {}: AUC {auc} in {:.1} s",
                    record.setting, record.rule, record.attack, record.seconds
                );
                let mut kept = lines.lock().unwrap_or_else(PoisonError::into_inner);
                append(&mut kept.0, &record).map_err(|error| unwritable(&self.results, error))?;
                kept.1.push(record);
                if bar.is_hidden() {
                    output::note(&format!("{}/{} {text}", kept.1.len(), cells.len()));
                }
                bar.set_message(text);
                bar.inc(1);
            }
            Ok(())
        };
        let outcome = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        bar.finish_and_clear();
        outcome?;
        Ok(lines.into_inner().unwrap_or_else(PoisonError::into_inner).1)
    }
}

fn progress(runs: usize) -> ProgressBar {
    let live = std::io::stderr().is_terminal();
    let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{pos}/{len} [{bar:30.cyan/dim}] {eta} left  {msg}")
        .expect("the template is a constant that a test draws");
    ProgressBar::with_draw_target(Some(runs as u64), target).with_style(style)
}

/// One line, on disk before the next run begins.
fn append(file: &mut File, record: &Record) -> std::io::Result<()> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

/// The finished runs. The last line of a run that was killed may be cut off: it is taken out, so that the
/// next one begins a line of its own.
fn read_results(path: &Path) -> Result<Vec<Record>, Failure> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(|error| unwritable(path, error))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    if whole.len() < text.len() {
        replace_file(path, whole.as_bytes())?;
    }
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let place = format!("{}, line {}: not a result of this command", path.display(), number + 1);
            Failure::user(anyhow::Error::new(error).context(place)).hint("name another file with --results")
        })
    };
    whole.lines().enumerate().map(line).collect()
}

fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    Failure::user(anyhow::Error::new(error).context(format!("{} cannot be read or written", path.display())))
        .hint("check the path and its permissions")
}

fn rule_names() -> clap::builder::PossibleValuesParser {
    RULES.map(|rule| rule.name).into()
}

fn attack_names() -> clap::builder::PossibleValuesParser {
    attacks().into_iter().map(SimulatedAttack::as_str).collect::<Vec<_>>().into()
}

fn setting_names() -> clap::builder::PossibleValuesParser {
    SETTINGS.map(Setting::name).into()
}
