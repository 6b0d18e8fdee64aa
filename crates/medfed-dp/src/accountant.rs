//! What a history of noised steps costs: ε for a given δ, by two accountants.
//!
//! **In**: a [`History`] of Poisson-subsampled Gaussian steps (sampling rate q, noise multiplier σ,
//! number of steps), in any order and with any changes of q and σ. **Out**: an ε such that the whole
//! history is (ε, δ)-differentially private when one unit is added or removed.
//!
//! * [`Accountant::Pld`] composes the distribution of the privacy loss numerically. It is tight to about
//!   0.01 % and never below the truth.
//! * [`Accountant::Rdp`] composes Rényi divergences of all orders and converts the best one.
//!   It is looser, simpler and independent of the other, so each checks the other.
//!
//! Adaptive composition is covered as long as the terms of each step do not depend on the data.
//! **Not covered**: batches that are not Poisson samples, and noise that is not Gaussian.

mod calibrate;
mod history;
mod pld;
mod rdp;

pub use calibrate::{affordable_steps, calibrate};
pub use history::{History, Phase};

use crate::error::DpError;
use medfed_types::{Delta, Epsilon};
use serde::{Deserialize, Serialize};

/// A way to add up privacy loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accountant {
    /// Privacy loss distributions: the tighter one.
    #[default]
    Pld,
    /// Rényi differential privacy.
    Rdp,
}

impl Accountant {
    /// The ε that the history costs at `delta`; infinite where no finite bound is known.
    pub fn epsilon(self, history: &History, delta: Delta) -> Result<Epsilon, DpError> {
        let phases = history.distinct();
        let epsilon = match self {
            Self::Pld => pld::epsilon(&phases, delta.get()),
            Self::Rdp => rdp::epsilon(&phases, delta.get()),
        };
        Ok(Epsilon::new(epsilon)?)
    }

    /// The δ that the history costs at `epsilon`. It is a positive number even where the loss is
    /// certainly smaller than `epsilon`, and next to 1 where nothing is promised.
    pub fn delta(self, history: &History, epsilon: Epsilon) -> Result<Delta, DpError> {
        let phases = history.distinct();
        let delta = match self {
            Self::Pld => pld::delta(&phases, epsilon.get()),
            Self::Rdp => rdp::delta(&phases, epsilon.get()),
        };
        Ok(Delta::new(delta.clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON))?)
    }
}

impl std::fmt::Display for Accountant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pld => "pld",
            Self::Rdp => "rdp",
        })
    }
}

impl std::str::FromStr for Accountant {
    type Err = DpError;
    fn from_str(name: &str) -> Result<Self, DpError> {
        match name {
            "pld" => Ok(Self::Pld),
            "rdp" => Ok(Self::Rdp),
            _ => Err(DpError::UnknownAccountant { found: name.to_owned() }),
        }
    }
}

/// What a history has cost, by both accountants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// By privacy loss distributions.
    pub pld: Epsilon,
    /// By Rényi differential privacy.
    pub rdp: Epsilon,
}

impl Spent {
    /// Asks both accountants.
    pub fn of(history: &History, delta: Delta) -> Result<Self, DpError> {
        Ok(Self {
            pld: Accountant::Pld.epsilon(history, delta)?,
            rdp: Accountant::Rdp.epsilon(history, delta)?,
        })
    }

    /// What `accountant` says.
    pub fn by(self, accountant: Accountant) -> Epsilon {
        match accountant {
            Accountant::Pld => self.pld,
            Accountant::Rdp => self.rdp,
        }
    }
}
