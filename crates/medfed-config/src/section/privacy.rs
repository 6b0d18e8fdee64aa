//! Differential privacy of every hospital's own patients.

use medfed_types::{ClipNorm, Delta, Epsilon, NoiseMultiplier, SamplingRate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Differential privacy of every hospital's own patients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Privacy {
    /// Trains with differential privacy. Without it every output says that no privacy was applied.
    pub enabled: bool,
    /// Budget ε of each hospital for the whole run; a step that would pass it is refused.
    #[schemars(with = "f64", range(max = 1.0e6), extend("exclusiveMinimum" = 0))]
    pub epsilon_budget: Epsilon,
    /// Noise σ in multiples of `max_grad_norm`. `auto` computes the noise at which the planned rounds
    /// spend exactly the budget.
    pub noise_multiplier: NoiseSetting,
    /// L2 norm C to which every unit's gradient is clipped.
    #[schemars(with = "f64", range(max = 1.0e6), extend("exclusiveMinimum" = 0))]
    pub max_grad_norm: ClipNorm,
    /// The δ of (ε, δ); well below one over the number of units of a hospital.
    #[schemars(with = "f64", extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub delta: Delta,
    /// Adds exact discrete Gaussian noise to integers, which closes floating-point leaks, in place of
    /// rounded double-precision noise.
    pub secure_mode: bool,
    /// Accountant whose ε counts against the budget. Both are always reported.
    pub accountant: AccountantName,
    /// What one unit of privacy is.
    pub unit: PrivacyUnit,
    /// Probability with which a unit joins a batch. Without this key `training.batch_size` over the
    /// hospital's units.
    #[schemars(with = "Option<f64>", range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub sampling_rate: Option<SamplingRate>,
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            enabled: true,
            epsilon_budget: Epsilon::new(8.0).expect("8 is a budget"),
            noise_multiplier: NoiseSetting::Auto(Auto::Auto),
            max_grad_norm: ClipNorm::new(1.0).expect("1 is a norm"),
            delta: Delta::new(1e-5).expect("1e-5 lies between 0 and 1"),
            secure_mode: false,
            accountant: AccountantName::Pld,
            unit: PrivacyUnit::Image,
            sampling_rate: None,
        }
    }
}

/// How much noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NoiseSetting {
    /// This noise multiplier.
    Fixed(#[schemars(with = "f64", range(max = 1.0e4), extend("exclusiveMinimum" = 0))] NoiseMultiplier),
    /// The noise at which the planned rounds spend exactly the budget.
    Auto(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// `auto`
    Auto,
}

impl NoiseSetting {
    /// The fixed noise multiplier; `None` where it is to be calibrated.
    pub fn fixed(self) -> Option<NoiseMultiplier> {
        match self {
            Self::Fixed(noise) => Some(noise),
            Self::Auto(_) => None,
        }
    }
}

/// An accountant of privacy loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountantName {
    /// Privacy loss distributions: the tighter of the two.
    Pld,
    /// Rényi differential privacy.
    Rdp,
}

impl AccountantName {
    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pld => "pld",
            Self::Rdp => "rdp",
        }
    }
}

/// What one unit of privacy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrivacyUnit {
    /// One image: a patient with several images is protected less.
    Image,
    /// All images of a patient at one hospital; needs patient identifiers in the data.
    Patient,
}

impl PrivacyUnit {
    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Patient => "patient",
        }
    }
}
