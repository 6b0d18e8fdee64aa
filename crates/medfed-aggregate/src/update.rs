//! One site's contribution to a round.

use crate::error::AggregateError;
use medfed_types::{RoundId, SiteId};

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

    /// The same update with its weight multiplied by `factor`.
    pub fn scaled(self, factor: f64) -> Result<Self, AggregateError> {
        let weight = self.weight * factor;
        if weight.is_finite() && weight > 0.0 {
            Ok(Self { weight, ..self })
        } else {
            Err(AggregateError::Weight { site: self.site, weight })
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
