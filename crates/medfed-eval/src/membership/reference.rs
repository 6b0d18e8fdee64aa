//! Attacks that compare a model with reference models, trained like it on sets that are known.
//!
//! What enters are log-odds of the true class ([`logit_confidence`](super::logit_confidence)) of every
//! target image, from the model attacked and from every reference model. Each reference has seen some of
//! the targets; references in complementary pairs see every target equally often.

use super::logits::log_probability;
use crate::EvalError;

/// References per side from which on each target has a variance of its own.
const OWN_VARIANCE: usize = 32;
/// Smallest standard deviation of the log-odds: below, models are equal but for rounding.
const LEAST_DEVIATION: f64 = 1e-6;

/// What reference models say about the targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct References {
    targets: usize,
    models: Vec<(Vec<f64>, Vec<bool>)>,
}

impl References {
    /// No reference yet, for so many targets.
    pub fn new(targets: usize) -> Self {
        Self { targets, models: Vec::new() }
    }

    /// Adds a model: its log-odds of each target, finite, and which targets it was trained on.
    pub fn push(&mut self, log_odds: Vec<f64>, included: Vec<bool>) -> Result<(), EvalError> {
        for (what, found) in [("log-odds", log_odds.len()), ("memberships", included.len())] {
            if found != self.targets {
                return Err(EvalError::Lengths { what, expected: self.targets, found });
            }
        }
        if let Some(value) = log_odds.iter().find(|value| !value.is_finite()) {
            let what = "the log-odds of a reference model";
            return Err(EvalError::Audit { what, expected: "finite", found: *value });
        }
        self.models.push((log_odds, included));
        Ok(())
    }

    /// Reference models.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Log-odds of a target by the models that were trained on it, or by the others.
    fn of(&self, target: usize, included: bool) -> impl Iterator<Item = f64> + Clone {
        let models = self.models.iter().filter(move |(_, member)| member[target] == included);
        models.map(move |(log_odds, _)| log_odds[target])
    }

    fn check(&self, observed: &[f64]) -> Result<(), EvalError> {
        if observed.len() != self.targets {
            let (expected, found) = (self.targets, observed.len());
            return Err(EvalError::Lengths { what: "log-odds", expected, found });
        }
        for (what, included) in [
            ("the number of reference models trained on a target", true),
            ("the number of reference models not trained on a target", false),
        ] {
            let lacking = (0..self.targets).any(|target| self.of(target, included).next().is_none());
            if lacking {
                return Err(EvalError::Audit { what, expected: "at least 1", found: 0.0 });
            }
        }
        Ok(())
    }

    /// Mean and standard deviation of each target's log-odds over the models that were trained on it, or
    /// that were not. With few models the variance is that of all targets together (Carlini et al. 2022,
    /// section VI-B).
    fn gaussians(&self, included: bool) -> Vec<(f64, f64)> {
        let each: Vec<(f64, f64, usize)> = (0..self.targets)
            .map(|target| {
                let values = self.of(target, included);
                let n = values.clone().count();
                let mean = values.clone().sum::<f64>() / n as f64;
                (mean, values.map(|value| (value - mean).powi(2)).sum(), n)
            })
            .collect();
        let squares: f64 = each.iter().map(|(_, squares, _)| squares).sum();
        let freedom: usize = each.iter().map(|(.., n)| n - 1).sum();
        let shared = if freedom > 0 { squares / freedom as f64 } else { 1.0 };
        each.into_iter()
            .map(|(mean, squares, n)| {
                let variance = if n >= OWN_VARIANCE { squares / (n - 1) as f64 } else { shared };
                (mean, variance.sqrt().max(LEAST_DEVIATION))
            })
            .collect()
    }
}

/// Which reference models the likelihood ratio uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiraMode {
    /// Those trained on the target and those not: the stronger attack.
    Online,
    /// Only those not trained on it: what an attacker can do who trains before knowing the target.
    Offline,
}

/// The likelihood ratio attack (Carlini et al. 2022, "Membership Inference Attacks From First
/// Principles"): `observed` are the attacked model's log-odds of each target.
///
/// Online (algorithm 1): ln N(φ; μ_in, σ_in) − ln N(φ; μ_out, σ_out). Offline: (φ − μ_out)/σ_out, which
/// orders targets as the one-sided test does.
pub fn lira(observed: &[f64], references: &References, mode: LiraMode) -> Result<Vec<f64>, EvalError> {
    references.check(observed)?;
    let outs = references.gaussians(false);
    let ins = match mode {
        LiraMode::Online => references.gaussians(true),
        LiraMode::Offline => Vec::new(),
    };
    let standard = |x: f64, (mean, deviation): (f64, f64)| (x - mean) / deviation;
    Ok((0..observed.len())
        .map(|target| {
            let out = standard(observed[target], outs[target]);
            match ins.get(target) {
                None => out,
                Some(own) => {
                    let inside = standard(observed[target], *own);
                    f64::midpoint(out * out, -inside * inside) + (outs[target].1 / own.1).ln()
                }
            }
        })
        .collect())
}

/// The robust membership inference attack (Zarifzadeh, Liu, Shokri 2024, "Low-Cost High-Power Membership
/// Inference Attacks"): the probability that the model gives the true class over its mean over the
/// reference models, in logarithms.
///
/// The paper's score is the share of a population that this ratio dominates. The population is the same for
/// all targets, so that share orders the targets as the ratio itself does.
pub fn rmia(observed: &[f64], references: &References) -> Result<Vec<f64>, EvalError> {
    references.check(observed)?;
    Ok((0..observed.len())
        .map(|target| {
            let side = |included| {
                let values = references.of(target, included);
                values.clone().map(|value| log_probability(value).exp()).sum::<f64>() / values.count() as f64
            };
            let mean = f64::midpoint(side(true), side(false));
            log_probability(observed[target]) - mean.max(f64::MIN_POSITIVE).ln()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::MembershipScores;
    use medfed_types::{Seed, SimulationRng};
    use rand::RngExt;
    use rand::seq::SliceRandom;

    const TARGETS: usize = 400;

    fn gaussian(rng: &mut SimulationRng) -> f64 {
        (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
    }

    /// Targets of very different difficulty, which a model that has seen one knows better by `effect`.
    fn world(effect: f64, models: usize) -> (Vec<f64>, Vec<bool>, References) {
        let mut rng = Seed(11).generator("world", &[]);
        let difficulty: Vec<f64> = (0..TARGETS).map(|_| 3.0 * gaussian(&mut rng)).collect();
        let mut model = |included: &[bool]| -> Vec<f64> {
            let each = difficulty.iter().zip(included);
            each.map(|(d, seen)| d + gaussian(&mut rng) + if *seen { effect } else { 0.0 }).collect()
        };
        let mut half: Vec<bool> = (0..TARGETS).map(|i| i % 2 == 0).collect();
        let mut order = Seed(12).generator("halves", &[]);
        half.shuffle(&mut order);
        let member = half.clone();
        let observed = model(&member);
        let mut references = References::new(TARGETS);
        for _ in 0..models / 2 {
            half.shuffle(&mut order);
            let other: Vec<bool> = half.iter().map(|seen| !seen).collect();
            references.push(model(&half), half.clone()).unwrap();
            references.push(model(&other), other).unwrap();
        }
        (observed, member, references)
    }

    fn auc(scores: Vec<f64>, member: &[bool]) -> f64 {
        MembershipScores::new(scores, member.to_vec()).unwrap().result().auc.estimate
    }

    #[test]
    fn references_take_the_difficulty_away() {
        let (observed, member, references) = world(2.0, 16);
        let plain = auc(observed.clone(), &member);
        let [online, offline] = [LiraMode::Online, LiraMode::Offline]
            .map(|mode| auc(lira(&observed, &references, mode).unwrap(), &member));
        let robust = auc(rmia(&observed, &references).unwrap(), &member);
        // Two unit Gaussians 2 apart: Φ(2/√2) = 0.921 with known means; the plain attack has Φ(2/√20) = 0.67.
        assert!(plain < 0.73, "{plain}");
        assert!(online > 0.88 && offline > 0.86 && robust > 0.8, "{online} {offline} {robust}");
    }

    #[test]
    fn nothing_is_found_where_membership_has_no_effect() {
        let (observed, member, references) = world(0.0, 16);
        for scores in [
            lira(&observed, &references, LiraMode::Online).unwrap(),
            lira(&observed, &references, LiraMode::Offline).unwrap(),
            rmia(&observed, &references).unwrap(),
        ] {
            // Standard error 0.029.
            assert!((auc(scores, &member) - 0.5).abs() < 0.1);
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_gaussians() {
        let mut references = References::new(1);
        for (value, seen) in [(1.0, true), (3.0, true), (-1.0, false), (1.0, false), (0.0, false)] {
            references.push(vec![value], vec![seen]).unwrap();
        }
        let density = |x: f64, mean: f64, variance: f64| {
            (-(x - mean).powi(2) / (2.0 * variance)).exp() / variance.sqrt()
        };
        for x in [-2.0, 0.3, 5.0] {
            let expected = (density(x, 2.0, 2.0) / density(x, 0.0, 1.0)).ln();
            assert!((lira(&[x], &references, LiraMode::Online).unwrap()[0] - expected).abs() < 1e-12);
            assert!((lira(&[x], &references, LiraMode::Offline).unwrap()[0] - x).abs() < 1e-12);
        }
    }

    #[test]
    fn references_that_do_not_fit_are_refused() {
        let mut references = References::new(2);
        assert!(references.push(vec![0.0], vec![true, false]).is_err());
        assert!(references.push(vec![0.0, f64::NAN], vec![true, false]).is_err());
        references.push(vec![0.0, 1.0], vec![true, false]).unwrap();
        assert!(lira(&[0.0, 0.0], &references, LiraMode::Online).is_err());
        references.push(vec![0.0, 1.0], vec![false, true]).unwrap();
        assert!(lira(&[0.0], &references, LiraMode::Online).is_err());
        assert!(lira(&[0.0, 0.0], &references, LiraMode::Online).unwrap().iter().all(|s| s.is_finite()));
    }
}
