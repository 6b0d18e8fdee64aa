//! Keys that are accepted and that a run refuses or does without.

use std::fmt::Write as _;

use crate::section::{Device, OnDetection, Pretrained, RobustMethod, Sections, SecureMode};
use crate::tree::{Tree, Value};

/// A feature that is switched on and that this version cannot deliver. A run is refused until it is
/// switched off: to ignore it would promise what is not there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unavailable {
    /// Path of the key.
    pub key: &'static str,
    /// Why a run refuses it.
    pub reason: String,
    /// The override that switches it off.
    pub hint: &'static str,
}

/// Something the user may want to know, and that does not stop a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// Path of the key or the section.
    pub key: &'static str,
    /// What to know.
    pub text: String,
}

/// A configuration that asks for what this version cannot deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentences(features))]
pub struct UnavailableError {
    /// The features, at least one.
    pub features: Vec<Unavailable>,
}

fn sentences(features: &[Unavailable]) -> String {
    let mut out = "the configuration switches on what this version cannot deliver".to_owned();
    for Unavailable { key, reason, hint } in features {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n\n{key}: {reason}\n = hint: {hint}");
    }
    out
}

impl Sections {
    /// Refuses what is switched on and cannot be delivered. Whatever runs a configuration calls this
    /// first.
    pub fn require_available(&self) -> Result<(), UnavailableError> {
        let features = self.unavailable();
        if features.is_empty() { Ok(()) } else { Err(UnavailableError { features }) }
    }

    /// What is switched on and cannot be delivered; a run starts only when there is nothing.
    pub fn unavailable(&self) -> Vec<Unavailable> {
        let checks: [(bool, &'static str, &str, &'static str); 2] = [
            (
                self.model.pretrained == Pretrained::Shipped(true),
                "model.pretrained",
                "no pretrained weights come with this program",
                "--set model.pretrained=PATH names a file of weights, --set model.pretrained=false does \
                 without",
            ),
            (
                self.experiment.device == Device::Cuda,
                "experiment.device",
                "this version trains on the processor only",
                "--set experiment.device=cpu",
            ),
        ];
        let switched_on = checks.into_iter().filter(|(on, ..)| *on);
        switched_on
            .map(|(_, key, reason, hint)| Unavailable { key, reason: reason.to_owned(), hint })
            .collect()
    }
}

/// Sections that are written and off, though nothing there says so.
pub(crate) fn idle(tree: &Tree) -> Vec<&'static str> {
    let sections = ["secure_aggregation", "robust_aggregation", "fairness", "privacy_audit", "orchestrator"];
    let is_idle = |section: &&str| match tree.find(&[*section]).map(|section| &section.value) {
        Some(Value::Map(entries)) => {
            let has_effect = ["enabled", "hospital_demographics", "audit_enabled"];
            entries.iter().any(|entry| !has_effect.contains(&entry.key.as_str()))
                && !entries.iter().any(|entry| entry.key == "enabled")
        }
        _ => false,
    };
    sections.into_iter().filter(is_idle).collect()
}

/// A rule that withstands fewer bad hospitals than it is told to, or that does not know weights.
fn robustness(sections: &Sections, note: &mut impl FnMut(&'static str, String)) {
    let Sections { robust_aggregation: robust, federated, fairness, .. } = sections;
    if !robust.enabled {
        return;
    }
    let (method, bad) = (robust.method, robust.num_byzantine);
    match method {
        RobustMethod::Fedavg if bad > 0 => note(
            "robust_aggregation.method",
            format!("fedavg withstands no bad hospital, `num_byzantine` is {bad}"),
        ),
        RobustMethod::TrimmedMean => {
            let drawn = (federated.fraction_fit * f64::from(federated.num_clients)).round();
            let drawn = drawn.max(f64::from(federated.min_fit_clients)).min(f64::from(federated.num_clients));
            // What the user wrote in decimal counts: 0.29 · 100 is 28.999…96.
            let trimmed = (robust.trim_ratio * drawn + 1e-9).floor();
            if trimmed < f64::from(bad) {
                let enough = (f64::from(bad) / drawn * 100.0 - 1e-9).ceil() / 100.0;
                note(
                    "robust_aggregation.trim_ratio",
                    format!(
                        "leaves out {trimmed} of {drawn} values at either end and withstands no more bad hospitals than that, `num_byzantine` is {bad}; {enough} is enough"
                    ),
                );
            }
        }
        _ => {}
    }
    if fairness.enabled && fairness.on_violation.adjust_weights && method != RobustMethod::Fedavg {
        note(
            "fairness.on_violation.adjust_weights",
            format!("has no effect with {}, which does not weigh hospitals by a number", method.as_str()),
        );
    }
}

/// What masks cost, and what protects where there are none.
fn masking(sections: &Sections, note: &mut impl FnMut(&'static str, String)) {
    let Sections { secure_aggregation: secure, robust_aggregation: robust, fairness, .. } = sections;
    if !secure.enabled {
        return;
    }
    if !secure.use_masking {
        note("secure_aggregation.use_masking", "is false: the coordinator sees every update".to_owned());
        return;
    }
    if let Ok(mode) = sections.secure_mode() {
        let text = match mode {
            SecureMode::Groups => "the rule compares the sums of random groups of hospitals",
            SecureMode::Selection => {
                "the distances between updates are shown to everyone, then the sum of the updates that the \
                 rule selects, all of one weight"
            }
            SecureMode::Auto | SecureMode::Sum => "the coordinator sees one sum of all updates",
        };
        note("secure_aggregation.mode", format!("{}: {text}", mode.as_str()));
    }
    let selects = sections.secure_mode() == Ok(SecureMode::Selection);
    // A selection never opens the sum of two.
    if secure.min_clients == 2 && !selects {
        note(
            "secure_aggregation.min_clients",
            "2: each of two surviving hospitals can derive the other's noised update".to_owned(),
        );
    }
    if sections.federated.num_clients == 3 && secure.threshold == Some(2) {
        note(
            "secure_aggregation.threshold",
            "2 of 3: the coordinator and one dishonest hospital together can open another's update"
                .to_owned(),
        );
    }
    if !secure.simulate_encryption {
        note("secure_aggregation.simulate_encryption", "has no effect: shares are always sealed".to_owned());
    }
    if robust.enabled && robust.enable_detection && !selects {
        note(
            "robust_aggregation.enable_detection",
            "has no effect under masks that open sums only (`secure_aggregation.mode: selection` opens \
             norms and directions)"
                .to_owned(),
        );
    }
    if selects && robust.enable_detection && robust.on_detection == OnDetection::Exclude {
        note(
            "robust_aggregation.on_detection",
            "exclude: what is unusual for a hospital's own past alone is reported under masks, not left out"
                .to_owned(),
        );
    }
    if selects && !sections.privacy.enabled {
        note(
            "secure_aggregation.mode",
            "selection without privacy: norms and distances of updates without noise are shown".to_owned(),
        );
    }
    if !selects && secure.norm_bound.is_some() {
        note("secure_aggregation.norm_bound", "has no effect: only `mode: selection` has a bound".to_owned());
    }
    if fairness.enabled && fairness.on_violation.adjust_weights {
        note(
            "fairness.on_violation.adjust_weights",
            "has no effect under masks: hospitals weigh their updates themselves".to_owned(),
        );
    }
}

/// Keys that have no effect, and settings that protect little.
pub(crate) fn notes(sections: &Sections, idle: &[&'static str]) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |key, text: String| notes.push(Note { key, text });
    for section in idle {
        note(section, format!("is off: its keys have no effect until `{section}.enabled` is true"));
    }
    if sections.privacy.enabled {
        if sections.training.grad_clip_norm.is_some() {
            note(
                "training.grad_clip_norm",
                "has no effect with privacy: `privacy.max_grad_norm` clips the gradient of every unit"
                    .to_owned(),
            );
        }
        let budget = sections.privacy.epsilon_budget;
        if budget.get() > 10.0 {
            note(
                "privacy.epsilon_budget",
                format!("ε = {budget} is a weak guarantee; 10 and less are customary"),
            );
        }
    } else {
        note("privacy.enabled", "no privacy is applied: the model may give training images away".to_owned());
    }
    if sections.orchestrator.enabled && !sections.privacy.enabled {
        note("orchestrator.enabled", "privacy is off: there is no budget to watch".to_owned());
    }
    robustness(sections, &mut note);
    masking(sections, &mut note);
    let hospitals = sections.hospitals();
    let unknown: Vec<_> = (sections.fairness.hospital_demographics.keys())
        .filter(|name| !hospitals.iter().any(|hospital| hospital.name == **name))
        .map(ToString::to_string)
        .collect();
    if sections.data.is_synthetic() && !unknown.is_empty() {
        let names: Vec<_> = hospitals.iter().take(5).map(|hospital| hospital.name.as_str()).collect();
        note(
            "fairness.hospital_demographics",
            format!("no hospital is called {}; the first are {}", unknown.join(", "), names.join(", ")),
        );
    }
    notes
}
