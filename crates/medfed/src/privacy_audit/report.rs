//! What is said about an audited model: the console report, and the same and more as JSON.

use super::targets::Targets;
use crate::failure::Failure;
use medfed_config::section::{Attack, CanaryKind};
use medfed_data::Dataset;
use medfed_eval::Interval;
use medfed_eval::membership::{
    AttackResult, DpCeiling, LowFalsePositives, MembershipScores, PrivacyGrade, STATISTICS, cross_fitted,
    image_statistics,
};
use medfed_eval::one_run::OneRunAudit;
use medfed_federation::FederationError;
use medfed_types::{Delta, Epsilon, ImageSource, RunId, SiteId};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::fmt::Write as _;

/// Columns of the rules of the console report.
const WIDTH: usize = 70;
/// Members and others of a group from which on it is reported.
const LEAST_GROUP: usize = 20;
/// Parts into which the images are divided for the attack without the model.
const FOLDS: u32 = 5;
/// What every report says about itself.
const NOTE: &str = "Computed exactly from private images; these numbers are not covered by epsilon. Intervals are 95 % and treat images as independent.";

/// The guarantee that the model claims.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Claim {
    /// Largest ε of a hospital, as accounted.
    pub(crate) epsilon: f64,
    /// Its δ.
    pub(crate) delta: f64,
    /// What it protects: an image or a patient.
    pub(crate) unit: String,
    /// Whether noise followed from a seed.
    pub(crate) reproducible_noise: bool,
}

impl Claim {
    fn ceiling(&self) -> Option<DpCeiling> {
        Some(DpCeiling::new(Epsilon::new(self.epsilon).ok()?, Delta::new(self.delta).ok()?))
    }
}

/// What the run's canaries prove.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MeasuredPrivacy {
    #[serde(flatten)]
    audit: OneRunAudit,
    kind: CanaryKind,
    /// The accounted ε; null without privacy.
    claimed_epsilon: Option<f64>,
    /// Whether the lower bound is above it.
    refuted: bool,
}

impl MeasuredPrivacy {
    /// Holds the canaries' bound against the claim.
    pub(crate) fn new(audit: OneRunAudit, kind: CanaryKind, claim: Option<&Claim>) -> Self {
        let claimed_epsilon = claim.map(|claim| claim.epsilon);
        let refuted = claimed_epsilon.is_some_and(|epsilon| audit.refutes(epsilon));
        Self { audit, kind, claimed_epsilon, refuted }
    }

    /// Fails where the bound is above what was claimed.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let Some(claimed) = self.claimed_epsilon.filter(|_| self.refuted) else { return Ok(()) };
        Err(Failure::user(anyhow::anyhow!(
            "the canaries prove that epsilon is at least {:.3} (confidence {:.0} %), but {:.3} was accounted: the protection of this run does not hold",
            down(self.audit.epsilon_lower_bound),
            100.0 * self.audit.confidence,
            up(claimed)
        ))
        .hint("do not release the model; a correct program gets here in at most 5 % of its audits, so run it once more with another seed, and report it if it happens again"))
    }

    fn lines(&self) -> Vec<String> {
        let audit = &self.audit;
        let kind = match self.kind {
            CanaryKind::Mislabelled => "mislabelled images",
            CanaryKind::Pattern => "patterns",
        };
        let mut lines = vec![
            format!("--- MEASURED PRIVACY ({} canaries: {kind}) ---", audit.canaries),
            row(
                "Epsilon at least:",
                &format!(
                    "{:.3}  (confidence {:.0} %, delta {}; {} of {} guesses right)",
                    down(audit.epsilon_lower_bound),
                    100.0 * audit.confidence,
                    if audit.delta > 0.0 { format!("{:e}", audit.delta) } else { "0".to_owned() },
                    audit.correct,
                    audit.guesses
                ),
            ),
            row(
                "Epsilon at most:",
                &self.claimed_epsilon.map_or_else(
                    || "no bound: trained without privacy".to_owned(),
                    |epsilon| format!("{:.3}  (accounted)", up(epsilon)),
                ),
            ),
        ];
        if self.refuted {
            lines.push("  The lower bound is above the claim: the protection does not hold.".to_owned());
        }
        lines
    }
}

/// How well membership can be told from the image alone, without the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Baseline {
    auc_roc: f64,
    auc_interval: [f64; 2],
    /// Whether the interval lies above 0.5: members and others differ by themselves.
    above_guessing: bool,
}

impl Baseline {
    /// By brightness, contrast, roughness and class, learned from the images of other patients.
    pub(super) fn of(dataset: &Dataset, targets: &Targets, classes: usize) -> Result<Self, Failure> {
        let width = STATISTICS + classes;
        let mut features = Vec::with_capacity(targets.images.len() * width);
        let mut folds = Vec::with_capacity(targets.images.len());
        let mut patients: HashMap<&str, u32> = HashMap::new();
        for (index, image) in (0u32..).zip(targets.counted().map(|at| &targets.images[at])) {
            let scan = &dataset.scans()[*image as usize];
            features.extend(image_statistics(dataset.pixels(*image as usize), dataset.shape()));
            features.extend((0..classes).map(|class| f64::from(u8::from(class == scan.label as usize))));
            let own =
                scan.patient.as_deref().map_or(index, |patient| *patients.entry(patient).or_insert(index));
            folds.push(own % FOLDS);
        }
        let member: Vec<bool> = targets.counted().map(|at| targets.member[at]).collect();
        let scores = cross_fitted(&features, width, &member, &folds).map_err(FederationError::from)?;
        let scores = MembershipScores::new(scores, member).map_err(FederationError::from)?;
        let auc = scores.result().auc;
        Ok(Self {
            auc_roc: auc.estimate,
            auc_interval: [auc.lower, auc.upper],
            above_guessing: auc.lower > 0.5,
        })
    }
}

/// An attack on a group of images.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Group {
    name: String,
    members: u64,
    non_members: u64,
    auc_roc: f64,
    auc_interval: [f64; 2],
}

/// How far one attack came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AttackEntry {
    pub(super) result: AttackResult,
    classes: Vec<Group>,
    hospitals: Vec<Group>,
}

impl AttackEntry {
    /// From the attack's score of every target.
    pub(super) fn of(
        scores: &[f64],
        targets: &Targets,
        labels: &[u32],
        names: &[String],
    ) -> Result<Self, Failure> {
        let counted: Vec<usize> = targets.counted().collect();
        let (own, member) = counted.iter().map(|at| (scores[*at], targets.member[*at])).unzip();
        let scores = MembershipScores::new(own, member).map_err(FederationError::from)?;
        let group = |name: &str, keep: &dyn Fn(usize) -> bool| {
            let scores = scores.of_group(|index| keep(counted[index]))?;
            if scores.members().min(scores.non_members()) < LEAST_GROUP {
                return None;
            }
            let AttackResult { members, non_members, auc, .. } = scores.result();
            let auc_interval = [auc.lower, auc.upper];
            Some(Group { name: name.to_owned(), members, non_members, auc_roc: auc.estimate, auc_interval })
        };
        let classes = names.iter().enumerate();
        let classes = classes
            .filter_map(|(class, name)| group(name, &|image| labels[image] as usize == class))
            .collect();
        let mut sites: Vec<&SiteId> = targets.sites.iter().flatten().collect();
        sites.sort_unstable();
        sites.dedup();
        let hospitals = sites.into_iter();
        let hospitals = hospitals
            .filter_map(|site| group(site.as_str(), &|image| targets.sites[image].as_ref() == Some(site)))
            .collect();
        Ok(Self { result: scores.result(), classes, hospitals })
    }
}

/// The group that the attack tells apart best.
fn worst(groups: &[Group]) -> Option<&Group> {
    groups.iter().max_by(|a, b| a.auc_roc.total_cmp(&b.auc_roc))
}

impl Serialize for AttackEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AttackResult { auc, .. } = &self.result;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("accuracy", &self.result.accuracy)?;
        map.serialize_entry("auc_roc", &auc.estimate)?;
        map.serialize_entry("auc_interval", &[auc.lower, auc.upper])?;
        map.serialize_entry("privacy_grade", &self.result.grade.to_string())?;
        map.serialize_entry("is_vulnerable", &self.result.vulnerable)?;
        map.serialize_entry("advantage", &self.result.advantage)?;
        map.serialize_entry("low_false_positives", &self.result.low_false_positives)?;
        map.serialize_entry("worst_class", &worst(&self.classes))?;
        map.serialize_entry("worst_hospital", &worst(&self.hospitals))?;
        map.serialize_entry("classes", &self.classes)?;
        map.serialize_entry("hospitals", &self.hospitals)?;
        map.serialize_entry("roc", &self.result.roc)?;
        map.end()
    }
}

/// Attacks in the order in which they were carried out, as an object.
#[derive(Debug, Clone, PartialEq)]
struct Attacks(Vec<(Attack, AttackEntry)>);

impl Serialize for Attacks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(attack, entry)| (attack.as_str(), entry)))
    }
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    run_id: Option<RunId>,
    claim: Option<Claim>,
    /// The largest AUC that the claim leaves to any attack.
    auc_ceiling: Option<f64>,
    members: u64,
    non_members: u64,
    non_members_from: String,
    is_vulnerable: bool,
    attacks: Attacks,
    /// Models trained for comparison.
    references: Option<u32>,
    baseline: Baseline,
    measured_privacy: Option<MeasuredPrivacy>,
    interpretation: String,
    warnings: Vec<String>,
    note: &'static str,
}

impl Report {
    pub(super) fn new(
        targets: &Targets,
        baseline: Baseline,
        attacks: Vec<(Attack, AttackEntry)>,
        references: Option<u32>,
    ) -> Self {
        let of_kind = |kind: bool| targets.counted().filter(|at| targets.member[*at] == kind).count() as u64;
        let (members, non_members) = (of_kind(true), of_kind(false));
        let mut warnings = targets.warnings.clone();
        if baseline.above_guessing {
            warnings.push(format!(
                "members and others differ by themselves: brightness, contrast and class alone tell them apart with an AUC of {:.3} (95 % interval {:.3} to {:.3}), so attacks may measure that difference instead of what the model remembers",
                baseline.auc_roc, baseline.auc_interval[0], baseline.auc_interval[1]
            ));
        }
        let mut report = Self {
            run_id: None,
            claim: None,
            auc_ceiling: None,
            members,
            non_members,
            non_members_from: targets.others_from.clone(),
            is_vulnerable: attacks.iter().any(|(_, entry)| entry.result.vulnerable),
            attacks: Attacks(attacks),
            references,
            baseline,
            measured_privacy: None,
            interpretation: String::new(),
            warnings,
            note: NOTE,
        };
        report.interpretation = report.interpreted().join(" ");
        report
    }

    /// Adds what the model says of itself.
    #[must_use]
    pub(crate) fn about(mut self, run: Option<RunId>, claim: Option<Claim>) -> Self {
        self.run_id = run;
        self.auc_ceiling = claim.as_ref().and_then(Claim::ceiling).map(DpCeiling::auc);
        self.claim = claim;
        self.interpretation = self.interpreted().join(" ");
        self
    }

    /// Adds what the canaries prove.
    #[must_use]
    pub(crate) fn with_measured(mut self, measured: Option<MeasuredPrivacy>) -> Self {
        self.measured_privacy = measured;
        self
    }

    pub(super) fn attacks(&self) -> &[(Attack, AttackEntry)] {
        &self.attacks.0
    }

    pub(super) fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// What makes the numbers less than they seem.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// As JSON, for people who look into files too.
    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        let mut text = serde_json::to_string_pretty(self).map_err(Failure::internal)?;
        text.push('\n');
        Ok(text)
    }

    /// Two lines: what an AUC like the worst one means, and what follows.
    fn interpreted(&self) -> [String; 2] {
        let worst = self.attacks().iter().map(|(_, entry)| entry.result.auc.estimate).fold(0.5, f64::max);
        let grade = PrivacyGrade::of(worst);
        if self.is_vulnerable && self.baseline.above_guessing && worst <= self.baseline.auc_interval[1] {
            return [
                format!("AUC = {worst:.2}, but members and others differ by themselves as much"),
                "Nothing is known about the model: see the warning, and take other images.".to_owned(),
            ];
        }
        if self.is_vulnerable {
            let first = if worst < 0.6 {
                "AUC ≈ 0.5, but some patients are picked out with few false positives".to_owned()
            } else {
                format!("AUC = {worst:.2} means an attacker tells training images from others")
            };
            let second = match self.claim {
                Some(_) => "The model gives patients away: use a smaller epsilon or train for fewer rounds.",
                None => "The model gives patients away: train with differential privacy (privacy.enabled).",
            };
            return [first, second.to_owned()];
        }
        let first = if grade == PrivacyGrade::A {
            "AUC ≈ 0.5 means attacker is no better than random guessing".to_owned()
        } else {
            format!("AUC = {worst:.2} means attacker is a little better than random guessing")
        };
        let second = match self.claim {
            Some(_) if grade == PrivacyGrade::A => "The differential privacy is working effectively!",
            Some(_) => "Within what the differential privacy allows.",
            None => "These attacks failed; without differential privacy others may succeed.",
        };
        [first, second.to_owned()]
    }

    /// The report for the console.
    pub(crate) fn text(&self) -> String {
        let rule = "=".repeat(WIDTH);
        let mut text =
            format!("{rule}\nPRIVACY AUDIT REPORT - Membership Inference Attack Results\n{rule}\n\n");
        let mut line = |line: &str| {
            text += line;
            text.push('\n');
        };
        for (attack, AttackEntry { result, .. }) in self.attacks() {
            line(&format!("--- {} Attack ---", attack.as_str().to_uppercase()));
            line(&row("Accuracy:", &format!("{:.4}", result.accuracy)));
            line(&row("AUC-ROC:", &format!("{:.4}", result.auc.estimate)));
            line(&row("Privacy Grade:", &result.grade.to_string()));
            line(&row("Is Vulnerable:", if result.vulnerable { "Yes" } else { "No" }));
            line("");
        }
        let [first, second] = self.interpreted();
        line(&format!("INTERPRETATION: {first}"));
        line(&format!("               {second}"));
        line(&rule);
        text + &self.details()
    }

    /// What the report above leaves out.
    fn details(&self) -> String {
        let mut lines = vec![String::new()];
        lines.push(format!(
            "{} images that were trained on against {} that were not ({}), classes in equal shares",
            self.members, self.non_members, self.non_members_from
        ));
        if let Some(references) = self.references {
            lines.push(format!("{references} models trained for comparison"));
        }
        if let (Some(claim), Some(auc)) = (&self.claim, self.auc_ceiling) {
            lines.push(format!(
                "epsilon = {:.3}, delta = {:e} per {} allows any attack an AUC of {auc:.4} at the most",
                up(claim.epsilon),
                claim.delta,
                claim.unit
            ));
        }
        lines.push(format!(
            "without the model, by brightness, contrast and class: AUC {:.4}  ({:.3} to {:.3})",
            self.baseline.auc_roc, self.baseline.auc_interval[0], self.baseline.auc_interval[1]
        ));
        for (attack, entry) in self.attacks() {
            let AttackResult { auc, advantage, low_false_positives, .. } = &entry.result;
            lines.push(String::new());
            lines.push(attack.as_str().to_owned());
            lines.push(row("AUC:", &interval(auc, 4)));
            lines.push(row("advantage:", &format!("{advantage:.4}")));
            lines.extend(low_false_positives.iter().map(rate));
            for (name, groups) in [("worst class:", &entry.classes), ("worst hospital:", &entry.hospitals)] {
                if let Some(group) = worst(groups).filter(|_| groups.len() > 1) {
                    let [low, high] = group.auc_interval;
                    let text = format!("{}, AUC {:.4}  ({low:.3} to {high:.3})", group.name, group.auc_roc);
                    lines.push(row(name, &text));
                }
            }
        }
        if let Some(measured) = &self.measured_privacy {
            lines.push(String::new());
            lines.extend(measured.lines());
        }
        lines.push(String::new());
        lines.push(NOTE.to_owned());
        lines.into_iter().fold(String::new(), |mut text, line| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
            text
        })
    }
}

/// An upper bound on ε as it is printed: never below what it is.
fn up(epsilon: f64) -> f64 {
    Epsilon::new(epsilon).map_or(f64::INFINITY, |epsilon| epsilon.rounded_up(3))
}

/// A lower bound as it is printed: never above what was proven.
fn down(epsilon: f64) -> f64 {
    (epsilon * 1e3).floor() / 1e3
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<20}{value}")
}

fn interval(value: &Interval, digits: usize) -> String {
    format!("{:.digits$}  ({:.3} to {:.3})", value.estimate, value.lower, value.upper)
}

fn rate(point: &LowFalsePositives) -> String {
    let name = format!("TPR at {} % FPR:", 100.0 * point.target);
    let value = point.measured.map_or_else(
        || format!("too few: {} images that were not trained on are needed", (1.0 / point.target).round()),
        |rates| {
            format!(
                "{}, at a measured FPR of {}",
                interval(&rates.true_positive_rate, 4),
                interval(&rates.false_positive_rate, 4)
            )
        },
    );
    row(&name, &value)
}

#[cfg(test)]
mod tests;
