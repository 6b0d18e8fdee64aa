//! What happened in a round, for the journal and for whoever watches.

use crate::attack::Attackers;
use crate::coordinator::{Aborted, Coordinator, Evaluating};
use crate::error::FederationError;
use crate::journal::{Journal, Snapshot};
use crate::observer::{Observer, Progress};
use crate::report::{RoundReport, SecurityReport, SiteDecision, SiteStatus};
use crate::site::{MASKED, Site};
use medfed_dp::LedgerStorage;
use medfed_types::RoundId;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;

/// Writes to the journal first and tells the observer then.
pub(super) struct Chronicle<'a, J> {
    journal: &'a mut J,
    observer: &'a dyn Observer,
    /// Warnings that were said, without their numbers.
    said: BTreeSet<String>,
}

impl<'a, J: Journal> Chronicle<'a, J> {
    pub(super) fn new(journal: &'a mut J, observer: &'a dyn Observer) -> Self {
        Self { journal, observer, said: BTreeSet::new() }
    }

    /// The state from which the run continues in the middle of a round.
    pub(super) fn suspend(&mut self, state: &[Snapshot]) -> Result<(), FederationError> {
        self.journal.suspend(state).map_err(FederationError::journal)
    }

    /// What hospitals answered under masks, before the answers leave.
    pub(super) fn masked<S: LedgerStorage>(&mut self, sites: &[Site<S>]) -> Result<(), FederationError> {
        let records: Vec<_> = sites.iter().filter_map(|site| Some((site.owner(), site.masked()?))).collect();
        self.journal.amend(MASKED, &records).map_err(FederationError::journal)
    }

    /// The round is over.
    pub(super) fn commit(
        &mut self,
        coordinator: &Coordinator,
        report: &RoundReport,
        state: &[Snapshot],
    ) -> Result<(), FederationError> {
        self.journal.commit_round(report, state).map_err(FederationError::journal)?;
        for hospital in report.hospitals.iter().filter(|h| coordinator.has_left(&h.hospital)) {
            if hospital.status == SiteStatus::Trained && coordinator.has_rounds_left() {
                self.say(&format!("{} has spent its privacy budget and leaves", hospital.hospital));
            }
        }
        self.observer.notice(&Progress::RoundFinished { report });
        self.fairness(coordinator, report)
    }

    /// Hospitals misbehave on purpose.
    pub(super) fn attack(&mut self, attackers: &Attackers) -> Result<(), FederationError> {
        let detail = json!({ "attack": attackers.attack(), "attackers": attackers.sites() });
        self.record(RoundId(0), "attack_simulated", &detail)
    }

    /// What the orchestrator decided before `round`.
    pub(super) fn decisions(
        &mut self,
        round: RoundId,
        decisions: &[SiteDecision],
    ) -> Result<(), FederationError> {
        for decision in decisions {
            if decision.decision.is_notable() {
                self.record(round, "budget_decision", decision)?;
            }
            self.observer.notice(&Progress::Budget { round, decision });
        }
        Ok(())
    }

    /// The updates have become a step.
    pub(super) fn aggregated(&mut self, evaluating: &Evaluating) -> Result<(), FederationError> {
        let round = evaluating.round();
        self.observer.notice(&Progress::Evaluating { round });
        for (site, reason) in evaluating.failures() {
            self.say(&format!("{site}: the update was not used: {reason}"));
            self.record(round, "update_refused", &json!({ "hospital": site, "reason": reason }))?;
        }
        self.security(round, evaluating.security())?;
        if let Some(watch) = evaluating.orchestration() {
            for anomaly in &watch.anomalies {
                self.say(&format!("round {round}: {anomaly}"));
                self.record(round, "measurement_out_of_line", anomaly)?;
            }
            watch.warnings.iter().for_each(|warning| self.say_once(warning));
        }
        Ok(())
    }

    /// The round came to nothing.
    pub(super) fn aborted(&mut self, aborted: &Aborted) -> Result<(), FederationError> {
        self.security(aborted.round, &aborted.security)?;
        let detail = json!({ "reason": aborted.reason, "culprits": aborted.culprits });
        self.record(aborted.round, "round_aborted", &detail)
    }

    /// What was wrong with the updates of a round.
    fn security(&mut self, round: RoundId, security: &SecurityReport) -> Result<(), FederationError> {
        for exclusion in &security.exclusions {
            self.record(round, "update_excluded", exclusion)?;
        }
        for anomaly in &security.anomalies {
            self.record(round, "update_out_of_line", anomaly)?;
        }
        if let Some(sentence) = security.sentence() {
            self.say(&format!("round {round}: {sentence}"));
        }
        security.warnings.iter().for_each(|warning| self.say_once(warning));
        Ok(())
    }

    /// What is unfair about the model of a round, and what follows.
    fn fairness(&mut self, coordinator: &Coordinator, report: &RoundReport) -> Result<(), FederationError> {
        let (Some(plan), Some(fairness)) = (&coordinator.evaluation().fairness, &report.fairness) else {
            return Ok(());
        };
        let round = RoundId(report.round_num);
        let violations = &fairness.measured.violations;
        if plan.on_violation.warns && !violations.is_empty() {
            violations.iter().try_for_each(|found| self.record(round, "fairness_violation", found))?;
            let certain = violations.iter().filter(|found| found.confirmed).count();
            let first = violations.iter().find(|found| found.confirmed).unwrap_or(&violations[0]);
            let count = violations.len();
            self.say_once(&format!(
                "fairness: thresholds passed: {count}, of them with certainty {certain}; {first}"
            ));
        }
        if !fairness.weight_factors.is_empty() {
            self.record(round, "weights_adjusted", &fairness.weight_factors)?;
        }
        Ok(())
    }

    /// Says a warning once, not again whenever its numbers change.
    fn say_once(&mut self, warning: &str) {
        if self.said.insert(warning.chars().filter(|c| !c.is_ascii_digit()).collect()) {
            self.say(warning);
        }
    }

    fn say(&self, text: &str) {
        self.observer.notice(&Progress::Notice { text });
    }

    fn record(&mut self, round: RoundId, kind: &str, detail: &impl Serialize) -> Result<(), FederationError> {
        let detail = serde_json::to_value(detail).expect("reports are JSON with text keys");
        self.journal.event(round.0, kind, &detail).map_err(FederationError::journal)
    }
}
