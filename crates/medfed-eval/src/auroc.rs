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
