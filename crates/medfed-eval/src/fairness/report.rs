//! The whole measurement: hospitals, attributes, score, violations.

use super::attribute::AttributeFairness;
use super::gap::Gap;
use super::tally::{GroupCounts, SummedGroup};
use crate::Performance;
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Values whose crossing is a violation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Demographic parity difference, at the most.
    pub demographic_parity: f64,
    /// Equalised odds difference, at the most.
    pub equalized_odds: f64,
    /// Difference of accuracies between hospitals or groups, at the most.
    pub accuracy_parity: f64,
    /// Disparate impact, at the least.
    pub disparate_impact_min: f64,
    /// Disparate impact, at the most.
    pub disparate_impact_max: f64,
    /// Variance of the hospitals' accuracies, at the most.
    pub hospital_variance: f64,
}

/// A hospital's validation.
#[derive(Debug, Clone, PartialEq)]
pub struct HospitalMeasurement {
    /// The hospital.
    pub hospital: SiteId,
    /// Patients validated on; an image whose patient is not known counts as one.
    pub patients: u64,
    /// What was measured.
    pub performance: Performance,
}

/// A hospital's part in a [`HospitalFairness`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HospitalResult {
    /// The hospital.
    pub hospital: SiteId,
    /// Patients validated on.
    pub patients: u64,
    /// Images validated on.
    pub images: u64,
    /// Accuracy there.
    pub accuracy: f64,
    /// AUC there.
    pub auc: Option<f64>,
    /// Whether it has enough patients to be compared.
    pub compared: bool,
}

/// How evenly the model serves hospitals. Only hospitals with enough patients are compared; null where there
/// are fewer than two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HospitalFairness {
    /// Every hospital that was evaluated.
    pub hospitals: Vec<HospitalResult>,
    /// Variance of the accuracies (divided by the number of hospitals).
    pub accuracy_variance: Option<f64>,
    /// The variance to expect from the sizes of the validation sets alone, if every hospital had the same
    /// true accuracy: (1 − 1/H)·p(1 − p)·mean of 1/n over H hospitals, p the pooled accuracy.
    pub accuracy_variance_by_chance: Option<f64>,
    /// Variance of the AUCs, of the hospitals with enough images of each class.
    pub auc_variance: Option<f64>,
    /// Largest minus smallest AUC.
    pub auc_difference: Option<f64>,
    /// Largest minus smallest accuracy.
    pub accuracy_parity: Option<Gap>,
}

impl HospitalFairness {
    /// Compares hospitals with at least `least` patients.
    fn of(hospitals: &[HospitalMeasurement], least: u64) -> Self {
        let results: Vec<HospitalResult> = hospitals
            .iter()
            .map(|h| HospitalResult {
                hospital: h.hospital.clone(),
                patients: h.patients,
                images: h.performance.n,
                accuracy: h.performance.accuracy.estimate,
                auc: h.performance.auc.map(|auc| auc.estimate),
                compared: h.patients >= least.max(1),
            })
            .collect();
        let compared: Vec<&HospitalResult> = results.iter().filter(|h| h.compared).collect();
        // The area over a class of a few images says nothing about the hospital.
        let enough = |h: &&HospitalMeasurement| {
            let smallest = h.performance.per_class.iter().map(|class| class.n).min();
            h.patients >= least.max(1) && smallest >= Some(least)
        };
        let aucs: Vec<f64> =
            hospitals.iter().filter(enough).filter_map(|h| Some(h.performance.auc?.estimate)).collect();
        let images: f64 = compared.iter().map(|h| h.images as f64).sum();
        let pooled = compared.iter().map(|h| h.accuracy * h.images as f64).sum::<f64>() / images;
        let count = compared.len() as f64;
        let spread: f64 = compared.iter().map(|h| 1.0 / h.images as f64).sum::<f64>() / count;
        Self {
            accuracy_variance: variance(&compared.iter().map(|h| h.accuracy).collect::<Vec<_>>()),
            accuracy_variance_by_chance: (compared.len() >= 2)
                .then(|| (1.0 - 1.0 / count) * pooled * (1.0 - pooled) * spread),
            auc_variance: variance(&aucs),
            auc_difference: (aucs.len() >= 2)
                .then(|| aucs.iter().copied().fold(0.0, f64::max) - aucs.iter().copied().fold(1.0, f64::min)),
            accuracy_parity: by_hospital(hospitals, least).accuracy_difference,
            hospitals: results,
        }
    }
}

/// The hospitals as the groups of an attribute.
fn by_hospital(hospitals: &[HospitalMeasurement], least: u64) -> AttributeFairness {
    let groups = hospitals.iter().map(|h| {
        let counts = GroupCounts::from_confusion(&h.performance.confusion, h.patients);
        (h.hospital.to_string(), SummedGroup { counts, withheld: 0 })
    });
    AttributeFairness::from_counts(FairnessReport::HOSPITAL, groups.collect(), least)
}

/// The mean squared distance from the mean, of two values or more.
fn variance(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.len() >= 2).then(|| values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n)
}

/// What a threshold bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// Difference of the rates of positive predictions.
    DemographicParity,
    /// Difference of the true or false positive rates.
    EqualizedOdds,
    /// Difference of the accuracies.
    AccuracyParity,
    /// Ratio of the rates of positive predictions.
    DisparateImpact,
    /// Variance of the hospitals' accuracies.
    HospitalVariance,
}

impl Criterion {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::DemographicParity => "demographic parity difference",
            Self::EqualizedOdds => "equalised odds difference",
            Self::AccuracyParity => "accuracy difference",
            Self::DisparateImpact => "disparate impact",
            Self::HospitalVariance => "variance of the hospitals' accuracies",
        }
    }
}

/// A value beyond its threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// What is bounded.
    pub criterion: Criterion,
    /// Between the groups of this attribute; null for the variance over hospitals.
    pub attribute: Option<String>,
    /// The value.
    pub value: f64,
    /// The bound that it passes.
    pub threshold: f64,
    /// The value's 95 % interval, where there is one.
    pub interval: Option<[f64; 2]>,
    /// Whether the whole interval lies beyond the threshold. If not, the true value may well be within.
    pub confirmed: bool,
    /// The two groups.
    pub groups: Option<[String; 2]>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(attribute) = &self.attribute {
            write!(f, "{attribute}: ")?;
        }
        let beyond = if self.value > self.threshold { "above" } else { "below" };
        write!(f, "{} {:.3} is {beyond} {}", self.criterion.name(), self.value, self.threshold)?;
        if let Some([high, low]) = &self.groups {
            write!(f, " ({high} against {low}")?;
            if let Some([lower, upper]) = self.interval {
                write!(f, ", 95 % interval {lower:.3} to {upper:.3}")?;
            }
            write!(f, ")")?;
        }
        Ok(())
    }
}

/// One measurement of fairness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FairnessReport {
    /// 0 to 1: the mean over everything that has a threshold and is defined. A difference d with threshold t
    /// scores 1 − d/2t, a ratio r with bound b (the one on its side of 1) 1 − |ln r|/2|ln b|, neither below
    /// 0: 1 is equality, 0.5 the threshold. Null where nothing is defined.
    pub fairness_score: Option<f64>,
    /// Whether there is no violation. Null where nothing is defined.
    pub is_fair: Option<bool>,
    /// Whether the model predicts one class for everyone. Then equal rates say nothing about it.
    pub is_constant: bool,
    /// Hospitals against each other; null where the images are of no particular hospital.
    pub hospital_fairness: Option<HospitalFairness>,
    /// Groups of patients against each other.
    pub demographic_fairness: Vec<AttributeFairness>,
    /// What is beyond its threshold.
    pub violations: Vec<Violation>,
    /// The thresholds.
    pub thresholds: Thresholds,
    /// Groups of fewer patients are not compared.
    pub min_group_size: u64,
}

impl FairnessReport {
    /// The attribute whose groups are the hospitals of the federation.
    pub const HOSPITAL: &str = "hospital";

    /// Compares hospitals (if `hospitals` is not empty) and the groups of `attributes`, and holds
    /// everything against `thresholds`. With `as_groups` the hospitals are also compared as groups are.
    pub fn of(
        hospitals: &[HospitalMeasurement],
        as_groups: bool,
        mut attributes: Vec<AttributeFairness>,
        thresholds: &Thresholds,
        least: u64,
    ) -> Self {
        let hospital_fairness = (!hospitals.is_empty()).then(|| HospitalFairness::of(hospitals, least));
        if as_groups && !hospitals.is_empty() {
            attributes.push(by_hospital(hospitals, least));
        }
        let mut judged = Judged::default();
        if let Some(found) = &hospital_fairness {
            let attribute = Some(Self::HOSPITAL);
            judged.difference(
                Criterion::AccuracyParity,
                attribute,
                found.accuracy_parity.as_ref(),
                thresholds.accuracy_parity,
            );
            judged.variance(found.accuracy_variance, thresholds.hospital_variance);
        }
        for found in &attributes {
            let attribute = Some(found.attribute.as_str());
            let parity = found.demographic_parity_difference.as_ref();
            judged.difference(Criterion::DemographicParity, attribute, parity, thresholds.demographic_parity);
            let odds = found.equalized_odds_difference.as_ref();
            judged.difference(Criterion::EqualizedOdds, attribute, odds, thresholds.equalized_odds);
            if found.attribute != Self::HOSPITAL || hospital_fairness.is_none() {
                let accuracy = found.accuracy_difference.as_ref();
                judged.difference(Criterion::AccuracyParity, attribute, accuracy, thresholds.accuracy_parity);
            }
            judged.impact(attribute, found.disparate_impact.as_ref(), thresholds);
        }
        let Judged { scores, violations } = judged;
        let mut known = attributes.iter().filter(|found| !found.groups.is_empty()).peekable();
        let is_constant = known.peek().is_some() && known.all(AttributeFairness::is_constant);
        Self {
            is_constant,
            fairness_score: (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
            is_fair: (!scores.is_empty()).then_some(violations.is_empty()),
            hospital_fairness,
            demographic_fairness: attributes,
            violations,
            thresholds: thresholds.clone(),
            min_group_size: least,
        }
    }
}

/// What the thresholds say.
#[derive(Default)]
struct Judged {
    scores: Vec<f64>,
    violations: Vec<Violation>,
}

impl Judged {
    fn difference(&mut self, criterion: Criterion, attribute: Option<&str>, gap: Option<&Gap>, most: f64) {
        let Some(gap) = gap else { return };
        self.scores.push(score(gap.value, most));
        if gap.value > most {
            self.violate(criterion, attribute, gap, most, gap.interval.is_some_and(|[low, _]| low > most));
        }
    }

    fn variance(&mut self, value: Option<f64>, most: f64) {
        let Some(value) = value else { return };
        self.scores.push(score(value, most));
        if value > most {
            self.violations.push(Violation {
                criterion: Criterion::HospitalVariance,
                attribute: None,
                value,
                threshold: most,
                interval: None,
                confirmed: false,
                groups: None,
            });
        }
    }

    fn impact(&mut self, attribute: Option<&str>, gap: Option<&Gap>, thresholds: &Thresholds) {
        let Some(gap) = gap else { return };
        let (least, most) = (thresholds.disparate_impact_min, thresholds.disparate_impact_max);
        let bound = if gap.value < 1.0 { least } else { most };
        self.scores.push(score(gap.value.ln().abs(), bound.ln().abs()));
        if gap.value < least {
            let confirmed = gap.interval.is_some_and(|[_, high]| high < least);
            self.violate(Criterion::DisparateImpact, attribute, gap, least, confirmed);
        } else if gap.value > most {
            let confirmed = gap.interval.is_some_and(|[low, _]| low > most);
            self.violate(Criterion::DisparateImpact, attribute, gap, most, confirmed);
        }
    }

    fn violate(
        &mut self,
        criterion: Criterion,
        attribute: Option<&str>,
        gap: &Gap,
        threshold: f64,
        confirmed: bool,
    ) {
        self.violations.push(Violation {
            criterion,
            attribute: attribute.map(ToOwned::to_owned),
            value: gap.value,
            threshold,
            interval: gap.interval,
            confirmed,
            groups: Some([gap.high.clone(), gap.low.clone()]),
        });
    }
}

/// 1 at equality, 0.5 at the threshold, 0 from twice the threshold on.
fn score(distance: f64, threshold: f64) -> f64 {
    if distance == 0.0 {
        1.0
    } else if threshold > 0.0 {
        (1.0 - distance / (2.0 * threshold)).max(0.0)
    } else {
        0.0
    }
}
