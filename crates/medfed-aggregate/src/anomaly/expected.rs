//! What an honest update of a hospital looks like, as far as its announced plan tells.
//!
//! A local step moves the parameters by the learning rate times the optimiser's velocity, so a gradient of
//! step s ends up in the delta with the coefficient c_s = Σ_{t≥s} η_t μ^(t−s) (η learning rate, μ
//! momentum). Hospitals keep their velocity from round to round, so a gradient of k steps before the round
//! has the coefficient μ^k c_1. Two consequences:
//!
//! * **Size.** Gradients that all point one way give a delta in proportion to Σ c_s, unrelated ones in
//!   proportion to √Σ c_s²; between them lies the geometric mean. With privacy [`Expected::scale`] is that
//!   of gradients half as long as the clipping norm, together with the noise: where noise is most of an
//!   update this is exact. Without privacy gradients shrink as a hospital comes near its own optimum, the
//!   more the more steps it takes, and the scale is the root of the mean: half of the way in logarithms.
//!   That takes out most of the difference between a hospital with 5 steps and one with 50, or between
//!   one with much noise and one with little.
//! * **Noise.** With differential privacy every step carries Gaussian noise of standard deviation σC/B in
//!   every coordinate (σ noise multiplier, C clipping norm, B expected batch size), independent of
//!   everything else. In the delta it has the norm √d · σC/B · √Σ c_s², give or take its own spread of one
//!   in √(2d) (d trainable parameters). Gradients undo noise only along the few directions in which the
//!   loss curves strongly. [`Expected::least_norm`] is *half* of that, less six of its standard
//!   deviations and what weight decay takes away: three quarters of the noise's energy would have to be
//!   undone by training before an honest update fell below it.
//!
//! Adam divides by the gradient's own size, so an update without noise is no smaller than one with it:
//! there is no least norm.

use crate::error::AggregateError;

/// What a hospital's update in one round should look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    scale: f64,
    least_norm: Option<f64>,
    samples: Option<f64>,
}

/// Local training of one round as announced: all of it is known to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnnouncedTraining<'a> {
    /// Learning rate of each step, first to last.
    pub rates: &'a [f64],
    /// Steps that the hospital took in earlier rounds.
    pub earlier_steps: u64,
    /// Momentum of plain gradient descent, in `[0, 1)`; nothing for Adam.
    pub momentum: Option<f64>,
    /// Weight decay, as an L2 term of the gradient.
    pub weight_decay: f64,
    /// The noise of every step; nothing without privacy.
    pub noise: Option<AnnouncedNoise>,
    /// Training images that the hospital enrolled with.
    pub samples: Option<f64>,
}

/// The noise of every step of DP-SGD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnnouncedNoise {
    /// Standard deviation in each coordinate of a step's gradient: noise multiplier times clipping norm
    /// over expected batch size.
    pub deviation: f64,
    /// Norm to which the gradient of every unit is clipped.
    pub clip: f64,
    /// Parameters that are trained.
    pub parameters: usize,
}

impl Expected {
    /// Works out what `training` leads to. Rates and momentum out of range count as 0.
    pub fn of(training: &AnnouncedTraining<'_>) -> Self {
        let momentum = training.momentum.filter(|m| (0.0..1.0).contains(m)).unwrap_or(0.0);
        let (mut coefficient, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for rate in training.rates.iter().rev() {
            let rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
            coefficient = rate + momentum * coefficient;
            sum += coefficient;
            squares += coefficient * coefficient;
        }
        // The loop ended with the first step's coefficient. A geometric series; its tail is nothing.
        let carried = momentum.powf(training.earlier_steps as f64);
        let with_past = sum + coefficient * momentum * (1.0 - carried) / (1.0 - momentum);
        let squared = (momentum * momentum, carried * carried);
        let squares_with_past =
            squares + coefficient * coefficient * squared.0 * (1.0 - squared.1) / (1.0 - squared.0);
        // Weight decay shrinks what an early step left by at most this.
        let kept = (-training.weight_decay.max(0.0) * sum).exp();
        let noise = training.noise.filter(|_| training.momentum.is_some());
        let noise_norm = |noise: AnnouncedNoise, squares: f64| {
            noise.deviation.max(0.0) * (noise.parameters as f64 * squares).sqrt()
        };
        let least_norm = noise.map(|noise| {
            let luck = (1.0 - 6.0 / (2.0 * noise.parameters as f64).sqrt()).max(0.0);
            // Noise of earlier rounds would only add to it.
            0.5 * luck * kept * noise_norm(noise, squares)
        });
        let between = (with_past * squares_with_past.sqrt()).sqrt();
        let scale = noise.map_or(between.sqrt(), |noise| {
            (0.5 * noise.clip * between).hypot(noise_norm(noise, squares_with_past))
        });
        Self {
            // A round whose learning rate has fallen to 0 has nothing to compare.
            scale: if scale.is_finite() && scale > 0.0 { scale } else { 1.0 },
            least_norm: least_norm.filter(|norm| norm.is_finite() && *norm > 0.0),
            samples: training.samples.filter(|samples| samples.is_finite() && *samples > 0.0),
        }
    }

    /// From numbers that were computed elsewhere: the norm of an ordinary update, and the least norm. Refuses
    /// numbers that are not finite or not above 0.
    pub fn new(scale: f64, least_norm: Option<f64>) -> Result<Self, AggregateError> {
        for found in [Some(scale), least_norm].into_iter().flatten() {
            if !(found.is_finite() && found > 0.0) {
                return Err(AggregateError::Expected { found });
            }
        }
        Ok(Self { scale, least_norm, samples: None })
    }

    /// Norm of an ordinary update, up to a factor that all hospitals share.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Least L2 norm that the announced noise alone gives the update; nothing where there is no bound.
    pub fn least_norm(&self) -> Option<f64> {
        self.least_norm
    }

    /// Training images that the hospital enrolled with.
    pub fn samples(&self) -> Option<f64> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::Seed;
    use rand::Rng as _;

    fn training(rates: &[f64]) -> AnnouncedTraining<'_> {
        let momentum = Some(0.9);
        AnnouncedTraining { rates, earlier_steps: 0, momentum, weight_decay: 0.0, noise: None, samples: None }
    }

    /// 8 steps of noise alone, through the optimiser's own recursion, against the closed form.
    #[test]
    fn noise_alone_lies_at_twice_the_bound() {
        let (parameters, deviation, rates) = (20_000, 0.03, [0.1, 0.1, 0.08, 0.05, 0.02, 0.1, 0.1, 0.1]);
        let mut rng = Seed(1).generator("noise", &[]);
        let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        let (mut velocity, mut delta) = (vec![0.0; parameters], vec![0.0; parameters]);
        for rate in rates {
            for (v, d) in velocity.iter_mut().zip(&mut delta) {
                // Uniform with the same variance: only the second moment counts.
                *v = 0.9 * *v + deviation * 12f64.sqrt() * uniform();
                *d -= rate * *v;
            }
        }
        let norm = delta.iter().map(|d| d * d).sum::<f64>().sqrt();
        let noise = Some(AnnouncedNoise { deviation, clip: 1.0, parameters });
        let least = Expected::of(&AnnouncedTraining { noise, ..training(&rates) }).least_norm().unwrap();
        assert!((norm / least - 2.0).abs() < 0.11, "{norm} {least}");
    }

    #[test]
    fn where_nothing_is_known_nothing_is_claimed() {
        let noise = Some(AnnouncedNoise { deviation: 0.1, clip: 1.0, parameters: 1000 });
        assert_eq!(Expected::of(&training(&[0.1; 5])).least_norm(), None);
        let adam = AnnouncedTraining { momentum: None, noise, ..training(&[0.1; 5]) };
        assert_eq!(Expected::of(&adam).least_norm(), None);
        for wrong in [(0.0, None), (f64::NAN, None), (1.0, Some(-1.0)), (1.0, Some(f64::INFINITY))] {
            assert!(Expected::new(wrong.0, wrong.1).is_err());
        }
        assert_eq!(Expected::new(2.0, Some(0.5)).unwrap().least_norm(), Some(0.5));
        let still =
            Expected::of(&AnnouncedTraining { noise, samples: Some(f64::NAN), ..training(&[0.0; 3]) });
        assert_eq!(still, Expected { scale: 1.0, least_norm: None, samples: None });
        let few = AnnouncedNoise { deviation: 0.1, clip: 1.0, parameters: 18 };
        let few = AnnouncedTraining { noise: Some(few), ..training(&[0.1]) };
        assert_eq!(Expected::of(&few).least_norm(), None);
    }

    /// Unit gradients in 40 earlier steps and 2 of the round, through the recursion.
    #[test]
    fn velocity_is_kept_from_round_to_round() {
        let (mut velocity, mut delta) = (0.0, 0.0);
        for step in 0..42 {
            velocity = 0.9 * velocity + 1.0;
            if step >= 40 {
                delta += 0.1 * velocity;
            }
        }
        let coefficient = |k: i32| 0.1 * 0.9f64.powi(k) * 1.9;
        let squares = (0..=40).map(|k| coefficient(k).powi(2)).sum::<f64>() + 0.01;
        let scale = Expected::of(&AnnouncedTraining { earlier_steps: 40, ..training(&[0.1; 2]) }).scale();
        assert!((scale.powi(4) / (delta * squares.sqrt()) - 1.0).abs() < 1e-9, "{scale}");
    }

    #[test]
    fn scale_grows_with_steps_and_with_noise() {
        let plain = |steps| {
            Expected::of(&AnnouncedTraining { momentum: Some(0.0), ..training(&vec![0.1; steps]) }).scale()
        };
        // 16 to the power of 3/8.
        assert!((plain(16) / plain(1) - 2.828_427).abs() < 1e-5);
        // Where noise is nearly all, the scale is its norm.
        let noise = AnnouncedNoise { deviation: 10.0, clip: 1.0, parameters: 10_000 };
        let loud = AnnouncedTraining { momentum: Some(0.0), noise: Some(noise), ..training(&[0.1]) };
        assert!((Expected::of(&loud).scale() / 100.0 - 1.0).abs() < 1e-3);
    }
}
