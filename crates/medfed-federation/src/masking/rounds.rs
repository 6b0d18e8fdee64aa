//! The sessions of a round: numbers of samples, then one sum; or a coin, then a sum for each group.

use super::table::Table;
use super::{MaskingMode, OpenedMean, Order, Party, Unmasked};
use crate::report::{Exclusion, MaskingReport, Revealed};
use crate::site::RawUpdate;
use medfed_secagg::coordinator::OpenedSum;
use medfed_secagg::{Contribution, Input, SecaggError, SessionContext, SessionId, SessionTerms, Weighting};
use medfed_types::{SecretRng, SiteId};
use rand::Rng;
use std::collections::BTreeMap;

/// Opens the sums that `order` asks for, of the updates that hospitals hold.
///
/// `random` names the sessions. A hospital whose update does not fit the order withholds it and is named.
pub(crate) fn unmask(
    order: &Order,
    parties: BTreeMap<SiteId, &mut Party>,
    updates: &BTreeMap<SiteId, RawUpdate>,
    random: &mut SecretRng,
) -> Unmasked {
    let (plan, mut report) = (&order.plan, MaskingReport::new(order));
    let mut withheld: Vec<Exclusion> = Vec::new();
    let mut cohort: Vec<SiteId> = Vec::new();
    for (site, update) in updates {
        match unfit(order, update) {
            None => cohort.push(site.clone()),
            Some(reason) => withheld.push(Exclusion { hospital: site.clone(), reason }),
        }
    }
    report.participants.clone_from(&cohort);
    report.threshold = plan.threshold_of(cohort.len());
    let mut warnings = Vec::new();
    let opened = Table::new(parties).and_then(|mut table| {
        let mut round = Round { order, updates, table: &mut table, random, warnings: &mut warnings };
        let opened = match plan.mode {
            MaskingMode::Sum => round.sum(cohort, &mut report),
            MaskingMode::Groups => round.groups(cohort, &mut report),
        };
        report.traffic = std::mem::take(&mut table.traffic);
        withheld.append(&mut table.lost);
        opened
    });
    let opened = opened.map_err(|error| {
        report.culprits = error.culprits();
        let names: Vec<String> =
            withheld.iter().map(|Exclusion { hospital, reason }| format!("{hospital}: {reason}")).collect();
        match names.as_slice() {
            [] => format!("no sum could be opened: {error}"),
            names => format!("no sum could be opened: {error} ({})", names.join("; ")),
        }
    });
    report.lost = withheld;
    report.survivors = match &opened {
        Ok(means) => means.iter().flat_map(|mean| mean.sites.iter().cloned()).collect(),
        Err(_) => Vec::new(),
    };
    report.survivors.sort();
    Unmasked { opened, report, warnings }
}

/// Why a hospital withholds its update; nothing where it fits.
fn unfit(order: &Order, update: &RawUpdate) -> Option<String> {
    if update.delta.len() != order.parameters {
        return Some(format!("the update has {} values of {}", update.delta.len(), order.parameters));
    }
    let range = order.range.get();
    let beyond = update.delta.iter().find(|value| value.is_nan() || f64::from(value.abs()) > range);
    beyond.map(|value| {
        format!(
            "the update has the value {value:e}, beyond ±{range}; secure_aggregation.clip_range sets the range"
        )
    })
}

struct Round<'r, 'a> {
    order: &'r Order,
    updates: &'r BTreeMap<SiteId, RawUpdate>,
    table: &'r mut Table<'a>,
    random: &'r mut SecretRng,
    warnings: &'r mut Vec<String>,
}

impl Round<'_, '_> {
    fn sum(
        &mut self,
        mut cohort: Vec<SiteId>,
        report: &mut MaskingReport,
    ) -> Result<Vec<OpenedMean>, SecaggError> {
        let updates = self.updates;
        let count = |site: &SiteId| samples(&updates[site]);
        let mut weighting = Weighting::Equal;
        if self.order.plan.by_samples {
            let terms = self.terms(cohort, Contribution::Counts);
            let total = self.table.open(terms, |site| Input::Count(count(site)))?;
            cohort = total.sites();
            weighting = Weighting::Samples { total: total.samples().unwrap_or(0) };
        }
        let terms = self.terms(cohort, self.update(weighting));
        self.warn(&terms)?;
        let opened = self.table.open(terms, |site| match weighting {
            Weighting::Equal => Input::Update(&updates[site].delta),
            Weighting::Samples { .. } => {
                Input::Weighted { values: &updates[site].delta, samples: count(site) }
            }
        })?;
        report.error_bound = opened.error_bound();
        report.revealed = if self.order.plan.by_samples {
            vec![Revealed::Sum, Revealed::TotalSamples]
        } else {
            vec![Revealed::Sum]
        };
        Ok(vec![mean(&opened)])
    }

    fn groups(
        &mut self,
        cohort: Vec<SiteId>,
        report: &mut MaskingReport,
    ) -> Result<Vec<OpenedMean>, SecaggError> {
        let terms = self.terms(cohort, self.update(Weighting::Equal));
        // No key depends on the name of the toss; with the same one a repeated round has the same groups.
        let terms = SessionTerms { session: SessionId([0; 16]), ..terms };
        let whole = SessionContext::new(terms, &self.table.roster)?;
        let groups = self.table.draw(&whole, self.order.plan.least_group)?;
        report.groups = groups.groups().iter().map(|members| whole.names(*members)).collect();
        report.revealed = vec![Revealed::GroupSums];
        let updates = self.updates;
        let (mut opened, mut failure) = (Vec::new(), None);
        for terms in (0..groups.groups().len()).filter_map(|group| groups.terms(&whole, group)) {
            let terms = SessionTerms { session: self.session(), ..terms };
            self.warn(&terms)?;
            match self.table.open(terms, |site| Input::Update(&updates[site].delta)) {
                Ok(sum) => {
                    report.error_bound = report.error_bound.max(sum.error_bound());
                    opened.push(mean(&sum));
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if opened.is_empty() => Err(error),
            _ => Ok(opened),
        }
    }

    fn terms(&mut self, cohort: Vec<SiteId>, contribution: Contribution) -> SessionTerms {
        let Order { plan, round, model, .. } = self.order;
        SessionTerms {
            session: self.session(),
            round: *round,
            configuration: plan.configuration,
            model: *model,
            threshold: plan.threshold_of(cohort.len()),
            min_clients: plan.min_clients,
            noise: plan.noise,
            contribution,
            cohort,
        }
    }

    /// A name that no other session has.
    fn session(&mut self) -> SessionId {
        let mut session = [0; 16];
        self.random.fill_bytes(&mut session);
        SessionId(session)
    }

    fn update(&self, weighting: Weighting) -> Contribution {
        Contribution::Update { parameters: self.order.parameters, range: self.order.range, weighting }
    }

    fn warn(&mut self, terms: &SessionTerms) -> Result<(), SecaggError> {
        for warning in SessionContext::new(terms.clone(), &self.table.roster)?.warnings() {
            let warning = warning.to_string();
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        Ok(())
    }
}

/// The number of samples that an update weighs: what its hospital claims, which nobody can check.
fn samples(update: &RawUpdate) -> u32 {
    // A cast from a number beyond the range gives the nearest in it.
    update.weight as u32
}

fn mean(opened: &OpenedSum) -> OpenedMean {
    OpenedMean { sites: opened.sites(), mean: opened.mean().into_iter().map(|value| value as f32).collect() }
}
