//! What a site contributes, as words modulo 2³².

use crate::context::{Contribution, SessionContext, Weighting};
use crate::error::SecaggError;
use crate::fixed_point::FixedPoint;

/// What a site contributes to a session.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// Its number of samples, for [`Contribution::Counts`].
    Count(u32),
    /// Its update, where every survivor counts the same.
    Update(&'a [f32]),
    /// Its update and its number of samples, for [`Weighting::Samples`].
    Weighted {
        /// The update, not scaled by anything.
        values: &'a [f32],
        /// The number of samples behind it.
        samples: u32,
    },
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} <redacted>", self.kind())
    }
}

impl Input<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Count(_) => "counts",
            Self::Update(_) => "updates of equal weight",
            Self::Weighted { .. } => "updates weighted by samples",
        }
    }

    /// The integers of this input under the session's terms; refuses whatever does not fit them.
    pub(crate) fn quantise(self, context: &SessionContext) -> Result<Vec<u32>, SecaggError> {
        let other = |expected| SecaggError::OtherContribution { expected, found: self.kind() };
        match (context.terms().contribution, context.fixed_point(), self) {
            (Contribution::Counts, _, Self::Count(count)) => {
                // So that the sum of all sites stays below 2^32.
                let most = u64::from(u32::MAX) / context.sites() as u64;
                checked_count(count, most)?;
                Ok(vec![count])
            }
            (
                Contribution::Update { parameters, weighting: Weighting::Samples { total }, .. },
                Some(fixed),
                Self::Weighted { values, samples },
            ) => {
                checked_count(samples, u64::from(total))?;
                let weight = f64::from(samples) / f64::from(total);
                let mut words = integers(fixed, values, parameters, weight, 1)?;
                words.push(samples);
                Ok(words)
            }
            (
                Contribution::Update { parameters, weighting: Weighting::Equal, .. },
                Some(fixed),
                Self::Update(values),
            ) => integers(fixed, values, parameters, 1.0, 0),
            (Contribution::Selection { parameters, norm, .. }, Some(fixed), Self::Update(values)) => {
                let words = integers(fixed, values, parameters, 1.0, 0)?;
                let found = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                if found > norm.get() {
                    return Err(SecaggError::Norm { bound: norm.get(), found });
                }
                Ok(words)
            }
            (Contribution::Counts, ..) => Err(other("counts")),
            (Contribution::Update { weighting: Weighting::Samples { .. }, .. }, ..) => {
                Err(other("updates weighted by samples"))
            }
            _ => Err(other("updates of equal weight")),
        }
    }
}

fn checked_count(found: u32, most: u64) -> Result<(), SecaggError> {
    let found = u64::from(found);
    if (1..=most).contains(&found) { Ok(()) } else { Err(SecaggError::Count { most, found }) }
}

fn integers(
    fixed: &FixedPoint,
    values: &[f32],
    expected: usize,
    weight: f64,
    spare: usize,
) -> Result<Vec<u32>, SecaggError> {
    if values.len() != expected {
        return Err(SecaggError::Length { expected, found: values.len() });
    }
    // Room for a count, so that it does not move the words.
    let mut words = Vec::with_capacity(expected + spare);
    words.resize(expected, 0);
    fixed.quantise(values, weight, &mut words)?;
    Ok(words)
}
