//! How long the coordinator waits, and how often it tries.

use medfed_config::section;

/// Deadlines in milliseconds and limits. Knobs of availability: none of them changes ε.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For sites to join.
    pub join_ms: u64,
    /// For a site to train.
    pub train_ms: u64,
    /// For every other answer.
    pub phase_ms: u64,
    /// For sites to return when too few are there for a round.
    pub return_ms: u64,
    /// Attempts at a round that fails because sites gave no answer.
    pub attempts: u32,
    /// Rounds in a row that may come to nothing before the run ends.
    pub lost_rounds: u32,
}

impl From<&section::Network> for Patience {
    fn from(network: &section::Network) -> Self {
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        Self {
            join_ms: ms(network.join_deadline),
            train_ms: ms(network.train_deadline),
            phase_ms: ms(network.phase_deadline),
            return_ms: ms(network.return_deadline),
            attempts: network.round_attempts,
            lost_rounds: network.lost_rounds,
        }
    }
}
