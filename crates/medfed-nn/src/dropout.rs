//! Dropout that does not depend on how a batch is divided among threads.

use medfed_types::{SecretKey, Seed};
use rand::Rng;
use std::sync::Arc;

/// The dropout of one training step. Each image of the batch has a stream of its own, so the same step
/// drops the same features whatever the number of threads.
///
/// The stream of an image follows its position in the batch, and one unit more or less moves all images
/// behind it. A private step therefore takes [`secret`](Self::secret) masks: they are independent and
/// unknown, so positions tell nothing, and a unit still moves the sum by its own clipped gradient alone.
/// Under masks that anyone can compute from a public seed it would move everyone else's gradients too.
#[derive(Debug, Clone)]
pub struct DropoutStream(Source);

#[derive(Debug, Clone)]
enum Source {
    Public { seed: Seed, domain: String, numbers: Vec<u64> },
    Secret(Arc<SecretKey>),
}

impl DropoutStream {
    /// The stream of the step that `domain` and `numbers` name, for training without privacy.
    pub fn new(seed: Seed, domain: &str, numbers: &[u64]) -> Self {
        Self(Source::Public { seed, domain: domain.to_owned(), numbers: numbers.to_vec() })
    }

    /// The stream of the step that the key belongs to.
    pub fn secret(step: SecretKey) -> Self {
        Self(Source::Secret(Arc::new(step)))
    }

    /// Writes the factors of the image at `position` of the batch: 0 with probability `p`, otherwise
    /// 1/(1 - p).
    pub(crate) fn factors(&self, position: usize, p: f32, out: &mut [f32]) {
        let position = position as u64;
        match &self.0 {
            Source::Public { seed, domain, numbers } => {
                let mut numbers = numbers.clone();
                numbers.push(position);
                drop_features(&mut seed.generator(domain, &numbers), p, out);
            }
            Source::Secret(step) => drop_features(&mut step.generator("image", &[position]), p, out),
        }
    }
}

fn drop_features(rng: &mut impl Rng, p: f32, out: &mut [f32]) {
    let threshold = (f64::from(p) * 2f64.powi(32)) as u64;
    let keep = 1.0 / (1.0 - p);
    for value in out {
        *value = if u64::from(rng.next_u32()) < threshold { 0.0 } else { keep };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_drop_different_features_at_the_stated_rate() {
        let key = SecretKey::from_bytes([3; 32]);
        for stream in [DropoutStream::new(Seed(3), "dropout", &[1]), DropoutStream::secret(key)] {
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
}
