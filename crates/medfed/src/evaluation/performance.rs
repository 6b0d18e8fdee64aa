//! A model's performance as text.

use super::{number, row};
use medfed_config::section::Metric;
use medfed_eval::{Details, Interval, OperatingPoint, Performance, PerformanceIntervals};

/// Takes one metric's interval.
type Choose = fn(&PerformanceIntervals) -> Option<Interval>;

/// The chosen metrics, each with its value in words; `details` give the intervals.
pub(crate) fn chosen(
    metrics: &[Metric],
    found: &Performance,
    details: Option<&Details>,
) -> Vec<(&'static str, String)> {
    let of = |metric: &Metric| -> (&'static str, Option<f64>, Choose) {
        match metric {
            Metric::AucRoc => ("AUC", found.auc.map(|auc| auc.estimate), |i| i.auc),
            Metric::Accuracy => ("accuracy", Some(found.accuracy.estimate), |i| i.accuracy),
            Metric::Precision => ("precision", found.precision, |i| i.precision),
            Metric::Recall => ("recall", found.sensitivity, |i| i.sensitivity),
            Metric::F1 => ("F1", found.f1, |i| i.f1),
            Metric::Specificity => ("specificity", found.specificity, |i| i.specificity),
            Metric::BalancedAccuracy => {
                ("balanced accuracy", Some(found.balanced_accuracy), |i| i.balanced_accuracy)
            }
            Metric::AveragePrecision => {
                ("average precision", found.average_precision, |i| i.average_precision)
            }
            Metric::LogLoss => ("log loss", Some(found.log_loss), |i| i.log_loss),
            Metric::Brier => ("Brier score", Some(found.brier), |i| i.brier),
            Metric::CalibrationError => {
                ("calibration error", Some(found.calibration_error), |i| i.calibration_error)
            }
        }
    };
    let words = |(name, value, choose): (&'static str, Option<f64>, Choose)| {
        let interval = details.and_then(|details| choose(&details.intervals));
        (name, in_words(value, interval))
    };
    metrics.iter().map(of).map(words).collect()
}

/// Everything about the model's predictions, with intervals over patients.
pub(crate) fn lines(details: &Details, classes: &[String]) -> Vec<String> {
    let (found, intervals) = (&details.performance, &details.intervals);
    let mut lines = vec![format!("{} images of {} patients", found.n, details.patients)];
    for (name, value) in [
        ("accuracy", intervals.accuracy),
        ("AUC", intervals.auc),
        ("average precision", intervals.average_precision),
        ("balanced accuracy", intervals.balanced_accuracy),
        ("sensitivity (recall)", intervals.sensitivity),
        ("specificity", intervals.specificity),
        ("precision", intervals.precision),
        ("F1", intervals.f1),
        ("log loss", intervals.log_loss),
        ("Brier score", intervals.brier),
        ("calibration error", intervals.calibration_error),
    ] {
        lines.push(row(name, &interval(value)));
    }
    lines.push(String::new());
    let widest = classes.iter().map(|class| class.chars().count()).max().unwrap_or(0).max(5);
    lines.push(format!(
        "  {:<widest$}  images    AUC  sensitivity  specificity  precision     F1  avg. precision",
        "class"
    ));
    for (name, class) in classes.iter().zip(&found.per_class) {
        lines.push(format!(
            "  {name:<widest$}  {:>6}  {:>5}  {:>11}  {:>11}  {:>9}  {:>5}  {:>14}",
            class.n,
            number(class.auc.map(|auc| auc.estimate), 3),
            number(class.sensitivity, 3),
            number(class.specificity, 3),
            number(class.precision, 3),
            number(class.f1, 3),
            number(class.average_precision, 3)
        ));
    }
    lines.push(String::new());
    lines
}

/// A threshold that was chosen on other images, and how it does on these.
pub(crate) fn operating_point(point: &OperatingPoint, wanted: f64, chosen_on: &str) -> Vec<String> {
    vec![
        format!(
            "At the threshold {:.4}, where {wanted} of the positive {chosen_on} images are found:",
            point.threshold
        ),
        row("sensitivity (recall)", &interval(point.sensitivity)),
        row("specificity", &interval(point.specificity)),
        row("precision", &interval(point.precision)),
        row("negative pred. value", &interval(point.negative_predictive_value)),
        String::new(),
    ]
}

fn interval(value: Option<Interval>) -> String {
    in_words(value.map(|value| value.estimate), value)
}

fn in_words(value: Option<f64>, interval: Option<Interval>) -> String {
    match (value, interval) {
        (None, _) => "not defined by these images".to_owned(),
        (Some(value), None) => format!("{value:.3}"),
        (Some(value), Some(Interval { lower, upper, .. })) => {
            format!("{value:.3}  (95 % interval {lower:.3} to {upper:.3})")
        }
    }
}
