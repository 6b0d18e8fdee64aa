//! What a site contributes, as words modulo 2³².

use rayon::prelude::*;
use zeroize::Zeroize;

use crate::context::{Contribution, SessionContext, Weighting};
use crate::error::SecaggError;
use crate::fixed_point::FixedPoint;
use crate::mask::PIECE;

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

impl<'a> Input<'a> {
    fn kind(self) -> &'static str {
        match self {
            Self::Count(_) => "counts",
            Self::Update(_) => "updates of equal weight",
            Self::Weighted { .. } => "updates weighted by samples",
        }
    }

    /// The integers of this input under the session's terms; refuses whatever does not fit them.
    pub(crate) fn quantise(self, context: &SessionContext) -> Result<Vec<u32>, SecaggError> {
        let checked = self.check(context)?;
        let mut words = vec![0; checked.len()];
        checked.work(&mut words, |_, _| ())?;
        Ok(words)
    }

    /// Checks everything but the single values.
    pub(crate) fn check<'c>(self, context: &'c SessionContext) -> Result<Checked<'c>, SecaggError>
    where
        'a: 'c,
    {
        let other = |expected| SecaggError::OtherContribution { expected, found: self.kind() };
        match (context.terms().contribution, context.fixed_point(), self) {
            (Contribution::Counts, _, Self::Count(count)) => {
                // So that the sum of all sites stays below 2^32.
                let most = u64::from(u32::MAX) / context.sites() as u64;
                checked_count(count, most)?;
                Ok(Checked { values: None, count: Some(count) })
            }
            (
                Contribution::Update { parameters, weighting: Weighting::Samples { total }, .. },
                Some(fixed),
                Self::Weighted { values, samples },
            ) => {
                checked_count(samples, u64::from(total))?;
                let weight = f64::from(samples) / f64::from(total);
                Ok(Checked {
                    values: Some(Values::new(fixed, values, parameters, weight)?),
                    count: Some(samples),
                })
            }
            (
                Contribution::Update { parameters, weighting: Weighting::Equal, .. },
                Some(fixed),
                Self::Update(values),
            ) => Ok(Checked { values: Some(Values::new(fixed, values, parameters, 1.0)?), count: None }),
            (Contribution::Selection { parameters, norm, .. }, Some(fixed), Self::Update(values)) => {
                let checked = Values::new(fixed, values, parameters, 1.0)?;
                let found = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                // A NaN is named by its place when the values are looked at.
                if found > norm.get() {
                    return Err(SecaggError::Norm { bound: norm.get(), found });
                }
                Ok(Checked { values: Some(checked), count: None })
            }
            (Contribution::Counts, ..) => Err(other("counts")),
            (Contribution::Update { weighting: Weighting::Samples { .. }, .. }, ..) => {
                Err(other("updates weighted by samples"))
            }
            _ => Err(other("updates of equal weight")),
        }
    }
}

/// An input that fits its terms but, perhaps, for single values.
pub(crate) struct Checked<'a> {
    values: Option<Values<'a>>,
    /// The last word.
    count: Option<u32>,
}

struct Values<'a> {
    fixed: &'a FixedPoint,
    reals: &'a [f32],
    weight: f64,
}

impl<'a> Values<'a> {
    fn new(
        fixed: &'a FixedPoint,
        values: &'a [f32],
        expected: usize,
        weight: f64,
    ) -> Result<Self, SecaggError> {
        let found = values.len();
        if found == expected {
            Ok(Self { fixed, reals: values, weight })
        } else {
            Err(SecaggError::Length { expected, found })
        }
    }
}

impl Checked<'_> {
    /// Words of the input.
    pub(crate) fn len(&self) -> usize {
        self.values.as_ref().map_or(0, |it| it.reals.len()) + usize::from(self.count.is_some())
    }

    /// Fills `words` piece by piece and hands each to `then` while it is in the cache, with its number;
    /// gives what `then` makes of the pieces. Refuses the first value that does not fit; `words` is of no
    /// use then, and holds no integer of a piece that does not fit.
    pub(crate) fn work<T: Send>(
        &self,
        words: &mut [u32],
        then: impl Fn(usize, &mut [u32]) -> T + Sync,
    ) -> Result<Vec<T>, SecaggError> {
        let done: Vec<Result<T, usize>> = (words.par_chunks_mut(PIECE).enumerate())
            .map(|(piece, words)| match self.fill(piece * PIECE, words) {
                None => Ok(then(piece, words)),
                Some(at) => {
                    words.zeroize();
                    Err(piece * PIECE + at)
                }
            })
            .collect();
        let first = done.iter().filter_map(|it| it.as_ref().err()).min().copied();
        match (first, &self.values) {
            (Some(index), Some(Values { fixed, reals, .. })) => Err(fixed.outside(reals, index)),
            _ => Ok(done.into_iter().flatten().collect()),
        }
    }

    /// The words from `first` on; the index among them of the first value that does not fit.
    fn fill(&self, first: usize, words: &mut [u32]) -> Option<usize> {
        let ends = first + words.len() == self.len();
        if let (true, Some(count), Some(last)) = (ends, self.count, words.last_mut()) {
            *last = count;
        }
        let Values { fixed, reals, weight } = self.values.as_ref()?;
        let reals = reals.get(first..)?;
        fixed.quantise(&reals[..reals.len().min(words.len())], *weight, words)
    }
}

fn checked_count(found: u32, most: u64) -> Result<(), SecaggError> {
    let found = u64::from(found);
    if (1..=most).contains(&found) { Ok(()) } else { Err(SecaggError::Count { most, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed_point::ClipRange;

    #[test]
    fn the_first_of_several_values_outside_is_named_whichever_thread_sees_it() {
        let fixed = FixedPoint::equal(ClipRange::new(1.0).unwrap(), 3);
        let mut values = vec![0.0; 5 * PIECE];
        for at in [3 * PIECE + 7, 3 * PIECE + 9, 4 * PIECE] {
            values[at] = 2.0;
        }
        let input =
            Checked { values: Some(Values { fixed: &fixed, reals: &values, weight: 1.0 }), count: None };
        let mut words = vec![7; input.len()];
        let refused = input.work(&mut words, |_, _| ());
        assert_eq!(refused, Err(SecaggError::OutOfRange { index: 3 * PIECE + 7, range: 1.0 }));
        assert!(words[3 * PIECE..4 * PIECE].iter().all(|word| *word == 0), "nothing of it stays");
    }

    #[test]
    fn a_count_is_the_last_word_wherever_a_piece_ends() {
        let fixed = FixedPoint::weighted(ClipRange::new(1.0).unwrap(), 3);
        for parameters in [0, 1, PIECE - 1, PIECE, PIECE + 1] {
            let values = vec![1.0; parameters];
            let values = Values { fixed: &fixed, reals: &values, weight: 1.0 };
            let input = Checked { values: Some(values), count: Some(9) };
            let mut words = vec![0; input.len()];
            input.work(&mut words, |_, _| ()).unwrap();
            assert_eq!((words.len(), words[parameters]), (parameters + 1, 9));
            assert!(words[..parameters].iter().all(|word| *word == fixed.scale() as u32));
        }
    }
}
