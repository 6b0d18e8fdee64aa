//! The phase in which hospitals train and reply.

mod masked;

use super::admission::admit;
use super::measurements::deviations;
use super::{Coordinator, Evaluating, OnDetection};
use crate::error::FederationError;
use crate::masking::{MaskingMode, MaskingPlan, Unmasked};
use crate::report::{
    Measurement, Orchestration, PrivacySpent, RoundReport, SecurityReport, SiteDecision, SiteWeight,
};
use crate::site::{LocalReport, SiteReply, TrainRequest};
use masked::{of_selected, of_sums, result};
use medfed_aggregate::anomaly::{Detector, Finding};
use medfed_aggregate::{AggregateError, PreStep, SiteUpdate};
use medfed_dp::orchestrator::Action;
use medfed_types::{NoiseMultiplier, RoundId, SiteId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A round in which the selected hospitals train.
#[derive(Debug)]
pub struct Training {
    pub(super) core: Coordinator,
    round: RoundId,
    selected: Vec<SiteId>,
    decisions: Vec<SiteDecision>,
    replies: BTreeMap<SiteId, SiteReply>,
    unmasked: Option<Unmasked>,
    /// Hospitals that do not answer, and why.
    absent: BTreeMap<SiteId, String>,
}

/// A round that came to nothing. The model is what it was.
#[derive(Debug)]
pub struct Aborted {
    /// The coordinator as it was before the round.
    pub coordinator: Coordinator,
    /// The round.
    pub round: RoundId,
    /// Why, in a sentence without full stop.
    pub reason: String,
    /// The hospitals whose updates were missing, unusable or left out.
    pub culprits: Vec<SiteId>,
    /// Whether spent budgets alone are the cause.
    pub budget_exhausted: bool,
    /// What was wrong with the updates.
    pub security: SecurityReport,
    /// What the hospitals did.
    local: BTreeMap<SiteId, LocalResult>,
}

impl Aborted {
    /// Goes on with the next round: this one is reported as aborted, with what it cost the hospitals, and
    /// the model stays as it was.
    pub fn pass(self) -> (Coordinator, RoundReport) {
        let Self { coordinator, round, security, local, .. } = self;
        Evaluating::of_aborted(coordinator, round, local, security).commit()
    }
}

impl Training {
    pub(super) fn new(
        core: Coordinator,
        round: RoundId,
        selected: Vec<SiteId>,
        decisions: Vec<SiteDecision>,
    ) -> Self {
        Self {
            core,
            round,
            selected,
            decisions,
            replies: BTreeMap::new(),
            unmasked: None,
            absent: BTreeMap::new(),
        }
    }

    /// The round.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// The hospitals that train, in the order of their names.
    pub fn selected(&self) -> &[SiteId] {
        &self.selected
    }

    /// What the orchestrator decided about them, and about the hospitals that leave before the round.
    pub fn decisions(&self) -> &[SiteDecision] {
        &self.decisions
    }

    /// What a hospital is asked.
    pub fn request(&self, site: &SiteId) -> TrainRequest {
        TrainRequest {
            round: self.round,
            parameters: Arc::clone(&self.core.global),
            noise: self.announced(site),
        }
    }

    /// The noise that is announced to a hospital; nothing where its plan's holds.
    fn announced(&self, site: &SiteId) -> Option<NoiseMultiplier> {
        let decision = self.decisions.iter().find(|decision| decision.hospital == *site)?;
        Some(decision.decision.noise)
    }

    /// Takes a hospital's reply.
    pub fn receive(&mut self, site: SiteId, reply: SiteReply) -> Result<(), FederationError> {
        if !self.selected.contains(&site) {
            return Err(FederationError::NotSelected { site, round: self.round });
        }
        if self.replies.contains_key(&site) {
            return Err(FederationError::SecondReply { site, round: self.round });
        }
        self.replies.insert(site, reply);
        Ok(())
    }

    /// Hospitals that trained and keep their updates to themselves.
    pub fn withheld(&self) -> Vec<SiteId> {
        let kept = self.replies.iter().filter(|(_, reply)| matches!(reply, SiteReply::Withheld { .. }));
        kept.map(|(site, _)| site.clone()).collect()
    }

    /// Whether updates stay with their hospitals.
    pub fn is_masked(&self) -> bool {
        self.core.is_masked()
    }

    /// Goes on without a hospital that did not answer in time, or would not; `reason` is a sentence without
    /// full stop. A reply that is there already stays.
    pub fn miss(&mut self, site: SiteId, reason: String) {
        if self.selected.contains(&site) && !self.replies.contains_key(&site) {
            self.absent.insert(site, reason);
        }
    }

    /// Takes what was opened of the updates that hospitals withheld.
    pub fn open(&mut self, unmasked: Unmasked) {
        self.unmasked = Some(unmasked);
    }

    /// Gives the round up without an outcome: the coordinator is as it was.
    pub fn suspend(self) -> Coordinator {
        self.core
    }

    /// Checks the updates, searches them, and moves the global model by the rule's step. Aborts when too
    /// few updates can be used or when a finding is to halt the run.
    pub fn aggregate(mut self) -> Result<Evaluating, Box<Aborted>> {
        let replies = std::mem::take(&mut self.replies);
        let unmasked = self.unmasked.take();
        let masked = unmasked.is_some();
        let mut round = Round::new(&self, replies, unmasked.as_ref());
        let refused = round.security.exclusions.len();
        let (mut opened, mut judgement, mut detector) = (Vec::new(), None, None);
        if let Some(unmasked) = unmasked {
            round.security.warnings.extend(unmasked.warnings);
            round.culprits.extend(unmasked.report.culprits.iter().cloned());
            if let Some(judgement) = &unmasked.judgement {
                detector = round.judge(&self, judgement, &unmasked.report);
            }
            round.security.masking = Some(unmasked.report);
            judgement = unmasked.judgement;
            opened = match unmasked.opened {
                Ok(opened) => opened,
                Err(reason) => return Err(self.abort(reason, round)),
            };
        } else {
            detector = round.search(&self);
        }
        if let Some(reason) = round.halted.take() {
            return Err(self.abort(reason, round));
        }
        let needed = self.core.settings.min_fit.max(1);
        if round.usable() < needed {
            let reason = round.too_few(needed, self.selected.len());
            return Err(self.abort(reason, round));
        }
        let weighed = if masked { Ok(()) } else { self.core.fairness.weigh(&mut round.updates) };
        if let Err(error) = weighed {
            round.culprits.extend(culprits(&error));
            return Err(self.abort(error.to_string(), round));
        }
        let mut aggregator = self.core.aggregator.clone();
        let memory = std::mem::take(&mut self.core.spare);
        let parameters = self.core.global.len();
        let aggregated = if let Some(judgement) = &judgement {
            of_selected(opened, judgement)
        } else if masked {
            of_sums(&mut aggregator, opened, self.round, parameters)
        } else {
            aggregator.refuse(refused);
            aggregator.suspect(round.security.exclusions.len() - refused);
            aggregator.aggregate_into(memory, &round.updates, self.round, parameters)
        };
        let aggregate = match aggregated {
            Ok(aggregate) => aggregate,
            Err(error) => {
                round.culprits.extend(culprits(&error));
                return Err(self.abort(error.to_string(), round));
            }
        };
        let weights = aggregate.shares.into_iter();
        round.security.weights = weights.map(|(hospital, weight)| SiteWeight { hospital, weight }).collect();
        round.security.warnings.extend(aggregate.warnings.iter().map(ToString::to_string));
        let orchestrator = round.watch(&self);
        let mut global = self.core.global.to_vec();
        for (parameter, step) in global.iter_mut().zip(&aggregate.step) {
            *parameter += step;
        }
        let mut core = self.core;
        core.aggregator = aggregator;
        core.spare = aggregate.step;
        core.detector = detector;
        let remembers = |plan: &MaskingPlan| plan.selection.is_some_and(|rule| rule.remembers());
        if let Some(judgement) = judgement.filter(|_| core.settings.masking.as_ref().is_some_and(remembers)) {
            core.past = core.past.with_round(&judgement.opened);
        }
        let leaving = self.decisions.into_iter().filter(|d| d.decision.action == Action::Leave);
        core.left.extend(leaving.map(|decision| decision.hospital));
        let outcome = RoundOutcome { security: round.security, orchestrator };
        Ok(Evaluating::new(core, self.round, global, round.local, outcome))
    }

    fn abort(self, reason: String, round: Round) -> Box<Aborted> {
        let Round { culprits, exhausted, security, local, .. } = round;
        Box::new(Aborted {
            coordinator: self.core,
            local,
            round: self.round,
            reason,
            budget_exhausted: exhausted > 0 && exhausted == culprits.len(),
            culprits: culprits.into_iter().collect(),
            security,
        })
    }
}

/// What a round says besides what the hospitals did.
#[derive(Debug)]
pub(super) struct RoundOutcome {
    pub(super) security: SecurityReport,
    pub(super) orchestrator: Option<Orchestration>,
}

/// The replies of a round, sorted.
struct Round {
    /// In the order of the hospitals' names.
    updates: Vec<SiteUpdate>,
    local: BTreeMap<SiteId, LocalResult>,
    security: SecurityReport,
    culprits: BTreeSet<SiteId>,
    /// Hospitals whose budget allows nothing.
    exhausted: usize,
    halted: Option<String>,
}

impl Round {
    fn new(
        training: &Training,
        mut replies: BTreeMap<SiteId, SiteReply>,
        unmasked: Option<&Unmasked>,
    ) -> Self {
        let core = &training.core;
        let security = SecurityReport { aggregation_method: method(core), ..SecurityReport::default() };
        let mut round = Self {
            updates: Vec::new(),
            local: BTreeMap::new(),
            security,
            culprits: BTreeSet::new(),
            exhausted: 0,
            halted: None,
        };
        for site in &training.selected {
            let result = match replies.remove(site) {
                Some(SiteReply::Trained { update, report }) => {
                    let member = core.member(site).expect("hospitals are selected among the members");
                    let parameters = core.global.len();
                    let admitted = admit(member, update, training.round, parameters, &mut round.security);
                    if let Some(update) = admitted {
                        let norm = update.norm();
                        round.updates.push(update);
                        LocalResult::Trained { report, norm: Some(norm) }
                    } else {
                        round.culprits.insert(site.clone());
                        LocalResult::Excluded { report, norm: None }
                    }
                }
                Some(SiteReply::Withheld { report }) => {
                    let result = result(unmasked, site, report);
                    if !matches!(result, LocalResult::Trained { .. }) {
                        round.culprits.insert(site.clone());
                    }
                    result
                }
                Some(SiteReply::BudgetExhausted { privacy }) => {
                    round.exhausted += 1;
                    round.culprits.insert(site.clone());
                    LocalResult::BudgetExhausted { privacy }
                }
                Some(SiteReply::Failed { reason, report }) => {
                    round.culprits.insert(site.clone());
                    LocalResult::Failed { reason, report }
                }
                None => {
                    round.culprits.insert(site.clone());
                    let Some(reason) = training.absent.get(site) else { continue };
                    LocalResult::Absent { reason: reason.clone() }
                }
            };
            round.local.insert(site.clone(), result);
        }
        round
    }

    /// Searches the updates and does what the settings say about findings. Gives the detector after the
    /// round.
    fn search(&mut self, training: &Training) -> Option<Detector> {
        let core = &training.core;
        let detector = core.detector.as_ref()?;
        let inspection = detector.inspect(&self.updates, &training.expected());
        self.security.warnings.extend(inspection.warnings.iter().map(ToString::to_string));
        let mut found: BTreeMap<SiteId, Vec<String>> = BTreeMap::new();
        for finding in &inspection.findings {
            found.entry(finding.site.clone()).or_default().push(finding.to_string());
        }
        self.security.find(inspection.findings);
        match core.settings.on_detection {
            OnDetection::Exclude => {
                self.updates.retain(|update| !found.contains_key(update.site()));
                for (site, reasons) in found {
                    let prefix = format!("{site}: ");
                    let reasons: Vec<&str> =
                        reasons.iter().map(|reason| reason.strip_prefix(&prefix).unwrap_or(reason)).collect();
                    self.security.exclude(site.clone(), reasons.join(", "));
                    self.culprits.insert(site.clone());
                    if let Some(LocalResult::Trained { report, norm }) = self.local.remove(&site) {
                        self.local.insert(site, LocalResult::Excluded { report, norm });
                    }
                }
            }
            OnDetection::Halt if !self.security.anomalies.is_empty() => {
                self.halted = Some(out_of_line(&self.security.anomalies));
                self.culprits.extend(self.security.anomalies.iter().map(|finding| finding.site.clone()));
            }
            OnDetection::Flag | OnDetection::Halt => {}
        }
        Some(inspection.next)
    }

    /// Hospitals whose updates the rule worked on.
    fn usable(&self) -> usize {
        let trained = |result: &&LocalResult| matches!(result, LocalResult::Trained { .. });
        if self.security.masking.is_some() {
            self.local.values().filter(trained).count()
        } else {
            self.updates.len()
        }
    }

    fn too_few(&self, needed: usize, asked: usize) -> String {
        let mut reason =
            format!("{} of {asked} hospitals sent a usable update, {needed} are needed", self.usable());
        if let Some(sentence) = self.security.sentence() {
            reason = format!("{reason} ({sentence})");
        }
        reason
    }

    /// The orchestrator's part of the report, with what is out of line among the measurements.
    fn watch(&self, training: &Training) -> Option<Orchestration> {
        let settings = &training.core.settings;
        let strategy = settings.orchestrator?.terms().strategy;
        let decisions = training.decisions.clone();
        let mut watch = Orchestration { strategy, decisions, anomalies: Vec::new(), warnings: Vec::new() };
        let Some(threshold) = settings.measurement_threshold else { return Some(watch) };
        for measurement in [Measurement::TrainLoss, Measurement::UpdateNorm, Measurement::ClippedFraction] {
            let values: Vec<(SiteId, f64)> = (self.local.iter())
                .filter_map(|(site, result)| Some((site.clone(), result.measured(measurement)?)))
                .collect();
            if values.is_empty() {
                continue;
            }
            match deviations(measurement, &values, threshold) {
                Ok(found) => watch.anomalies.extend(found),
                Err(blind) if watch.warnings.contains(&blind) => {}
                Err(blind) => watch.warnings.push(blind),
            }
        }
        Some(watch)
    }
}

fn out_of_line(findings: &[Finding]) -> String {
    let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
    format!("updates are out of line ({})", found.join("; "))
}

/// The rule and what comes before it, for reports.
fn method(core: &Coordinator) -> String {
    let rule = match core.aggregator.pre() {
        PreStep::None => core.aggregator.rule().to_string(),
        pre => format!("{} after {pre}", core.aggregator.rule()),
    };
    match core.settings.masking.as_ref().map(|masking| masking.mode) {
        None => rule,
        Some(MaskingMode::Selection) => format!("{rule}, on opened inner products and one masked sum"),
        Some(MaskingMode::Sum) => format!("{rule}, on one masked sum"),
        Some(MaskingMode::Groups) => format!("{rule}, on masked sums of groups"),
    }
}

/// What a selected hospital's local training came to.
#[derive(Debug)]
pub(super) enum LocalResult {
    Trained { report: LocalReport, norm: Option<f64> },
    Excluded { report: LocalReport, norm: Option<f64> },
    BudgetExhausted { privacy: PrivacySpent },
    Failed { reason: String, report: LocalReport },
    Absent { reason: String },
}

impl LocalResult {
    /// What the hospital says about it, where it trained.
    pub(super) fn report(&self) -> Option<&LocalReport> {
        match self {
            Self::Trained { report, .. } | Self::Excluded { report, .. } | Self::Failed { report, .. } => {
                Some(report)
            }
            Self::BudgetExhausted { .. } | Self::Absent { .. } => None,
        }
    }

    /// L2 norm of the update, where there is one.
    pub(super) fn norm(&self) -> Option<f64> {
        match self {
            Self::Trained { norm, .. } | Self::Excluded { norm, .. } => *norm,
            _ => None,
        }
    }

    fn measured(&self, measurement: Measurement) -> Option<f64> {
        let report = self.report()?;
        let value = match measurement {
            Measurement::TrainLoss => report.train_loss?,
            Measurement::UpdateNorm => self.norm()?,
            Measurement::ClippedFraction => report.clipped_fraction?,
        };
        value.is_finite().then_some(value)
    }
}

fn culprits(error: &AggregateError) -> Vec<SiteId> {
    match error {
        AggregateError::NotFinite { site, .. }
        | AggregateError::Weight { site, .. }
        | AggregateError::Length { site, .. }
        | AggregateError::Round { site, .. }
        | AggregateError::Duplicate { site } => vec![site.clone()],
        AggregateError::NobodyLeft { sites, .. } => sites.clone(),
        _ => Vec::new(),
    }
}
