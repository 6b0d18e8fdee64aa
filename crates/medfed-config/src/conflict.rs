//! Values that are fine by themselves and do not go together.

use std::collections::HashSet;

use crate::error::Conflict;
use crate::section::{Data, Dataset, ModelName, Sections};
use crate::tree::Tree;

/// Hospitals whose updates can be masked for one another.
const MOST_MASKED: u32 = 100;

/// Defaults that follow from other keys.
pub(crate) fn resolve(sections: &mut Sections, tree: &Tree) {
    let written = |path: &[&str]| tree.find(path).is_some();
    let federated = &mut sections.federated;
    if !written(&["federated", "num_clients"]) && !sections.data.nodes.is_empty() {
        federated.num_clients = sections.data.nodes.len() as u32;
    }
    let most = federated.num_clients;
    if !written(&["federated", "min_fit_clients"]) {
        federated.min_fit_clients = federated.min_fit_clients.min(most);
    }
    if !written(&["federated", "min_evaluate_clients"]) {
        federated.min_evaluate_clients = federated.min_evaluate_clients.min(most);
    }
    if !written(&["federated", "min_available_clients"]) {
        federated.min_available_clients =
            federated.min_available_clients.max(federated.min_fit_clients).min(most);
    }
    if sections.data.split_by_site && !written(&["data", "non_iid", "enabled"]) {
        sections.data.non_iid.enabled = false;
    }
}

/// Every conflict, with the path of the key at which to show it.
pub(crate) fn conflicts(sections: &Sections) -> Vec<(String, Conflict)> {
    let mut found = Vec::new();
    let mut report = |path: &str, conflict| found.push((path.to_owned(), conflict));
    let Sections { federated, model, secure_aggregation, robust_aggregation, fairness, .. } = sections;
    let Sections { orchestrator, data, .. } = sections;
    let hospitals = federated.num_clients;

    for (path, value) in [
        ("federated.min_fit_clients", federated.min_fit_clients),
        ("federated.min_evaluate_clients", federated.min_evaluate_clients),
        ("federated.min_available_clients", federated.min_available_clients),
    ] {
        if value > hospitals {
            report(path, Conflict::MoreThanHospitals { hospitals, found: value });
        }
    }
    if federated.min_available_clients < federated.min_fit_clients.min(hospitals) {
        report(
            "federated.min_available_clients",
            Conflict::FewerThanFit { fit: federated.min_fit_clients, found: federated.min_available_clients },
        );
    }
    if model.channels.is_some() && model.name != ModelName::SimpleCnn {
        report("model.channels", Conflict::FixedWidths { model: model.name.as_str() });
    }
    if secure_aggregation.masks() {
        if hospitals > MOST_MASKED {
            report(
                "secure_aggregation.enabled",
                Conflict::TooManyMasked { most: MOST_MASKED, found: hospitals },
            );
        }
        if let Err(problem) = sections.secure_mode() {
            report("secure_aggregation.mode", Conflict::NotUnderMasks { problem });
        }
        if secure_aggregation.min_clients < 3 && !sections.privacy.enabled {
            report("secure_aggregation.min_clients", Conflict::TwoWithoutPrivacy);
        }
        let least = if hospitals <= 3 { 2 } else { 2 * hospitals / 3 + 1 };
        if let Some(found) = secure_aggregation.threshold.filter(|threshold| *threshold < least) {
            report("secure_aggregation.threshold", Conflict::LowThreshold { hospitals, least, found });
        }
    }
    if secure_aggregation.enabled {
        for (path, value) in [
            ("secure_aggregation.min_clients", Some(secure_aggregation.min_clients)),
            ("secure_aggregation.threshold", secure_aggregation.threshold),
        ] {
            if let Some(found) = value.filter(|value| *value > hospitals) {
                report(path, Conflict::MoreThanHospitals { hospitals, found });
            }
        }
    }
    let bad = robust_aggregation.num_byzantine;
    if robust_aggregation.enabled && bad > 0 && bad * 2 >= hospitals {
        report("robust_aggregation.num_byzantine", Conflict::TooManyByzantine { hospitals, found: bad });
    }
    for (name, patients) in &fairness.hospital_demographics {
        let ages = patients.age_bias.map(|age| [age.young, age.middle, age.old]);
        let sexes = patients.sex_bias.map(|sex| [sex.male, sex.female, None]);
        for (group, shares) in [("age_bias", ages), ("sex_bias", sexes)] {
            let sum: f64 = shares.into_iter().flatten().flatten().sum();
            // Shares such as 0.7 + 0.2 + 0.1 miss 1 by a rounding error.
            if sum > 1.0 + 1e-9 {
                report(
                    &format!("fairness.hospital_demographics.{name}.{group}"),
                    Conflict::SharesAboveOne { found: sum },
                );
            }
        }
    }
    if orchestrator.budget_warning_threshold >= orchestrator.budget_critical_threshold {
        report(
            "orchestrator.budget_warning_threshold",
            Conflict::WarningNotBelowCritical {
                critical: orchestrator.budget_critical_threshold,
                found: orchestrator.budget_warning_threshold,
            },
        );
    }
    if data.split_by_site && data.non_iid.enabled {
        report("data.split_by_site", Conflict::TwoSplits);
    }
    if data.split_by_site && data.dataset != Dataset::Files {
        report("data.split_by_site", Conflict::SplitWithoutSites);
    }
    if data.is_synthetic() {
        if let Some(found) = data.image_size.filter(|size| !(28..=512).contains(size)) {
            report("data.image_size", Conflict::SyntheticSize { found });
        }
        if let Some(found) = model.num_classes.filter(|classes| *classes > 3) {
            report("model.num_classes", Conflict::SyntheticClasses { found });
        }
    }
    if data.nodes.len() > hospitals as usize {
        report("data.nodes", Conflict::TooManyNodes { hospitals, found: data.nodes.len() });
    }
    same_names(data, &mut report);
    found
}

/// Hospitals that cannot be told apart.
fn same_names(data: &Data, report: &mut impl FnMut(&str, Conflict)) {
    let mut names = HashSet::new();
    for (index, node) in data.nodes.iter().enumerate() {
        if !names.insert(&node.name) {
            report(&format!("data.nodes.{index}.name"), Conflict::SameName { name: node.name.to_string() });
        }
    }
}
