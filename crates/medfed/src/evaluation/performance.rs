//! A model's performance as text.

use super::{number, row};
use medfed_eval::{Details, Interval, OperatingPoint};

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
    value.map_or_else(
        || "not defined".to_owned(),
        |value| format!("{:.3}  (95 % interval {:.3} to {:.3})", value.estimate, value.lower, value.upper),
    )
}
