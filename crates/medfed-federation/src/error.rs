//! What stops a run.

use medfed_types::{NoiseMultiplier, RoundId, SiteId};

/// A federation that cannot be set up or continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederationError {
    /// A configuration value that does not fit the data or the other values.
    #[error("{key}: {problem}")]
    Setting {
        /// The configuration key.
        key: &'static str,
        /// What is wrong with it, in a sentence without full stop.
        problem: String,
    },
    /// A reply from a site that was not asked.
    #[error("{site} was not asked to train in round {round}")]
    NotSelected {
        /// The site.
        site: SiteId,
        /// The round.
        round: RoundId,
    },
    /// A second reply from one site.
    #[error("{site} has already replied in round {round}")]
    SecondReply {
        /// The site.
        site: SiteId,
        /// The round.
        round: RoundId,
    },
    /// Updates are to be masked and nobody has a signing key.
    #[error("secure aggregation needs a signing key of every hospital, and none was given")]
    NotEnrolled,
    /// A request to train with less noise than the hospital promised its patients.
    #[error("{site} was asked to train with noise {asked}, its plan has {least} at the least")]
    LessNoise {
        /// The site.
        site: SiteId,
        /// The noise multiplier asked for.
        asked: NoiseMultiplier,
        /// The plan's.
        least: NoiseMultiplier,
    },
    /// A hospital announced something that does not fit the federation.
    #[error("the {what} of the hospital is {found}, expected is {expected}")]
    Announcement {
        /// What differs.
        what: &'static str,
        /// What the federation has.
        expected: String,
        /// What the hospital announced.
        found: String,
    },
    /// Saved state that does not belong to this run.
    #[error("the saved state of {owner} does not fit this run: {problem}")]
    Saved {
        /// Whose state.
        owner: String,
        /// What does not fit.
        problem: String,
    },
    /// The engine refused the work.
    #[error("the training engine failed")]
    Engine(#[from] medfed_nn::NnError),
    /// The optimiser refused its settings.
    #[error("the optimiser cannot be used")]
    Optimizer(#[from] medfed_nn::optimizer::OptimizerError),
    /// The privacy plan or its ledger refused.
    #[error("the privacy ledger refused")]
    Privacy(#[from] medfed_dp::DpError),
    /// The updates cannot be aggregated by the rule, or its stored state does not fit.
    #[error("the aggregation rule cannot be used")]
    Aggregation(#[from] medfed_aggregate::AggregateError),
    /// The terms of secure aggregation make no sense.
    #[error("secure aggregation cannot be used")]
    SecureAggregation(#[from] medfed_secagg::SecaggError),
    /// A metric could not be computed.
    #[error("the model's predictions cannot be evaluated")]
    Evaluation(#[from] medfed_eval::EvalError),
    /// Durable state could not be written; the run stopped before announcing what it could not keep.
    #[error("the run's state could not be saved")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl FederationError {
    pub(crate) fn journal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Journal(Box::new(error))
    }
}
