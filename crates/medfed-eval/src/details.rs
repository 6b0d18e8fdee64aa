//! Everything about a finished model: performance, intervals for all of it, curves.

use crate::bootstrap::{Clusters, Resampling, percentile_interval};
use crate::curve::{
    CalibrationBin, PrPoint, RocPoint, average_precision, calibration_curve, pr_curve, roc_curve,
};
use crate::interval::effective_wilson;
use crate::predictions::most_likely;
use crate::{EvalError, Interval, Performance, Predictions, calibration, weighted_mean};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// 95 % intervals. Proportions (the accuracy; with two classes also sensitivity, specificity and precision)
/// have Wilson's interval at the effective number of images, and F1 with two classes has that of the
/// proportion that it is a function of; the AUC of images that are all of different patients has DeLong's;
/// everything else has percentile intervals by resampling patients within the class of their first image.
/// Where every replicate has the same balanced accuracy (a model that predicts one class), it has the
/// interval that follows from those of its two rates. Null where a metric is not defined, or was not in
/// more than one replicate in ten. The loss and the Brier score of more than two classes may exceed 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerformanceIntervals {
    /// Of [`Performance::accuracy`].
    pub accuracy: Option<Interval>,
    /// Of [`Performance::auc`].
    pub auc: Option<Interval>,
    /// Of [`Performance::average_precision`].
    pub average_precision: Option<Interval>,
    /// Of [`Performance::sensitivity`].
    pub sensitivity: Option<Interval>,
    /// Of [`Performance::specificity`].
    pub specificity: Option<Interval>,
    /// Of [`Performance::precision`].
    pub precision: Option<Interval>,
    /// Of [`Performance::f1`].
    pub f1: Option<Interval>,
    /// Of [`Performance::balanced_accuracy`].
    pub balanced_accuracy: Option<Interval>,
    /// Of [`Performance::log_loss`].
    pub log_loss: Option<Interval>,
    /// Of [`Performance::brier`].
    pub brier: Option<Interval>,
    /// Of [`Performance::calibration_error`].
    pub calibration_error: Option<Interval>,
}

/// Curves of one class against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCurves {
    /// The class.
    pub class: u32,
    /// Receiver operating characteristic; null where the class or the rest is absent.
    pub roc: Option<Vec<RocPoint>>,
    /// Precision and recall; null where the class is absent.
    pub pr: Option<Vec<PrPoint>>,
    /// Calibration of the class's probability.
    pub calibration: Vec<CalibrationBin>,
}

/// Everything about a model's predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// What is measured after every round too.
    pub performance: Performance,
    /// Patients; an image whose patient is not known counts as one.
    pub patients: u64,
    /// Intervals that know which images are of one patient.
    pub intervals: PerformanceIntervals,
    /// Curves, of class 1 alone where there are two classes.
    pub curves: Vec<ClassCurves>,
}

impl Details {
    /// Measures `predictions`; `patients[i]` is equal for images of one person.
    pub fn of(
        predictions: &Predictions,
        patients: &[u32],
        resampling: Resampling,
    ) -> Result<Self, EvalError> {
        let expected = predictions.len();
        if patients.len() != expected {
            return Err(EvalError::Lengths { what: "patients", expected, found: patients.len() });
        }
        let classes = predictions.classes();
        let used = if classes == 2 { 1..2 } else { 0..classes };
        let curves = used.map(|class| {
            let (scores, positive) = predictions.against_rest(class);
            ClassCurves {
                class: class as u32,
                roc: roc_curve(&scores, &positive),
                pr: pr_curve(&scores, &positive),
                calibration: calibration_curve(&scores, &positive),
            }
        });
        let mut people = patients.to_vec();
        people.sort_unstable();
        people.dedup();
        Ok(Self {
            performance: Performance::of(predictions),
            patients: people.len() as u64,
            curves: curves.collect(),
            intervals: PerformanceIntervals::of(predictions, patients, resampling),
        })
    }
}

/// Number of metrics with an interval.
const METRICS: usize = 11;

impl PerformanceIntervals {
    fn of(predictions: &Predictions, patients: &[u32], resampling: Resampling) -> Self {
        let sorted = Sorted::new(predictions);
        let clusters = Clusters::new(patients, |image| Some(predictions.labels()[image] as usize));
        let mut values: [Vec<f64>; METRICS] = Default::default();
        let mut weights = vec![0u32; predictions.len()];
        for mut rng in resampling.generators("performance bootstrap") {
            weights.fill(0);
            clusters.draw(&mut rng, |image| weights[image] += 1);
            for (values, value) in values.iter_mut().zip(sorted.metrics(&weights)) {
                values.extend(value);
            }
        }
        weights.fill(1);
        let estimates = sorted.metrics(&weights);
        let mut intervals = values.into_iter().zip(estimates).map(|(values, estimate)| {
            let ([lower, upper], estimate) = (percentile_interval(values, resampling.replicates)?, estimate?);
            // A biased metric (the calibration error of few images) may lie outside its percentiles.
            Some(Interval { estimate, lower: lower.min(estimate), upper: upper.max(estimate) })
        });
        let mut next = || intervals.next().flatten();
        let resampled = Self {
            accuracy: next(),
            auc: next(),
            average_precision: next(),
            sensitivity: next(),
            specificity: next(),
            precision: next(),
            f1: next(),
            balanced_accuracy: next(),
            log_loss: next(),
            brier: next(),
            calibration_error: next(),
        };
        let alone = clusters.strata().iter().flatten().all(|images| images.len() == 1);
        let delong = || Performance::of(predictions).auc;
        let share = |part: &dyn Fn(u32, u32) -> Option<bool>| sorted.proportion(patients, part);
        let of_class = |part: &dyn Fn(u32, u32) -> Option<bool>, otherwise: Option<Interval>| {
            if sorted.classes == 2 { share(part) } else { otherwise }
        };
        let sensitivity = of_class(&|label, p| (label == 1).then_some(p == 1), resampled.sensitivity);
        let specificity = of_class(&|label, p| (label == 0).then_some(p == 0), resampled.specificity);
        // F1 = 2J/(1 + J), where J is the share of hits among the images that are or seem positive.
        let overlap = of_class(&|label, p| (label == 1 || p == 1).then_some(label == 1 && p == 1), None);
        let f1 = |share: f64| 2.0 * share / (1.0 + share);
        let f1 = overlap.map(|Interval { estimate, lower, upper }| Interval {
            estimate: f1(estimate),
            lower: f1(lower),
            upper: f1(upper),
        });
        let varies = |interval: &Interval| interval.lower < interval.upper;
        let balanced = resampled
            .balanced_accuracy
            .filter(varies)
            .or_else(|| Some(mean_of_two(sensitivity?, specificity?)).filter(|_| sorted.classes == 2));
        Self {
            accuracy: share(&|label, predicted| Some(label == predicted)),
            auc: if alone { delong() } else { resampled.auc },
            sensitivity,
            specificity,
            precision: of_class(&|label, p| (p == 1).then_some(label == 1), resampled.precision),
            f1: if sorted.classes == 2 { f1 } else { resampled.f1 },
            balanced_accuracy: balanced.or(resampled.balanced_accuracy),
            ..resampled
        }
    }
}

/// The mean of two independent estimates, by Newcombe's hybrid of their intervals (Statistics in Medicine
/// 17:873, 1998).
fn mean_of_two(a: Interval, b: Interval) -> Interval {
    let estimate = f64::midpoint(a.estimate, b.estimate);
    let lower = (a.estimate - a.lower).hypot(b.estimate - b.lower) / 2.0;
    let upper = (a.upper - a.estimate).hypot(b.upper - b.estimate) / 2.0;
    Interval { estimate, lower: estimate - lower, upper: estimate + upper }
}

/// Predictions prepared for being measured many times with other weights: everything that needs sorting or
/// exponentials is done once.
struct Sorted<'a> {
    labels: &'a [u32],
    classes: usize,
    predicted: Vec<usize>,
    surprise: Vec<f64>,
    squares: Vec<f64>,
    /// Bin of the calibration error and the probability there.
    confidence: Vec<(usize, f64)>,
    /// For each class that counts, its position and the images by falling score, with whether a score equals
    /// the one before.
    order: Vec<(usize, Vec<(u32, bool)>)>,
}

impl<'a> Sorted<'a> {
    fn new(predictions: &'a Predictions) -> Self {
        let (labels, classes) = (predictions.labels(), predictions.classes());
        let order = |class: usize| {
            let scores = predictions.column(class);
            let mut images: Vec<u32> = (0..labels.len() as u32).collect();
            images.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
            let ties = std::iter::once(false)
                .chain(images.windows(2).map(|pair| scores[pair[0] as usize] == scores[pair[1] as usize]));
            (class, images.iter().copied().zip(ties).collect())
        };
        let used = if classes == 2 { 1..2 } else { 0..classes };
        let row_label = || predictions.rows().zip(labels);
        Self {
            labels,
            classes,
            predicted: predictions.rows().map(most_likely).collect(),
            surprise: row_label().map(|(row, label)| -row[*label as usize].max(f64::EPSILON).ln()).collect(),
            squares: row_label().map(|(row, label)| calibration::squared_error(row, *label)).collect(),
            confidence: predictions.rows().map(calibration::confidence).collect(),
            order: used.map(order).collect(),
        }
    }

    /// The share of the images for which `part(label, predicted)` is something that are `true`.
    fn proportion(&self, patients: &[u32], part: &dyn Fn(u32, u32) -> Option<bool>) -> Option<Interval> {
        let mut by_patient: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (image, patient) in patients.iter().enumerate() {
            if let Some(hit) = part(self.labels[image], self.predicted[image] as u32) {
                let sum = by_patient.entry(*patient).or_default();
                *sum = (sum.0 + u64::from(hit), sum.1 + 1);
            }
        }
        let (hits, images) = by_patient.values().fold((0, 0), |sum, (h, n)| (sum.0 + h, sum.1 + n));
        let clusters: Vec<(u64, u64)> = by_patient.into_values().collect();
        (images > 0).then(|| effective_wilson(hits, images, &clusters))
    }

    /// All metrics where image i counts `weights[i]` times, in the order of [`PerformanceIntervals`].
    fn metrics(&self, weights: &[u32]) -> [Option<f64>; METRICS] {
        let classes = self.classes;
        let mut confusion = vec![0u64; classes * classes];
        let (mut n, mut loss, mut squares) = (0u64, 0.0, 0.0);
        let mut bins = [0.0; calibration::BINS];
        for (image, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            let (label, predicted) = (self.labels[image] as usize, self.predicted[image]);
            let times = f64::from(*weight);
            n += u64::from(*weight);
            confusion[label * classes + predicted] += u64::from(*weight);
            loss += times * self.surprise[image];
            squares += times * self.squares[image];
            let (bin, confidence) = self.confidence[image];
            bins[bin] += times * (f64::from(predicted == label) - confidence);
        }
        let all = n as f64;
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let rates = |class: usize| {
            let tp = confusion[class * classes + class];
            let present: u64 = confusion[class * classes..][..classes].iter().sum();
            let predicted: u64 = (0..classes).map(|label| confusion[label * classes + class]).sum();
            [
                ratio(tp, present),
                ratio((n - present) - (predicted - tp), n - present),
                ratio(tp, predicted),
                ratio(2 * tp, present + predicted),
            ]
        };
        let used = if classes == 2 { 1..2 } else { 0..classes };
        let mean = |rate: usize| weighted_mean(used.clone().map(|class| (rates(class)[rate], 1.0)));
        let areas: Vec<[Option<f64>; 2]> =
            self.order.iter().map(|(class, order)| self.areas(*class, order, weights)).collect();
        let complete = |curve: usize| {
            let values: Option<Vec<f64>> = areas.iter().map(|area| area[curve]).collect();
            values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
        };
        let correct: u64 = (0..classes).map(|class| confusion[class * classes + class]).sum();
        [
            ratio(correct, n),
            complete(0),
            complete(1),
            mean(0),
            mean(1),
            mean(2),
            mean(3),
            weighted_mean((0..classes).map(|class| (rates(class)[0], 1.0))),
            (n > 0).then(|| loss / all),
            (n > 0).then(|| squares / all),
            (n > 0).then(|| bins.iter().map(|bin| bin.abs()).sum::<f64>() / all),
        ]
    }

    /// Area under the receiver operating characteristic, and average precision.
    fn areas(&self, class: usize, order: &[(u32, bool)], weights: &[u32]) -> [Option<f64>; 2] {
        let (mut found, mut false_alarms) = (0u64, 0u64);
        // Twice the number of pairs in which the positive scores above the negative, ties counting one.
        let (mut wins, mut precisions) = (0u128, 0.0);
        for run in order.chunk_by(|_, next| next.1) {
            let (mut hits, mut misses) = (0u64, 0u64);
            for (image, _) in run {
                let times = u64::from(weights[*image as usize]);
                let counted =
                    if self.labels[*image as usize] as usize == class { &mut hits } else { &mut misses };
                *counted += times;
            }
            wins += u128::from(misses) * u128::from(2 * found + hits);
            found += hits;
            false_alarms += misses;
            if hits > 0 {
                precisions += hits as f64 * found as f64 / (found + false_alarms) as f64;
            }
        }
        let pairs = 2.0 * found as f64 * false_alarms as f64;
        [(pairs > 0.0).then(|| wins as f64 / pairs), (found > 0).then(|| precisions / found as f64)]
    }
}

/// The unweighted mean over classes of their average precision; with two classes that of class 1. `None`
/// where a class is absent.
pub(crate) fn mean_average_precision(predictions: &Predictions) -> Option<f64> {
    let classes = predictions.classes();
    let used = if classes == 2 { 1..2 } else { 0..classes };
    let values: Option<Vec<f64>> = used
        .map(|class| {
            let (scores, positive) = predictions.against_rest(class);
            average_precision(&scores, &positive)
        })
        .collect();
    values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::Seed;
    use proptest::prelude::*;

    #[test]
    fn intervals_contain_the_estimates_and_patients_widen_them() {
        let labels: Vec<u32> = (0..120).map(|i| u32::from(i / 4 % 3 == 0)).collect();
        let logits: Vec<f32> =
            (0..120u16).flat_map(|i| [0.0, f32::from((i / 4 * 37) % 23) / 8.0 - 1.5]).collect();
        let predictions = Predictions::from_logits(&logits, &labels, 2).unwrap();
        let details = |patients: &[u32]| {
            Details::of(&predictions, patients, Resampling { seed: Seed(2), replicates: 300 }).unwrap()
        };
        let alone = details(&(0..120).collect::<Vec<u32>>());
        let together = details(&(0..120).map(|i| i / 4).collect::<Vec<u32>>());
        assert_eq!((alone.patients, together.patients), (120, 30));
        let width = |details: &Details| {
            let auc = details.intervals.auc.unwrap();
            assert!((auc.estimate - details.performance.auc.unwrap().estimate).abs() < 1e-12);
            assert!(auc.lower < auc.estimate && auc.estimate < auc.upper);
            auc.upper - auc.lower
        };
        assert!(width(&together) > 1.5 * width(&alone));
        assert_eq!(alone.intervals.auc, alone.performance.auc);
        assert_eq!(alone.intervals.accuracy.unwrap(), alone.performance.accuracy);
        let accuracy = together.intervals.accuracy.unwrap();
        assert!(accuracy.lower < alone.performance.accuracy.lower && accuracy.upper > accuracy.estimate);
        // Resampling images gives about DeLong's interval.
        let clusters: Vec<u32> = (0..120).map(|i| if i < 2 { 0 } else { i }).collect();
        let nearly = width(&details(&clusters));
        assert!((nearly / width(&alone) - 1.0).abs() < 0.15, "{nearly}");
        assert_eq!(together.curves.len(), 1);
        let again = details(&(0..120).map(|i| i / 4).collect::<Vec<u32>>());
        assert_eq!(again, together);
        let error = Details::of(&predictions, &[0], Resampling::new(Seed(1))).unwrap_err();
        assert_eq!(error, EvalError::Lengths { what: "patients", expected: 120, found: 1 });
    }

    /// A model that says the same of everyone leaves no doubt in resampled images, and much in truth.
    #[test]
    fn intervals_of_a_constant_model_are_not_points() {
        let labels: Vec<u32> = (0..42).map(|i| u32::from(i < 23)).collect();
        let patients: Vec<u32> = (0..42).collect();
        for (positive, f1, overlap) in [(true, 46.0 / 65.0, (23, 42)), (false, 0.0, (0, 23))] {
            let logits: Vec<f32> = [if positive { [0.0, 1.0] } else { [1.0, 0.0] }; 42].concat();
            let predictions = Predictions::from_logits(&logits, &labels, 2).unwrap();
            let found = Details::of(&predictions, &patients, Resampling::new(Seed(1))).unwrap().intervals;
            let interval = found.f1.unwrap();
            assert!((interval.estimate - f1).abs() < 1e-12);
            let share = crate::interval::wilson(overlap.0, overlap.1);
            assert!((interval.lower - 2.0 * share.lower / (1.0 + share.lower)).abs() < 1e-12);
            assert!((interval.upper - 2.0 * share.upper / (1.0 + share.upper)).abs() < 1e-12);
            let balanced = found.balanced_accuracy.unwrap();
            assert!(balanced.estimate == 0.5 && balanced.upper - balanced.lower > 0.05, "{balanced:?}");
        }
    }

    proptest! {
        #[test]
        fn weights_are_repetitions(
            classes in 2usize..4,
            rows in prop::collection::vec((0u32..4, prop::array::uniform3(-2i8..3), 0u32..3), 2..40),
        ) {
            let labels: Vec<u32> = rows.iter().map(|row| row.0 % classes as u32).collect();
            let logits: Vec<f32> =
                rows.iter().flat_map(|row| row.1[..classes].iter().map(|x| f32::from(*x))).collect();
            let weights: Vec<u32> = rows.iter().map(|row| row.2).collect();
            prop_assume!(weights.iter().sum::<u32>() > 0);
            let all = Predictions::from_logits(&logits, &labels, classes).unwrap();
            let repeat = |image: usize| std::iter::repeat_n(image, weights[image] as usize);
            let images: Vec<usize> = (0..rows.len()).flat_map(repeat).collect();
            let repeated_labels: Vec<u32> = images.iter().map(|i| labels[*i]).collect();
            let repeated: Vec<f32> =
                images.iter().flat_map(|i| logits[i * classes..][..classes].to_vec()).collect();
            let repeated = Predictions::from_logits(&repeated, &repeated_labels, classes).unwrap();
            let expected = Performance::of(&repeated);
            let expected = [
                Some(expected.accuracy.estimate),
                expected.auc.map(|auc| auc.estimate),
                expected.average_precision,
                expected.sensitivity,
                expected.specificity,
                expected.precision,
                expected.f1,
                Some(expected.balanced_accuracy),
                Some(expected.log_loss),
                Some(expected.brier),
                Some(expected.calibration_error),
            ];
            for (at, pair) in Sorted::new(&all).metrics(&weights).into_iter().zip(expected).enumerate() {
                let close = match pair {
                    (Some(a), Some(b)) => (a - b).abs() < 1e-9,
                    (a, b) => a == b,
                };
                prop_assert!(close, "metric {}: {:?}", at, pair);
            }
        }
    }
}
