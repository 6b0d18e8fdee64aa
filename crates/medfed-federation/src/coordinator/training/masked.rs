//! What the coordinator asks for under masks, and what it makes of what is opened.

use super::{LocalResult, Round, Training, out_of_line};
use crate::coordinator::admission::expected;
use crate::coordinator::{Member, OnDetection};
use crate::error::FederationError;
use crate::journal::to_bytes;
use crate::masking::{Judgement, MaskingPlan, OpenedMean, Order, Prospect, Unmasked, norm_of, range_of};
use crate::report::MaskingReport;
use crate::site::LocalReport;
use medfed_aggregate::anomaly::{Detector, Expected};
use medfed_aggregate::selection::{NotSelected, ProductHistory, SelectionRule};
use medfed_aggregate::{Aggregate, AggregateError, Aggregator, Rule, RuleWarning, SiteUpdate};
use medfed_secagg::Digest;
use medfed_types::{RoundId, SiteId};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

impl Training {
    /// What the hospitals are asked to sum under masks once they have trained; nothing where updates are
    /// open.
    pub fn order(&self) -> Result<Option<Order>, FederationError> {
        let Some(plan) = &self.core.settings.masking else { return Ok(None) };
        let global = &self.core.global;
        let largest = global.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let members = self.selected.iter().filter_map(|site| self.core.member(site));
        let members = members.map(|member| (member, self.announced(&member.site)));
        let range = plan.clip_range.or_else(|| range_of(members, self.round, f64::from(largest)));
        let range = range.ok_or_else(|| FederationError::Setting {
            key: "secure_aggregation.clip_range",
            problem: "no range follows from the training plan; set one".to_owned(),
        })?;
        let model = Digest::new(Sha256::digest(to_bytes(global)).into());
        let (round, parameters) = (self.round, global.len());
        let prospect = plan.selection.map(|rule| self.prospect(plan, rule)).transpose()?;
        Ok(Some(Order { plan: plan.clone(), round, model, parameters, range, prospect }))
    }

    /// What a selection among masked updates goes by.
    fn prospect(&self, plan: &MaskingPlan, rule: SelectionRule) -> Result<Prospect, FederationError> {
        let members = || self.selected.iter().filter_map(|site| self.core.member(site));
        let with_noise = members().map(|member| (member, self.announced(&member.site)));
        let squares = self.core.global.iter().map(|value| f64::from(*value).powi(2));
        let length = squares.sum::<f64>().sqrt();
        let norm = plan.norm_bound.or_else(|| norm_of(with_noise, self.round, length));
        let norm = norm.ok_or_else(|| FederationError::Setting {
            key: "secure_aggregation.norm_bound",
            problem: "no bound follows from the training plan; set one".to_owned(),
        })?;
        let past = if rule.remembers() { self.core.past.clone() } else { ProductHistory::default() };
        Ok(Prospect { norm, expected: self.expected(), past })
    }

    /// What an honest update of each selected hospital looks like.
    pub(super) fn expected(&self) -> BTreeMap<SiteId, Expected> {
        let members = self.selected.iter().filter_map(|site| self.core.member(site));
        let of = |member: &Member| {
            (member.site.clone(), expected(member, self.round, self.announced(&member.site)))
        };
        members.map(of).collect()
    }
}

impl Round {
    /// Takes note of what was opened to select among masked updates. Gives the detector after the round.
    ///
    /// What follows from the round alone was decided by everyone; the comparison with each hospital's past is
    /// the coordinator's own, who reports it and can halt.
    pub(super) fn judge(
        &mut self,
        training: &Training,
        judgement: &Judgement,
        report: &MaskingReport,
    ) -> Option<Detector> {
        let Judgement { opened, verdict } = judgement;
        self.security.warnings.extend(verdict.warnings.iter().map(ToString::to_string));
        let (too_long, suspects) = match &report.selection {
            Some(selection) => (selection.too_long.as_slice(), selection.suspects.as_slice()),
            None => (&[][..], &[][..]),
        };
        for site in too_long {
            self.security.exclude(site.clone(), "its update is longer than was agreed".to_owned());
        }
        for site in suspects {
            let warning = format!("the shares of inner products that {site} sent do not fit the others'");
            self.security.warnings.push(warning);
        }
        for passed in &verdict.passed_over {
            if let NotSelected::OutOfLine { .. } = passed.reason {
                self.security.exclude(passed.site.clone(), passed.reason.to_string());
            }
        }
        for (site, found) in opened.norms() {
            if let Some(LocalResult::Trained { norm, .. } | LocalResult::Excluded { norm, .. }) =
                self.local.get_mut(site)
            {
                *norm = Some(found);
            }
        }
        let Some(detector) = &training.core.detector else {
            self.security.find(verdict.findings.iter().cloned());
            return None;
        };
        let inspection = detector.inspect_products(opened, &training.expected());
        self.security.warnings.extend(inspection.warnings.iter().map(ToString::to_string));
        let halts = training.core.settings.on_detection == OnDetection::Halt;
        if halts && !inspection.findings.is_empty() {
            self.halted = Some(out_of_line(&inspection.findings));
            self.culprits.extend(inspection.findings.iter().map(|finding| finding.site.clone()));
        }
        self.security.find(inspection.findings);
        Some(inspection.next)
    }
}

/// The step of opened sums. One sum is the step; of several, the rule makes one.
pub(super) fn of_sums(
    aggregator: &mut Aggregator,
    mut opened: Vec<OpenedMean>,
    round: RoundId,
    parameters: usize,
) -> Result<Aggregate, AggregateError> {
    if opened.len() == 1 && aggregator.needed() <= 1 {
        let OpenedMean { sites, mean } = opened.remove(0);
        let mut warnings = Vec::new();
        if let Rule::TrimmedMean { ratio } = aggregator.rule() {
            let (hospitals, from) = (sites.len(), ratio.trims_from());
            warnings.push(RuleWarning::TrimsNobody { ratio: ratio.get(), hospitals, from });
        }
        let shares = sites.into_iter().map(|site| (site, None)).collect();
        return Ok(Aggregate { step: mean, shares, warnings });
    }
    // In the order of the first hospitals' names, so that groups of one round have distinct names.
    opened.sort_by(|a, b| a.sites.cmp(&b.sites));
    let members: Vec<Vec<SiteId>> = opened.iter().map(|group| group.sites.clone()).collect();
    let updates = opened.into_iter().map(|OpenedMean { sites, mean }| {
        let Some(first) = sites.first() else { return Err(AggregateError::Empty) };
        SiteUpdate::new(first.clone(), round, mean, sites.len() as f64)
    });
    let updates = updates.collect::<Result<Vec<_>, _>>()?;
    let mut aggregate = aggregator.aggregate(&updates, round, parameters)?;
    // What a group weighs is divided among its hospitals.
    let shares = std::mem::take(&mut aggregate.shares).into_iter().zip(members);
    aggregate.shares = shares
        .flat_map(|((_, share), members)| {
            let each = share.map(|share| share / members.len() as f64);
            members.into_iter().map(move |site| (site, each))
        })
        .collect();
    aggregate.shares.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(aggregate)
}

/// The step of selected updates: their mean.
pub(super) fn of_selected(
    mut opened: Vec<OpenedMean>,
    judgement: &Judgement,
) -> Result<Aggregate, AggregateError> {
    let OpenedMean { sites, mean } = opened.pop().ok_or(AggregateError::Empty)?;
    let share = 1.0 / sites.len() as f64;
    let compared = judgement.opened.sites().iter();
    let shares = compared.map(|site| (site.clone(), Some(if sites.contains(site) { share } else { 0.0 })));
    Ok(Aggregate { step: mean, shares: shares.collect(), warnings: Vec::new() })
}

/// What became of an update that left under masks, or did not.
pub(super) fn result(unmasked: Option<&Unmasked>, site: &SiteId, report: LocalReport) -> LocalResult {
    let opened = unmasked.filter(|it| it.opened.is_ok());
    let judged = opened.and_then(|it| it.judgement.as_ref());
    let selection = unmasked.and_then(|it| it.report.selection.as_ref());
    if selection.is_some_and(|selection| selection.too_long.contains(site)) {
        return LocalResult::Excluded { report, norm: None };
    }
    let passed = judged.and_then(|it| it.verdict.passed_over.iter().find(|passed| passed.site == *site));
    match passed.map(|passed| &passed.reason) {
        Some(NotSelected::OutOfLine { .. }) => return LocalResult::Excluded { report, norm: None },
        // The rule worked on it and preferred others, as on open updates.
        Some(_) => return LocalResult::Trained { report, norm: None },
        None => {}
    }
    if opened.is_some_and(|it| it.report.survivors.contains(site)) {
        return LocalResult::Trained { report, norm: None };
    }
    LocalResult::Failed { reason: withheld(unmasked, site), report }
}

/// Why the update of a hospital is in no opened sum.
fn withheld(unmasked: Option<&Unmasked>, site: &SiteId) -> String {
    let lost = unmasked.and_then(|it| it.report.lost.iter().find(|lost| lost.hospital == *site));
    match (lost, unmasked.map(|it| &it.opened)) {
        (Some(lost), _) => lost.reason.clone(),
        (None, Some(Err(reason))) => reason.clone(),
        _ => "no sum with its update was opened".to_owned(),
    }
}
