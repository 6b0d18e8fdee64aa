//! The learning rate of every step.

use std::f64::consts::PI;

use crate::optimizer::OptimizerError;

/// How the learning rate changes over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same rate at every step.
    #[serde(rename = "none")]
    Constant,
    /// Half a cosine from the base rate to 0 (Loshchilov and Hutter 2017, one cycle), as PyTorch's
    /// `CosineAnnealingLR` with `T_max` = the number of steps and `eta_min` = 0.
    Cosine,
}

/// A base rate and its schedule over a known number of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    base: f64,
    schedule: Schedule,
    total_steps: u64,
}

impl LearningRate {
    /// A schedule of `total_steps` steps from `base`, which is finite and not negative.
    pub fn new(base: f64, schedule: Schedule, total_steps: u64) -> Result<Self, OptimizerError> {
        if !(base.is_finite() && base >= 0.0) {
            return Err(OptimizerError::Setting {
                what: "the learning rate",
                expected: "finite and 0 or more",
                found: base,
            });
        }
        Ok(Self { base, schedule, total_steps })
    }

    /// The rate of step `step`, counted from 0. At and after the last step a cosine is 0.
    pub fn at(&self, step: u64) -> f64 {
        match self.schedule {
            Schedule::Constant => self.base,
            Schedule::Cosine if step >= self.total_steps => 0.0,
            Schedule::Cosine => {
                let progress = step as f64 / self.total_steps as f64;
                0.5 * self.base * (1.0 + (PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_falls_from_base_to_zero_and_constant_stays() {
        let cosine = LearningRate::new(0.2, Schedule::Cosine, 4).unwrap();
        let rates: Vec<f64> = (0..6).map(|t| cosine.at(t)).collect();
        assert_eq!(rates[0], 0.2);
        assert!((rates[2] - 0.1).abs() < 1e-15);
        assert!(rates.windows(2).all(|w| w[1] <= w[0]));
        assert_eq!(rates[4..], [0.0, 0.0]);
        assert_eq!(LearningRate::new(0.2, Schedule::Constant, 4).unwrap().at(9), 0.2);
        assert_eq!(LearningRate::new(0.2, Schedule::Cosine, 0).unwrap().at(0), 0.0);
    }

    #[test]
    fn a_rate_that_is_no_rate_is_refused() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(LearningRate::new(bad, Schedule::Constant, 1).is_err());
        }
    }
}
