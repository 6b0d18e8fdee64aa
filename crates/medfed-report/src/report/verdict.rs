//! What a run comes to: the worst of all findings, and every reason.

use super::privacy::{is_refuted, membership_attacks};
use super::{fairness, performance, security};
use crate::document::{Block, Tone};
use crate::fields::Estimate;
use crate::number::counted;
use crate::record::RunRecord;
use medfed_store::RunStatus;

/// The verdict with its reasons, the worst first.
pub(crate) fn verdict(record: &RunRecord) -> Block {
    let findings =
        [how_it_ended(record), what_it_was(record), quality(record), fairness(record), attacks(record)];
    let mut findings: Vec<(Tone, String)> = findings.into_iter().flatten().collect();
    findings.sort_by_key(|(tone, _)| std::cmp::Reverse(*tone));
    let tone = findings.first().map_or(Tone::Good, |(tone, _)| *tone);
    let title = match tone {
        Tone::Good => "Ready for clinical review",
        Tone::Caution => "Review with caution",
        Tone::Bad => "Do not use",
    };
    let mut reasons: Vec<String> = findings.into_iter().map(|(_, text)| text).collect();
    if reasons.is_empty() {
        reasons.push(
            "Nothing that was measured speaks against the model. Clinical use needs a validation of its own."
                .to_owned(),
        );
    }
    Block::Verdict { tone, title: title.to_owned(), reasons }
}

fn bad(text: &str) -> (Tone, String) {
    (Tone::Bad, text.to_owned())
}

fn caution(text: &str) -> (Tone, String) {
    (Tone::Caution, text.to_owned())
}

fn how_it_ended(record: &RunRecord) -> Vec<(Tone, String)> {
    let finding = match record.run.status {
        RunStatus::Failed => match record.summary().text("reason") {
            Some(reason) => bad(&format!("The run was stopped before its end: {reason}.")),
            None => bad("The run failed before its end."),
        },
        RunStatus::Running => caution("The run is still going on; these are its numbers so far."),
        RunStatus::Interrupted => caution("The run was interrupted; these are its numbers so far."),
        RunStatus::BudgetExhausted => {
            caution("The privacy budget ended the run before its last planned round.")
        }
        RunStatus::Completed => return Vec::new(),
    };
    vec![finding]
}

fn what_it_was(record: &RunRecord) -> Vec<(Tone, String)> {
    let mut findings = Vec::new();
    if security::simulated_attack(record).is_some() {
        findings.push(bad("An attack was simulated in this run. Its model is for study only."));
    }
    if !record.document("canary_coins").is_null() {
        findings.push(bad("Canaries, examples that do not belong there, were planted among the training images to measure privacy. The model is for study only."));
    }
    if record.config().text("data.dataset") == Some("synthetic") {
        findings.push(caution(
            "The images are synthetic: the run shows that the system works, and nothing about patients.",
        ));
    }
    if !record.is_private() {
        findings.push(bad("The model was trained without differential privacy. It may give away whose images it was trained on."));
    }
    if record.summary().flag("reproducible_noise") == Some(true) {
        findings.push(caution("The noise followed from a seed. The privacy guarantee holds only against those who do not know it."));
    }
    if security::anything(record) {
        findings.push(caution("Updates of hospitals were out of line or left out; see Security."));
    }
    findings
}

fn quality(record: &RunRecord) -> Vec<(Tone, String)> {
    let mut findings = Vec::new();
    match performance::test_auc(record) {
        None => findings.push(caution("How well the model does on images of a test set was not measured.")),
        Some(Estimate { interval: Some((low, _)), .. }) if low <= 0.5 => {
            findings.push(bad("The model is not shown to be better than guessing."));
        }
        Some(Estimate { value, .. }) if value <= 0.5 => {
            findings.push(bad("The model is no better than guessing."));
        }
        Some(_) => {}
    }
    if performance::one_class_for_all(record) {
        findings.push(bad("The model says the same of every test image: it cannot be used at its threshold, and equal rates between groups mean nothing."));
    }
    findings
}

fn fairness(record: &RunRecord) -> Vec<(Tone, String)> {
    let mut findings = Vec::new();
    if fairness::groups_of(record).iter().all(|(.., group)| group.at("rates").is_null()) {
        findings.push(caution("Whether the model serves groups of patients equally well was not measured."));
    }
    let violations = fairness::violations(record);
    if !violations.is_empty() {
        let certain = match violations.iter().filter(|violation| violation.confirmed).count() {
            0 => "by a margin that chance may explain".to_owned(),
            confirmed => format!("{confirmed} of them beyond doubt"),
        };
        let (one, many) = ("threshold of fairness is violated", "thresholds of fairness are violated");
        findings.push(caution(&format!("{}, {certain}.", counted(violations.len() as u64, one, many))));
    }
    findings
}

fn attacks(record: &RunRecord) -> Vec<(Tone, String)> {
    let mut findings = Vec::new();
    if membership_attacks(record).next().is_none() {
        findings.push(caution("Whether attacks can tell which images were trained on was not tested."));
    }
    if membership_attacks(record).any(|(_, attack)| attack.flag("is_vulnerable") == Some(true)) {
        findings.push(bad("An attack could tell images that were trained on from others."));
    }
    if is_refuted(record) {
        findings.push(bad("Measured privacy is worse than claimed: the guarantee does not hold."));
    }
    findings
}
