//! Exponential moving average of parameters.

use super::{OptimizerError, fraction};

/// Magic and version of the saved form.
const MAGIC: &[u8; 8] = b"MFEMA\0\0\x01";

/// The exponentially weighted mean of the parameters after each step, for evaluation and release.
///
/// It is a function of parameters that are private already, so it costs no privacy. The mean is exact
/// from the first step on: parameters `x_1..x_t` have weights proportional to `decay^(t-i)` and the
/// weights sum to one, so early averages are not dragged towards the initial values (the bias correction
/// of Kingma and Ba 2015, section 3).
#[derive(Debug, Clone, PartialEq)]
pub struct Ema {
    decay: f64,
    steps: u64,
    mean: Vec<f32>,
}

impl Ema {
    /// The average before the first parameters; `decay` in `[0, 1)`, and 0 keeps the last parameters.
    pub fn new(decay: f64, len: usize) -> Result<Self, OptimizerError> {
        Ok(Self { decay: fraction("the averaging decay", decay)?, steps: 0, mean: vec![0.0; len] })
    }

    /// Takes in the parameters after one more step.
    pub fn update(&mut self, params: &[f32]) -> Result<(), OptimizerError> {
        if params.len() != self.mean.len() {
            return Err(OptimizerError::Length {
                what: "the parameter buffer",
                expected: self.mean.len(),
                found: params.len(),
            });
        }
        self.steps += 1;
        // Weight of the newest among t values: (1 - d) / (1 - d^t), which is 1 for the first.
        let weight = ((1.0 - self.decay) / (1.0 - self.decay.powf(self.steps as f64))) as f32;
        for (mean, p) in self.mean.iter_mut().zip(params) {
            *mean += weight * (p - *mean);
        }
        Ok(())
    }

    /// The average, or `None` before the first update.
    pub fn parameters(&self) -> Option<&[f32]> {
        (self.steps > 0).then_some(&self.mean)
    }

    /// The average as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + 8 + 4 * self.mean.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.steps.to_le_bytes());
        for value in &self.mean {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out
    }

    /// Restores what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(decay: f64, len: usize, bytes: &[u8]) -> Result<Self, OptimizerError> {
        let refuse = |reason| Err(OptimizerError::Saved { reason });
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return refuse("it does not begin like an average");
        };
        let Some((steps, rest)) = rest.split_first_chunk::<8>() else { return refuse("it is cut off") };
        let (values, odd) = rest.as_chunks::<4>();
        if !odd.is_empty() || values.len() != len {
            return refuse("it belongs to a model with another number of parameters");
        }
        Ok(Self {
            decay: fraction("the averaging decay", decay)?,
            steps: u64::from_le_bytes(*steps),
            mean: values.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_is_the_weighted_mean_from_the_first_step() {
        let mut ema = Ema::new(0.5, 2).unwrap();
        assert_eq!(ema.parameters(), None);
        ema.update(&[1.0, -2.0]).unwrap();
        assert_eq!(ema.parameters().unwrap(), [1.0, -2.0]);
        ema.update(&[4.0, 1.0]).unwrap();
        // Weights 1/3 and 2/3.
        let mean = ema.parameters().unwrap();
        assert!((mean[0] - 3.0).abs() < 1e-6 && mean[1].abs() < 1e-6);
        let mut restored = Ema::from_bytes(0.5, 2, &ema.to_bytes()).unwrap();
        assert_eq!(restored, ema);
        restored.update(&[0.5, 0.5]).unwrap();
        ema.update(&[0.5, 0.5]).unwrap();
        assert_eq!(restored, ema);
    }

    #[test]
    fn wrong_lengths_and_decays_are_refused() {
        assert!(Ema::new(1.0, 1).is_err());
        assert!(Ema::new(f64::NAN, 1).is_err());
        let mut ema = Ema::new(0.9, 3).unwrap();
        assert!(ema.update(&[0.0; 2]).is_err());
        assert!(Ema::from_bytes(0.9, 4, &ema.to_bytes()).is_err());
        assert!(Ema::from_bytes(0.9, 3, b"MFEMA").is_err());
    }
}
