//! Logistic regression: the learned part of attacks.

use crate::EvalError;

/// Weight of the penalty ½λ|w|² on standardised features against the mean loss.
const RIDGE: f64 = 1e-3;
const MOST_STEPS: u32 = 50;

/// A logistic regression on standardised features in which both answers weigh alike, fitted by Newton's
/// method with a small ridge penalty, so that it exists also where the answers are separable.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logistic {
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// One per feature, then the intercept.
    weights: Vec<f64>,
}

impl Logistic {
    /// Fits `rows`, all of one width and finite. Nothing where an answer never occurs.
    pub(super) fn fit(rows: &[&[f64]], yes: &[bool]) -> Option<Self> {
        let positives = yes.iter().filter(|yes| **yes).count() as f64;
        let total = rows.len() as f64;
        let width = rows.first()?.len();
        if positives == 0.0 || positives == total {
            return None;
        }
        let over_rows = |of: &dyn Fn(&[f64]) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / total;
        let mean: Vec<f64> = (0..width).map(|k| over_rows(&|row| row[k])).collect();
        let scale: Vec<f64> = (0..width)
            .map(|k| over_rows(&|row| (row[k] - mean[k]).powi(2)).sqrt())
            // A constant feature says nothing and must not be divided by 0.
            .map(|deviation| if deviation > 1e-12 { 1.0 / deviation } else { 0.0 })
            .collect();
        let mut model = Self { mean, scale, weights: vec![0.0; width + 1] };
        let standard: Vec<Vec<f64>> = rows.iter().map(|row| model.standardised(row)).collect();
        let weight = |yes: bool| 0.5 / if yes { positives } else { total - positives };
        for _ in 0..MOST_STEPS {
            let size = width + 1;
            let mut gradient: Vec<f64> = model.weights.iter().map(|w| RIDGE * w).collect();
            let mut hessian = vec![0.0; size * size];
            (0..size).for_each(|k| hessian[k * size + k] = RIDGE);
            for (row, yes) in standard.iter().zip(yes) {
                let p = 1.0 / (1.0 + (-dot(row, &model.weights)).exp());
                let error = weight(*yes) * (p - f64::from(u8::from(*yes)));
                let curvature = weight(*yes) * p * (1.0 - p);
                for a in 0..size {
                    gradient[a] += error * row[a];
                    for b in 0..=a {
                        hessian[a * size + b] += curvature * row[a] * row[b];
                    }
                }
            }
            let step = solve(&mut hessian, &gradient);
            // Newton's steps on a logistic loss can overshoot; a bounded one cannot do so without end.
            let longest = step.iter().fold(0.0f64, |most, s| most.max(s.abs()));
            let shorten = if longest > 2.0 { 2.0 / longest } else { 1.0 };
            model.weights.iter_mut().zip(&step).for_each(|(w, s)| *w -= shorten * s);
            if longest < 1e-10 {
                break;
            }
        }
        Some(model)
    }

    /// ln of the odds that the answer is yes, both answers being equally frequent.
    pub(super) fn log_odds(&self, row: &[f64]) -> f64 {
        dot(&self.standardised(row), &self.weights)
    }

    /// The features in standard deviations from their mean, then a 1 for the intercept.
    fn standardised(&self, row: &[f64]) -> Vec<f64> {
        let features =
            row.iter().zip(&self.mean).zip(&self.scale).map(|((x, mean), scale)| (x - mean) * scale);
        features.chain([1.0]).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves A·x = b for a symmetric positive definite A, of which the lower triangle is given and replaced
/// (Cholesky).
fn solve(a: &mut [f64], b: &[f64]) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - dot;
            a[i * n + j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / a[j * n + j] };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i * n + k] * x[k]).sum();
        x[i] = (x[i] - dot) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k]).sum();
        x[i] = (x[i] - dot) / a[i * n + i];
    }
    x
}

/// Scores of an attack that learns from other images of the same kind: the log-odds of membership of each
/// row of `features` (`[image, width]`) by a logistic regression fitted to the images of all other folds.
///
/// `folds` names each image's fold; all images of a patient belong in one. An image whose other folds lack
/// members or non-members scores 0. This is how well membership can be told *without* the model, when the
/// features are of the image alone: above guessing, members and non-members differ by themselves, and
/// other attacks may only measure that.
pub fn cross_fitted(
    features: &[f64],
    width: usize,
    member: &[bool],
    folds: &[u32],
) -> Result<Vec<f64>, EvalError> {
    let images = member.len();
    if width == 0 || images.checked_mul(width) != Some(features.len()) {
        let found = features.len();
        return Err(EvalError::Lengths { what: "rows of features", expected: images, found });
    }
    if folds.len() != images {
        return Err(EvalError::Lengths { what: "folds", expected: images, found: folds.len() });
    }
    if let Some(value) = features.iter().find(|value| !value.is_finite()) {
        return Err(EvalError::Audit { what: "a feature", expected: "finite", found: *value });
    }
    let rows: Vec<&[f64]> = features.chunks_exact(width).collect();
    let mut names = folds.to_vec();
    names.sort_unstable();
    names.dedup();
    let mut scores = vec![0.0; images];
    for fold in names {
        let others = || (0..images).filter(|image| folds[*image] != fold);
        let theirs: Vec<&[f64]> = others().map(|image| rows[image]).collect();
        let answers: Vec<bool> = others().map(|image| member[image]).collect();
        if let Some(model) = Logistic::fit(&theirs, &answers) {
            for image in (0..images).filter(|image| folds[*image] == fold) {
                scores[image] = model.log_odds(rows[image]);
            }
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::MembershipScores;
    use medfed_types::Seed;
    use rand::RngExt;

    #[test]
    fn the_fit_is_where_the_gradient_vanishes() {
        // Overlapping answers, so the optimum is interior; checked by finite differences of the loss.
        let mut rng = Seed(3).generator("logistic", &[]);
        let rows: Vec<Vec<f64>> =
            (0..60).map(|_| vec![rng.random::<f64>(), 100.0 * rng.random::<f64>()]).collect();
        let yes: Vec<bool> =
            rows.iter().map(|row| row[0] + 0.004 * row[1] + 0.4 * rng.random::<f64>() > 0.9).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let model = Logistic::fit(&rows, &yes).unwrap();
        let positives = yes.iter().filter(|yes| **yes).count() as f64;
        let loss = |model: &Logistic| {
            let fit: f64 = rows
                .iter()
                .zip(&yes)
                .map(|(row, yes)| {
                    let z = model.log_odds(row);
                    let (weight, sign) =
                        if *yes { (0.5 / positives, -1.0) } else { (0.5 / (60.0 - positives), 1.0) };
                    weight * (sign * z).exp().ln_1p()
                })
                .sum();
            fit + 0.5 * RIDGE * model.weights.iter().map(|w| w * w).sum::<f64>()
        };
        for k in 0..3 {
            let moved = |by: f64| {
                let mut other = model.clone();
                other.weights[k] += by;
                loss(&other)
            };
            assert!(((moved(1e-4) - moved(-1e-4)) / 2e-4).abs() < 1e-7, "{k}");
        }
    }

    #[test]
    fn separable_answers_and_constant_features_have_a_fit() {
        let rows: Vec<[f64; 2]> = (0..20).map(|i| [f64::from(i), 7.0]).collect();
        let rows: Vec<&[f64]> = rows.iter().map(|row| &row[..]).collect();
        let yes: Vec<bool> = (0..20).map(|i| i >= 10).collect();
        let model = Logistic::fit(&rows, &yes).unwrap();
        assert!(model.weights.iter().all(|w| w.is_finite()));
        assert!(model.log_odds(&[15.0, 7.0]) > 0.0 && model.log_odds(&[2.0, 7.0]) < 0.0);
        assert_eq!(Logistic::fit(&rows, &[true; 20]), None);
    }

    #[test]
    fn cross_fitting_finds_what_is_there_and_does_not_fit_what_is_not() {
        let mut rng = Seed(4).generator("folds", &[]);
        let member: Vec<bool> = (0..400).map(|_| rng.random()).collect();
        let folds: Vec<u32> = (0..400).map(|i| i % 5).collect();
        let mut auc = |shift: f64| {
            let features: Vec<f64> = member
                .iter()
                .flat_map(|m| {
                    let mut row: Vec<f64> = (0..10).map(|_| rng.random::<f64>()).collect();
                    row[3] += if *m { shift } else { 0.0 };
                    row
                })
                .collect();
            let scores = cross_fitted(&features, 10, &member, &folds).unwrap();
            MembershipScores::new(scores, member.clone()).unwrap().result().auc
        };
        assert!(auc(1.0).lower > 0.9);
        let nothing = auc(0.0);
        assert!(nothing.lower < 0.5 && nothing.upper > 0.45, "{nothing:?}");
    }

    #[test]
    fn unusable_features_are_refused() {
        assert!(cross_fitted(&[1.0; 3], 2, &[true, false], &[0, 1]).is_err());
        assert!(cross_fitted(&[], 0, &[true, false], &[0, 1]).is_err());
        assert!(cross_fitted(&[1.0; 2], 1, &[true, false], &[0]).is_err());
        assert!(cross_fitted(&[1.0, f64::NAN], 1, &[true, false], &[0, 1]).is_err());
    }
}
