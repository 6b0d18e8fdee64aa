//! What is evaluated, and by which groups of patients.

use crate::coordinator::{EvaluationPlan, FairnessPlan, OnViolation};
use crate::error::FederationError;
use crate::grouping::Grouping;
use medfed_config::{Config, section::DemographicGroup};
use medfed_data::{Dataset, Sites};
use medfed_eval::EvalError;
use medfed_eval::fairness::Thresholds;

const KEY: &str = "fairness.demographic_groups";

/// The configured attributes of the patients, when fairness is measured. An attribute that was asked for by
/// a name of its own has to be there.
pub(super) fn grouping(config: &Config, dataset: &Dataset) -> Result<Option<Grouping>, FederationError> {
    let fairness = &config.fairness;
    if !fairness.enabled {
        return Ok(None);
    }
    let mut names: Vec<&str> = Vec::new();
    for group in &fairness.demographic_groups {
        let name = group.as_str();
        if !group.is_usual() && dataset.groups_by(name).is_none() {
            let known = dataset.group_attributes().join(", ");
            let problem = format!("the data have no attribute `{name}`; they have {known}");
            return Err(FederationError::Setting { key: KEY, problem });
        }
        if name != DemographicGroup::HOSPITAL && !names.contains(&name) {
            names.push(name);
        }
    }
    Grouping::new(dataset, names, u64::from(fairness.min_group_size))
        .map(Some)
        .map_err(|error| refused(&error))
}

/// The same for the common test set, whose images may be of the federation's hospitals.
pub(super) fn test_grouping(
    grouping: Option<&Grouping>,
    config: &Config,
    dataset: &Dataset,
    sites: &Sites,
) -> Result<Option<Grouping>, FederationError> {
    let Some(grouping) = grouping else { return Ok(None) };
    if !by_hospital(config) {
        return Ok(Some(grouping.clone()));
    }
    let hospitals: Vec<&str> = sites.sites.iter().map(|site| site.id.as_str()).collect();
    grouping.with_hospitals(dataset, &hospitals).map(Some).map_err(|error| refused(&error))
}

/// When hospitals evaluate and what is measured; about fairness by these attributes, when it is measured.
pub(super) fn plan(config: &Config, attributes: Option<Vec<String>>, classes: usize) -> EvaluationPlan {
    let (fairness, thresholds) = (&config.fairness, &config.fairness.thresholds);
    EvaluationPlan {
        every: config.evaluation.evaluate_every,
        fraction: config.federated.fraction_evaluate,
        least: config.federated.min_evaluate_clients as usize,
        fairness: attributes.map(|attributes| FairnessPlan {
            every: fairness.evaluate_every,
            attributes,
            hospitals: by_hospital(config),
            classes,
            thresholds: Thresholds {
                demographic_parity: thresholds.demographic_parity,
                equalized_odds: thresholds.equalized_odds,
                accuracy_parity: thresholds.accuracy_parity,
                disparate_impact_min: thresholds.disparate_impact_min,
                disparate_impact_max: thresholds.disparate_impact_max,
                hospital_variance: thresholds.hospital_variance,
            },
            least: u64::from(fairness.min_group_size),
            on_violation: OnViolation {
                warns: fairness.on_violation.log_warning,
                adjusts_weights: fairness.on_violation.adjust_weights,
                halts: fairness.on_violation.halt_training,
            },
        }),
    }
}

fn by_hospital(config: &Config) -> bool {
    config.fairness.demographic_groups.iter().any(|group| group.as_str() == DemographicGroup::HOSPITAL)
}

fn refused(error: &EvalError) -> FederationError {
    FederationError::Setting { key: KEY, problem: error.to_string() }
}
