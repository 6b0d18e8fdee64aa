//! How long the coordinator of a federation between machines waits, and how often it tries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a coordinator waits for hospitals on a network, and how often it tries. Nothing here changes what a
/// round computes or what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Seconds for hospitals to join. A run begins when all that are enrolled have answered, or then.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub join_deadline: u32,
    /// Seconds for a hospital to train in a round. The round goes on without one that takes longer.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub train_deadline: u32,
    /// Seconds for every other answer: a step of secure aggregation, a measurement, a signature.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub phase_deadline: u32,
    /// Seconds that a run waits for hospitals to return when too few are there for a round.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub return_deadline: u32,
    /// Attempts at a round that comes to nothing because hospitals give no answer. Hospitals that have
    /// trained answer a later attempt with the same update and pay nothing for it.
    #[schemars(range(min = 1, max = 100))]
    pub round_attempts: u32,
    /// Rounds in a row that may come to nothing because hospitals give no answer, the last of which ends the
    /// run.
    #[schemars(range(min = 1, max = 1000))]
    pub lost_rounds: u32,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            join_deadline: 3600,
            train_deadline: 14_400,
            phase_deadline: 600,
            return_deadline: 86_400,
            round_attempts: 3,
            lost_rounds: 3,
        }
    }
}
