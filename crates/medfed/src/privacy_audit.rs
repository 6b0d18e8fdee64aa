//! The privacy audit of a model: whom it is attacked with, how, and what is said about it. The end of a run
//! and `medfed privacy-audit` share it.

mod attacks;
mod references;
mod report;
mod targets;

pub(crate) use references::ReferenceOrder;
pub(crate) use report::{Claim, MeasuredPrivacy, Report};
pub(crate) use targets::{NonMembers, Targets};

use crate::failure::Failure;
use crate::run::replace_file;
use attacks::Said;
use medfed_chart::{Ceiling, Curve, RocChart, Width};
use medfed_config::section::Attack;
use medfed_data::Dataset;
use medfed_federation::FederationError;
use medfed_nn::Executor;
use medfed_types::Cancel;
use report::{AttackEntry, Baseline};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the report among the documents of a run.
pub(crate) const DOCUMENT: &str = "mia_privacy_audit";

/// A model under attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) executor: &'a Executor,
    pub(crate) parameters: &'a [f32],
    pub(crate) dataset: &'a Arc<Dataset>,
}

/// What is to be done to it.
pub(crate) struct Order<'a> {
    pub(crate) attacks: &'a [Attack],
    pub(crate) targets: &'a Targets,
    /// How models for comparison are trained; needed where an attack needs them.
    pub(crate) references: Option<ReferenceOrder<'a>>,
    pub(crate) cancel: &'a Cancel,
}

/// Carries out the attacks. Stops between two steps of training when asked to.
pub(crate) fn attack(subject: Subject<'_>, order: &Order<'_>) -> Result<Report, Failure> {
    let targets = order.targets;
    let logits = subject
        .executor
        .logits(subject.parameters, &**subject.dataset, &targets.images)
        .map_err(FederationError::from)?;
    let classes = subject.executor.network().spec().classes;
    if let Some(index) = logits.iter().position(|logit| !logit.is_finite()) {
        let text = format!("the model's output for image {} is not finite", targets.images[index / classes]);
        return Err(Failure::user(anyhow::anyhow!(text))
            .hint("its weights are out of all proportion; audit the model of another round"));
    }
    let labels: Vec<u32> =
        targets.images.iter().map(|image| subject.dataset.scans()[*image as usize].label).collect();
    let references = match &order.references {
        Some(references) if order.attacks.iter().any(|attack| attack.needs_references()) => {
            Some(references.train(subject.dataset, targets, order.cancel)?)
        }
        _ => None,
    };
    let baseline = Baseline::of(subject.dataset, targets, classes)?;
    let said = Said { logits: &logits, labels: &labels, classes, references: references.as_deref() };
    let names = subject.dataset.classes();
    let mut entries: Vec<(Attack, AttackEntry)> = Vec::new();
    for attack in order.attacks {
        if entries.iter().all(|(done, _)| done != attack) {
            let scores = said.scores(*attack, targets.images.len())?;
            entries.push((*attack, AttackEntry::of(&scores, targets, &labels, names)?));
        }
    }
    Ok(Report::new(targets, baseline, entries, references.map(|references| references.len() as u32)))
}

/// Writes the report and its picture into a folder; gives their paths.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<[PathBuf; 2], Failure> {
    let [json, svg] = ["mia_privacy_audit.json", "mia_roc.svg"].map(|name| folder.join(name));
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be made", folder.display())))
            .hint("check the folder's permissions, or choose another with --out")
    })?;
    replace_file(&json, report.to_json()?.as_bytes())?;
    replace_file(&svg, picture(report).as_bytes())?;
    Ok([json, svg])
}

/// The curves of all attacks on logarithmic axes, under the ceiling of the guarantee.
fn picture(report: &Report) -> String {
    let curve = |(attack, entry): &(Attack, AttackEntry)| Curve {
        name: attack.as_str().to_owned(),
        points: entry.result.roc.iter().map(|[x, y]| (*x, *y)).collect(),
        area: Some(entry.result.auc.estimate),
    };
    let chart = RocChart {
        title: "Membership inference".to_owned(),
        curves: report.attacks().iter().map(curve).collect(),
        log: true,
        ceiling: report.claim().map(|claim| Ceiling { epsilon: claim.epsilon, delta: claim.delta }),
    };
    chart.draw(Width::FULL).svg()
}
