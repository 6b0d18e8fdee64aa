//! Attacks on the finished model.

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
}

impl Default for PrivacyAudit {
    fn default() -> Self {
        Self { enabled: false, attack_types: vec![Attack::Threshold, Attack::LossBased] }
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
    /// By models trained for comparison.
    Shadow,
}
