//! A lower bound on ε from one training run (Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One
//! (1) Training Run").
//!
//! Canaries are examples of which each was put into the training data, or not, by a fair coin of its own.
//! An auditor who sees the model guesses some of the coins. Under (ε, δ)-differential privacy, with one
//! example more or less as the neighbouring relation, the number of right guesses is bounded in
//! probability; more right guesses than the bound allows refute that ε.
//!
//! With m canaries, r guesses and v of them right, let q = 1/(1 + e^−ε) and f(k) = P\[Binomial(r, q) ≥ k\]:
//!
//! 1. δ = 0 (theorem 5.2): P\[right guesses ≥ v\] ≤ f(v).
//! 2. δ > 0 (theorem 5.3 as appendix D computes it):
//!    P\[right guesses ≥ v\] ≤ f(v) + 2mδ · max over i in 1..=v of (f(v − i) − f(v))/i.
//! 3. The largest ε at which this is below 1 − confidence is refuted; every smaller one is too.
//!
//! **How many guesses.** An auditor may abstain, and does best to guess only where it is sure. Choosing r
//! by its result would be cheating, so a fixed list of r (all canaries, half, a quarter …) is tried, each
//! at (1 − confidence) over the length of the list. Half of the guesses say "in" for the highest scores,
//! half "out" for the lowest.
//!
//! The bound is on what *this* auditor could see: it proves that ε is at least so much, never that it is
//! not more.

pub(crate) mod binomial;

use crate::{EvalError, Interval, auroc};
use binomial::{mass, upper_tail};
use serde::{Deserialize, Serialize};

/// The fewest guesses that are tried.
const FEWEST_GUESSES: u64 = 8;
/// Confidence of the bounds that are reported.
pub const CONFIDENCE: f64 = 0.95;
/// ε beyond which the search stops: e^100 is beyond any guarantee worth the name.
const LARGEST: f64 = 100.0;

/// What an auditor guessed about canaries: 0 ≤ right ≤ made ≤ canaries, at least one canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Guesses {
    canaries: u64,
    made: u64,
    right: u64,
}

impl Guesses {
    /// `right` of `made` guesses about `canaries` canaries were right.
    pub fn new(canaries: u64, made: u64, right: u64) -> Result<Self, EvalError> {
        let refuse =
            |what, expected, found: u64| Err(EvalError::Audit { what, expected, found: found as f64 });
        if canaries == 0 {
            return refuse("the number of canaries", "at least 1", 0);
        }
        if made > canaries {
            return refuse("the number of guesses", "at most the number of canaries", made);
        }
        if right > made {
            return refuse("the number of right guesses", "at most the number of guesses", right);
        }
        Ok(Self { canaries, made, right })
    }

    /// The most probable that so many right guesses can be under (`epsilon`, `delta`)-differential
    /// privacy, both 0 or more.
    pub fn p_value(self, epsilon: f64, delta: f64) -> f64 {
        let Self { canaries, made, right } = self;
        let q = 1.0 / (1.0 + (-epsilon).exp());
        let pure = upper_tail(right, made, q);
        // Step 2. `between` is P[v − i ≤ Binomial < v].
        let (mut between, mut steepest) = (0.0, 0.0f64);
        if delta > 0.0 {
            for i in 1..=right {
                between += mass(right - i, made, q);
                steepest = steepest.max(between / i as f64);
            }
        }
        (pure + 2.0 * canaries as f64 * delta * steepest).min(1.0)
    }

    /// The largest ε that these guesses refute at `confidence` for this `delta`; 0 when they refute none.
    pub fn epsilon_lower_bound(self, delta: f64, confidence: f64) -> f64 {
        let refuted = |epsilon: f64| self.p_value(epsilon, delta) < 1.0 - confidence;
        if !refuted(0.0) {
            return 0.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        while refuted(high) {
            if high > LARGEST {
                return LARGEST;
            }
            (low, high) = (high, high + 1.0);
        }
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if refuted(middle) { low = middle } else { high = middle }
        }
        low
    }
}

/// One canary after training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredCanary {
    /// The auditor's score: the higher, the more it looks like a canary that was trained on.
    pub score: f64,
    /// The coin: whether it was trained on.
    pub included: bool,
}

/// What a run's canaries prove.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneRunAudit {
    /// Canaries.
    pub canaries: u64,
    /// Canaries that were trained on.
    pub included: u64,
    /// How often a canary that was trained on has the higher score of two.
    pub auc: Option<Interval>,
    /// Guesses behind the bound.
    pub guesses: u64,
    /// Those that were right.
    pub correct: u64,
    /// Numbers of guesses that were tried; the confidence is divided among them.
    pub tried: Vec<u64>,
    /// Confidence of the bounds.
    pub confidence: f64,
    /// δ of the bound.
    pub delta: f64,
    /// ε is at least this, at `delta`; 0 when nothing was proved.
    pub epsilon_lower_bound: f64,
    /// The same bound for δ = 0.
    pub epsilon_lower_bound_pure: f64,
}

impl OneRunAudit {
    /// Audits a run by its canaries at 95 % confidence. `delta` is the δ of the claim, 0 without one.
    pub fn of(canaries: &[ScoredCanary], delta: f64) -> Result<Self, EvalError> {
        let refuse = |what, expected, found| Err(EvalError::Audit { what, expected, found });
        if !(0.0..1.0).contains(&delta) {
            return refuse("delta", "0 or more and below 1", delta);
        }
        if let Some(canary) = canaries.iter().find(|canary| canary.score.is_nan()) {
            return refuse("the score of a canary", "a number", canary.score);
        }
        let m = canaries.len() as u64;
        // The order must not depend on the coins, so equal scores stay in the order given.
        let mut order: Vec<&ScoredCanary> = canaries.iter().collect();
        order.sort_by(|a, b| b.score.total_cmp(&a.score));
        let tried = numbers_of_guesses(m);
        let level = 1.0 - (1.0 - CONFIDENCE) / tried.len().max(1) as f64;
        let mut best: Option<(f64, Guesses)> = None;
        let mut pure: f64 = 0.0;
        for r in &tried {
            let (ins, outs) = (r.div_ceil(2) as usize, (r / 2) as usize);
            let right_in = order[..ins].iter().filter(|canary| canary.included).count();
            let right_out = order[order.len() - outs..].iter().filter(|canary| !canary.included).count();
            let guesses = Guesses::new(m, *r, (right_in + right_out) as u64)?;
            let bound = guesses.epsilon_lower_bound(delta, level);
            pure = pure.max(guesses.epsilon_lower_bound(0.0, level));
            if best.is_none_or(|(so_far, _)| bound > so_far) {
                best = Some((bound, guesses));
            }
        }
        let Some((bound, guesses)) = best else {
            return refuse("the number of canaries", "at least 1", 0.0);
        };
        let (scores, included): (Vec<f64>, Vec<bool>) =
            canaries.iter().map(|c| (c.score, c.included)).unzip();
        Ok(Self {
            canaries: m,
            included: included.iter().filter(|included| **included).count() as u64,
            auc: auroc(&scores, &included),
            guesses: guesses.made,
            correct: guesses.right,
            tried,
            confidence: CONFIDENCE,
            delta,
            epsilon_lower_bound: bound,
            epsilon_lower_bound_pure: pure,
        })
    }

    /// Whether the bound refutes a claimed ε.
    pub fn refutes(&self, claim: f64) -> bool {
        self.epsilon_lower_bound > claim
    }
}

/// All of m canaries, half, a quarter … down to [`FEWEST_GUESSES`] or a sixteenth.
fn numbers_of_guesses(m: u64) -> Vec<u64> {
    let fewer = (1..=4).map(|halvings| m >> halvings).take_while(|r| *r >= FEWEST_GUESSES);
    std::iter::once(m).filter(|m| *m > 0).chain(fewer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    #[derive(Deserialize)]
    struct Vectors {
        p_values: Vec<(u64, u64, u64, f64, f64, f64)>,
        bounds: Vec<(u64, u64, u64, f64, f64, f64)>,
    }

    #[test]
    fn agrees_with_the_paper_s_appendix() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../../testdata/one_run.json")).unwrap();
        assert!(vectors.p_values.len() >= 60 && vectors.bounds.len() >= 20);
        for (m, r, v, epsilon, delta, expected) in vectors.p_values {
            let found = Guesses::new(m, r, v).unwrap().p_value(epsilon, delta);
            assert!(
                (found - expected).abs() <= 1e-9 * expected + 1e-13,
                "{m} {r} {v} {epsilon} {delta}: {found}"
            );
        }
        for (m, r, v, delta, confidence, expected) in vectors.bounds {
            let found = Guesses::new(m, r, v).unwrap().epsilon_lower_bound(delta, confidence);
            assert!((found - expected).abs() < 1e-6, "{m} {r} {v} {delta}: {found}, expected {expected}");
        }
    }

    #[test]
    fn impossible_counts_are_refused() {
        for (m, r, v) in [(0, 0, 0), (5, 6, 0), (5, 4, 5)] {
            assert!(matches!(Guesses::new(m, r, v), Err(EvalError::Audit { .. })), "{m} {r} {v}");
        }
        assert!(OneRunAudit::of(&[], 1e-5).is_err());
        let nan = ScoredCanary { score: f64::NAN, included: true };
        assert!(OneRunAudit::of(&[nan], 1e-5).is_err());
        assert!(OneRunAudit::of(&[ScoredCanary { score: 0.0, included: true }], f64::NAN).is_err());
    }

    #[test]
    fn nothing_is_proved_by_one_canary_or_by_certainty_about_few() {
        let one = OneRunAudit::of(&[ScoredCanary { score: 1.0, included: true }], 0.0).unwrap();
        assert_eq!((one.canaries, one.epsilon_lower_bound), (1, 0.0));
        assert!(Guesses::new(4, 4, 4).unwrap().epsilon_lower_bound(0.0, 0.95) == 0.0);
        assert!(Guesses::new(5, 5, 5).unwrap().epsilon_lower_bound(0.0, 0.95) > 0.0);
    }

    fn canaries(m: usize, shift: f64, seed: u64) -> Vec<ScoredCanary> {
        let mut rng = Seed(seed).generator("canaries", &[]);
        let coin = |included: bool, noise: f64| ScoredCanary {
            score: noise + if included { shift } else { 0.0 },
            included,
        };
        (0..m)
            .map(|_| {
                let included = rng.random();
                coin(included, rng.random::<f64>())
            })
            .collect()
    }

    #[test]
    fn scores_that_know_the_coins_prove_much_and_others_nothing() {
        let known = OneRunAudit::of(&canaries(1000, 2.0, 1), 1e-5).unwrap();
        assert!(known.guesses == known.correct && known.canaries == 1000, "{known:?}");
        assert!(
            known.epsilon_lower_bound > 4.0 && known.epsilon_lower_bound_pure > known.epsilon_lower_bound
        );
        // 200 audits of scores that know nothing: at most 5 % may prove something; 23 is 4 deviations more.
        let fooled = (0..200).filter(|seed| {
            OneRunAudit::of(&canaries(100, 0.0, *seed), 1e-5).unwrap().epsilon_lower_bound > 0.0
        });
        assert!(fooled.count() < 23);
    }

    /// Randomised response is (ε, 0)-private with equality: the bound may pass ε in 5 % of audits only.
    #[test]
    fn the_bound_holds_and_is_close_for_randomised_response() {
        let epsilon = 1.5f64;
        let keep = 1.0 / (1.0 + (-epsilon).exp());
        let bounds: Vec<f64> = (0..200)
            .map(|seed| {
                let mut rng = Seed(seed).generator("response", &[]);
                let answers = (0..1000).map(|_| {
                    let included = rng.random::<bool>();
                    let answer = if rng.random::<f64>() < keep { included } else { !included };
                    ScoredCanary { score: f64::from(u8::from(answer)), included }
                });
                OneRunAudit::of(&answers.collect::<Vec<_>>(), 0.0).unwrap().epsilon_lower_bound
            })
            .collect();
        assert!(bounds.iter().filter(|bound| **bound > epsilon).count() < 23);
        let mean = bounds.iter().sum::<f64>() / 200.0;
        assert!((1.1..1.5).contains(&mean), "{mean}");
    }

    proptest! {
        #[test]
        fn p_values_rise_with_epsilon_and_fall_with_right_guesses(
            m in 1u64..200, r in 0u64..200, v in 0u64..200, epsilon in 0.0..6.0, more in 0.0..2.0,
        ) {
            let (r, v) = (r.min(m), v.min(r).min(m));
            let here = Guesses::new(m, r, v).unwrap();
            prop_assert!(here.p_value(epsilon, 0.0) <= here.p_value(epsilon + more, 0.0) + 1e-12);
            prop_assert!(here.p_value(epsilon, 0.0) <= here.p_value(epsilon, 1e-4));
            if v > 0 {
                let fewer = Guesses::new(m, r, v - 1).unwrap();
                prop_assert!(here.p_value(epsilon, 0.0) <= fewer.p_value(epsilon, 0.0) + 1e-12);
            }
            let bound = here.epsilon_lower_bound(1e-4, 0.95);
            prop_assert!(bound <= here.epsilon_lower_bound(0.0, 0.95) + 1e-9);
        }
    }
}
