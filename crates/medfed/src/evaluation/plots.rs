//! Pictures of a measured model, as SVG files.

use crate::failure::Failure;
use crate::run::replace_file;
use medfed_chart::{
    Axis, Bar, BarChart, CalibrationBin, CalibrationChart, Chart, ConfusionMatrix, Curve,
    PrecisionRecallChart, RocChart, Threshold, Width,
};
use medfed_eval::fairness::{AttributeFairness, FairnessReport, GroupRates};
use medfed_eval::{Details, Interval};
use std::path::Path;

/// The most classes whose curves share a picture.
const MOST_CURVES: usize = 6;

/// Charts with the names of their files, without the ending.
pub(crate) type Plots = Vec<(String, Chart)>;

/// Writes the charts to `folder`, which is made if it is missing.
pub(crate) fn write(plots: &Plots, folder: &Path) -> Result<(), Failure> {
    if plots.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be made", folder.display())))
    })?;
    for (name, chart) in plots {
        replace_file(&folder.join(format!("{name}.svg")), chart.svg().as_bytes())?;
    }
    Ok(())
}

/// Curves, calibration and confusion on a set of images that `images` names.
pub(crate) fn performance(details: &Details, classes: &[String], images: &str) -> Plots {
    let name = |class: u32| classes.get(class as usize).cloned().unwrap_or_else(|| class.to_string());
    let of = |class: u32| &details.performance.per_class[class as usize];
    let drawn = || details.curves.iter().take(MOST_CURVES);
    let roc = drawn().filter_map(|curve| {
        let points = curve.roc.as_ref()?.iter().map(|p| (p.false_positive_rate, p.true_positive_rate));
        let area = of(curve.class).auc.map(|auc| auc.estimate);
        Some(Curve { name: name(curve.class), points: points.collect(), area })
    });
    let pr = drawn().filter_map(|curve| {
        let points = curve.pr.as_ref()?.iter().map(|p| (p.recall, p.precision));
        let area = of(curve.class).average_precision;
        Some(Curve { name: name(curve.class), points: points.collect(), area })
    });
    let (n, only) = (details.performance.n as f64, details.curves.len() == 1);
    let prevalence = details.curves.first().filter(|_| only).map(|c| of(c.class).n as f64 / n);
    let mut plots = vec![
        (
            "roc".to_owned(),
            RocChart { title: format!("ROC on {images}"), curves: roc.collect(), log: false, ceiling: None }
                .draw(Width::FULL),
        ),
        (
            "precision_recall".to_owned(),
            PrecisionRecallChart {
                title: format!("Precision and recall on {images}"),
                curves: pr.collect(),
                prevalence,
            }
            .draw(Width::FULL),
        ),
        (
            "confusion".to_owned(),
            ConfusionMatrix {
                title: format!("Confusion on {images}"),
                classes: classes.to_vec(),
                counts: details.performance.confusion.clone(),
            }
            .draw(Width::FULL),
        ),
    ];
    for curve in drawn() {
        let bins = curve.calibration.iter().map(|bin| CalibrationBin {
            range: (bin.from, bin.to),
            predicted: Some(bin.mean_probability),
            observed: Some(bin.positive_share.estimate),
            interval: Some((bin.positive_share.lower, bin.positive_share.upper)),
            count: bin.images,
        });
        let chart = CalibrationChart {
            title: format!("Calibration of the probability of {} on {images}", name(curve.class)),
            counted: "images".to_owned(),
            bins: bins.collect(),
        };
        let file = if only { "calibration".to_owned() } else { format!("calibration_{}", curve.class) };
        plots.push((file, chart.draw(Width::FULL)));
    }
    plots
}

/// Rates of every group of every attribute, and the accuracy of every hospital.
pub(crate) fn fairness(report: &FairnessReport, images: &str) -> Plots {
    let mut plots = Plots::new();
    if let Some(hospitals) = &report.hospital_fairness {
        let attribute =
            report.demographic_fairness.iter().find(|found| found.attribute == FairnessReport::HOSPITAL);
        let interval = |name: &str| {
            let group = attribute?.groups.iter().find(|group| group.group == name)?;
            Some(group.rates.as_ref()?.accuracy)
        };
        let bars = hospitals.hospitals.iter().map(|hospital| Bar {
            name: hospital.hospital.to_string(),
            value: Some(rounded(hospital.accuracy)),
            interval: interval(hospital.hospital.as_str()).map(|accuracy| (accuracy.lower, accuracy.upper)),
            note: Some(if hospital.compared {
                format!("n = {}", hospital.images)
            } else {
                "too few patients".to_owned()
            }),
            alert: false,
        });
        let chart =
            bar_chart(format!("Accuracy by hospital on {images}"), "hospital", "accuracy", bars.collect());
        plots.push(("fairness_hospitals".to_owned(), chart.draw(Width::FULL)));
    }
    for attribute in &report.demographic_fairness {
        if attribute.groups.is_empty() {
            continue;
        }
        plots.push((
            format!("fairness_{}", file_name(&attribute.attribute)),
            rates(attribute, images).draw(Width::FULL),
        ));
    }
    let parity = report.demographic_fairness.iter().filter_map(|attribute| {
        let found = attribute.equalized_odds_difference.as_ref()?;
        Some(Bar {
            name: attribute.attribute.replace('_', " "),
            value: Some(rounded(found.value)),
            // The interval of the absolute difference: below 0 the groups change places.
            interval: found.interval.map(|[lower, upper]| (lower.max(0.0), upper)),
            note: found.chance.map(|chance| format!("by chance {chance:.2}")),
            alert: found.value > report.thresholds.equalized_odds,
        })
    });
    let bars: Vec<Bar> = parity.collect();
    if !bars.is_empty() {
        let title = format!("Equalised odds difference on {images}");
        let thresholds = vec![Threshold::new("at most", report.thresholds.equalized_odds)];
        let chart = BarChart { thresholds, ..bar_chart(title, "attribute", "difference", bars) };
        plots.push(("fairness_equalized_odds".to_owned(), chart.draw(Width::FULL)));
    }
    plots
}

/// Accuracy, true and false positive rate of each group.
fn rates(attribute: &AttributeFairness, images: &str) -> BarChart {
    type Read = fn(&GroupRates) -> Option<Interval>;
    let kinds: [(&str, Read); 4] = [
        ("accuracy", |rates| Some(rates.accuracy)),
        ("true positives", |rates| rates.true_positive_rate),
        ("false positives", |rates| rates.false_positive_rate),
        ("selected", |rates| rates.selection_rate),
    ];
    let mut bars = Vec::new();
    for (kind, read) in kinds {
        // With more than two classes there is one accuracy and no other single rate.
        if attribute.groups.iter().all(|group| group.rates.as_ref().and_then(read).is_none()) {
            continue;
        }
        bars.extend(attribute.groups.iter().map(|group| {
            let rate = group.rates.as_ref().and_then(read);
            Bar {
                name: format!("{kind}, {}", group.group),
                value: rate.map(|rate| rounded(rate.estimate)),
                interval: rate.map(|rate| (rate.lower, rate.upper)),
                note: group.rates.is_none().then(|| "too small".to_owned()),
                alert: false,
            }
        }));
    }
    bar_chart(format!("Rates by {} on {images}", attribute.attribute), "rate and group", "rate", bars)
}

fn bar_chart(title: String, bar_title: &str, axis: &str, bars: Vec<Bar>) -> BarChart {
    BarChart {
        title,
        bar_title: bar_title.to_owned(),
        axis: Axis::new(axis).range(0.0, 1.0),
        interval_title: "95 % interval".to_owned(),
        bars,
        thresholds: Vec::new(),
    }
}

/// To the three decimals that are printed beside a bar.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Letters, digits, `-` and `_` of a column's name.
fn file_name(attribute: &str) -> String {
    attribute.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
