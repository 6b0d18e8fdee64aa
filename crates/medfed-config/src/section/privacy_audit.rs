//! Attacks on the finished model, and canaries that measure its privacy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Attacks on the finished model that measure what it gives away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyAudit {
    /// Attacks the model at the end of the run and reports how far the attacks came.
    pub enabled: bool,
    /// Attacks to carry out.
    #[schemars(length(min = 1))]
    pub attack_types: Vec<Attack>,
    /// Models trained for comparison by `shadow`, `lira`, `lira_offline` and `rmia`, each about as long as
    /// the run itself. They come in pairs: an odd number is rounded up.
    #[schemars(range(min = 2, max = 512))]
    pub references: u32,
    /// Canaries over all hospitals. Each is trained on, or not, by a coin of its own; how many coins can
    /// be guessed from the model gives a lower bound on ε. The model then contains them: it is for
    /// measuring, and a little worse.
    #[schemars(range(min = 0, max = 10000))]
    pub canaries: u32,
    /// What a canary is.
    pub canary_kind: CanaryKind,
}

impl Default for PrivacyAudit {
    fn default() -> Self {
        Self {
            enabled: false,
            attack_types: vec![Attack::Threshold, Attack::LossBased],
            references: 16,
            canaries: 0,
            canary_kind: CanaryKind::Mislabelled,
        }
    }
}

/// An attack that guesses whether an image was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attack {
    /// By the confidence of the prediction.
    Threshold,
    /// By the loss.
    LossBased,
    /// By a classifier that has learned from models trained for comparison (Shokri et al. 2017).
    Shadow,
    /// By the likelihood ratio over models trained with and without the image (Carlini et al. 2022).
    Lira,
    /// The same with models trained without it only.
    LiraOffline,
    /// By the ratio to the mean probability over models trained for comparison (Zarifzadeh et al. 2024).
    Rmia,
}

impl Attack {
    /// All attacks, the cheapest first.
    pub const ALL: [Self; 6] =
        [Self::Threshold, Self::LossBased, Self::Shadow, Self::Lira, Self::LiraOffline, Self::Rmia];

    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::LossBased => "loss_based",
            Self::Shadow => "shadow",
            Self::Lira => "lira",
            Self::LiraOffline => "lira_offline",
            Self::Rmia => "rmia",
        }
    }

    /// Whether models have to be trained for comparison.
    pub fn needs_references(self) -> bool {
        !matches!(self, Self::Threshold | Self::LossBased)
    }
}

/// What a canary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CanaryKind {
    /// An image taken out of a hospital's training data, with a wrong label.
    Mislabelled,
    /// A random pattern of black and white squares with a random label; no image is taken out.
    Pattern,
}
