//! Hospitals that misbehave on purpose, to see whether the federation withstands them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hospitals that misbehave on purpose. For simulations only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Simulation {
    /// What the attackers do.
    pub attack: SimulatedAttack,
    /// Hospitals that attack, the last ones by name. Without an attack the number has no effect.
    #[schemars(range(min = 1, max = 999))]
    pub attackers: u32,
}

impl Default for Simulation {
    fn default() -> Self {
        Self { attack: SimulatedAttack::None, attackers: 1 }
    }
}

/// What attackers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedAttack {
    /// Nothing: every hospital is honest.
    None,
    /// Their updates, turned around and five times as long.
    SignFlip,
    /// Their updates, a hundred times as long.
    Scaling,
    /// Random values, a hundred times as long as an honest update.
    Gaussian,
    /// Training on images with wrong labels.
    LabelFlip,
    /// The honest mean less a little in every coordinate: hidden in the spread.
    Alie,
    /// The honest mean turned around, just long enough to turn the mean of all.
    Ipm,
    /// Copies of one honest update.
    Mimic,
    /// Training on images with a trigger, to be misread as one class.
    Backdoor,
    /// Training on images with wrong labels; all attackers send the same update.
    Sybil,
    /// Values that are not numbers.
    Nan,
    /// Nothing but a little noise: no training.
    FreeRider,
    /// Their updates turned around, for a hundred times their number of images.
    InflatedCount,
}

impl SimulatedAttack {
    /// Every attack, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::SignFlip,
        Self::Scaling,
        Self::Gaussian,
        Self::LabelFlip,
        Self::Alie,
        Self::Ipm,
        Self::Mimic,
        Self::Backdoor,
        Self::Sybil,
        Self::Nan,
        Self::FreeRider,
        Self::InflatedCount,
    ];

    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SignFlip => "sign_flip",
            Self::Scaling => "scaling",
            Self::Gaussian => "gaussian",
            Self::LabelFlip => "label_flip",
            Self::Alie => "alie",
            Self::Ipm => "ipm",
            Self::Mimic => "mimic",
            Self::Backdoor => "backdoor",
            Self::Sybil => "sybil",
            Self::Nan => "nan",
            Self::FreeRider => "free_rider",
            Self::InflatedCount => "inflated_count",
        }
    }

    /// Whether attackers train on images of their own making, without the noise of their plan.
    pub fn ignores_privacy(self) -> bool {
        matches!(self, Self::LabelFlip | Self::Backdoor | Self::Sybil)
    }

    /// What the attackers send, in half a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::None => "nothing bad",
            Self::SignFlip => "their updates turned around and five times as long",
            Self::Scaling => "their updates a hundred times as long",
            Self::Gaussian => "random values a hundred times as long as an honest update",
            Self::LabelFlip => "updates trained on images with wrong labels",
            Self::Alie => "the honest mean less 1.5 deviations or more, hidden in the spread (Baruch 2019)",
            Self::Ipm => "the honest mean turned around, just long enough to turn the mean of all (Xie 2020)",
            Self::Mimic => "copies of the honest update that is farthest from the others (Karimireddy 2022)",
            Self::Backdoor => "updates trained to read images with a white square as class 0",
            Self::Sybil => "one and the same update, trained on images with wrong labels (Fung 2018)",
            Self::Nan => "values that are not numbers",
            Self::FreeRider => "a little noise, without any training",
            Self::InflatedCount => "their updates turned around, for a hundred times their number of images",
        }
    }
}

impl std::fmt::Display for SimulatedAttack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
