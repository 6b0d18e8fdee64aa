//! The closing summary, in plain words.

use super::display::{epsilon, thousands};
use super::evaluation::{fairness_path, plots_path};
use super::prepare::{Folders, shell_word};
use super::results::Results;
use crate::evaluation::performance;
use crate::failure::Failure;
use crate::output;
use console::style;
use medfed_config::section::Metric;
use medfed_federation::Outcome;
use medfed_federation::attack::{AttackReport, BACKDOOR_TARGET};
use medfed_federation::report::{RunStatus, SecuritySummary, SiteStatus};
use medfed_types::SiteId;
use std::collections::BTreeMap;

/// Columns for the name of a value.
const ROW: usize = 18;

/// Prints what happened, how good the model is, what protects the patients, and where everything is, if it
/// stays.
pub(super) fn print(
    results: &Results,
    outcome: &Outcome,
    folders: Option<&Folders>,
    metrics: &[Metric],
) -> Result<(), Failure> {
    output::print(&(lines(results, outcome, folders, metrics).join("\n") + "\n"))
}

fn lines(results: &Results, outcome: &Outcome, folders: Option<&Folders>, metrics: &[Metric]) -> Vec<String> {
    let summary = &results.summary;
    let heading = match summary.status {
        RunStatus::Completed => {
            format!("Finished: {} in {:.0} s.", rounds(summary.total_rounds), results.timing.total)
        }
        RunStatus::BudgetExhausted => {
            format!(
                "Ended after {}: the privacy budget allows no further step.",
                rounds(summary.total_rounds)
            )
        }
        RunStatus::Interrupted => {
            format!("Interrupted after {}; everything done is saved.", rounds(summary.total_rounds))
        }
        RunStatus::Aborted | RunStatus::Halted => {
            format!("Stopped after {}.", rounds(summary.total_rounds))
        }
    };
    let mut lines = vec![String::new(), style(heading).bold().to_string()];
    lines.extend(outcome.reason.clone());
    lines.push(String::new());
    if let Some(test) = &outcome.test {
        let round = summary.best_round.map_or(String::new(), |round| format!(", from round {round}"));
        lines
            .push(style(format!("The model on {} test images{round}", thousands(test.n))).bold().to_string());
        let details = outcome.evaluation.as_ref().and_then(|found| found.test.as_ref());
        let chosen = performance::chosen(metrics, test, details);
        lines.extend(chosen.into_iter().map(|(name, value)| row(name, &value)));
        lines.push(String::new());
    }
    if let Some(simulated) = &summary.simulated_attack {
        lines.extend(attack(simulated));
    }
    if let Some(last) = results.rounds.last() {
        lines.push(style("Hospitals").bold().to_string());
        // Of the model that is saved, which need not be the last one.
        let saved = |site: &SiteId| {
            let all = outcome.evaluation.iter().flat_map(|found| &found.hospitals);
            let performance = all.filter(|found| found.hospital == *site).map(|found| &found.performance);
            performance.map(|p| (p.auc.map(|auc| auc.estimate), Some(p.accuracy.estimate))).next()
        };
        let widest = last.hospitals.iter().map(|hospital| hospital.hospital.as_str().len()).max();
        let width = widest.unwrap_or(0).max(ROW);
        for hospital in &last.hospitals {
            let number = |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), |v| format!("{v:.3}"));
            let spent =
                outcome.spent.iter().find(|(site, _)| *site == hospital.hospital).and_then(|(_, s)| *s);
            let privacy = spent.map_or(String::new(), |spent| {
                let leaves = outcome.last_decisions.iter().any(|leaves| leaves.hospital == hospital.hospital);
                let left = leaves || hospital.status == SiteStatus::BudgetExhausted;
                let left = if left { ", budget spent" } else { "" };
                format!("  epsilon {} spent{left}", epsilon(spent.epsilon_total))
            });
            let (auc, accuracy) = saved(&hospital.hospital).unwrap_or((hospital.auc, hospital.accuracy));
            let images = hospital.train_images.map_or_else(|| "–".to_owned(), thousands);
            let text = format!(
                "{images} images, validation AUC {}, accuracy {}{privacy}",
                number(auc),
                number(accuracy)
            );
            lines.push(format!("  {:<width$} {text}", hospital.hospital.as_str()));
        }
        lines.push(String::new());
    }
    if let Some(fairness) = outcome.evaluation.as_ref().and_then(|found| found.fairness.as_ref()) {
        lines.extend(crate::evaluation::fairness::lines(fairness));
        lines.push(String::new());
    }
    let found = &summary.security;
    if found.byzantine_detected || !found.without_weight.is_empty() || !found.lost.is_empty() {
        lines.extend(security(found));
    }
    lines.push(style("Privacy").bold().to_string());
    lines.extend(wrapped(&summary.privacy_statement));
    if let (Some(spent), Some(budget)) = (summary.final_epsilon, summary.epsilon_budget) {
        lines.push(row("budget", &gauge(spent, budget)));
    }
    if let Some(folders) = folders {
        lines.extend(written(results, outcome, folders));
    }
    lines
}

/// Where everything is.
fn written(results: &Results, outcome: &Outcome, folders: &Folders) -> Vec<String> {
    let mut lines = vec![String::new(), style("Written").bold().to_string()];
    lines.push(row("results", &folders.results.join("results.json").display().to_string()));
    if results.summary.best_round.is_some() {
        lines.push(row("model", &folders.results.join("best_model.safetensors").display().to_string()));
    }
    if let Some(found) = &outcome.evaluation {
        if found.fairness.is_some() {
            lines.push(row("fairness", &fairness_path(&folders.results).display().to_string()));
        }
        lines.push(row("plots", &plots_path(&folders.results).display().to_string()));
    }
    let log = folders.logs.join(format!("simulation_{}.log", results.run.id));
    lines.push(row("log", &log.display().to_string()));
    if folders.results.join("audit").join(results.run.id.as_str()).is_dir() {
        let verify = format!("medfed audit verify {}", shell_word(&folders.results));
        lines.push(row("audit log", &format!("{verify} --run {}", results.run.id)));
    }
    if results.rounds.iter().any(|round| round.orchestrator.is_some()) {
        lines.push(row("decisions", &folders.logs.join("orchestrator_logs.json").display().to_string()));
    }
    lines.push(row("report", &format!("medfed report {}{}", results.run.id, runs_argument(folders))));
    lines.push(row("more", &format!("medfed runs show {}{}", results.run.id, runs_argument(folders))));
    lines
}

/// What was simulated, so that nobody takes the model for a good one.
fn attack(simulated: &AttackReport) -> Vec<String> {
    let names: Vec<&str> = simulated.attackers.iter().map(SiteId::as_str).collect();
    let mut lines = vec![
        style("Simulated attack").bold().to_string(),
        row(simulated.attack.as_str(), &format!("by {}; do not use this model", names.join(", "))),
    ];
    if let Some(backdoor) = &simulated.backdoor {
        let text = format!(
            "{:.1} % of {} test images of other classes are read as class {BACKDOOR_TARGET} with the trigger, {:.1} % without",
            backdoor.with_trigger * 100.0,
            thousands(backdoor.images),
            backdoor.without_trigger * 100.0
        );
        lines.push(row("backdoor", &text));
    }
    lines.push(String::new());
    lines
}

/// Whose updates were left out or out of line, and how often.
fn security(found: &SecuritySummary) -> Vec<String> {
    let times = |sites: &BTreeMap<SiteId, u32>| {
        let each: Vec<String> =
            sites.iter().map(|(site, times)| format!("{site} in {}", rounds(*times))).collect();
        each.join(", ")
    };
    let mut lines = vec![style("Security").bold().to_string(), row("aggregation", &found.aggregation_method)];
    if !found.excluded_clients.is_empty() {
        lines.push(row("left out", &times(&found.excluded_clients)));
    }
    if !found.lost.is_empty() {
        lines.push(row("no update", &format!("{} withheld it or dropped out", times(&found.lost))));
    }
    if !found.without_weight.is_empty() {
        lines.push(row("not selected", &times(&found.without_weight)));
    }
    if !found.anomalies.is_empty() {
        lines.push(row("out of line", &times(&found.anomalies)));
    }
    lines.push(String::new());
    lines
}

/// `1 round`, `5 rounds`.
pub(super) fn rounds(number: u32) -> String {
    if number == 1 { "1 round".to_owned() } else { format!("{number} rounds") }
}

fn runs_argument(folders: &Folders) -> String {
    if folders.results.as_os_str() == "results" {
        String::new()
    } else {
        format!(" --results {}", shell_word(&folders.results))
    }
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<ROW$} {value}")
}

/// Spent against budget as a bar of 20.
fn gauge(spent: f64, budget: f64) -> String {
    let filled = ((spent / budget * 20.0).round().clamp(0.0, 20.0)) as usize;
    format!("[{}{}] {} of {budget}", "#".repeat(filled), ".".repeat(20 - filled), epsilon(spent))
}

/// Text in indented lines of at most 96 columns, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= 96 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("  {word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_broken_between_words() {
        let text = "word ".repeat(50);
        let lines = wrapped(text.trim());
        assert!(lines.iter().all(|line| line.len() <= 96 && line.starts_with("  word")));
        assert_eq!(lines.join(" ").matches("word").count(), 50);
    }

    #[test]
    fn gauges_fill_up() {
        assert_eq!(gauge(0.0, 8.0), "[....................] 0.000 of 8");
        assert_eq!(gauge(4.0, 8.0), "[##########..........] 4.000 of 8");
        assert_eq!(gauge(8.0, 8.0), "[####################] 8.000 of 8");
    }
}
