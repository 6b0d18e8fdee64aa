//! Which run this is: a new one, or the newest unfinished one of the folder.

use super::journal::{Saved, Terms};
use super::results::{Results, replace_file};
use super::{Order, Start, store_failure};
use crate::failure::Failure;
use medfed_config::{Config, UnavailableError};
use medfed_federation::Outcome;
use medfed_federation::report::RunStatus;
use medfed_store::{Run, RunRecord, Store, Timestamp};
use medfed_types::{RunId, Seed};
use rand::TryRng as _;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The folders of a run.
#[derive(Debug)]
pub(super) struct Folders {
    /// Store, `results.json`, best model.
    pub(super) results: PathBuf,
    /// Logs.
    pub(super) logs: PathBuf,
    /// Models of single rounds.
    pub(super) checkpoints: PathBuf,
}

impl Folders {
    /// Results where the order says; the rest where the run began to write it.
    pub(super) fn of(order: &Order, prepared: &Prepared) -> Self {
        let (results, began) = (&order.config.output.results_dir, &prepared.config.output);
        // What lay inside the results folder has moved with it.
        let moved = |dir: &Path| {
            dir.strip_prefix(&began.results_dir)
                .map_or_else(|_| dir.to_owned(), |inside| results.join(inside))
        };
        Self {
            results: results.clone(),
            logs: moved(&began.logs_dir),
            checkpoints: moved(&began.checkpoints_dir),
        }
    }

    /// Where the configuration says.
    pub(super) fn under(config: &Config) -> Self {
        let output = &config.output;
        Self {
            results: output.results_dir.clone(),
            logs: output.logs_dir.clone(),
            checkpoints: output.checkpoints_dir.clone(),
        }
    }

    /// The command that continues an interrupted run of this order.
    pub(super) fn resume_command(&self, order: &Order) -> String {
        format!("medfed {} --resume --out {}", order.command, shell_word(&self.results))
    }

    /// Writes `results.json` and `best_model.safetensors`, each at once or not at all.
    pub(super) fn write(
        &self,
        results: &Results,
        checkpoint: Option<&Vec<u8>>,
        outcome: &Outcome,
    ) -> Result<(), Failure> {
        replace_file(&self.results.join("results.json"), results.to_json()?.as_bytes())?;
        if let Some(checkpoint) = checkpoint.filter(|_| outcome.best_round.is_some()) {
            replace_file(&self.results.join("best_model.safetensors"), checkpoint)?;
        }
        Ok(())
    }
}

/// A run that is about to start or to continue.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) id: RunId,
    pub(super) created: Timestamp,
    pub(super) config: Config,
    pub(super) seed: Seed,
    /// Whether noise and samples follow from the seed.
    pub(super) reproducible_noise: bool,
    /// Where it stands, when it is resumed.
    pub(super) resumed: Option<Saved>,
    /// The digest of the data it started with, when it is resumed.
    data: Option<String>,
}

/// Opens the store; a run that is to be resumed must be there already.
pub(super) fn open(order: &Order) -> Result<Store, Failure> {
    let results = &order.config.output.results_dir;
    if order.start == Start::New {
        // Before a folder is made that no run will use.
        order.config.require_available().map_err(refused)?;
    } else if !results.is_dir() {
        return Err(nothing_to_resume(results));
    }
    Store::open(results).map_err(store_failure)
}

/// Finds the run to resume or makes a new one.
pub(super) fn prepare(order: &Order, store: &Store) -> Result<Prepared, Failure> {
    if order.start == Start::New { start(order.config.clone()) } else { resume(order, store) }
}

fn start(config: Config) -> Result<Prepared, Failure> {
    let random = || rand::rngs::SysRng.try_next_u64().map_err(Failure::internal);
    let created = Timestamp::now();
    // A seed that nobody chose must still fit a JSON number everywhere.
    let seed = config.experiment.seed.map_or_else(|| random().map(|seed| seed >> 11), Ok)?;
    Ok(Prepared {
        id: run_id(created, random()?)?,
        created,
        reproducible_noise: config.experiment.seed.is_some(),
        config,
        seed: Seed(seed),
        resumed: None,
        data: None,
    })
}

fn resume(order: &Order, store: &Store) -> Result<Prepared, Failure> {
    let run =
        store.latest_resumable().map_err(store_failure)?.ok_or_else(|| nothing_to_resume(store.dir()))?;
    let (terms, config) = terms_of(&run)?;
    if order.start == Start::ResumeSame {
        same_settings(&run.id, &order.config, &terms, &config)?;
    }
    config.require_available().map_err(refused)?;
    let saved = Saved::load(store, &run.id).map_err(store_failure)?;
    Ok(Prepared {
        id: run.id,
        created: run.created,
        config,
        seed: run.seed,
        reproducible_noise: terms.reproducible_noise,
        resumed: Some(saved),
        data: Some(terms.data),
    })
}

/// What a stored run was started with.
pub(super) fn terms_of(run: &Run) -> Result<(Terms, Config), Failure> {
    let terms: Terms = serde_json::from_value(run.config.clone()).map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("run {} cannot be read", run.id)))
    })?;
    let config = Config::from_yaml(&terms.config.to_string(), "the stored configuration", &[])
        .map_err(|errors| Failure::user(anyhow::anyhow!("{}", errors.render(false))))?;
    Ok((terms, config))
}

/// Refuses to go on with a run under other settings than it was started with.
pub(super) fn same_settings(
    run: &RunId,
    asked: &Config,
    terms: &Terms,
    config: &Config,
) -> Result<(), Failure> {
    if asked.hash() == config.hash() {
        return Ok(());
    }
    let differing = differences(&asked.to_json(), &terms.config);
    Err(Failure::user(anyhow::anyhow!("run {run} was started with other settings: {}", differing.join(", ")))
        .hint("repeat the settings it was started with, or leave them all out: --resume alone uses them"))
}

impl Prepared {
    /// A run of a federation between machines: `run` as it is stored, or a new one with a seed.
    pub(super) fn between_machines(run: Option<Run>, config: Config) -> Result<Self, Failure> {
        let Some(run) = run else {
            let new = start(config)?;
            return Ok(Self { reproducible_noise: false, ..new });
        };
        let (terms, stored) = terms_of(&run)?;
        same_settings(&run.id, &config, &terms, &stored)?;
        Ok(Self {
            id: run.id,
            created: run.created,
            // Where results go may have changed.
            config,
            seed: run.seed,
            reproducible_noise: terms.reproducible_noise,
            resumed: None,
            data: None,
        })
    }

    /// The same without what a resumed simulation continues from.
    pub(super) fn for_models(&self) -> Self {
        let Self { id, created, config, seed, reproducible_noise, .. } = self;
        Self {
            id: id.clone(),
            created: *created,
            config: config.clone(),
            seed: *seed,
            reproducible_noise: *reproducible_noise,
            resumed: None,
            data: None,
        }
    }

    /// Refuses to resume on other data than the run started with.
    pub(super) fn check_data(&self, fingerprint: &[u8; 32]) -> Result<(), Failure> {
        match &self.data {
            Some(data) if *data != hex(fingerprint) => Err(Failure::user(anyhow::anyhow!(
                "run {} cannot be resumed: the images, their labels or their division between hospitals have changed",
                self.id
            ))
            .hint("restore the data set it started with, or start a new run without --resume")),
            _ => Ok(()),
        }
    }

    /// Records that the run is under way, from now or again.
    pub(super) fn record(&self, store: &Store, fingerprint: &[u8; 32]) -> Result<(), Failure> {
        if self.resumed.is_some() {
            return store.resume_run(&self.id).map_err(store_failure);
        }
        let terms = Terms {
            config: self.config.to_json(),
            data: hex(fingerprint),
            reproducible_noise: self.reproducible_noise,
        };
        let record = RunRecord {
            id: self.id.clone(),
            name: self.config.experiment.name.clone(),
            created: self.created,
            config: serde_json::to_value(&terms).map_err(Failure::internal)?,
            seed: self.seed,
        };
        store.create_run(&record).map_err(store_failure)
    }

    /// Records how the run ended and keeps its model.
    pub(super) fn finish(
        &self,
        store: &Store,
        results: &Results,
        checkpoint: &[u8],
        status: RunStatus,
    ) -> Result<(), Failure> {
        if results.summary.best_round.is_some() {
            store.put_model(&self.id, "best", checkpoint).map_err(store_failure)?;
        }
        let status = match status {
            RunStatus::Completed => medfed_store::RunStatus::Completed,
            RunStatus::BudgetExhausted => medfed_store::RunStatus::BudgetExhausted,
            RunStatus::Interrupted => medfed_store::RunStatus::Interrupted,
            RunStatus::Aborted | RunStatus::Halted => medfed_store::RunStatus::Failed,
        };
        store.finish_run(&self.id, status, Timestamp::now(), &results.summary).map_err(store_failure)
    }
}

/// What is switched on and not there stops a run before it starts.
fn refused(error: UnavailableError) -> Failure {
    Failure::user(error)
}

fn nothing_to_resume(dir: &Path) -> Failure {
    Failure::user(anyhow::anyhow!("{} holds no unfinished run", dir.display())).hint(
        "name the folder of the run with --out, or start a run without --resume; `medfed runs` lists them",
    )
}

/// Date, time and four random digits: readable, and sorted by age.
fn run_id(created: Timestamp, random: u64) -> Result<RunId, Failure> {
    let digits: String = created.to_string().chars().filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(8.min(digits.len()));
    RunId::try_from(format!("{day}-{time}-{:04x}", random & 0xffff)).map_err(Failure::internal)
}

/// The keys whose values differ.
fn differences(asked: &serde_json::Value, stored: &serde_json::Value) -> Vec<String> {
    fn walk(path: &str, a: &serde_json::Value, b: &serde_json::Value, out: &mut Vec<String>) {
        match (a.as_object(), b.as_object()) {
            (Some(left), Some(right)) => {
                for (key, value) in left {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, right.get(key).unwrap_or(&serde_json::Value::Null), out);
                }
            }
            _ if a == b => {}
            _ => out.push(format!("{path} is {a} now and was {b}")),
        }
    }
    let mut out = Vec::new();
    walk("", asked, stored, &mut out);
    let idle = ["output.", "dashboard.", "experiment.name ", "experiment.description "];
    out.retain(|text| !idle.iter().any(|idle| text.starts_with(idle)));
    out
}

/// A path as one word of a command that a shell reads.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differing_keys_are_named() {
        let asked = json!({ "a": { "b": 1, "c": 2 }, "output": { "results_dir": "x" } });
        let stored = json!({ "a": { "b": 1, "c": 3 }, "output": { "results_dir": "y" } });
        assert_eq!(differences(&asked, &stored), ["a.c is 2 now and was 3"]);
    }

    #[test]
    fn paths_survive_the_shell() {
        let words = ["out/run-1", "my run", "it's"].map(|path| shell_word(Path::new(path)));
        assert_eq!(words, ["out/run-1", "'my run'", r"'it'\''s'"]);
    }

    #[test]
    fn ids_sort_by_age() {
        let id = run_id(Timestamp(1_772_355_907_123), 0xabcde).unwrap();
        assert_eq!(id.as_str(), "20260301-090507-bcde");
    }
}
