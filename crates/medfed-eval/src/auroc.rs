//! Area under the receiver operating characteristic, with DeLong's interval.
//!
//! The area is the Mann–Whitney statistic: the probability that a random positive scores above a random
//! negative, ties counting one half. Its variance is that of DeLong, DeLong & Clarke-Pearson 1988, by the
//! midranks of Sun & Xu 2014 (`O(n log n)`). With m positives and n negatives, TZ the midranks among all,
//! TX those among the positives, TY those among the negatives:
//!
//! 1. `area = (Σ TZ over positives − m(m+1)/2) / mn`
//! 2. placement of a positive `V₁₀ = (TZ − TX)/n`, of a negative `V₀₁ = 1 − (TZ − TY)/m`
//! 3. `variance = var(V₁₀)/m + var(V₀₁)/n`, sample variances
//!
//! The interval is built on the logit scale, so it stays within 0 to 1. Where the variance is zero or
//! unknown (perfect separation, all scores tied, a class of one image), it is Newcombe's score interval
//! instead (Statistics in Medicine 25:559, 2006, method 5), which does not collapse to a point.
//!
//! The mean over classes (one against the rest) is a sum over images too, so step 3 extends: add up, for
//! every image, its placements in all the classes' areas, divided as in step 3; the variance is then the
//! sum over true classes of (images in the class) × (sample variance of those sums within the class).
//! With two classes this is DeLong's variance exactly.

use crate::interval::{Interval, Z};

/// The area under the curve of one class, and where each image lies among the opposite class.
struct Placements {
    area: f64,
    /// V₁₀ of the positives and V₀₁ of the negatives, in the images' order.
    values: Vec<f64>,
    positives: usize,
}

/// Area under the receiver operating characteristic of `scores` (higher means positive), with its 95 %
/// interval. `None` where there is no positive, no negative, a length differs, or a score is not a number:
/// there the area is not defined.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<Interval> {
    let found = placements(scores, positive)?;
    let negatives = scores.len() - found.positives;
    let share = |i: usize| found.values[i] / if positive[i] { found.positives } else { negatives } as f64;
    let variance = stratified_variance((0..scores.len()).map(|i| (usize::from(positive[i]), share(i))), 2);
    Some(interval(found.area, variance, found.positives, negatives))
}

/// The unweighted mean of the classes' areas, each class against the rest; `columns[k]` are the scores of
/// class k. `None` where a class is absent.
pub(crate) fn mean_auroc(columns: &[Vec<f64>], labels: &[u32]) -> Option<Interval> {
    let classes = columns.len();
    let mut area = 0.0;
    let mut influence = vec![0.0; labels.len()];
    let mut smallest = labels.len();
    for (class, scores) in columns.iter().enumerate() {
        let positive: Vec<bool> = labels.iter().map(|label| *label as usize == class).collect();
        let found = placements(scores, &positive)?;
        let negatives = labels.len() - found.positives;
        smallest = smallest.min(found.positives);
        area += found.area / classes as f64;
        for ((sum, value), is_positive) in influence.iter_mut().zip(&found.values).zip(&positive) {
            let images = if *is_positive { found.positives } else { negatives };
            *sum += value / (images * classes) as f64;
        }
    }
    let variance = stratified_variance(labels.iter().map(|l| *l as usize).zip(influence), classes);
    // The score interval knows two groups only; the smallest class against the rest is the widest choice.
    Some(interval(area.min(1.0), variance, smallest, labels.len() - smallest))
}

fn placements(scores: &[f64], positive: &[bool]) -> Option<Placements> {
    let positives = positive.iter().filter(|p| **p).count();
    let negatives = positive.len() - positives;
    if scores.len() != positive.len() || positives == 0 || negatives == 0 || scores.iter().any(|s| s.is_nan())
    {
        return None;
    }
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_unstable_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]));
    let (m, n) = (positives as f64, negatives as f64);
    let mut values = vec![0.0; scores.len()];
    // Steps 1 and 2 in one pass over runs of tied scores. Within a run, TZ − TX is the number of
    // negatives before it plus half of those inside, and likewise for TZ − TY.
    let (mut below_positive, mut below_negative, mut wins) = (0usize, 0usize, 0.0);
    for run in order.chunk_by(|a, b| scores[*a as usize] == scores[*b as usize]) {
        let in_positive = run.iter().filter(|i| positive[**i as usize]).count();
        let in_negative = run.len() - in_positive;
        let beaten = below_negative as f64 + in_negative as f64 / 2.0;
        let beating = below_positive as f64 + in_positive as f64 / 2.0;
        wins += beaten * in_positive as f64;
        for &i in run {
            values[i as usize] = if positive[i as usize] { beaten / n } else { 1.0 - beating / m };
        }
        below_positive += in_positive;
        below_negative += in_negative;
    }
    Some(Placements { area: wins / (m * n), values, positives })
}

/// Σ over strata of size × sample variance; `None` where a stratum of one image has no variance.
fn stratified_variance(values: impl Iterator<Item = (usize, f64)> + Clone, strata: usize) -> Option<f64> {
    let mut count = vec![0.0; strata];
    let mut mean = vec![0.0; strata];
    for (stratum, value) in values.clone() {
        count[stratum] += 1.0;
        mean[stratum] += value;
    }
    mean.iter_mut().zip(&count).for_each(|(sum, n)| *sum /= *n);
    let mut squares = vec![0.0; strata];
    for (stratum, value) in values {
        squares[stratum] += (value - mean[stratum]).powi(2);
    }
    squares.iter().zip(&count).try_fold(0.0, |sum, (s, n)| (*n > 1.0).then(|| sum + n * s / (n - 1.0)))
}

fn interval(area: f64, variance: Option<f64>, positives: usize, negatives: usize) -> Interval {
    // Tied placements leave rounding dust of about 1e-34 where the variance is zero.
    match variance {
        Some(variance) if variance > 1e-24 && area > 0.0 && area < 1.0 => {
            let logit = (area / (1.0 - area)).ln();
            let half = Z * variance.sqrt() / (area * (1.0 - area));
            let back = |x: f64| 1.0 / (1.0 + (-x).exp());
            Interval {
                estimate: area,
                lower: back(logit - half).min(area),
                upper: back(logit + half).max(area),
            }
        }
        _ => newcombe(area, positives as f64, negatives as f64),
    }
}

/// Newcombe's method 5: the areas θ from which `area` is not further than z standard errors, the standard
/// error being Hanley & McNeil's at θ with both sample sizes replaced by their mean in the exponent terms.
fn newcombe(area: f64, m: f64, n: f64) -> Interval {
    let excess = f64::midpoint(m, n) - 1.0;
    let compatible = |t: f64| {
        let variance = t * (1.0 - t) / (m * n) * (1.0 + excess * ((1.0 - t) / (2.0 - t) + t / (1.0 + t)));
        (area - t).powi(2) <= Z * Z * variance
    };
    // Bisection from the estimate, which is compatible, to an end of the scale, which is not unless
    // it is the estimate itself.
    let end = |mut outside: f64| {
        let mut inside = area;
        for _ in 0..60 {
            let middle = f64::midpoint(inside, outside);
            if compatible(middle) { inside = middle } else { outside = middle }
        }
        inside
    };
    Interval { estimate: area, lower: end(0.0), upper: end(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    fn by_pairs(scores: &[f64], positive: &[bool]) -> f64 {
        let of = |wanted| scores.iter().zip(positive).filter(move |(_, p)| **p == wanted).map(|(s, _)| *s);
        let pairs: Vec<f64> = of(true)
            .flat_map(|p| {
                of(false).map(move |n| f64::from(u8::from(p > n)) + f64::from(u8::from(p == n)) / 2.0)
            })
            .collect();
        pairs.iter().sum::<f64>() / pairs.len() as f64
    }

    #[test]
    fn not_defined_without_both_groups() {
        assert_eq!(auroc(&[], &[]), None);
        assert_eq!(auroc(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(auroc(&[0.1, 0.2], &[false, false]), None);
        assert_eq!(auroc(&[0.1], &[true, false]), None);
        assert_eq!(auroc(&[f64::NAN, 0.2], &[true, false]), None);
        // Infinities are ordered, so they are scores like others.
        assert_eq!(auroc(&[f64::INFINITY, f64::NEG_INFINITY], &[true, false]).unwrap().estimate, 1.0);
        assert_eq!(auroc(&[0.0, -0.0], &[true, false]).unwrap().estimate, 0.5);
    }

    #[test]
    fn the_interval_does_not_collapse() {
        for n in [1usize, 3, 50] {
            let positive: Vec<bool> = (0..2 * n).map(|i| i >= n).collect();
            let separated = auroc(&(0..2 * n).map(|i| i as f64).collect::<Vec<_>>(), &positive).unwrap();
            assert_eq!((separated.estimate, separated.upper), (1.0, 1.0));
            assert!(separated.lower < 1.0 - 0.5 / n as f64, "{separated:?}");
            let tied = auroc(&vec![0.5; 2 * n], &positive).unwrap();
            assert!(tied.lower < 0.5 && tied.estimate == 0.5 && tied.upper > 0.5);
            // The ends are where the distance is z standard errors, so they lie symmetrically here.
            assert!((tied.lower + tied.upper - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn two_classes_as_a_mean_over_classes_have_delongs_interval() {
        let scores: Vec<f64> = (0..40).map(|i| f64::from((i * 17) % 23) / 32.0).collect();
        let labels: Vec<u32> = (0..40).map(|i| u32::from((i * i) % 7 < 3)).collect();
        let positive: Vec<bool> = labels.iter().map(|l| *l == 1).collect();
        let other: Vec<f64> = scores.iter().map(|s| 1.0 - s).collect();
        let (one, mean) =
            (auroc(&scores, &positive).unwrap(), mean_auroc(&[other, scores], &labels).unwrap());
        assert!((one.estimate - mean.estimate).abs() < 1e-12);
        assert!((one.lower - mean.lower).abs() < 1e-12 && (one.upper - mean.upper).abs() < 1e-12);
    }

    #[test]
    fn the_interval_covers_the_truth_19_times_in_20() {
        // Uniform scores, positives on 0.5 to 1.5: the true area is 1 - 0.5²/2 = 0.875.
        let mut rng = Seed(1).generator("coverage", &[]);
        let positive: Vec<bool> = (0..100).map(|i| i % 2 == 0).collect();
        let trials = 2000;
        let covered = (0..trials)
            .filter(|_| {
                let scores: Vec<f64> = positive
                    .iter()
                    .map(|p| rng.random_range(0.0..1.0) + if *p { 0.5 } else { 0.0 })
                    .collect();
                let found = auroc(&scores, &positive).unwrap();
                found.lower <= 0.875 && 0.875 <= found.upper
            })
            .count();
        let share = covered as f64 / f64::from(trials);
        // The binomial standard deviation is 0.005; the rest is the approximation's own error.
        assert!((share - 0.95).abs() < 0.02, "{share}");
    }

    proptest! {
        #[test]
        fn equals_counting_pairs_and_ignores_order(
            rows in prop::collection::vec((-4i8..5, any::<bool>()), 2..60),
            turn in 0usize..60,
        ) {
            let mut rows = rows;
            let split = |rows: &[(i8, bool)]| -> (Vec<f64>, Vec<bool>) {
                rows.iter().map(|(s, p)| (f64::from(*s) / 4.0, *p)).unzip()
            };
            let (scores, positive) = split(&rows);
            let found = auroc(&scores, &positive);
            match found {
                Some(found) => prop_assert!((found.estimate - by_pairs(&scores, &positive)).abs() < 1e-12),
                None => prop_assert!(positive.iter().all(|p| *p) || !positive.iter().any(|p| *p)),
            }
            let turn = turn % rows.len();
            rows.rotate_left(turn);
            let (scores, positive) = split(&rows);
            let turned = auroc(&scores, &positive);
            let same = |a: f64, b: f64| (a - b).abs() < 1e-9;
            let agree = match (found, turned) {
                (Some(a), Some(b)) => {
                    same(a.estimate, b.estimate) && same(a.lower, b.lower) && same(a.upper, b.upper)
                }
                (a, b) => a == b,
            };
            prop_assert!(agree, "{:?} and {:?}", found, turned);
        }
    }
}
