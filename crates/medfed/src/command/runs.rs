//! `medfed runs`: what a results folder holds.

use crate::failure::Failure;
use crate::output::print;
use crate::run::store_failure;
use medfed_dp::Accountant;
use medfed_store::{Reader, Round, Run, RunStatus, Store, StoreError, Timestamp};
use medfed_types::{Delta, Epsilon, RunId};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// List the runs of a results folder, show one, or end one that was interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  medfed runs\n  medfed runs show 20260301-090507-1f3a --json\n  \
    medfed runs end 20260301-090507-1f3a")]
pub(crate) struct RunsCommand {
    #[command(subcommand)]
    action: Option<Action>,
    /// Folder that the runs were written to.
    #[arg(long, global = true, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Print JSON: an array of runs, or one object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show one run with its rounds and its configuration.
    Show {
        /// The run, as `medfed runs` lists it.
        id: String,
    },
    /// End an interrupted run for good: it cannot be resumed, and the keys of its noise are overwritten.
    End {
        /// The run, as `medfed runs` lists it.
        id: String,
    },
}

impl RunsCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if let Some(Action::End { id }) = &self.action {
            return end(&self.results, id, self.json);
        }
        let reader = Store::read_only(&self.results).map_err(store_failure)?;
        if let Some(Action::Show { id }) = &self.action {
            return print(&show(&reader, id, self.json)?);
        }
        let runs = reader.runs().map_err(store_failure)?;
        let rows = runs.iter().map(|run| Row::of(&reader, run)).collect::<Result<Vec<_>, _>>()?;
        print(&if self.json { pretty(&rows.iter().map(Row::json).collect()) } else { list(&rows) })
    }
}

/// What the list says about a run.
struct Row<'a> {
    run: &'a Run,
    model: Option<&'a str>,
    /// Nothing without privacy, and before the first round is paid for.
    epsilon: Option<f64>,
    test_auc: Option<f64>,
    private: bool,
}

impl<'a> Row<'a> {
    fn of(reader: &Reader, run: &'a Run) -> Result<Self, Failure> {
        let config = configuration(run);
        let summary = |key: &str| run.summary.as_ref().and_then(|summary| summary[key].as_f64());
        // A run under way has no summary yet; its newest round knows.
        let newest = match &run.summary {
            Some(_) => None,
            None => reader.rounds(&run.id).map_err(store_failure)?.pop(),
        };
        let newest = |key: &str| newest.as_ref().and_then(|round| round.report[key].as_f64());
        let epsilon = match summary("final_epsilon") {
            Some(epsilon) => Some(epsilon),
            None => paid(reader, run)?.or_else(|| newest("epsilon_total")),
        };
        Ok(Self {
            run,
            model: config["model"]["name"].as_str(),
            epsilon,
            test_auc: summary("test_auc").or_else(|| newest("test_auc")),
            private: config["privacy"]["enabled"].as_bool().unwrap_or(true),
        })
    }

    fn epsilon(&self) -> String {
        if self.private { epsilon(self.epsilon) } else { "no privacy".to_owned() }
    }

    fn json(&self) -> Value {
        let run = self.run;
        json!({
            "id": run.id,
            "name": run.name,
            "started": run.created.to_string(),
            "finished": run.finished.map(|time| time.to_string()),
            "status": run.status,
            "rounds": run.rounds,
            "model": self.model,
            "private": self.private,
            "epsilon": self.epsilon,
            "test_auc": self.test_auc,
        })
    }
}

/// The largest ε that a hospital's ledger says was paid for. A run that was killed has paid for a round
/// that no report tells of.
fn paid(reader: &Reader, run: &Run) -> Result<Option<f64>, Failure> {
    let privacy = &configuration(run)["privacy"];
    let delta = privacy["delta"].as_f64().and_then(|delta| Delta::new(delta).ok());
    let accountant = privacy["accountant"].as_str().and_then(|name| name.parse::<Accountant>().ok());
    let Some((delta, accountant)) = delta.zip(accountant) else { return Ok(None) };
    let mut largest: Option<f64> = None;
    for (site, records) in reader.ledgers(&run.id).map_err(store_failure)? {
        let spent = medfed_dp::replay(&run.id, &site, &records)
            .and_then(|history| accountant.epsilon(&history, delta))
            .map_err(|error| Failure::user(error).hint("restore the results folder from a backup"))?;
        largest = Some(largest.map_or(spent.get(), |other| other.max(spent.get())));
    }
    Ok(largest)
}

fn list(rows: &[Row<'_>]) -> String {
    let head = ["ID", "NAME", "STARTED", "STATUS", "ROUNDS", "MODEL", "EPSILON", "TEST AUC"];
    let cells = rows.iter().map(|row| {
        [
            row.run.id.to_string(),
            row.run.name.clone(),
            row.run.created.to_string(),
            row.run.status.to_string(),
            row.run.rounds.to_string(),
            row.model.unwrap_or("-").to_owned(),
            row.epsilon(),
            number(row.test_auc),
        ]
    });
    table(head, cells)
}

fn end(results: &Path, id: &str, json: bool) -> Result<(), Failure> {
    // Reading first: opening for writing would make a folder that is not there.
    let run = find(&Store::read_only(results).map_err(store_failure)?, id)?;
    let store = Store::open(results).map_err(store_failure)?;
    store.abandon_run(&run.id, Timestamp::now()).map_err(|error| match error {
        StoreError::Ended { .. } => Failure::user(error).hint("there is nothing left to end"),
        _ => store_failure(error),
    })?;
    if json {
        return print(&pretty(&json!({ "id": run.id, "status": RunStatus::Failed })));
    }
    print(&format!("run {} has ended for good; its keys are gone\n", run.id))
}

/// The run with this id.
fn find(reader: &Reader, id: &str) -> Result<Run, Failure> {
    let id = RunId::try_from(id).map_err(|error| Failure::user(error).hint(LIST))?;
    reader.run(&id).map_err(|error| match &error {
        StoreError::UnknownRun { nearest: Some(nearest), .. } => {
            let hint = format!("did you mean {nearest}? {LIST}");
            Failure::user(error).hint(hint)
        }
        StoreError::UnknownRun { .. } => Failure::user(error).hint(LIST),
        _ => store_failure(error),
    })
}

fn show(reader: &Reader, id: &str, json: bool) -> Result<String, Failure> {
    let run = find(reader, id)?;
    let id = run.id.clone();
    let rounds = reader.rounds(&id).map_err(store_failure)?;
    let row = Row::of(reader, &run)?;
    if json {
        let mut shown = row.json();
        shown["seed"] = json!(run.seed);
        shown["config"] = configuration(&run).clone();
        shown["summary"] = json!(run.summary);
        shown["round_reports"] = rounds.iter().map(|round| round.report.clone()).collect();
        return Ok(pretty(&shown));
    }
    let mut facts = vec![
        ("run", run.id.to_string()),
        ("name", run.name.clone()),
        ("started", run.created.to_string()),
        ("status", run.status.to_string()),
        ("seed", run.seed.0.to_string()),
        ("model", row.model.unwrap_or("-").to_owned()),
        ("epsilon", row.epsilon()),
        ("test AUC", number(row.test_auc)),
    ];
    if let Some(finished) = run.finished {
        facts.insert(
            3,
            (if run.status == RunStatus::Interrupted { "stopped" } else { "finished" }, finished.to_string()),
        );
    }
    let statement = run.summary.as_ref().and_then(|summary| summary["privacy_statement"].as_str());
    facts.extend(statement.map(|statement| ("privacy", statement.to_owned())));
    let facts: Vec<String> = facts.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect();
    let facts = facts.concat();
    let rounds = if rounds.is_empty() { "no rounds yet\n".to_owned() } else { round_table(&rounds) };
    Ok(format!("{facts}\n{rounds}\nconfiguration\n{}", pretty(configuration(&run))))
}

fn round_table(rounds: &[Round]) -> String {
    let head =
        ["ROUND", "STATUS", "HOSPITALS", "TRAIN LOSS", "VAL LOSS", "ACCURACY", "AUC", "NOISE", "EPSILON"];
    let cells = rounds.iter().map(|round| {
        let value = |key: &str| round.report[key].as_f64();
        [
            round.round.to_string(),
            round.report["status"].as_str().unwrap_or("-").to_owned(),
            round.report["num_clients"].as_u64().map_or("-".to_owned(), |sites| sites.to_string()),
            number(value("train_loss")),
            number(value("val_loss")),
            number(value("accuracy")),
            number(value("auc")),
            number(value("noise_multiplier")),
            epsilon(value("epsilon_total")),
        ]
    });
    table(head, cells)
}

/// The configuration of a run, without what is stored beside it for resuming.
fn configuration(run: &Run) -> &Value {
    run.config.get("config").unwrap_or(&run.config)
}

/// Rounded up, so that print never understates.
fn epsilon(value: Option<f64>) -> String {
    value
        .and_then(|value| Epsilon::new(value).ok())
        .map_or("-".to_owned(), |value| format!("{:.3}", value.rounded_up(3)))
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| console::measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let padded =
            |column: usize| console::pad_str(&row[column], widths[column], console::Alignment::Left, None);
        let cells: [_; N] = std::array::from_fn(padded);
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

const LIST: &str = "`medfed runs` lists the runs of a folder; --results names another folder";
