//! How an attempt fails, whom the next one leaves out, and how a round ends.

use super::{Opening, Turn};
use crate::masking::wire::Step;
use crate::masking::{MaskingMode, Unmasked};
use crate::report::{Attempt, Revealed};
use medfed_secagg::SecaggError;
use medfed_types::SiteId;
use std::collections::{BTreeMap, BTreeSet};

impl Opening {
    /// Tries again without those who made the attempt fail, where that is safe; ends the round otherwise.
    pub(super) fn failed(self, error: SecaggError) -> Turn {
        match self.another(&error) {
            Ok(remaining) => self.again(&error, remaining),
            Err(why) => self.give_up(error, why),
        }
    }

    /// The hospitals of another attempt; why there is none otherwise.
    pub(super) fn another(&self, error: &SecaggError) -> Result<Vec<SiteId>, String> {
        let plan = &self.order.plan;
        let leaving = self.leaving(error);
        // An input that may have left is given up with its hospital, and nobody else has sent one.
        let left = self.step == Step::Mask && self.good.iter().any(|site| !leaving.contains(site));
        if left || self.step > Step::Mask {
            return Err("masked inputs have left, and none leaves twice in a round".to_owned());
        }
        if leaving.is_empty() {
            return Err("nobody is to blame, so nobody could be left out of another attempt".to_owned());
        }
        let remaining: Vec<SiteId> =
            self.cohort.iter().filter(|site| !leaving.contains(site)).cloned().collect();
        let mode = match plan.mode {
            MaskingMode::Sum => "a sum takes",
            MaskingMode::Selection => "a selection takes",
            MaskingMode::Groups => "two groups take",
        };
        let (mut needed, mut what) = (plan.min_clients, "secure_aggregation.min_clients asks for");
        let threshold = plan.threshold.unwrap_or(0);
        for (more, other) in [(threshold, "secure_aggregation.threshold asks for"), (plan.needed(1), mode)] {
            if more > needed {
                (needed, what) = (more, other);
            }
        }
        if remaining.len() >= needed {
            return Ok(remaining);
        }
        let left_out: Vec<&str> = leaving.iter().map(SiteId::as_str).collect();
        Err(format!(
            "without {} there are {}, and {what} {needed}; more hospitals, or a lower min_clients or threshold where that is safe, let a round survive this",
            left_out.join(", "),
            remaining.len()
        ))
    }

    /// Whom the next attempt leaves out: who was silent or sent what is refused, and whom the error names.
    /// Where one hospital blames another, either may lie: more accusers than there may be liars are
    /// believed, fewer leave themselves.
    fn leaving(&self, error: &SecaggError) -> BTreeSet<SiteId> {
        let liars = self.cohort.len().saturating_sub(1) / 3;
        let mut accusers: BTreeMap<&SiteId, usize> = BTreeMap::new();
        for blamed in self.out.values() {
            for site in blamed.iter().collect::<BTreeSet<_>>() {
                *accusers.entry(site).or_default() += 1;
            }
        }
        let believed = |site: &SiteId| accusers.get(site).is_some_and(|accusers| *accusers > liars);
        let out = self.out.iter().filter(|(_, blamed)| !blamed.iter().any(believed));
        let out = out.map(|(site, _)| site.clone());
        let blamed = accusers.keys().filter(|site| believed(site)).map(|site| (*site).clone());
        let all = out.chain(blamed).chain(error.culprits());
        all.filter(|site| self.cohort.contains(site)).collect()
    }

    /// Begins the next attempt.
    pub(super) fn again(mut self, error: &SecaggError, remaining: Vec<SiteId>) -> Turn {
        self.note(error);
        self.cohort = remaining;
        self.attempt += 1;
        self.out.clear();
        self.report.groups.clear();
        self.begin()
    }

    /// Ends the round after an attempt that failed.
    pub(super) fn give_up(mut self, error: SecaggError, why: String) -> Turn {
        self.note(&error);
        self.finish(Some(error), Some(why))
    }

    fn note(&mut self, error: &SecaggError) {
        let left_out = self.leaving(error).into_iter().collect();
        let (hospitals, reason) = (self.cohort.clone(), error.to_string());
        self.report.attempts.push(Attempt { hospitals, left_out, reason });
    }

    /// Ends the round. `why` says what the error does not, or why there is nothing without one.
    pub(super) fn finish(mut self, error: Option<SecaggError>, mut why: Option<String>) -> Turn {
        let (mode, by_samples) = (self.order.plan.mode, self.order.plan.by_samples);
        let mut report = self.report;
        if report.selection.is_some() {
            report.revealed.push(Revealed::InnerProducts);
        }
        if !self.opened.is_empty() {
            report.revealed.extend(match mode {
                MaskingMode::Sum if by_samples => vec![Revealed::Sum, Revealed::TotalSamples],
                MaskingMode::Sum => vec![Revealed::Sum],
                MaskingMode::Selection => vec![Revealed::SelectedSum],
                MaskingMode::Groups => vec![Revealed::GroupSums],
            });
        } else if self.total.is_some() {
            report.revealed.push(Revealed::TotalSamples);
        }
        let error = match (mode, self.opened.len()) {
            (_, 0) => error.or(self.failure.take()),
            (MaskingMode::Groups, 1) => {
                why =
                    Some("the sum of one group is left, and there is nothing to compare it with".to_owned());
                error.or(self.failure.take())
            }
            _ => error,
        };
        let opened = if error.is_none() && why.is_none() && !self.opened.is_empty() {
            report.survivors = self.opened.iter().flat_map(|mean| mean.sites.iter().cloned()).collect();
            report.survivors.sort();
            Ok(self.opened)
        } else {
            report.culprits = error.as_ref().map(SecaggError::culprits).unwrap_or_default();
            let lost: Vec<String> =
                report.lost.iter().map(|lost| format!("{}: {}", lost.hospital, lost.reason)).collect();
            let what = [error.map(|error| error.to_string()), why];
            let what: Vec<String> = what.into_iter().flatten().collect();
            let lost = if lost.is_empty() { String::new() } else { format!(" ({})", lost.join("; ")) };
            Err(format!("no sum could be opened: {}{lost}", what.join("; ")))
        };
        Turn::Done(Unmasked { opened, report, warnings: self.warnings, judgement: self.judgement })
    }
}
