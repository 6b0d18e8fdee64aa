//! Whether the model serves every hospital and every group of patients.

use super::NOT_MEASURED;
use crate::document::Section;
use crate::fields::Fields;
use crate::number::{counted, interval, plain, rate, value};
use crate::record::RunRecord;
use medfed_chart::{Axis, Bar, BarChart, Width};

/// A threshold that was violated.
pub(super) struct Violation {
    /// In words.
    pub(super) text: String,
    /// Whether its whole interval is beyond.
    pub(super) confirmed: bool,
}

/// What was measured, best source first, with the images it was measured on.
fn measured(record: &RunRecord) -> Vec<(&'static str, Fields<'_>)> {
    let evaluation = record.document("evaluation");
    let report = record.document("fairness_report");
    let mut found: Vec<(&'static str, Fields<'_>)> = Vec::new();
    for (images, paths) in [
        ("the test set", [evaluation.at("fairness.test"), report.at("test"), report.at("final.test")]),
        (
            "the hospitals' validation images",
            [evaluation.at("fairness.validation"), report.at("validation"), report.at("final.validation")],
        ),
    ] {
        found.extend(paths.into_iter().find(|path| path.0.is_object()).map(|path| (images, path)));
    }
    if found.is_empty() {
        let rounds = record.rounds.iter().rev().map(|round| Fields(&round.report).at("fairness"));
        let newest = rounds.into_iter().find(|fairness| fairness.0.is_object());
        found.extend(newest.map(|fairness| ("the hospitals' validation images", fairness)));
    }
    found
}

/// Every violation once.
pub(super) fn violations(record: &RunRecord) -> Vec<Violation> {
    let sources = measured(record);
    let all = sources
        .iter()
        .flat_map(|(images, report)| report.items("violations").map(move |found| (*images, found)));
    all.map(|(images, found)| {
        let what = match found.text("criterion") {
            Some("demographic_parity") => "the demographic parity difference",
            Some("equalized_odds") => "the equalised odds difference",
            Some("accuracy_parity") => "the difference of accuracies",
            Some("disparate_impact") => "the disparate impact",
            Some("hospital_variance") => "the variance of the hospitals' accuracies",
            other => other.unwrap_or("a measure"),
        };
        let of = found
            .text("attribute")
            .map_or_else(String::new, |attribute| format!(" by {}", spaced(attribute)));
        let groups: Vec<&str> = found.items("groups").filter_map(|group| group.0.as_str()).collect();
        let groups =
            if let [high, low] = groups[..] { format!(" ({high} against {low})") } else { String::new() };
        let confirmed = found.flag("confirmed") == Some(true);
        let certain =
            if confirmed { "; the whole interval is beyond it" } else { "; within the interval it may hold" };
        let certain = if found.at("interval").is_null() { "" } else { certain };
        let text = format!(
            "On {images}: {what}{of} is {}{groups}, the threshold is {}{certain}.",
            rate(found.number("value")),
            rate(found.number("threshold"))
        );
        Violation { text, confirmed }
    })
    .collect()
}

/// The group with the lowest accuracy, hospitals aside.
pub(super) fn worst_group(record: &RunRecord) -> Option<(String, f64)> {
    let rates = groups_of(record).into_iter().filter_map(|(attribute, group, found)| {
        Some((format!("{attribute} {group}"), found.estimate("rates.accuracy")?.value))
    });
    rates.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Whether an attribute is one of patients.
fn is_demographic(found: Fields<'_>) -> bool {
    found.text("attribute") != Some("hospital")
}

/// Attribute, group, and what was measured about it, hospitals aside; on the test set if possible.
pub(crate) fn groups_of(record: &RunRecord) -> Vec<(String, String, Fields<'_>)> {
    let compared = |report: &Fields<'_>| {
        let mut groups = report
            .items("demographic_fairness")
            .filter(|found| is_demographic(*found))
            .flat_map(|found| found.items("groups"));
        groups.any(|group| !group.at("rates").is_null())
    };
    let sources = measured(record);
    let best = sources.iter().find(|(_, report)| compared(report)).or_else(|| sources.first());
    let Some((_, report)) = best else { return Vec::new() };
    let attributes =
        report.items("demographic_fairness").filter(|found| found.text("attribute") != Some("hospital"));
    attributes
        .flat_map(|found| {
            let attribute = spaced(found.text("attribute").unwrap_or_default());
            found
                .items("groups")
                .filter_map(move |group| Some((attribute.clone(), group.text("group")?.to_owned(), group)))
        })
        .collect()
}

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Fairness");
    let sources = measured(record);
    if sources.is_empty() {
        section.say(NOT_MEASURED);
        section.say("Without it, nothing is known about whether the model serves men and women, young and old, or any other groups equally well.");
        return section;
    }
    for (images, report) in &sources {
        section.heading(format!("On {images}"));
        let score = rate(report.number("fairness_score"));
        section.say(format!(
            "Fairness score {score}: 1 is equality, 0.5 stands for values at their thresholds."
        ));
        hospital_table(*report, &mut section);
        for attribute in report.items("demographic_fairness") {
            groups(attribute, images, &mut section);
        }
    }
    section.heading("Thresholds that were violated");
    let violations: Vec<String> = violations(record).into_iter().map(|violation| violation.text).collect();
    if violations.is_empty() {
        section.say("None of those that could be measured.");
    } else {
        section.list(violations);
    }
    actions(record, &mut section);
    section
}

fn hospital_table(report: Fields<'_>, section: &mut Section) {
    let found = report.at("hospital_fairness");
    if found.is_null() {
        return;
    }
    let row =
        |name: &str, key: &str| [name.to_owned(), value(found.estimate(key)), interval(found.estimate(key))];
    // Variances are small numbers.
    let fine = |name: &str, key: &str| [name.to_owned(), plain(found.number(key)), "–".to_owned()];
    let rows = vec![
        row("largest difference of accuracies", "accuracy_parity"),
        fine("variance of the accuracies", "accuracy_variance"),
        fine("the same by chance alone", "accuracy_variance_by_chance"),
        fine("variance of the AUCs", "auc_variance"),
        row("largest difference of AUCs", "auc_difference"),
    ];
    section.table("Between hospitals", ["measure", "value", "95 % interval"], rows);
}

fn groups(attribute: Fields<'_>, images: &str, section: &mut Section) {
    let name = spaced(attribute.text("attribute").unwrap_or("group"));
    let least = "too few patients";
    let rows: Vec<[String; 7]> = attribute
        .items("groups")
        .map(|group| {
            let rates = group.at("rates");
            let cell =
                |key: &str| if rates.is_null() { least.to_owned() } else { value(rates.estimate(key)) };
            [
                group.text("group").unwrap_or("–").to_owned(),
                crate::number::count(group.count("patients")),
                cell("accuracy"),
                interval(rates.estimate("accuracy")),
                cell("selection_rate"),
                cell("true_positive_rate"),
                cell("false_positive_rate"),
            ]
        })
        .collect();
    let head = [
        "group",
        "patients",
        "accuracy",
        "95 % interval",
        "called positive",
        "true positive rate",
        "false positive rate",
    ];
    section.table(&format!("Groups by {name}, {images}"), head, rows);
    let bar = |group: Fields<'_>| {
        let accuracy = group.estimate("rates.accuracy");
        Bar {
            name: group.text("group").unwrap_or_default().to_owned(),
            value: accuracy.map(|accuracy| accuracy.value),
            interval: accuracy.and_then(|accuracy| accuracy.interval),
            note: Some(match accuracy {
                Some(_) => counted(group.count("patients").unwrap_or(0), "patient", "patients"),
                None => least.to_owned(),
            }),
            alert: false,
        }
    };
    let bars: Vec<Bar> = attribute.items("groups").map(bar).collect();
    if bars.iter().any(|bar| bar.value.is_some()) {
        let chart = BarChart {
            title: format!("Accuracy by {name}, {images}"),
            bar_title: name.clone(),
            axis: Axis::new("accuracy").range(0.0, 1.0),
            interval_title: "95 % interval".to_owned(),
            bars,
            thresholds: Vec::new(),
        };
        section.chart(chart.draw(Width::FULL));
    }
    let measure = |title: &str, key: &str| {
        let gap = attribute.at(key);
        let between = gap
            .text("high")
            .zip(gap.text("low"))
            .map_or_else(|| "–".to_owned(), |(high, low)| format!("{high} – {low}"));
        let chance = gap.number("chance").map_or_else(|| "–".to_owned(), |chance| rate(Some(chance)));
        [title.to_owned(), value(attribute.estimate(key)), interval(attribute.estimate(key)), chance, between]
    };
    let rows = vec![
        measure("demographic parity difference", "demographic_parity_difference"),
        measure("demographic parity ratio", "demographic_parity_ratio"),
        measure("equalised odds difference", "equalized_odds_difference"),
        measure("difference of true positive rates", "true_positive_rate_difference"),
        measure("difference of false positive rates", "false_positive_rate_difference"),
        measure("disparate impact", "disparate_impact"),
        measure("difference of accuracies", "accuracy_difference"),
    ];
    let head = ["measure", "value", "95 % interval", "by chance (1 in 20)", "groups"];
    section.table(&format!("Differences by {name}"), head, rows);
}

/// What unfairness led to.
fn actions(record: &RunRecord, section: &mut Section) {
    let reweighted = record.rounds.iter().filter(|round| {
        Fields(&round.report)
            .entries("fairness.weight_factors")
            .any(|(_, factor)| factor.0.as_f64().is_some_and(|factor| factor != 1.0))
    });
    let reweighted = reweighted.count() as u64;
    if reweighted > 0 {
        section.say(format!(
            "The weights of hospitals were adjusted after {}.",
            counted(reweighted, "round", "rounds")
        ));
    }
    let halted = |round: &medfed_store::Round| Fields(&round.report).flag("fairness.halts") == Some(true);
    if record.rounds.iter().any(|round| halted(round)) {
        section.say("A violation ended the run, as configured.");
    }
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}
