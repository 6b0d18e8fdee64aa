//! Hospitals and rounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hospitals and rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Federated {
    /// Number of hospitals.
    #[schemars(range(min = 1, max = 1000))]
    pub num_clients: u32,
    /// Number of federated rounds.
    #[schemars(range(min = 1, max = 10000))]
    pub num_rounds: u32,
    /// Share of the hospitals that train in a round; at least `min_fit_clients` of them do.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub fraction_fit: f64,
    /// Share of the hospitals whose validation images are evaluated after a round.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub fraction_evaluate: f64,
    /// Hospitals that train in a round at the least. Without this key 2, or `num_clients` if that is
    /// less.
    #[schemars(range(min = 1, max = 1000))]
    pub min_fit_clients: u32,
    /// Hospitals that are evaluated after a round at the least. Without this key 2, or `num_clients`
    /// if that is less.
    #[schemars(range(min = 1, max = 1000))]
    pub min_evaluate_clients: u32,
    /// Hospitals that have to be connected before a round starts. Without this key 2, or
    /// `num_clients` if that is less.
    #[schemars(range(min = 1, max = 1000))]
    pub min_available_clients: u32,
}

impl Default for Federated {
    fn default() -> Self {
        Self {
            num_clients: 3,
            num_rounds: 10,
            fraction_fit: 1.0,
            fraction_evaluate: 1.0,
            min_fit_clients: 2,
            min_evaluate_clients: 2,
            min_available_clients: 2,
        }
    }
}
