//! How well the predictions agree with the truth.

use crate::auroc::mean_auroc;
use crate::curve::average_precision;
use crate::details::mean_average_precision;
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
    /// Brier score: with two classes the mean of (probability of class 1 − truth)², 0 to 1; with more the
    /// sum over classes, 0 to 2.
    pub brier: f64,
    /// Area under the precision-recall curve, without interpolation, of class 1 or as the mean over classes.
    /// Not defined where a class that counts is absent.
    pub average_precision: Option<f64>,
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
    /// Area under its precision-recall curve, without interpolation.
    pub average_precision: Option<f64>,
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
        // There is at least one image, so at least one class is present.
        let (balanced, present) = per_class
            .iter()
            .filter_map(|class| class.sensitivity)
            .fold((0.0, 0), |(sum, n), s| (sum + s, n + 1));
        Self {
            n,
            accuracy: wilson((0..classes).map(|k| confusion[k][k]).sum(), n),
            log_loss: surprise / n as f64,
            auc,
            sensitivity: over_classes(|class| class.sensitivity),
            specificity: over_classes(|class| class.specificity),
            precision: over_classes(|class| class.precision),
            f1: over_classes(|class| class.f1),
            balanced_accuracy: balanced / present as f64,
            calibration_error: calibration::expected_calibration_error(predictions),
            brier: calibration::brier(predictions),
            average_precision: mean_average_precision(predictions),
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
        average_precision: average_precision(scores, &positive),
        sensitivity: ratio(found, n),
        specificity: ratio(others - (predicted - found), others),
        precision: ratio(found, predicted),
        f1: ratio(2 * found, n + predicted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Deserialize)]
    struct Vectors {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        classes: usize,
        labels: Vec<u32>,
        probabilities: Vec<f64>,
        expected: Expected,
    }

    #[derive(Deserialize)]
    struct Expected {
        accuracy: f64,
        log_loss: f64,
        auc: Option<f64>,
        auc_interval: Option<[f64; 2]>,
        sensitivity: Option<f64>,
        specificity: Option<f64>,
        precision: Option<f64>,
        f1: Option<f64>,
        balanced_accuracy: f64,
        calibration_error: f64,
        brier: f64,
        average_precision: Option<f64>,
        curves: Option<Curves>,
        confusion: Vec<Vec<u64>>,
        class_auc: Vec<Option<f64>>,
    }

    #[derive(Deserialize)]
    struct Curves {
        fpr: Vec<f64>,
        tpr: Vec<f64>,
        precision: Vec<f64>,
        recall: Vec<f64>,
    }

    fn compare_curves(name: &str, predictions: &Predictions, expected: &Curves) {
        let (scores, positive) = predictions.against_rest(1);
        let same = |a: f64, b: f64| (a - b).abs() < 1e-12;
        // Corners only, so each of ours is one of theirs.
        for point in crate::roc_curve(&scores, &positive).unwrap() {
            let theirs = expected.fpr.iter().zip(&expected.tpr);
            let (fpr, tpr) = (point.false_positive_rate, point.true_positive_rate);
            assert!(theirs.into_iter().any(|(x, y)| same(*x, fpr) && same(*y, tpr)), "{name}: {point:?}");
        }
        let ours = crate::pr_curve(&scores, &positive).unwrap();
        assert_eq!(ours.len(), expected.recall.len(), "{name}");
        for (point, (recall, precision)) in ours.iter().zip(expected.recall.iter().zip(&expected.precision)) {
            assert!(same(point.recall, *recall) && same(point.precision, *precision), "{name}: {point:?}");
        }
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../../testdata/eval_metrics.json")).unwrap();
        assert_eq!(vectors.cases.len(), 11);
        for Case { name, classes, labels, probabilities, expected } in vectors.cases {
            let predictions = Predictions::from_probabilities(&probabilities, &labels, classes);
            let found = Performance::of(&predictions);
            let close = |what: &str, found: Option<f64>, expected: Option<f64>| match (found, expected) {
                (None, None) => {}
                (Some(a), Some(b)) if (a - b).abs() < 1e-9 => {}
                _ => panic!("{name}: {what} is {found:?}, expected {expected:?}"),
            };
            close("accuracy", Some(found.accuracy.estimate), Some(expected.accuracy));
            close("log loss", Some(found.log_loss), Some(expected.log_loss));
            close("auc", found.auc.map(|auc| auc.estimate), expected.auc);
            close("sensitivity", found.sensitivity, expected.sensitivity);
            close("specificity", found.specificity, expected.specificity);
            close("precision", found.precision, expected.precision);
            close("f1", found.f1, expected.f1);
            close("balanced accuracy", Some(found.balanced_accuracy), Some(expected.balanced_accuracy));
            close("brier", Some(found.brier), Some(expected.brier));
            close("average precision", found.average_precision, expected.average_precision);
            if let Some(curves) = &expected.curves {
                compare_curves(&name, &predictions, curves);
            }
            close("calibration error", Some(found.calibration_error), Some(expected.calibration_error));
            if let Some([lower, upper]) = expected.auc_interval {
                close("lower end", found.auc.map(|auc| auc.lower), Some(lower));
                close("upper end", found.auc.map(|auc| auc.upper), Some(upper));
            }
            for (class, expected) in found.per_class.iter().zip(expected.class_auc) {
                close("class auc", class.auc.map(|auc| auc.estimate), expected);
            }
            assert_eq!(found.confusion, expected.confusion, "{name}");
        }
    }

    #[test]
    fn one_image_is_enough_and_undefined_rates_are_absent() {
        let predictions = Predictions::from_logits(&[2.0f32, 0.0], &[0], 2).unwrap();
        let found = Performance::of(&predictions);
        assert_eq!((found.n, found.accuracy.estimate), (1, 1.0));
        assert_eq!((found.auc, found.sensitivity, found.precision, found.f1), (None, None, None, None));
        assert_eq!((found.specificity, found.balanced_accuracy), (Some(1.0), 1.0));
        let json = serde_json::to_string(&found).unwrap();
        assert!(json.contains(r#""auc":null"#), "{json}");
        let back: Performance = serde_json::from_str(&json).unwrap();
        assert_eq!((back.auc, back.accuracy.estimate, back.confusion), (None, 1.0, found.confusion));
    }

    #[test]
    fn certainty_in_the_wrong_class_has_a_finite_loss() {
        let predictions = Predictions::from_logits(&[-800.0f32, 800.0], &[0], 2).unwrap();
        assert!((Performance::of(&predictions).log_loss - 52.0 * 2f64.ln()).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn every_metric_is_in_its_range(
            classes in 2usize..5,
            seeds in prop::collection::vec((any::<u32>(), prop::array::uniform4(-30f32..30.0)), 1..60),
        ) {
            let labels: Vec<u32> = seeds.iter().map(|(label, _)| label % classes as u32).collect();
            let logits: Vec<f32> = seeds.iter().flat_map(|(_, row)| row[..classes].to_vec()).collect();
            let found = Performance::of(&Predictions::from_logits(&logits, &labels, classes).unwrap());
            let rates = [found.sensitivity, found.specificity, found.precision, found.f1];
            prop_assert!(rates.iter().flatten().all(|rate| (0.0..=1.0).contains(rate)));
            prop_assert!((0.0..=1.0).contains(&found.balanced_accuracy));
            prop_assert!((0.0..=1.0 + 1e-12).contains(&found.calibration_error));
            prop_assert!(found.log_loss >= 0.0 && found.log_loss < 36.1);
            prop_assert_eq!(found.confusion.iter().flatten().sum::<u64>(), found.n);
            let intervals = found.per_class.iter().filter_map(|class| class.auc);
            for i in intervals.chain(found.auc).chain([found.accuracy]) {
                prop_assert!(0.0 <= i.lower && i.lower <= i.estimate && i.estimate <= i.upper && i.upper <= 1.0);
            }
        }
    }
}
