//! How a round's updates became one step, and what was wrong with them.

use super::MaskingReport;
use medfed_aggregate::anomaly::Finding;
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The `security` object of a round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SecurityReport {
    /// Whether an update was left out or anything about an update was out of line.
    pub byzantine_detected: bool,
    /// Hospitals whose update was left out, in the order of their names.
    pub excluded_clients: Vec<SiteId>,
    /// Why each of them was.
    pub exclusions: Vec<Exclusion>,
    /// What the detector found, and what about a refused update's numbers was impossible.
    pub anomalies: Vec<Finding>,
    /// The rule that made the step, with its parameters, and the step before it.
    pub aggregation_method: String,
    /// The weight of each hospital's update in the step.
    pub weights: Vec<SiteWeight>,
    /// What the rule and the detector could not do.
    pub warnings: Vec<String>,
    /// How sums were opened under masks; null where updates are open.
    #[serde(default)]
    pub masking: Option<MaskingReport>,
}

/// An update that was left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exclusion {
    /// Whose.
    pub hospital: SiteId,
    /// Why, in a sentence without full stop.
    pub reason: String,
}

/// A hospital's part in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteWeight {
    /// The hospital.
    pub hospital: SiteId,
    /// Its weight; null where each coordinate of the step has weights of its own.
    pub weight: Option<f64>,
}

/// The `security` object of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SecuritySummary {
    /// Whether anything was wrong with an update in any round.
    pub byzantine_detected: bool,
    /// Rounds in which a hospital's update was left out, by hospital.
    pub excluded_clients: BTreeMap<SiteId, u32>,
    /// Rounds in which the rule gave a hospital's update no weight, by hospital.
    #[serde(default)]
    pub without_weight: BTreeMap<SiteId, u32>,
    /// Rounds in which a hospital withheld its update from a masked sum or dropped out of it, by hospital.
    #[serde(default)]
    pub lost: BTreeMap<SiteId, u32>,
    /// Rounds in which something about a hospital's update was out of line, by hospital.
    pub anomalies: BTreeMap<SiteId, u32>,
    /// The rule that made the steps.
    pub aggregation_method: String,
    /// Every warning of a rule or a detector, once.
    pub warnings: BTreeSet<String>,
    /// The round that could not be finished, if there is one.
    pub aborted_round: Option<SecurityReport>,
}

impl SecuritySummary {
    /// Puts the rounds together, and the one that was aborted.
    pub fn of<'a>(
        rounds: impl Iterator<Item = &'a SecurityReport>,
        aborted_round: Option<&'a SecurityReport>,
    ) -> Self {
        let mut summary = Self { aborted_round: aborted_round.cloned(), ..Self::default() };
        for round in rounds.chain(aborted_round) {
            summary.byzantine_detected |= round.byzantine_detected;
            for site in &round.excluded_clients {
                *summary.excluded_clients.entry(site.clone()).or_default() += 1;
            }
            for weight in round.weights.iter().filter(|it| it.weight == Some(0.0)) {
                *summary.without_weight.entry(weight.hospital.clone()).or_default() += 1;
            }
            for lost in round.masking.iter().flat_map(|masking| &masking.lost) {
                *summary.lost.entry(lost.hospital.clone()).or_default() += 1;
            }
            for site in round.anomalies.iter().map(|finding| &finding.site).collect::<BTreeSet<_>>() {
                *summary.anomalies.entry(site.clone()).or_default() += 1;
            }
            summary.aggregation_method.clone_from(&round.aggregation_method);
            summary.warnings.extend(round.warnings.iter().cloned());
        }
        summary
    }
}

impl SecurityReport {
    /// Notes that an update is left out.
    pub(crate) fn exclude(&mut self, hospital: SiteId, reason: String) {
        self.byzantine_detected = true;
        if !self.excluded_clients.contains(&hospital) {
            self.excluded_clients.push(hospital.clone());
            self.excluded_clients.sort();
        }
        self.exclusions.push(Exclusion { hospital, reason });
    }

    /// Notes what is out of line.
    pub(crate) fn find(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.anomalies.extend(findings);
        self.byzantine_detected |= !self.anomalies.is_empty();
    }

    /// What people should hear of the round, in one line; nothing when all was well.
    pub fn sentence(&self) -> Option<String> {
        if !self.byzantine_detected {
            return None;
        }
        let reasons: Vec<String> = (self.exclusions.iter())
            .map(|Exclusion { hospital, reason }| format!("{hospital} was left out: {reason}"))
            .collect();
        // What led to an exclusion is said there.
        let left_out: BTreeSet<&SiteId> = self.excluded_clients.iter().collect();
        let seen = self.anomalies.iter().filter(|finding| !left_out.contains(&finding.site));
        let all: Vec<String> = reasons.into_iter().chain(seen.map(ToString::to_string)).collect();
        Some(all.join("; "))
    }
}
