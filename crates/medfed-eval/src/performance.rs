//! How well the predictions agree with the truth.

use crate::auroc::mean_auroc;
use crate::interval::wilson;
use crate::predictions::most_likely;
use crate::{Interval, Predictions, auroc, calibration, weighted_mean};
use serde::{Deserialize, Serialize};

/// How well a model's predictions agree with the truth. The predicted class is the most likely one, the
/// first of equals; with two classes that is the threshold 0.5.
///
/// `sensitivity`, `specificity`, `precision` and `f1` are those of class 1 when there are two classes, and
/// means over the classes in which they are defined when there are more. `None` means "not defined".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// Images measured on.
    pub n: u64,
    /// Share of images whose predicted class is the true one, with Wilson's interval.
    pub accuracy: Interval,
    /// Mean of −ln(probability of the true class), in nats; probabilities are taken to be at least 2⁻⁵².
    pub log_loss: f64,
    /// Area under the receiver operating characteristic with DeLong's interval; with more than two classes
    /// the mean of each class against the rest. Not defined where a class is absent.
    pub auc: Option<Interval>,
    /// Share of the positives that are found (recall).
    pub sensitivity: Option<f64>,
    /// Share of the negatives that are left alone.
    pub specificity: Option<f64>,
    /// Share of the predicted positives that are positive (positive predictive value).
    pub precision: Option<f64>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Option<f64>,
    /// Mean sensitivity over the classes that are present.
    pub balanced_accuracy: f64,
    /// Expected calibration error of the predicted class, 15 bins of equal width.
    pub calibration_error: f64,
    /// `confusion[true class][predicted class]`, images.
    pub confusion: Vec<Vec<u64>>,
    /// Each class against the rest.
    pub per_class: Vec<ClassPerformance>,
}

/// One class against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassPerformance {
    /// Images of this class.
    pub n: u64,
    /// Area under the receiver operating characteristic of the class's probability.
    pub auc: Option<Interval>,
    /// Share of the class's images that are found (recall).
    pub sensitivity: Option<f64>,
    /// Share of the other images that are left alone.
    pub specificity: Option<f64>,
    /// Share of the images predicted to be of the class that are.
    pub precision: Option<f64>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Option<f64>,
}

impl Performance {
    /// Measures predictions.
    pub fn of(predictions: &Predictions) -> Self {
        let labels = predictions.labels();
        let classes = predictions.classes();
        let n = predictions.len() as u64;
        let mut confusion = vec![vec![0u64; classes]; classes];
        let mut surprise = 0.0;
        for (row, label) in predictions.rows().zip(labels) {
            confusion[*label as usize][most_likely(row)] += 1;
            surprise -= row[*label as usize].max(f64::EPSILON).ln();
        }
        let columns: Vec<Vec<f64>> = (0..classes).map(|class| predictions.column(class)).collect();
        let per_class: Vec<ClassPerformance> =
            (0..classes).map(|class| one_against_rest(&confusion, class, &columns[class], labels)).collect();
        let auc = if classes == 2 { per_class[1].auc } else { mean_auroc(&columns, labels) };
        let over_classes = |rate: fn(&ClassPerformance) -> Option<f64>| {
            let used = if classes == 2 { &per_class[1..] } else { &per_class[..] };
            weighted_mean(used.iter().map(|class| (rate(class), 1.0)))
        };
        Self {
            n,
            accuracy: wilson((0..classes).map(|k| confusion[k][k]).sum(), n),
            log_loss: surprise / n as f64,
            auc,
            sensitivity: over_classes(|class| class.sensitivity),
            specificity: over_classes(|class| class.specificity),
            precision: over_classes(|class| class.precision),
            f1: over_classes(|class| class.f1),
            balanced_accuracy: weighted_mean(per_class.iter().map(|class| (class.sensitivity, 1.0)))
                .expect("there is at least one image, so at least one class is present"),
            calibration_error: calibration::expected_calibration_error(predictions),
            confusion,
            per_class,
        }
    }
}

fn one_against_rest(
    confusion: &[Vec<u64>],
    class: usize,
    scores: &[f64],
    labels: &[u32],
) -> ClassPerformance {
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let found = confusion[class][class];
    let n: u64 = confusion[class].iter().sum();
    let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
    let others = labels.len() as u64 - n;
    let positive: Vec<bool> = labels.iter().map(|label| *label as usize == class).collect();
    ClassPerformance {
        n,
        auc: auroc(scores, &positive),
        sensitivity: ratio(found, n),
        specificity: ratio(others - (predicted - found), others),
        precision: ratio(found, predicted),
        f1: ratio(2 * found, n + predicted),
    }
}
