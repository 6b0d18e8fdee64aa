//! First-order optimisers on flat parameter buffers, with PyTorch's semantics.
//!
//! What enters is a gradient *estimate*: the (noised) sum over a batch, already divided by the public
//! expected batch size. Weight decay is added to it as an L2 term, as in `torch.optim.SGD` and
//! `torch.optim.Adam`. Everything here is post-processing of that estimate and costs no privacy.
//!
//! An [`OptimizerState`] is written to bytes and restored without losing a bit, so a resumed run
//! continues on the same trajectory.

use std::ops::Range;

mod average;

pub use average::Ema;

/// An optimiser that cannot be set up, stepped or restored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// A hyper-parameter out of its range.
    #[error("{what} must be {expected}, not {found}")]
    Setting {
        /// The hyper-parameter, in words.
        what: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value found.
        found: f64,
    },
    /// A buffer of another length than the parameters the state was made for.
    #[error("{what} has {found} elements, the optimiser works on {expected}")]
    Length {
        /// The buffer, in words.
        what: &'static str,
        /// Elements of the state.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// A range of trainable parameters that lies outside the buffer.
    #[error("trainable parameters {start}..{end} lie outside the buffer of {len}")]
    Range {
        /// First element.
        start: usize,
        /// One after the last element.
        end: usize,
        /// Elements in the buffer.
        len: usize,
    },
    /// Saved bytes that are not the state of this optimiser.
    #[error("saved optimiser state is not usable: {reason}")]
    Saved {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Stochastic gradient descent with heavy-ball momentum (no dampening, not Nesterov).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    momentum: f32,
    weight_decay: f32,
}

impl Sgd {
    /// Momentum in `[0, 1)`, weight decay 0 or more.
    pub fn new(momentum: f64, weight_decay: f64) -> Result<Self, OptimizerError> {
        Ok(Self {
            momentum: fraction("the momentum", momentum)? as f32,
            weight_decay: decay(weight_decay)? as f32,
        })
    }
}

/// Adam (Kingma and Ba 2015, Algorithm 1) with L2 weight decay, as `torch.optim.Adam`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
}

impl Adam {
    /// The paper's and PyTorch's defaults (β₁ = 0.9, β₂ = 0.999, ε = 1e-8) with the given weight decay.
    pub fn with_weight_decay(weight_decay: f64) -> Result<Self, OptimizerError> {
        Self::new(0.9, 0.999, 1e-8, weight_decay)
    }

    /// β₁ and β₂ in `[0, 1)`, ε above 0, weight decay 0 or more.
    pub fn new(beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64) -> Result<Self, OptimizerError> {
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(OptimizerError::Setting {
                what: "Adam's epsilon",
                expected: "finite and above 0",
                found: epsilon,
            });
        }
        Ok(Self {
            beta1: fraction("Adam's beta1", beta1)?,
            beta2: fraction("Adam's beta2", beta2)?,
            epsilon,
            weight_decay: decay(weight_decay)?,
        })
    }
}

/// The rule by which parameters move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam.
    Adam(Adam),
}

impl Optimizer {
    /// The state before the first step, for a buffer of `len` parameters.
    pub fn start(self, len: usize) -> OptimizerState {
        let (first, second) = self.buffers(len);
        OptimizerState { optimizer: self, len, steps: 0, first: vec![0.0; first], second: vec![0.0; second] }
    }

    /// Lengths of the two moment buffers. SGD without momentum keeps none.
    fn buffers(self, len: usize) -> (usize, usize) {
        match self {
            Self::Sgd(sgd) if sgd.momentum == 0.0 => (0, 0),
            Self::Sgd(_) => (len, 0),
            Self::Adam(_) => (len, len),
        }
    }

    fn tag(self) -> u8 {
        match self {
            Self::Sgd(_) => 0,
            Self::Adam(_) => 1,
        }
    }
}

/// An optimiser with its moments and its step count.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState {
    optimizer: Optimizer,
    len: usize,
    steps: u64,
    /// SGD's velocity or Adam's first moment.
    first: Vec<f32>,
    /// Adam's second moment.
    second: Vec<f32>,
}

/// Magic and version of the saved form.
const MAGIC: &[u8; 8] = b"MFOPT\0\0\x01";

impl OptimizerState {
    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves `params` by one step along the gradient estimate.
    ///
    /// `trainable` lists the index ranges that move, without overlap; parameters outside them are left
    /// as they are, by weight decay too. Nothing is changed when an error is returned.
    pub fn step(
        &mut self,
        params: &mut [f32],
        gradient: &[f32],
        learning_rate: f64,
        trainable: &[Range<usize>],
    ) -> Result<(), OptimizerError> {
        for (what, found) in [("the parameter buffer", params.len()), ("the gradient", gradient.len())] {
            if found != self.len {
                return Err(OptimizerError::Length { what, expected: self.len, found });
            }
        }
        if let Some(bad) = trainable.iter().find(|r| r.start > r.end || r.end > self.len) {
            return Err(OptimizerError::Range { start: bad.start, end: bad.end, len: self.len });
        }
        self.steps += 1;
        for range in trainable {
            let p = &mut params[range.clone()];
            let g = &gradient[range.clone()];
            match self.optimizer {
                Optimizer::Sgd(sgd) if sgd.momentum == 0.0 => {
                    let rate = learning_rate as f32;
                    for (p, g) in p.iter_mut().zip(g) {
                        *p -= rate * (g + sgd.weight_decay * *p);
                    }
                }
                Optimizer::Sgd(sgd) => {
                    sgd_step(sgd, p, g, &mut self.first[range.clone()], learning_rate as f32);
                }
                Optimizer::Adam(adam) => {
                    let (m, v) = (&mut self.first[range.clone()], &mut self.second[range.clone()]);
                    adam_step(adam, p, g, m, v, learning_rate, self.steps);
                }
            }
        }
        Ok(())
    }

    /// The state as bytes. The hyper-parameters are not in it: they belong to the configuration.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + 17 + 4 * (self.first.len() + self.second.len()));
        out.extend_from_slice(MAGIC);
        out.push(self.optimizer.tag());
        out.extend_from_slice(&self.steps.to_le_bytes());
        out.extend_from_slice(&(self.len as u64).to_le_bytes());
        for value in self.first.iter().chain(&self.second) {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out
    }

    /// Restores what [`to_bytes`](Self::to_bytes) wrote, for the same optimiser and number of parameters.
    pub fn from_bytes(optimizer: Optimizer, len: usize, bytes: &[u8]) -> Result<Self, OptimizerError> {
        let refuse = |reason| Err(OptimizerError::Saved { reason });
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return refuse("it does not begin like one");
        };
        let Some((&tag, rest)) = rest.split_first() else { return refuse("it is cut off") };
        if tag != optimizer.tag() {
            return refuse("it belongs to another optimiser");
        }
        let Some((steps, rest)) = rest.split_first_chunk::<8>() else { return refuse("it is cut off") };
        let Some((saved_len, rest)) = rest.split_first_chunk::<8>() else { return refuse("it is cut off") };
        if u64::from_le_bytes(*saved_len) != len as u64 {
            return refuse("it belongs to a model with another number of parameters");
        }
        let (first_len, second_len) = optimizer.buffers(len);
        let (values, odd) = rest.as_chunks::<4>();
        if !odd.is_empty() || values.len() != first_len + second_len {
            return refuse("its length does not fit the optimiser");
        }
        let mut first: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let second = first.split_off(first_len);
        Ok(Self { optimizer, len, steps: u64::from_le_bytes(*steps), first, second })
    }
}

fn sgd_step(sgd: Sgd, p: &mut [f32], g: &[f32], velocity: &mut [f32], rate: f32) {
    for ((p, g), v) in p.iter_mut().zip(g).zip(velocity) {
        *v = sgd.momentum * *v + (g + sgd.weight_decay * *p);
        *p -= rate * *v;
    }
}

/// Algorithm 1 with the two bias corrections folded into the step size and the denominator, as PyTorch
/// does; step `t` counts from 1.
fn adam_step(adam: Adam, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], rate: f64, t: u64) {
    let t = t as f64;
    let step_size = (rate / (1.0 - adam.beta1.powf(t))) as f32;
    let inverse_correction = (1.0 / (1.0 - adam.beta2.powf(t)).sqrt()) as f32;
    let (keep1, keep2) = (adam.beta1 as f32, adam.beta2 as f32);
    let (add1, add2) = ((1.0 - adam.beta1) as f32, (1.0 - adam.beta2) as f32);
    let (epsilon, weight_decay) = (adam.epsilon as f32, adam.weight_decay as f32);
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g + weight_decay * *p;
        *m = keep1 * *m + add1 * g;
        *v = keep2 * *v + add2 * g * g;
        *p -= step_size * *m / (v.sqrt() * inverse_correction + epsilon);
    }
}

fn fraction(what: &'static str, value: f64) -> Result<f64, OptimizerError> {
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        Err(OptimizerError::Setting { what, expected: "0 or more and below 1", found: value })
    }
}

fn decay(value: f64) -> Result<f64, OptimizerError> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(OptimizerError::Setting {
            what: "the weight decay",
            expected: "finite and 0 or more",
            found: value,
        })
    }
}

#[cfg(test)]
mod tests;
