//! The phase in which every hospital evaluates the new global model.

use super::training::{LocalResult, RoundOutcome};
use super::{Best, Coordinator};
use crate::error::FederationError;
use crate::evaluation::SiteEvaluation;
use crate::journal::to_bytes;
use crate::report::{
    Orchestration, RoundReport, RoundStatus, SecurityReport, SitePrivacy, SiteRound, SiteStatus,
};
use medfed_eval::{Performance, weighted_mean};
use medfed_types::{RoundId, SiteId};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A round whose new global model is being evaluated.
#[derive(Debug)]
pub struct Evaluating {
    core: Coordinator,
    round: RoundId,
    /// What training continues from.
    global: Arc<Vec<f32>>,
    /// What is evaluated and may become the best model: the average, if there is one.
    candidate: Arc<Vec<f32>>,
    local: BTreeMap<SiteId, LocalResult>,
    validation: BTreeMap<SiteId, SiteEvaluation>,
    test: Option<Performance>,
    outcome: RoundOutcome,
    status: RoundStatus,
}

impl Evaluating {
    pub(super) fn new(
        mut core: Coordinator,
        round: RoundId,
        global: Vec<f32>,
        local: BTreeMap<SiteId, LocalResult>,
        outcome: RoundOutcome,
    ) -> Self {
        let global = Arc::new(global);
        let averaged = core.average.as_mut().and_then(|average| {
            average.update(&global).expect("the average was made for this model's number of parameters");
            average.parameters().map(|mean| Arc::new(mean.to_vec()))
        });
        let candidate = averaged.unwrap_or_else(|| Arc::clone(&global));
        Self {
            core,
            round,
            global,
            candidate,
            local,
            validation: BTreeMap::new(),
            test: None,
            outcome,
            status: RoundStatus::Completed,
        }
    }

    /// A round that came to nothing and is reported all the same.
    pub(super) fn of_aborted(
        core: Coordinator,
        round: RoundId,
        local: BTreeMap<SiteId, LocalResult>,
        security: SecurityReport,
    ) -> Self {
        let (global, outcome) = (Arc::clone(&core.global), RoundOutcome { security, orchestrator: None });
        let candidate = Arc::clone(&global);
        let (validation, status) = (BTreeMap::new(), RoundStatus::Aborted);
        Self { core, round, global, candidate, local, validation, test: None, outcome, status }
    }

    /// The round.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// The parameters to evaluate.
    pub fn parameters(&self) -> &Arc<Vec<f32>> {
        &self.candidate
    }

    /// The hospitals that evaluate after this round; none where no evaluation is due.
    pub fn evaluators(&self) -> Vec<SiteId> {
        let Coordinator { members, settings, .. } = &self.core;
        settings.evaluation.choose(members, self.round, settings.rounds, settings.seed)
    }

    /// Whether the model is evaluated after this round.
    pub fn is_due(&self) -> bool {
        self.core.settings.evaluation.is_due(self.round, self.core.settings.rounds)
    }

    /// Takes a hospital's evaluation on its validation images.
    pub fn receive(&mut self, site: SiteId, evaluation: SiteEvaluation) -> Result<(), FederationError> {
        if self.core.member(&site).is_none() {
            return Err(FederationError::NotSelected { site, round: self.round });
        }
        if self.validation.contains_key(&site) {
            return Err(FederationError::SecondReply { site, round: self.round });
        }
        if let Some(plan) = &self.core.settings.evaluation.fairness {
            plan.check(&evaluation.groups)?;
        }
        self.validation.insert(site, evaluation);
        Ok(())
    }

    /// Takes the evaluation on the common test set.
    pub fn receive_test(&mut self, performance: Performance) {
        self.test = Some(performance);
    }

    /// What was wrong with the updates of this round.
    pub fn security(&self) -> &SecurityReport {
        &self.outcome.security
    }

    /// What the orchestrator decided before the round and saw after it; nothing while it is off.
    pub fn orchestration(&self) -> Option<&Orchestration> {
        self.outcome.orchestrator.as_ref()
    }

    /// Why hospitals gave no update in this round: hospital and reason.
    pub fn failures(&self) -> Vec<(SiteId, String)> {
        let failed = |(site, result): (&SiteId, &LocalResult)| match result {
            LocalResult::Failed { reason, .. } | LocalResult::Absent { reason } => {
                Some((site.clone(), reason.clone()))
            }
            _ => None,
        };
        self.local.iter().filter_map(failed).collect()
    }

    /// Ends the round.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every round")]
    pub fn commit(self) -> (Coordinator, RoundReport) {
        let hospitals: Vec<SiteRound> =
            self.core.members.iter().map(|member| self.site_round(member)).collect();
        let mean = |value: fn(&SiteRound) -> Option<f64>, weight: fn(&SiteRound) -> u64| {
            weighted_mean(hospitals.iter().map(|h| (value(h), weight(h) as f64)))
        };
        let auc = mean(|h| h.auc, |h| h.validation_images.unwrap_or(1));
        let val_loss = mean(|h| h.val_loss, |h| h.validation_images.unwrap_or(1));
        let of_privacy =
            |value: fn(&SitePrivacy) -> f64| hospitals.iter().filter_map(|h| h.privacy.as_ref()).map(value);
        let mut core = self.core;
        let plan = core.settings.evaluation.fairness(self.round, core.settings.rounds);
        let fairness = plan.filter(|_| !self.validation.is_empty()).map(|plan| {
            let measured = plan.measure(&self.validation).expect("counts were checked when they arrived");
            core.fairness.follow(plan, self.round, measured)
        });
        let report = RoundReport {
            round_num: self.round.0,
            status: self.status,
            epsilon_round: of_privacy(|p| p.epsilon_round).reduce(f64::max),
            epsilon_total: of_privacy(|p| p.spent.epsilon_total).reduce(f64::max),
            noise_multiplier: of_privacy(|p| p.spent.noise_multiplier).reduce(f64::min),
            num_clients: hospitals.iter().filter(|h| h.status == SiteStatus::Trained).count() as u64,
            train_loss: mean(|h| h.train_loss, |h| h.images_used.unwrap_or(1)),
            val_loss,
            accuracy: mean(|h| h.accuracy, |h| h.validation_images.unwrap_or(1)),
            auc,
            test_auc: self.test.as_ref().and_then(|p| p.auc.map(|auc| auc.estimate)),
            test_accuracy: self.test.as_ref().map(|p| p.accuracy.estimate),
            model_hash: hex(&Sha256::digest(to_bytes(&self.global))),
            hospitals,
            security: self.outcome.security,
            orchestrator: self.outcome.orchestrator,
            fairness,
        };
        for (site, result) in &self.local {
            // With an orchestrator more noise may pay for another round: it decides before that.
            let stays = match result {
                LocalResult::BudgetExhausted { .. } => false,
                LocalResult::Absent { .. } => true,
                _ => {
                    result.report().is_some_and(|it| it.can_continue) || core.settings.orchestrator.is_some()
                }
            };
            if !stays {
                core.left.insert(site.clone());
            }
        }
        // A round without evaluation is no better than one with.
        let evaluated = !self.validation.is_empty();
        let beats = |best: &Best| (evaluated || best.loss.is_none()) && best.is_beaten_by(auc, val_loss);
        let moved = self.status == RoundStatus::Completed;
        if moved && core.best.as_ref().is_none_or(beats) {
            core.best = Some(Best { round: self.round.0, auc, loss: val_loss, parameters: self.candidate });
        }
        core.global = self.global;
        core.done = self.round;
        core.reports.push(report.clone());
        (core, report)
    }

    fn site_round(&self, member: &super::Member) -> SiteRound {
        let site = &member.site;
        let local = self.local.get(site).and_then(LocalResult::report);
        let spent = match self.local.get(site) {
            Some(LocalResult::BudgetExhausted { privacy }) => Some(*privacy),
            _ => local.and_then(|report| report.privacy),
        };
        let before = self.core.epsilon_before(site);
        // A hospital that sat the round out has spent what it had spent before.
        let privacy = spent
            .map(|spent| SitePrivacy { epsilon_round: (spent.epsilon_total - before).max(0.0), spent })
            .or_else(|| self.core.last_privacy(site).map(|last| SitePrivacy { epsilon_round: 0.0, ..last }));
        let validation = self.validation.get(site).map(|evaluation| &evaluation.performance);
        let counted = member.train_images > 0;
        SiteRound {
            hospital: site.clone(),
            status: match self.local.get(site) {
                Some(LocalResult::Trained { .. }) => SiteStatus::Trained,
                Some(LocalResult::Excluded { .. }) => SiteStatus::Excluded,
                Some(LocalResult::Failed { .. }) => SiteStatus::Failed,
                Some(LocalResult::Absent { .. }) => SiteStatus::Absent,
                Some(LocalResult::BudgetExhausted { .. }) => SiteStatus::BudgetExhausted,
                None if self.core.left.contains(site) => SiteStatus::BudgetExhausted,
                None => SiteStatus::NotSelected,
            },
            reason: match self.local.get(site) {
                Some(LocalResult::Failed { reason, .. } | LocalResult::Absent { reason }) => {
                    Some(reason.clone())
                }
                _ => None,
            },
            train_images: counted.then_some(member.train_images),
            train_units: counted.then_some(member.train_units),
            validation_images: counted.then_some(member.validation_images),
            steps: local.map_or(0, |report| report.steps),
            images_used: local.map_or(Some(0), |report| report.images),
            train_loss: local.and_then(|report| report.train_loss),
            val_loss: validation.map(|p| p.log_loss),
            accuracy: validation.map(|p| p.accuracy.estimate),
            auc: validation.and_then(|p| p.auc).map(|auc| auc.estimate),
            update_norm: self.local.get(site).and_then(LocalResult::norm),
            clipped_fraction: local.and_then(|report| report.clipped_fraction),
            non_finite_units: local.map_or(Some(0), |report| report.non_finite_units),
            privacy,
        }
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
