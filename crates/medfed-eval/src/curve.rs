//! Curves to draw: receiver operating characteristic, precision and recall, calibration.
//!
//! A curve has at most [`MOST_POINTS`] points, however many images there are. Areas are never computed from
//! its points: they come from all scores ([`auroc`](crate::auroc()), [`average_precision`]).

use crate::Interval;
use crate::interval::wilson;
use serde::{Deserialize, Serialize};

/// The most points of a curve.
pub const MOST_POINTS: usize = 200;
/// Bins of a calibration curve.
const CALIBRATION_BINS: usize = 10;

/// A point of the receiver operating characteristic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// Scores from here on count as positive; null where none does.
    pub threshold: Option<f64>,
    /// Share of the negatives that count as positive.
    pub false_positive_rate: f64,
    /// Share of the positives that do.
    pub true_positive_rate: f64,
}

/// A point of the precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrPoint {
    /// Scores from here on count as positive.
    pub threshold: f64,
    /// Share of the positives that count as positive.
    pub recall: f64,
    /// Share of what counts as positive that is.
    pub precision: f64,
}

/// Images whose probability lies in one tenth of the scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// The tenth's lower end, excluded (0 is included in the first).
    pub from: f64,
    /// Its upper end, included.
    pub to: f64,
    /// Images in it.
    pub images: u64,
    /// Their mean probability.
    pub mean_probability: f64,
    /// The share of them that is positive.
    pub positive_share: Interval,
}

/// How a classifier does at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// Probabilities from here on count as positive.
    pub threshold: f64,
    /// Share of the positives that count as positive.
    pub sensitivity: Option<Interval>,
    /// Share of the negatives that do not.
    pub specificity: Option<Interval>,
    /// Share of what counts as positive that is.
    pub precision: Option<Interval>,
    /// Share of what counts as negative that is.
    pub negative_predictive_value: Option<Interval>,
}

impl OperatingPoint {
    /// Counts scores of `threshold` and more as positive, with Wilson's intervals. The threshold has to
    /// come from other images than these.
    pub fn at(threshold: f64, scores: &[f64], positive: &[bool]) -> Self {
        let mut counts = [[0u64; 2]; 2];
        for (score, is) in scores.iter().zip(positive) {
            counts[usize::from(*is)][usize::from(*score >= threshold)] += 1;
        }
        let [[tn, fp], [missed, tp]] = counts;
        let share = |part: u64, rest: u64| (part + rest > 0).then(|| wilson(part, part + rest));
        Self {
            threshold,
            sensitivity: share(tp, missed),
            specificity: share(tn, fp),
            precision: share(tp, fp),
            negative_predictive_value: share(tn, missed),
        }
    }
}

/// The highest threshold at which at least `sensitivity` of the positives count as positive. `None` without
/// positives.
pub fn threshold_at_sensitivity(scores: &[f64], positive: &[bool], sensitivity: f64) -> Option<f64> {
    let mut found: Vec<f64> = scores.iter().zip(positive).filter(|(_, is)| **is).map(|(s, _)| *s).collect();
    found.sort_unstable_by(|a, b| b.total_cmp(a));
    let needed = (sensitivity.clamp(0.0, 1.0) * found.len() as f64).ceil() as usize;
    found.get(needed.max(1) - 1).copied()
}

/// What lies at or above the scores of a set.
struct Cumulated {
    /// Each score from the highest on, with the positives and negatives down to it.
    runs: Vec<(f64, u64, u64)>,
    positives: f64,
    negatives: f64,
}

/// `None` without positives, or where a score is not a number.
fn cumulated(scores: &[f64], positive: &[bool]) -> Option<Cumulated> {
    let positives = positive.iter().filter(|p| **p).count();
    if scores.len() != positive.len() || positives == 0 || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_unstable_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
    let (mut found, mut false_alarms) = (0, 0);
    let runs = order.chunk_by(|a, b| scores[*a as usize] == scores[*b as usize]).map(|run| {
        let hits = run.iter().filter(|i| positive[**i as usize]).count();
        found += hits as u64;
        false_alarms += (run.len() - hits) as u64;
        (scores[run[0] as usize], found, false_alarms)
    });
    Some(Cumulated {
        runs: runs.collect(),
        positives: positives as f64,
        negatives: (scores.len() - positives) as f64,
    })
}

/// The receiver operating characteristic from (0, 0) to (1, 1), without points on straight lines between
/// others. `None` where it is not defined.
pub fn roc_curve(scores: &[f64], positive: &[bool]) -> Option<Vec<RocPoint>> {
    let Cumulated { runs, positives, negatives } = cumulated(scores, positive)?;
    if negatives == 0.0 {
        return None;
    }
    let mut corners: Vec<(Option<f64>, u64, u64)> = vec![(None, 0, 0)];
    for (score, found, false_alarms) in runs {
        // Drop a point on the line from the one before it to the next.
        while let [.., (_, y0, x0), (_, y1, x1)] = corners[..] {
            let (dy, dx) = (u128::from(y1 - y0), u128::from(x1 - x0));
            if dy * u128::from(false_alarms - x1) != dx * u128::from(found - y1) {
                break;
            }
            corners.pop();
        }
        corners.push((Some(score), found, false_alarms));
    }
    let points = corners.into_iter().map(|(threshold, found, false_alarms)| RocPoint {
        threshold,
        false_positive_rate: false_alarms as f64 / negatives,
        true_positive_rate: found as f64 / positives,
    });
    Some(thin(points.collect(), |point| point.false_positive_rate + point.true_positive_rate))
}

/// Precision over recall, from the highest score on. `None` without positives.
pub fn pr_curve(scores: &[f64], positive: &[bool]) -> Option<Vec<PrPoint>> {
    let Cumulated { runs, positives, .. } = cumulated(scores, positive)?;
    let points = runs.into_iter().map(|(threshold, found, false_alarms)| PrPoint {
        threshold,
        recall: found as f64 / positives,
        precision: found as f64 / (found + false_alarms) as f64,
    });
    // The curve is a saw: what counts is how far it runs, not where it is.
    let mut run = 0.0;
    let mut before = (0.0, 1.0);
    Some(thin(points.collect(), |point| {
        run += (point.recall - before.0).abs() + (point.precision - before.1).abs();
        before = (point.recall, point.precision);
        run
    }))
}

/// Average precision: the sum over thresholds of precision times the recall gained there, without
/// interpolation. `None` without positives.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let Cumulated { runs, positives, .. } = cumulated(scores, positive)?;
    let mut before = 0;
    let gains = runs.into_iter().map(|(_, found, false_alarms)| {
        let gained = (found - before) as f64 / positives;
        before = found;
        gained * found as f64 / (found + false_alarms) as f64
    });
    Some(gains.sum())
}

/// Images by tenths of their probability, and how many of them are positive. Empty tenths are left out.
pub fn calibration_curve(probabilities: &[f64], positive: &[bool]) -> Vec<CalibrationBin> {
    let mut bins = [(0u64, 0u64, 0.0); CALIBRATION_BINS];
    for (probability, is) in probabilities.iter().zip(positive) {
        let at = ((probability * CALIBRATION_BINS as f64).ceil() as usize).clamp(1, CALIBRATION_BINS) - 1;
        let (images, positives, sum) = &mut bins[at];
        *images += 1;
        *positives += u64::from(*is);
        *sum += probability;
    }
    let filled = bins.into_iter().enumerate().filter(|(_, (images, ..))| *images > 0);
    filled
        .map(|(at, (images, positives, sum))| CalibrationBin {
            from: at as f64 / CALIBRATION_BINS as f64,
            to: (at + 1) as f64 / CALIBRATION_BINS as f64,
            images,
            mean_probability: sum / images as f64,
            positive_share: wilson(positives, images),
        })
        .collect()
}

/// At most [`MOST_POINTS`] of the points, evenly along `position`, which must not fall; the first and the
/// last among them.
fn thin<T: Copy>(points: Vec<T>, position: impl FnMut(&T) -> f64) -> Vec<T> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let positions: Vec<f64> = points.iter().map(position).collect();
    let (start, end) = (positions[0], positions[points.len() - 1]);
    let step = (end - start) / (MOST_POINTS - 1) as f64;
    let mut kept = vec![points[0]];
    let mut due = start + step;
    for (point, at) in points[1..points.len() - 1].iter().zip(&positions[1..]) {
        if *at >= due && kept.len() < MOST_POINTS - 1 {
            kept.push(*point);
            while due <= *at && step > 0.0 {
                due += step;
            }
        }
    }
    kept.push(points[points.len() - 1]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auroc;
    use medfed_types::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    #[test]
    fn curves_start_and_end_where_they_must_and_stay_short() {
        let mut rng = Seed(5).generator("curve", &[]);
        let scores: Vec<f64> = (0..20_000).map(|_| rng.random_range(0.0..1.0)).collect();
        let positive: Vec<bool> = scores.iter().map(|s| rng.random_range(0.0..1.0) < *s).collect();
        let roc = roc_curve(&scores, &positive).unwrap();
        let pr = pr_curve(&scores, &positive).unwrap();
        assert!((150..=MOST_POINTS).contains(&roc.len()), "{}", roc.len());
        assert!(pr.len() <= MOST_POINTS && pr.len() > 20, "{}", pr.len());
        assert_eq!((roc[0].threshold, roc[0].false_positive_rate), (None, 0.0));
        let last = roc[roc.len() - 1];
        assert_eq!((last.false_positive_rate, last.true_positive_rate), (1.0, 1.0));
        assert_eq!(pr[pr.len() - 1].recall, 1.0);
        let area: f64 = roc
            .windows(2)
            .map(|w| {
                (w[1].false_positive_rate - w[0].false_positive_rate)
                    * f64::midpoint(w[0].true_positive_rate, w[1].true_positive_rate)
            })
            .sum();
        assert!((area - auroc(&scores, &positive).unwrap().estimate).abs() < 2e-3);
        assert_eq!(roc_curve(&[0.5], &[true]), None);
        assert_eq!((roc_curve(&[], &[]), pr_curve(&[0.5], &[false])), (None, None));
        assert_eq!(average_precision(&[f64::NAN], &[true]), None);
    }

    #[test]
    fn operating_points_reach_their_sensitivity() {
        let scores = [0.1, 0.4, 0.4, 0.6, 0.8];
        let positive = [false, true, false, true, true];
        assert_eq!(threshold_at_sensitivity(&scores, &positive, 0.5), Some(0.6));
        assert_eq!(threshold_at_sensitivity(&scores, &positive, 0.95), Some(0.4));
        assert_eq!(threshold_at_sensitivity(&scores, &positive, 0.0), Some(0.8));
        assert_eq!(threshold_at_sensitivity(&scores, &[false; 5], 0.5), None);
        let point = OperatingPoint::at(0.4, &scores, &positive);
        assert_eq!(point.sensitivity.unwrap().estimate, 1.0);
        assert_eq!(point.specificity.unwrap().estimate, 0.5);
        assert_eq!(point.precision.unwrap().estimate, 0.75);
        assert_eq!(point.negative_predictive_value.unwrap().estimate, 1.0);
        assert_eq!(OperatingPoint::at(0.0, &scores, &positive).negative_predictive_value, None);
    }

    proptest! {
        #[test]
        fn dropped_corners_leave_the_area_and_rates_never_fall(
            rows in prop::collection::vec((0u8..20, any::<bool>()), 2..120),
        ) {
            let (scores, positive): (Vec<f64>, Vec<bool>) =
                rows.iter().map(|(s, p)| (f64::from(*s) / 32.0, *p)).unzip();
            if let Some(roc) = roc_curve(&scores, &positive) {
                let area: f64 = roc.windows(2).map(|w| {
                    (w[1].false_positive_rate - w[0].false_positive_rate)
                        * f64::midpoint(w[0].true_positive_rate, w[1].true_positive_rate)
                }).sum();
                prop_assert!((area - auroc(&scores, &positive).unwrap().estimate).abs() < 1e-12);
                prop_assert!(roc.is_sorted_by(|a, b| a.true_positive_rate <= b.true_positive_rate
                    && a.false_positive_rate <= b.false_positive_rate));
            }
            let bins = calibration_curve(&scores, &positive);
            prop_assert_eq!(bins.iter().map(|bin| bin.images).sum::<u64>(), rows.len() as u64);
        }
    }
}
