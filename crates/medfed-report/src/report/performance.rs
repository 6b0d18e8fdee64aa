//! How good the model is: overall, by class, by hospital.

use super::NOT_MEASURED;
use crate::document::Section;
use crate::fields::{Estimate, Fields};
use crate::number::{count, interval, plain, rate, value};
use crate::record::RunRecord;
use medfed_chart::{
    Axis, Bar, BarChart, CalibrationBin, CalibrationChart, Chart, ConfusionMatrix, Curve, LineChart,
    PrecisionRecallChart, RocChart, Series, Width,
};

/// Everything that was measured about the saved model.
const EVALUATION: &str = "evaluation";

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Performance");
    overall(record, &mut section);
    hospitals(record, &mut section);
    let rounds = loss(record);
    if let Some(chart) = rounds {
        section.heading("Training");
        section.chart(chart);
    }
    section
}

/// Performance on the test set, from the evaluation when there is one, else from the summary.
pub(crate) fn test(record: &RunRecord) -> Fields<'_> {
    let detailed = record.document(EVALUATION).at("test.performance");
    if detailed.is_null() { record.summary().at("test") } else { detailed }
}

/// A measure on the test set. Its interval is by resampling patients, where the run did that.
pub(crate) fn measured(record: &RunRecord, key: &str) -> Option<Estimate> {
    let found = test(record).estimate(key)?;
    let by_patient = record.document(EVALUATION).at("test.intervals").estimate(key);
    let interval = by_patient.and_then(|found| found.interval).or(found.interval);
    Some(Estimate { interval, ..found })
}

/// AUC on the test set; of a run under way without interval.
pub(super) fn test_auc(record: &RunRecord) -> Option<Estimate> {
    measured(record, "auc").or_else(|| record.best_round().estimate("test_auc"))
}

fn overall(record: &RunRecord, section: &mut Section) {
    let test = test(record);
    section.heading("On the test set");
    if test.is_null() {
        section.say(match record.best_round().number("test_auc") {
            Some(auc) => {
                format!("So far an AUC of {auc:.3}; the whole evaluation follows at the end of the run.")
            }
            None => NOT_MEASURED.to_owned(),
        });
        return;
    }
    let row = |name: &str, key: &str| {
        let found = measured(record, key);
        [name.to_owned(), value(found), interval(found)]
    };
    let mut rows = vec![
        row("area under the ROC curve (AUC)", "auc"),
        row("accuracy", "accuracy"),
        row("balanced accuracy", "balanced_accuracy"),
        row("sensitivity (recall)", "sensitivity"),
        row("specificity", "specificity"),
        row("precision (positive predictive value)", "precision"),
        row("F1 score", "f1"),
        row("average precision", "average_precision"),
        row("expected calibration error", "calibration_error"),
        row("Brier score", "brier"),
        row("log loss (nats)", "log_loss"),
    ];
    rows.retain(|row| row[1] != "not defined" || row[0].starts_with("area"));
    let n = count(test.count("n"));
    let round = record.summary().count("best_round");
    let round = round.map_or_else(String::new, |round| {
        format!(" The model is that of round {round}, the best on the validation images.")
    });
    section.say(format!("Measured on {n} images that no hospital trained on.{round}"));
    section.table("Performance on the test set", ["measure", "value", "95 % interval"], rows);

    let classes: Vec<Fields<'_>> = test.items("per_class").collect();
    let by_class = |(class, found): (usize, &Fields<'_>)| {
        [
            record.class_name(class),
            count(found.count("n")),
            value(found.estimate("auc")),
            interval(found.estimate("auc")),
            rate(found.number("sensitivity")),
            rate(found.number("specificity")),
            rate(found.number("precision")),
            rate(found.number("f1")),
        ]
    };
    let head = ["class", "images", "AUC", "95 % interval", "sensitivity", "specificity", "precision", "F1"];
    section.table("Each class against the rest", head, classes.iter().enumerate().map(by_class).collect());
    let counts = rows_of(test.at("confusion"));
    if !counts.is_empty() {
        let names = (0..counts.len()).map(|class| record.class_name(class)).collect();
        section.chart(
            ConfusionMatrix { title: "Confusion on the test set".to_owned(), classes: names, counts }
                .draw(Width::HALF),
        );
    }
    curves(record, section);
}

/// Whether every test image was given the same class, and there were several classes to give.
pub(super) fn one_class_for_all(record: &RunRecord) -> bool {
    let counts = rows_of(test(record).at("confusion"));
    let given = |class: usize| counts.iter().any(|row| row.get(class).is_some_and(|count| *count > 0));
    let true_classes = counts.iter().filter(|row| row.iter().any(|count| *count > 0)).count();
    true_classes > 1 && (0..counts.len()).filter(|class| given(*class)).count() == 1
}

/// The rows of an array of arrays of counts.
fn rows_of(matrix: Fields<'_>) -> Vec<Vec<u64>> {
    let row = |row: &serde_json::Value| {
        row.as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64).collect()
    };
    matrix.0.as_array().into_iter().flatten().map(row).collect()
}

/// ROC, precision and recall, calibration; with two classes those of the second.
fn curves(record: &RunRecord, section: &mut Section) {
    let all: Vec<Fields<'_>> = record.document(EVALUATION).items("test.curves").collect();
    let shown = if all.len() == 2 { &all[1..] } else { &all[..] };
    let performance: Vec<Fields<'_>> = test(record).items("per_class").collect();
    let curve = |found: &Fields<'_>, points: &str, keys: [&str; 2], area: &str| {
        let class = found.count("class")? as usize;
        let point = |point: Fields<'_>| point.number(keys[0]).zip(point.number(keys[1]));
        let points: Vec<_> = found.items(points).filter_map(point).collect();
        let area = performance.get(class).and_then(|found| found.estimate(area)).map(|found| found.value);
        (!points.is_empty()).then(|| Curve { name: record.class_name(class), points, area })
    };
    let roc: Vec<Curve> = shown
        .iter()
        .filter_map(|found| curve(found, "roc", ["false_positive_rate", "true_positive_rate"], "auc"))
        .collect();
    if !roc.is_empty() {
        let title = "Receiver operating characteristic".to_owned();
        section.chart(RocChart { title, curves: roc, log: false, ceiling: None }.draw(Width::HALF));
    }
    let curves: Vec<Curve> = shown
        .iter()
        .filter_map(|found| curve(found, "pr", ["recall", "precision"], "average_precision"))
        .collect();
    if !curves.is_empty() {
        let all = test(record).number("n").filter(|n| *n > 0.0);
        let positives = performance.last().and_then(|found| found.number("n")).filter(|_| shown.len() == 1);
        let prevalence = positives.zip(all).map(|(positives, all)| positives / all);
        let title = "Precision and recall".to_owned();
        section.chart(PrecisionRecallChart { title, curves, prevalence }.draw(Width::HALF));
    }
    for found in shown.iter().take(6) {
        let bin = |bin: Fields<'_>| {
            let observed = bin.estimate("positive_share");
            Some(CalibrationBin {
                range: (bin.number("from")?, bin.number("to")?),
                predicted: bin.number("mean_probability"),
                observed: observed.map(|found| found.value),
                interval: observed.and_then(|found| found.interval),
                count: bin.count("images")?,
            })
        };
        let bins: Vec<CalibrationBin> = found.items("calibration").filter_map(bin).collect();
        if !bins.is_empty() {
            let class =
                found.count("class").map_or_else(String::new, |class| record.class_name(class as usize));
            let title = format!("Calibration of the probability of {class}");
            section.chart(CalibrationChart { title, counted: "images".to_owned(), bins }.draw(Width::HALF));
        }
    }
}

fn hospitals(record: &RunRecord, section: &mut Section) {
    section.heading("At the hospitals");
    let evaluated: Vec<Fields<'_>> = record.document(EVALUATION).items("hospitals").collect();
    let mut bars = Vec::new();
    if evaluated.is_empty() {
        let sites: Vec<Fields<'_>> = record.best_round().items("hospitals").collect();
        if sites.is_empty() {
            section.say(NOT_MEASURED);
            return;
        }
        section.say("On each hospital's own validation images, with the model of the best round.");
        let row = |site: &Fields<'_>| {
            [
                site.text("hospital").unwrap_or("–").to_owned(),
                count(site.count("validation_images")),
                rate(site.number("auc")),
                rate(site.number("accuracy")),
                plain(site.number("val_loss")),
            ]
        };
        let head = ["hospital", "validation images", "AUC", "accuracy", "log loss"];
        section.table("Performance by hospital", head, sites.iter().map(row).collect());
        bars.extend(sites.iter().map(|site| Bar {
            name: site.text("hospital").unwrap_or_default().to_owned(),
            value: site.number("auc"),
            ..Bar::default()
        }));
    } else {
        section.say("On each hospital's own validation images, with the saved model.");
        let row = |site: &Fields<'_>| {
            let found = site.at("performance");
            [
                site.text("hospital").unwrap_or("–").to_owned(),
                count(found.count("n")),
                value(found.estimate("auc")),
                interval(found.estimate("auc")),
                value(found.estimate("accuracy")),
                interval(found.estimate("accuracy")),
                rate(found.number("sensitivity")),
                rate(found.number("specificity")),
                rate(found.number("calibration_error")),
            ]
        };
        let head = [
            "hospital",
            "images",
            "AUC",
            "95 % interval",
            "accuracy",
            "95 % interval",
            "sensitivity",
            "specificity",
            "calibration error",
        ];
        section.table("Performance by hospital", head, evaluated.iter().map(row).collect());
        bars.extend(evaluated.iter().map(|site| {
            let auc = site.estimate("performance.auc");
            Bar {
                name: site.text("hospital").unwrap_or_default().to_owned(),
                value: auc.map(|auc| auc.value),
                interval: auc.and_then(|auc| auc.interval),
                ..Bar::default()
            }
        }));
    }
    section.chart(
        BarChart {
            title: "AUC on the hospitals' validation images".to_owned(),
            bar_title: "hospital".to_owned(),
            axis: Axis::new("area under the ROC curve (0.5 is guessing)").range(0.0, 1.0),
            interval_title: "95 % interval".to_owned(),
            bars,
            thresholds: Vec::new(),
        }
        .draw(Width::FULL),
    );
}

/// AUC over the rounds, at the hospitals and on the test set.
pub(super) fn by_round(record: &RunRecord) -> Option<Chart> {
    const MOST: usize = 12;
    let mut series = Vec::new();
    let reports = || record.rounds.iter().map(|round| (f64::from(round.round.0), Fields(&round.report)));
    let tested: Vec<_> = reports().map(|(round, report)| (round, report.number("test_auc"))).collect();
    if tested.iter().any(|(_, auc)| auc.is_some()) {
        series.push(Series::new("test set", tested));
    }
    let names: Vec<&str> =
        record.last_round().items("hospitals").filter_map(|site| site.text("hospital")).collect();
    if names.len() <= MOST {
        for name in names {
            let of = |report: Fields<'_>| {
                report.items("hospitals").find(|site| site.text("hospital") == Some(name))?.number("auc")
            };
            series.push(Series::new(name, reports().map(|(round, report)| (round, of(report)))));
        }
    } else {
        series.push(Series::new(
            "mean of the hospitals",
            reports().map(|(round, report)| (round, report.number("auc"))),
        ));
    }
    (!record.rounds.is_empty()).then(|| {
        LineChart {
            title: "AUC after each round".to_owned(),
            x: Axis::new("round").whole(),
            y: Axis::new("area under the ROC curve (0.5 is guessing)"),
            series,
            thresholds: Vec::new(),
        }
        .draw(Width::FULL)
    })
}

fn loss(record: &RunRecord) -> Option<Chart> {
    let of = |key: &str| {
        let points =
            record.rounds.iter().map(|round| (f64::from(round.round.0), Fields(&round.report).number(key)));
        points.collect::<Vec<_>>()
    };
    (!record.rounds.is_empty()).then(|| {
        LineChart {
            title: "Loss in each round".to_owned(),
            x: Axis::new("round").whole(),
            y: Axis::new("log loss (nats)"),
            series: vec![
                Series::new("training", of("train_loss")),
                Series::new("validation", of("val_loss")),
            ],
            thresholds: Vec::new(),
        }
        .draw(Width::FULL)
    })
}
