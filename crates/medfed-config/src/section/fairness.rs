//! Whether the model serves every hospital and every group of patients.

use std::collections::BTreeMap;

use medfed_types::SiteId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the model serves every hospital and every group of patients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fairness {
    /// Measures fairness during the run. The synthetic data follow `hospital_demographics` in any case.
    pub enabled: bool,
    /// Rounds from one measurement to the next; the last round is always measured.
    #[schemars(range(min = 1, max = 10000))]
    pub evaluate_every: u32,
    /// Bounds whose crossing is a violation.
    pub thresholds: FairnessThresholds,
    /// Attributes whose groups are compared: `age_group`, `sex`, `hospital`, or any other column of the
    /// manifest.
    #[schemars(length(max = 20))]
    pub demographic_groups: Vec<DemographicGroup>,
    /// Patients that a group needs to be compared. A hospital holds the counts of smaller groups back.
    #[schemars(range(min = 1, max = 100_000))]
    pub min_group_size: u32,
    /// Patients of each hospital in the synthetic data, by the hospital's name.
    #[schemars(with = "BTreeMap<String, Demographics>", extend("propertyNames" = {"type": "string", "format": "name"}))]
    pub hospital_demographics: BTreeMap<SiteId, Demographics>,
    /// What follows from a violation.
    pub on_violation: OnViolation,
}

impl Default for Fairness {
    fn default() -> Self {
        Self {
            enabled: false,
            evaluate_every: 1,
            thresholds: FairnessThresholds::default(),
            demographic_groups: vec![
                DemographicGroup(DemographicGroup::AGE_GROUP.to_owned()),
                DemographicGroup(DemographicGroup::SEX.to_owned()),
                DemographicGroup(DemographicGroup::HOSPITAL.to_owned()),
            ],
            min_group_size: 10,
            hospital_demographics: BTreeMap::new(),
            on_violation: OnViolation::default(),
        }
    }
}

/// Bounds whose crossing is a violation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FairnessThresholds {
    /// Difference of the rates of positive predictions between groups, at the most.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub demographic_parity: f64,
    /// Difference of the true or false positive rates between groups, at the most.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub equalized_odds: f64,
    /// Difference of the accuracies between hospitals or groups, at the most.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub accuracy_parity: f64,
    /// Ratio of the rates of positive predictions, at the least.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub disparate_impact_min: f64,
    /// Ratio of the rates of positive predictions, at the most.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub disparate_impact_max: f64,
    /// Variance of the hospitals' accuracies, at the most.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub hospital_variance: f64,
}

impl Default for FairnessThresholds {
    fn default() -> Self {
        Self {
            demographic_parity: 0.1,
            equalized_odds: 0.1,
            accuracy_parity: 0.15,
            disparate_impact_min: 0.8,
            disparate_impact_max: 1.25,
            hospital_variance: 0.05,
        }
    }
}

/// An attribute by which patients are grouped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("minLength" = 1, "maxLength" = 64))]
pub struct DemographicGroup(String);

impl DemographicGroup {
    /// Ages in the groups `0-18`, `18-40`, `40-60` and `60+`, each without its upper end.
    pub const AGE_GROUP: &str = "age_group";
    /// Sex.
    pub const SEX: &str = "sex";
    /// The hospital.
    pub const HOSPITAL: &str = "hospital";

    /// The attribute's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every data set may lack it without that being a mistake: the three of the default.
    pub fn is_usual(&self) -> bool {
        [Self::AGE_GROUP, Self::SEX, Self::HOSPITAL].contains(&self.as_str())
    }
}

/// A name that no attribute has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an attribute's name has 1 to 64 characters, this one has {found}")]
pub struct DemographicGroupError {
    found: usize,
}

impl TryFrom<String> for DemographicGroup {
    type Error = DemographicGroupError;

    fn try_from(name: String) -> Result<Self, DemographicGroupError> {
        match name.chars().count() {
            1..=64 => Ok(Self(name)),
            found => Err(DemographicGroupError { found }),
        }
    }
}

impl From<DemographicGroup> for String {
    fn from(group: DemographicGroup) -> Self {
        group.0
    }
}

/// Patients of a hospital in the synthetic data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Demographics {
    /// Shares of the age groups; those without a number divide what is left evenly.
    pub age_bias: Option<AgeBias>,
    /// Shares of the sexes; one without a number gets what is left.
    pub sex_bias: Option<SexBias>,
}

/// Shares of the age groups, together 1 at the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgeBias {
    /// Share of patients from 18 to 39 years.
    #[serde(rename = "18-40")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub young: Option<f64>,
    /// Share of patients from 40 to 59 years.
    #[serde(rename = "40-60")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub middle: Option<f64>,
    /// Share of patients of 60 years and more.
    #[serde(rename = "60+")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub old: Option<f64>,
}

/// Shares of the sexes, together 1 at the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SexBias {
    /// Share of men.
    #[serde(rename = "M")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub male: Option<f64>,
    /// Share of women.
    #[serde(rename = "F")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub female: Option<f64>,
}

/// What follows from a violation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OnViolation {
    /// Warns on the console, in the log and in the list of events.
    pub log_warning: bool,
    /// Gives hospitals that the model serves badly up to twice their weight in the coming rounds, and the
    /// others down to half.
    pub adjust_weights: bool,
    /// Stops the run after the round.
    pub halt_training: bool,
}

impl Default for OnViolation {
    fn default() -> Self {
        Self { log_warning: true, adjust_weights: false, halt_training: false }
    }
}
