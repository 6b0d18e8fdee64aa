//! Dropout that does not depend on how a batch is divided among threads.

use medfed_types::Seed;
use rand::Rng;

/// The dropout of one training step. Each image of the batch has a stream of its own, so the same step
/// drops the same features whatever the number of threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropoutStream {
    seed: Seed,
    domain: String,
    numbers: Vec<u64>,
}

impl DropoutStream {
    /// The stream of the step that `domain` and `numbers` name.
    pub fn new(seed: Seed, domain: &str, numbers: &[u64]) -> Self {
        Self { seed, domain: domain.to_owned(), numbers: numbers.to_vec() }
    }

    /// Writes the factors of the image at `position` of the batch: 0 with probability `p`, otherwise
    /// 1/(1 - p).
    pub(crate) fn factors(&self, position: usize, p: f32, out: &mut [f32]) {
        let mut numbers = self.numbers.clone();
        numbers.push(position as u64);
        let mut rng = self.seed.generator(&self.domain, &numbers);
        let threshold = (f64::from(p) * 2f64.powi(32)) as u64;
        let keep = 1.0 / (1.0 - p);
        for value in out {
            *value = if u64::from(rng.next_u32()) < threshold { 0.0 } else { keep };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_drop_different_features_at_the_stated_rate() {
        let stream = DropoutStream::new(Seed(3), "dropout", &[1]);
        let (mut a, mut b) = (vec![0.0; 4000], vec![0.0; 4000]);
        stream.factors(0, 0.25, &mut a);
        stream.factors(1, 0.25, &mut b);
        assert_ne!(a, b);
        let dropped = a.iter().filter(|v| **v == 0.0).count();
        // Binomial(4000, 1/4): five standard deviations are 137.
        assert!((863..=1137).contains(&dropped), "{dropped}");
        assert!(a.iter().all(|v| *v == 0.0 || *v == 1.0 / 0.75));
        stream.factors(0, 0.25, &mut b);
        assert_eq!(a, b);
    }
}
