//! The opened sum.

use medfed_types::SiteId;
use rayon::prelude::*;

use crate::context::{Contribution, SessionContext, Weighting};
use crate::error::SecaggError;
use crate::roster::Members;

/// The sum of the survivors' inputs: the only thing about them that the session reveals, but for the inner
/// products of a selection.
#[derive(Debug, Clone)]
pub struct OpenedSum {
    context: SessionContext,
    summed: Members,
    /// Signed steps of the fixed point; counts have none.
    integers: Vec<i32>,
    /// Sum of the survivors' sample counts, where it was opened.
    samples: Option<u32>,
}

impl OpenedSum {
    pub(super) fn new(
        context: SessionContext,
        summed: Members,
        mut sum: Vec<u32>,
    ) -> Result<Self, SecaggError> {
        let counted = match context.terms().contribution {
            Contribution::Counts | Contribution::Update { weighting: Weighting::Samples { .. }, .. } => true,
            Contribution::Update { .. } | Contribution::Selection { .. } => false,
        };
        let samples = if counted { sum.pop() } else { None };
        if samples == Some(0) {
            return Err(SecaggError::NoWeight);
        }
        let integers = sum.into_iter().map(u32::cast_signed).collect();
        Ok(Self { context, summed, integers, samples })
    }

    /// Whose inputs were summed.
    pub fn survivors(&self) -> Members {
        self.summed
    }

    /// Whose inputs were summed, by name.
    pub fn sites(&self) -> Vec<SiteId> {
        self.context.names(self.summed)
    }

    /// The exact integer sum: of the survivors' inputs in steps of the fixed point. Empty for counts.
    pub fn integers(&self) -> &[i32] {
        &self.integers
    }

    /// The survivors' samples in total, where they were summed.
    pub fn samples(&self) -> Option<u32> {
        self.samples
    }

    /// The mean of the survivors' inputs, each with its weight; within [`error_bound`](Self::error_bound)
    /// of that of the real numbers. Empty for counts.
    pub fn mean(&self) -> Vec<f64> {
        let Some(fixed) = self.context.fixed_point() else { return Vec::new() };
        let weight = self.weight();
        self.integers.par_iter().map(|sum| fixed.real(*sum) / weight).collect()
    }

    /// How far any value of the mean may be from that of the real inputs. Zero for counts.
    pub fn error_bound(&self) -> f64 {
        self.context.fixed_point().map_or(0.0, |fixed| fixed.error_bound(self.summed.len(), self.weight()))
    }

    /// The survivors' part of the whole: a number of sites, or a share of the samples.
    fn weight(&self) -> f64 {
        match (self.context.terms().contribution, self.samples) {
            (Contribution::Update { weighting: Weighting::Samples { total }, .. }, Some(samples)) => {
                f64::from(samples) / f64::from(total)
            }
            _ => self.summed.len() as f64,
        }
    }
}
