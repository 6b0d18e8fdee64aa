//! `orchestrator_logs.json` in the logs folder: what the budget orchestrator decided, round by round, and
//! where the budget stands. It follows from the rounds' reports, so a resumed run writes what an
//! uninterrupted one would have written, and it is replaced as a whole after every round.

use super::results::replace_file;
use crate::failure::Failure;
use medfed_config::Config;
use medfed_dp::orchestrator::Action;
use medfed_federation::Outcome;
use medfed_federation::report::{Deviation, RoundReport, RunStatus, SiteDecision};
use medfed_types::{RunId, SiteId};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The file of one run.
#[derive(Debug)]
pub(super) struct OrchestratorLog {
    path: PathBuf,
    content: Content,
    warning: f64,
    critical: f64,
}

#[derive(Debug, Serialize)]
struct Content {
    run: RunId,
    summary: Summary,
    round_history: Vec<HistoryEntry>,
    /// Decisions by which hospitals left before a round that did not come.
    last_decisions: Vec<SiteDecision>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Summary {
    /// How the run ended; null while it goes on.
    status: Option<RunStatus>,
    strategy: &'static str,
    rounds_planned: u32,
    rounds_done: usize,
    /// Null without privacy, as all that follows about ε.
    epsilon_budget: Option<f64>,
    /// The largest at a hospital.
    epsilon_spent: Option<f64>,
    epsilon_remaining: Option<f64>,
    budget_utilization: Option<f64>,
    budget_status: Option<BudgetStatus>,
    /// The least at a hospital in the last round.
    noise_multiplier: Option<f64>,
    noise_adjustments: usize,
    warnings: usize,
    anomalies: usize,
    hospitals_left: BTreeSet<SiteId>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum BudgetStatus {
    Healthy,
    Warning,
    Critical,
    Exhausted,
}

#[derive(Debug, Serialize)]
struct HistoryEntry {
    round_num: u32,
    epsilon_round: Option<f64>,
    epsilon_total: Option<f64>,
    budget_utilization: Option<f64>,
    noise_multiplier: Option<f64>,
    decisions: Vec<SiteDecision>,
    anomalies: Vec<Deviation>,
    warnings: Vec<String>,
}

impl OrchestratorLog {
    /// The log of a run with `done` rounds behind it; none while the orchestrator is off.
    pub(super) fn new(path: PathBuf, run: RunId, config: &Config, done: &[RoundReport]) -> Option<Self> {
        let orchestrator = &config.orchestrator;
        if !orchestrator.enabled {
            return None;
        }
        let summary = Summary {
            strategy: orchestrator.strategy.as_str(),
            rounds_planned: config.federated.num_rounds,
            epsilon_budget: config.privacy.enabled.then(|| config.privacy.epsilon_budget.get()),
            ..Summary::default()
        };
        let content = Content { run, summary, round_history: Vec::new(), last_decisions: Vec::new() };
        let (warning, critical) =
            (orchestrator.budget_warning_threshold, orchestrator.budget_critical_threshold);
        let mut log = Self { path, content, warning, critical };
        for report in done {
            log.add(report);
        }
        Some(log)
    }

    /// Adds a round and writes the file.
    pub(super) fn round(&mut self, report: &RoundReport) -> Result<(), Failure> {
        self.add(report);
        self.write()
    }

    /// Adds how the run ended and writes the file.
    pub(super) fn close(&mut self, outcome: &Outcome) -> Result<(), Failure> {
        self.content.last_decisions.clone_from(&outcome.last_decisions);
        self.content.summary.status = Some(outcome.status);
        self.write()
    }

    fn add(&mut self, report: &RoundReport) {
        let budget = self.content.summary.epsilon_budget;
        let watch = report.orchestrator.as_ref();
        // A round that is done again after a crash takes the place of the first.
        self.content.round_history.retain(|round| round.round_num < report.round_num);
        self.content.round_history.push(HistoryEntry {
            round_num: report.round_num,
            epsilon_round: report.epsilon_round,
            epsilon_total: report.epsilon_total,
            budget_utilization: report.epsilon_total.zip(budget).map(|(spent, budget)| spent / budget),
            noise_multiplier: report.noise_multiplier,
            decisions: watch.map(|watch| watch.decisions.clone()).unwrap_or_default(),
            anomalies: watch.map(|watch| watch.anomalies.clone()).unwrap_or_default(),
            warnings: watch.map(|watch| watch.warnings.clone()).unwrap_or_default(),
        });
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.summarise();
        let mut text = serde_json::to_vec_pretty(&self.content).map_err(Failure::internal)?;
        text.push(b'\n');
        replace_file(&self.path, &text)
    }

    fn summarise(&mut self) {
        let Content { summary, round_history, last_decisions, .. } = &mut self.content;
        let last = round_history.last();
        let decisions =
            || round_history.iter().flat_map(|round| &round.decisions).chain(last_decisions.iter());
        summary.rounds_done = round_history.len();
        summary.epsilon_spent =
            last.and_then(|round| round.epsilon_total).or(summary.epsilon_budget.map(|_| 0.0));
        let spent = summary.epsilon_spent.zip(summary.epsilon_budget);
        summary.epsilon_remaining = spent.map(|(spent, budget)| (budget - spent).max(0.0));
        summary.budget_utilization = spent.map(|(spent, budget)| spent / budget);
        summary.noise_multiplier = last.and_then(|round| round.noise_multiplier);
        let changes =
            |decision: &&SiteDecision| matches!(decision.decision.action, Action::Raise | Action::Lower);
        summary.noise_adjustments = decisions().filter(changes).count();
        summary.warnings = decisions().filter(|decision| decision.decision.is_notable()).count();
        summary.anomalies = round_history.iter().map(|round| round.anomalies.len()).sum();
        let leaves = |decision: &&SiteDecision| decision.decision.action == Action::Leave;
        summary.hospitals_left = decisions().filter(leaves).map(|d| d.hospital.clone()).collect();
        summary.budget_status = summary.budget_utilization.map(|share| match share {
            _ if !summary.hospitals_left.is_empty() => BudgetStatus::Exhausted,
            share if share >= self.critical => BudgetStatus::Critical,
            share if share >= self.warning => BudgetStatus::Warning,
            _ => BudgetStatus::Healthy,
        });
    }
}
