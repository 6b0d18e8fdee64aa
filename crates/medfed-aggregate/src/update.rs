//! One site's contribution to a round.

use medfed_types::{RoundId, SiteId};

/// Updates that cannot be aggregated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// A value is NaN or infinite.
    #[error("the update of {site} is not finite at parameter {index}")]
    NotFinite {
        /// The culprit.
        site: SiteId,
        /// The first such parameter.
        index: usize,
    },
    /// The weight is not a positive, finite number.
    #[error("the weight of {site} must be finite and above 0, not {weight}")]
    Weight {
        /// The culprit.
        site: SiteId,
        /// What it claimed.
        weight: f64,
    },
    /// An update has another length than the model.
    #[error("the update of {site} has {found} values, the model has {expected} parameters")]
    Length {
        /// The culprit.
        site: SiteId,
        /// Parameters of the model.
        expected: usize,
        /// Values received.
        found: usize,
    },
    /// An update belongs to another round.
    #[error("the update of {site} is for round {found}, not {expected}")]
    Round {
        /// The culprit.
        site: SiteId,
        /// The round being aggregated.
        expected: RoundId,
        /// The round the update names.
        found: RoundId,
    },
    /// A site sent two updates for one round.
    #[error("{site} sent a second update for the round")]
    Duplicate {
        /// The culprit.
        site: SiteId,
    },
    /// There is nothing to aggregate.
    #[error("no update to aggregate")]
    Empty,
}

/// A finite delta with its weight, for one round.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteUpdate {
    site: SiteId,
    round: RoundId,
    delta: Vec<f32>,
    weight: f64,
}

impl SiteUpdate {
    /// Checks that every value is finite and the weight positive.
    pub fn new(site: SiteId, round: RoundId, delta: Vec<f32>, weight: f64) -> Result<Self, AggregateError> {
        if !(weight.is_finite() && weight > 0.0) {
            return Err(AggregateError::Weight { site, weight });
        }
        match delta.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(AggregateError::NotFinite { site, index }),
            None => Ok(Self { site, round, delta, weight }),
        }
    }

    /// Who sent it.
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// The round it belongs to.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// Parameters after local training minus the global parameters.
    pub fn delta(&self) -> &[f32] {
        &self.delta
    }

    /// Its share in a weighted mean: the site's number of training images.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// L2 norm of the delta.
    pub fn norm(&self) -> f64 {
        self.delta.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
    }
}
