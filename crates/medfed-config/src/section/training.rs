//! What a hospital does within one round.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a hospital does within one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Images of a batch. With privacy a batch is a Poisson sample and this is its expected size.
    #[schemars(range(min = 1, max = 65536))]
    pub batch_size: u32,
    /// Learning rate of the hospital's optimiser.
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Passes over the hospital's training images in a round.
    #[schemars(range(min = 1, max = 1000))]
    pub local_epochs: u32,
    /// Steps in a round; takes the place of `local_epochs`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub local_steps: Option<u32>,
    /// Optimiser.
    pub optimizer: OptimizerName,
    /// Momentum of `sgd`; `adam` has its own.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Decay of the weights, as an L2 term of the gradient.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// Course of the learning rate over all rounds.
    pub scheduler: SchedulerName,
    /// L2 norm to which a batch's gradient is clipped in training without privacy. With privacy
    /// `privacy.max_grad_norm` bounds the gradient of every unit, and this key has no effect.
    #[schemars(range(max = 1.0e6), extend("exclusiveMinimum" = 0))]
    pub grad_clip_norm: Option<f64>,
    /// Decay of the exponential average of the global models that is evaluated and saved; 0 evaluates
    /// the last model itself.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub ema_decay: f64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch_size: 64,
            learning_rate: 0.01,
            local_epochs: 2,
            local_steps: None,
            optimizer: OptimizerName::Sgd,
            momentum: 0.9,
            weight_decay: 0.0,
            scheduler: SchedulerName::None,
            grad_clip_norm: None,
            ema_decay: 0.0,
        }
    }
}

/// An optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam.
    Adam,
}

/// A course of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerName {
    /// Constant.
    None,
    /// Half a cosine, from the learning rate to 0 at the end of the last round.
    Cosine,
}
