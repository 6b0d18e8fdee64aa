//! Scores from what the model says about one image: `logits` are its outputs `[classes]`, `class` the
//! true one.
//!
//! All are computed from logits in double precision: a probability close to 1 has lost the digits that
//! tell one image from another.

/// The log-odds of the predicted class: the `threshold` attack takes confident predictions for members.
pub fn confidence_score(logits: &[f32]) -> f64 {
    let top = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a }).unwrap_or(0);
    logit_confidence(logits, top)
}

/// The negative cross-entropy in nats: the `loss_based` attack takes a small loss for membership
/// (Yeom et al. 2018).
pub fn loss_score(logits: &[f32], class: usize) -> f64 {
    log_probability(logit_confidence(logits, class))
}

/// ln p from the log-odds of p, safe at both ends.
pub(super) fn log_probability(log_odds: f64) -> f64 {
    log_odds.min(0.0) - (-log_odds.abs()).exp().ln_1p()
}

/// The log-odds of the true class, ln p − ln(1 − p): of all functions of the confidence the one whose
/// distribution over models is closest to a Gaussian (Carlini et al. 2022).
pub fn logit_confidence(logits: &[f32], class: usize) -> f64 {
    let others = logits.iter().enumerate().filter(|(k, _)| *k != class).map(|(_, z)| f64::from(*z));
    f64::from(logits[class]) - log_sum_exp(others)
}

/// The entropy of the predicted probabilities, in nats.
pub(super) fn entropy(logits: &[f32]) -> f64 {
    let total = log_sum_exp(logits.iter().map(|z| f64::from(*z)));
    logits.iter().map(|z| f64::from(*z) - total).map(|log| -log * log.exp()).sum()
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + values.map(|value| (value - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_softmax_and_keep_their_digits() {
        let logits = [1.0f32, 3.0, -0.5];
        let exps: Vec<f64> = logits.iter().map(|z| f64::from(*z).exp()).collect();
        let sum: f64 = exps.iter().sum();
        for (class, exp) in exps.iter().enumerate() {
            let p = exp / sum;
            assert!((loss_score(&logits, class) - p.ln()).abs() < 1e-12);
            assert!((logit_confidence(&logits, class) - (p / (1.0 - p)).ln()).abs() < 1e-12);
        }
        assert_eq!(confidence_score(&logits), logit_confidence(&logits, 1));
        let direct: f64 = exps.iter().map(|e| -(e / sum) * (e / sum).ln()).sum();
        assert!((entropy(&logits) - direct).abs() < 1e-12);
        // Both probabilities are 1 in double precision.
        assert!(loss_score(&[50.0, 0.0], 0) > loss_score(&[49.0, 0.0], 0));
        assert!(loss_score(&[-800.0, 800.0], 0) == -1600.0);
    }
}
