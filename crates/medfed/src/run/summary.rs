//! The closing summary, in plain words.

use super::display::thousands;
use super::prepare::Folders;
use super::results::Results;
use crate::failure::Failure;
use console::style;
use medfed_eval::Interval;
use medfed_federation::Outcome;
use medfed_federation::report::{RunStatus, SiteStatus};
use std::io::Write;

/// Prints what happened, how good the model is, what protects the patients, and where everything is.
pub(super) fn print(
    results: &Results,
    outcome: &Outcome,
    folders: &Folders,
    resume: &str,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    lines(results, outcome, folders, resume)
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .map_err(Failure::internal)
}

fn lines(results: &Results, outcome: &Outcome, folders: &Folders, resume: &str) -> Vec<String> {
    let summary = &results.summary;
    let heading = match summary.status {
        RunStatus::Completed => {
            format!("Finished: {} rounds in {:.0} s.", summary.total_rounds, results.timing.total)
        }
        RunStatus::BudgetExhausted => {
            format!("Ended after {} rounds: the privacy budget allows no further step.", summary.total_rounds)
        }
        RunStatus::Interrupted => {
            format!("Interrupted after {} rounds; everything done is saved.", summary.total_rounds)
        }
        RunStatus::Aborted => format!("Stopped after {} rounds.", summary.total_rounds),
    };
    let mut lines = vec![String::new(), style(heading).bold().to_string()];
    lines.extend(outcome.reason.clone());
    if summary.status == RunStatus::Interrupted {
        lines.push(format!("Continue with: {resume}"));
    }
    lines.push(String::new());
    if let Some(test) = &outcome.test {
        let round = summary.best_round.map_or(String::new(), |round| format!(", from round {round}"));
        lines
            .push(style(format!("The model on {} test images{round}", thousands(test.n))).bold().to_string());
        match &test.auc {
            Some(auc) => lines.push(row("AUC", &interval(auc))),
            None => lines.push(row("AUC", "not defined: a class has no test image")),
        }
        lines.push(row("accuracy", &interval(&test.accuracy)));
        let rate = |name: &str, value: Option<f64>| value.map(|value| row(name, &format!("{value:.3}")));
        lines.extend(rate("sensitivity", test.sensitivity));
        lines.extend(rate("specificity", test.specificity));
        lines.push(row("calibration error", &format!("{:.3}", test.calibration_error)));
        lines.push(String::new());
    }
    if let Some(last) = results.rounds.last() {
        lines.push(style("Hospitals").bold().to_string());
        for hospital in &last.hospitals {
            let number = |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), |v| format!("{v:.3}"));
            let spent =
                outcome.spent.iter().find(|(site, _)| *site == hospital.hospital).and_then(|(_, s)| *s);
            let privacy = spent.map_or(String::new(), |spent| {
                let left = if hospital.status == SiteStatus::BudgetExhausted { ", budget spent" } else { "" };
                format!("  epsilon {:.3} spent{left}", spent.epsilon_total)
            });
            let text = format!(
                "{} images, validation AUC {}, accuracy {}{privacy}",
                thousands(hospital.train_images),
                number(hospital.auc),
                number(hospital.accuracy)
            );
            lines.push(row(hospital.hospital.as_str(), &text));
        }
        lines.push(String::new());
    }
    lines.push(style("Privacy").bold().to_string());
    lines.push(format!("  {}", summary.privacy_statement));
    if let (Some(spent), Some(budget)) = (summary.final_epsilon, summary.epsilon_budget) {
        lines.push(row("budget", &gauge(spent, budget)));
    }
    lines.push(String::new());
    lines.push(style("Written").bold().to_string());
    lines.push(row("results", &folders.results.join("results.json").display().to_string()));
    if summary.best_round.is_some() {
        lines.push(row("model", &folders.results.join("best_model.safetensors").display().to_string()));
    }
    let log = folders.logs.join(format!("simulation_{}.log", results.run.id));
    lines.push(row("log", &log.display().to_string()));
    lines.push(row("more", &format!("medfed runs show {}{}", results.run.id, runs_argument(folders))));
    lines
}

fn runs_argument(folders: &Folders) -> String {
    if folders.results.as_os_str() == "results" {
        String::new()
    } else {
        format!(" --results {}", folders.results.display())
    }
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<18} {value}")
}

fn interval(value: &Interval) -> String {
    format!("{:.3}  (95 % interval {:.3} to {:.3})", value.estimate, value.lower, value.upper)
}

/// Spent against budget as a bar of 20.
fn gauge(spent: f64, budget: f64) -> String {
    let filled = ((spent / budget * 20.0).round().clamp(0.0, 20.0)) as usize;
    format!("[{}{}] {spent:.3} of {budget}", "#".repeat(filled), ".".repeat(20 - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_fill_up() {
        assert_eq!(gauge(0.0, 8.0), "[....................] 0.000 of 8");
        assert_eq!(gauge(4.0, 8.0), "[##########..........] 4.000 of 8");
        assert_eq!(gauge(8.0, 8.0), "[####################] 8.000 of 8");
    }
}
