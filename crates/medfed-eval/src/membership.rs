//! Membership inference: how well an attacker tells images that a model was trained on from others.
//!
//! What enters is a score for each image (higher means "was trained on") and the truth; what leaves is
//! how far the attack comes ([`AttackResult`]). Scores come from the model alone ([`MembershipScores`] of
//! confidence or loss) or from a comparison with reference models ([`AttackModel`], [`lira()`],
//! [`rmia()`]).
//!
//! - **AUC** with DeLong's interval: how often an image that was trained on has the higher score of two.
//! - **Accuracy** and **advantage** (true minus false positive rate: Yeom et al. 2018): at the threshold
//!   that is best on one half of the images, measured on the other half, both ways. Members and
//!   non-members count alike, so 0.5 is guessing whatever their numbers. A threshold chosen on the images
//!   it is measured on would look better than guessing even where nothing leaks.
//! - **True positive rate at 1 % and 0.1 % false positives** (Carlini et al. 2022), with the exact
//!   intervals of Clopper and Pearson for both rates: an attack that is sure about a few patients is a
//!   breach even at an AUC of 0.5.
//!
//! Intervals treat images as independent.

mod image_statistics;
mod logistic;
mod logits;
mod reference;
mod shadow;

pub use image_statistics::{STATISTICS, image_statistics};
pub use logistic::cross_fitted;
pub use logits::{confidence_score, logit_confidence, loss_score};
pub use reference::{LiraMode, References, lira, rmia};
pub use shadow::{AttackModel, ShadowExample};

use crate::one_run::binomial::clopper_pearson;
use crate::{EvalError, Interval, auroc};
use medfed_types::{Delta, Epsilon};
use serde::{Deserialize, Serialize};

/// False positive rates at which the true positive rate is reported, with the fewest non-members that
/// allow one false positive there.
const LOW_RATES: [(f64, usize); 2] = [(0.01, 100), (0.001, 1000)];
/// False positives up to which every step of a curve is kept; beyond, steps are about 2 % apart.
const KEPT_STEPS: usize = 100;
/// AUC from which an attack counts as successful: grade C.
const VULNERABLE_AUC: f64 = 0.6;

/// A score for each image, and whether it was trained on: at least two of each kind, no NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct MembershipScores {
    scores: Vec<f64>,
    member: Vec<bool>,
}

impl MembershipScores {
    /// Checks scores (higher means "was trained on") against the truth.
    pub fn new(scores: Vec<f64>, member: Vec<bool>) -> Result<Self, EvalError> {
        if scores.len() != member.len() {
            let (expected, found) = (member.len(), scores.len());
            return Err(EvalError::Lengths { what: "scores", expected, found });
        }
        if let Some(score) = scores.iter().find(|score| score.is_nan()) {
            return Err(EvalError::Audit { what: "a membership score", expected: "a number", found: *score });
        }
        let members = member.iter().filter(|member| **member).count();
        for (what, found) in
            [("the number of members", members), ("the number of non-members", member.len() - members)]
        {
            if found < 2 {
                return Err(EvalError::Audit { what, expected: "at least 2", found: found as f64 });
            }
        }
        Ok(Self { scores, member })
    }

    /// The scores of the images that `keep` takes; nothing where fewer than two of a kind are left.
    pub fn of_group(&self, mut keep: impl FnMut(usize) -> bool) -> Option<Self> {
        let kept = (0..self.scores.len()).filter(|image| keep(*image));
        let (scores, member) = kept.map(|image| (self.scores[image], self.member[image])).unzip();
        Self::new(scores, member).ok()
    }

    /// Images that were trained on, at least 2.
    pub fn members(&self) -> usize {
        self.member.iter().filter(|member| **member).count()
    }

    /// Images that were not, at least 2.
    pub fn non_members(&self) -> usize {
        self.member.len() - self.members()
    }

    /// How far the attack comes.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for all scores")]
    pub fn result(&self) -> AttackResult {
        let auc = auroc(&self.scores, &self.member).expect("there are members, non-members and no NaN");
        let accuracy = self.held_out_accuracy();
        let low_false_positives: Vec<LowFalsePositives> =
            LOW_RATES.iter().map(|(rate, least)| self.at(*rate, *least)).collect();
        let sure = low_false_positives.iter().any(LowFalsePositives::gives_patients_away);
        AttackResult {
            members: self.members() as u64,
            non_members: self.non_members() as u64,
            accuracy,
            auc,
            advantage: 2.0 * accuracy - 1.0,
            grade: PrivacyGrade::of(auc.estimate),
            vulnerable: sure || (auc.estimate >= VULNERABLE_AUC && auc.lower > 0.5),
            low_false_positives,
            roc: self.roc(),
        }
    }

    /// The mean of true positive and true negative rate at the threshold that is best on the other half.
    fn held_out_accuracy(&self) -> f64 {
        let mut halves = [Vec::new(), Vec::new()];
        let mut next = [0usize; 2];
        for (score, member) in self.scores.iter().zip(&self.member) {
            let kind = usize::from(*member);
            halves[next[kind] % 2].push((*score, *member));
            next[kind] += 1;
        }
        let right = |half: &[(f64, bool)], threshold: f64| {
            let rate = |kind: bool| {
                let of = || half.iter().filter(move |(_, member)| *member == kind);
                let right = of().filter(|(score, _)| (*score >= threshold) == kind).count();
                right as f64 / of().count() as f64
            };
            f64::midpoint(rate(true), rate(false))
        };
        // There are two of each kind, so each half has one.
        f64::midpoint(
            right(&halves[1], best_threshold(&halves[0])),
            right(&halves[0], best_threshold(&halves[1])),
        )
    }

    /// The largest true positive rate with at most ⌊`rate` × non-members⌋ false positives.
    fn at(&self, rate: f64, least: usize) -> LowFalsePositives {
        let negatives = self.non_members();
        if negatives < least {
            return LowFalsePositives { target: rate, measured: None };
        }
        let allowed = (rate * negatives as f64 + 1e-9).floor() as usize;
        let mut of_others: Vec<f64> =
            self.scores.iter().zip(&self.member).filter(|(_, member)| !**member).map(|(s, _)| *s).collect();
        of_others.sort_unstable_by(|a, b| b.total_cmp(a));
        // Strictly above the first non-member that is too much.
        let bar = of_others[allowed.min(negatives - 1)];
        let above = |kind: bool| {
            let of_kind = self.scores.iter().zip(&self.member).filter(|(_, member)| **member == kind);
            of_kind.filter(|(score, _)| **score > bar).count() as u64
        };
        LowFalsePositives {
            target: rate,
            measured: Some(Rates {
                false_positive_rate: clopper_pearson(above(false), negatives as u64),
                true_positive_rate: clopper_pearson(above(true), self.members() as u64),
            }),
        }
    }

    /// The curve's corners: `[false positive rate, true positive rate]`, from `[0, 0]` to `[1, 1]`.
    fn roc(&self) -> Vec<[f64; 2]> {
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_unstable_by(|a, b| self.scores[*b].total_cmp(&self.scores[*a]));
        let (members, others) = (self.members() as f64, self.non_members() as f64);
        let (mut hit, mut wrong) = (0usize, 0usize);
        let mut points = vec![[0.0, 0.0]];
        let mut next_kept = 0usize;
        for tied in order.chunk_by(|a, b| self.scores[*a] == self.scores[*b]) {
            let new = tied.iter().filter(|image| self.member[**image]).count();
            hit += new;
            wrong += tied.len() - new;
            let point = [wrong as f64 / others, hit as f64 / members];
            match &mut points[..] {
                // Further up the same vertical: only its ends are corners.
                [.., below, last] if last[0] == point[0] && below[0] == point[0] => *last = point,
                [.., last] if last[0] == point[0] => points.push(point),
                _ if wrong >= next_kept => {
                    points.push(point);
                    next_kept = wrong + (wrong / KEPT_STEPS * 2).max(1);
                }
                _ => {}
            }
        }
        if points.last() != Some(&[1.0, 1.0]) {
            points.push([1.0, 1.0]);
        }
        points
    }
}

/// The threshold with the largest difference of true and false positive rate.
fn best_threshold(half: &[(f64, bool)]) -> f64 {
    let mut order: Vec<&(f64, bool)> = half.iter().collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let members = half.iter().filter(|(_, member)| *member).count() as f64;
    let others = half.len() as f64 - members;
    let (mut best, mut threshold, mut difference) = (0.0, f64::INFINITY, 0.0);
    let mut runs = order.chunk_by(|a, b| a.0 == b.0).peekable();
    while let Some(tied) = runs.next() {
        for (_, member) in tied {
            difference += if *member { 1.0 / members } else { -1.0 / others };
        }
        // Sums of equal shares leave rounding dust.
        if difference > best + 1e-12 {
            let next = runs.peek().map_or(f64::NEG_INFINITY, |next| next[0].0);
            let between = f64::midpoint(tied[0].0, next);
            (best, threshold) = (difference, if between.is_finite() { between } else { tied[0].0 });
        }
    }
    threshold
}

/// How far a membership inference attack comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackResult {
    /// Images attacked that were trained on.
    pub members: u64,
    /// Images attacked that were not.
    pub non_members: u64,
    /// Share of right guesses, members and non-members counting alike; 0.5 is guessing.
    pub accuracy: f64,
    /// How often a member has the higher score of two; 0.5 is guessing.
    #[serde(rename = "auc_roc")]
    pub auc: Interval,
    /// True minus false positive rate at the same threshold as `accuracy`.
    pub advantage: f64,
    /// The AUC in a word.
    #[serde(rename = "privacy_grade")]
    pub grade: PrivacyGrade,
    /// Whether the attack tells members from others: an AUC of grade C or worse whose interval is above
    /// 0.5, or a true positive rate at few false positives that is certainly twice the false one.
    #[serde(rename = "is_vulnerable")]
    pub vulnerable: bool,
    /// True positive rates at few false positives.
    pub low_false_positives: Vec<LowFalsePositives>,
    /// Corners of the curve: `[false positive rate, true positive rate]`.
    pub roc: Vec<[f64; 2]>,
}

/// The attack at few false positives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LowFalsePositives {
    /// The false positive rate allowed.
    pub target: f64,
    /// What was measured; nothing where there are too few non-members to allow even one false positive.
    pub measured: Option<Rates>,
}

impl LowFalsePositives {
    /// Whether the intervals prove that members are picked out at twice the rate of others or more.
    fn gives_patients_away(&self) -> bool {
        self.measured.is_some_and(|rates| {
            rates.true_positive_rate.lower >= 2.0 * rates.false_positive_rate.upper.max(self.target)
        })
    }
}

/// Error rates of a guess at one threshold, with exact intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Share of the non-members that are taken for members.
    pub false_positive_rate: Interval,
    /// Share of the members that are found.
    pub true_positive_rate: Interval,
}

/// The AUC of an attack in a word: A below 0.55, B below 0.6, C below 0.7, D below 0.8, F from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrivacyGrade {
    /// No better than guessing, or hardly.
    A,
    /// A little better than guessing.
    B,
    /// Clearly better than guessing.
    C,
    /// Much better than guessing.
    D,
    /// The model gives away whom it was trained on.
    F,
}

impl PrivacyGrade {
    /// The grade of an AUC.
    pub fn of(auc: f64) -> Self {
        match auc {
            auc if auc < 0.55 => Self::A,
            auc if auc < VULNERABLE_AUC => Self::B,
            auc if auc < 0.7 => Self::C,
            auc if auc < 0.8 => Self::D,
            _ => Self::F,
        }
    }
}

/// As people read it: `A (Excellent)`.
impl std::fmt::Display for PrivacyGrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::A => "A (Excellent)",
            Self::B => "B (Good)",
            Self::C => "C (Fair)",
            Self::D => "D (Poor)",
            Self::F => "F (Fail)",
        })
    }
}

/// What (ε, δ)-differential privacy allows any attacker at most, whatever the attacker knows about the
/// other images (Kairouz, Oh, Viswanath 2015).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpCeiling {
    epsilon: Epsilon,
    delta: Delta,
}

impl DpCeiling {
    /// The ceiling of a guarantee.
    pub fn new(epsilon: Epsilon, delta: Delta) -> Self {
        Self { epsilon, delta }
    }

    /// The largest true positive rate at a false positive rate: the smaller of e^ε·FPR + δ and its mirror
    /// image 1 − e^−ε·(1 − δ − FPR).
    pub fn true_positive_rate(self, false_positive_rate: f64) -> f64 {
        let (epsilon, delta) = (self.epsilon.get(), self.delta.get());
        // Infinity times 0 is no number; without a bound nothing is excluded.
        if epsilon.is_infinite() {
            return 1.0;
        }
        let direct = epsilon.exp() * false_positive_rate + delta;
        let mirror = 1.0 - (-epsilon).exp() * (1.0 - delta - false_positive_rate);
        direct.min(mirror).clamp(0.0, 1.0)
    }

    /// The largest AUC: the area under the ceiling.
    pub fn auc(self) -> f64 {
        let (epsilon, delta) = (self.epsilon.get(), self.delta.get());
        if epsilon.is_infinite() {
            return 1.0;
        }
        // From (0, δ) straight to the corner where both lines meet, from there straight to (1 − δ, 1).
        let corner = (1.0 - delta) / (1.0 + epsilon.exp());
        let height = 1.0 - corner;
        let before = corner * f64::midpoint(delta, height);
        let between = (1.0 - delta - corner) * f64::midpoint(height, 1.0);
        before + between + delta
    }
}

#[cfg(test)]
mod tests;
