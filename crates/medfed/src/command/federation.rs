//! `medfed federation`: how a federation between machines stands.

use super::coordinator::results_dir;
use crate::failure::Failure;
use crate::output::print;
use crate::run::store_failure;
use medfed_store::{Reader, Run, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Events of a run that are shown.
const EVENTS: usize = 10;

/// See how a federation between machines stands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  medfed federation status --dir /var/lib/medfed\n  \
medfed federation status --dir /var/lib/medfed --json | jq .hospitals")]
pub(crate) struct FederationCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the newest run of a coordinator's or a site's folder: rounds, hospitals, what happened last.
    Status {
        /// Folder of the coordinator or of a site
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl FederationCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Action::Status { dir, json } = self.action;
        let reader = open(&dir)?;
        let runs = reader.runs().map_err(store_failure)?;
        let Some(run) = runs.into_iter().next_back() else {
            return Err(Failure::user(anyhow::anyhow!("{} has had no run yet", dir.display()))
                .hint("start `medfed coordinator`, or wait for the coordinator's offer"));
        };
        let status = Status::read(&reader, run)?;
        if json {
            let mut text = serde_json::to_string_pretty(&status.to_json()).map_err(Failure::internal)?;
            text.push('\n');
            return print(&text);
        }
        print(&status.to_text())
    }
}

/// The store of a coordinator's or a site's folder.
fn open(dir: &Path) -> Result<Reader, Failure> {
    let site = dir.join("store");
    let store = if site.is_dir() { site } else { results_dir(dir) };
    if !store.is_dir() {
        return Err(Failure::user(anyhow::anyhow!("{} is no folder of a federation", dir.display()))
            .hint("give the folder that `medfed coordinator` or `medfed site run` was started with"));
    }
    Store::read_only(&store).map_err(store_failure)
}

struct Status {
    run: Run,
    planned: Option<u64>,
    hospitals: BTreeMap<String, Value>,
    events: Vec<Value>,
}

impl Status {
    fn read(reader: &Reader, run: Run) -> Result<Self, Failure> {
        let mut hospitals: BTreeMap<String, Value> = BTreeMap::new();
        for site in reader.site_rounds(&run.id).map_err(store_failure)? {
            let report = &site.report;
            let mut newest = json!({
                "round": site.round.0,
                "status": report["status"],
                "epsilon": report["privacy"]["epsilon_total"],
            });
            if let Some(reason) = report["reason"].as_str() {
                newest["reason"] = json!(reason);
            }
            hospitals.insert(site.site.to_string(), newest);
        }
        let events = reader.events(&run.id).map_err(store_failure)?;
        let events = events.iter().rev().take(EVENTS).rev().map(|event| {
            json!({
                "time": event.time.to_string(),
                "round": event.round,
                "kind": event.kind,
                "detail": event.detail,
            })
        });
        let planned = run.config["config"]["federated"]["num_rounds"].as_u64();
        Ok(Self { planned, hospitals, events: events.collect(), run })
    }

    fn to_json(&self) -> Value {
        let Run { id, status, rounds, created, finished, summary, .. } = &self.run;
        json!({
            "run": id,
            "status": status,
            "rounds": rounds,
            "planned": self.planned,
            "started": created.to_string(),
            "finished": finished.map(|time| time.to_string()),
            "summary": summary,
            "hospitals": self.hospitals,
            "events": self.events,
        })
    }

    fn to_text(&self) -> String {
        let Run { id, status, rounds, created, .. } = &self.run;
        let of = self.planned.map_or(String::new(), |planned| format!(" of {planned}"));
        let mut text = format!("run {id}: {status}, {rounds}{of} rounds, started {created}\n");
        // Writing to a string cannot fail.
        for (name, newest) in &self.hospitals {
            let epsilon = newest["epsilon"].as_f64();
            let epsilon = epsilon.map_or(String::new(), |epsilon| format!(", epsilon {epsilon:.3}"));
            let reason = newest["reason"].as_str().map_or(String::new(), |reason| format!(": {reason}"));
            let word = newest["status"].as_str().unwrap_or("unknown");
            let _ = writeln!(text, "  {name}  {word} in round {}{epsilon}{reason}", newest["round"]);
        }
        for event in &self.events {
            let round = event["round"].as_u64().map_or(String::new(), |round| format!(" round {round}"));
            let (time, kind) = (event["time"].as_str().unwrap_or(""), event["kind"].as_str().unwrap_or(""));
            let _ = writeln!(text, "  {time}{round} {kind} {}", event["detail"]);
        }
        text
    }
}
