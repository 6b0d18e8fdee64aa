//! What each hospital's updates have been like so far.

use crate::error::StateFault;
use medfed_types::SiteId;
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::collections::{BTreeMap, VecDeque};

/// Rounds that are remembered of each hospital.
const LONGEST: usize = 20;
/// Rounds without which a hospital has no past to compare with.
const SHORTEST: usize = 5;
/// Least spread of a hospital's own past: a change by a tenth is nothing to talk about.
const LEAST_SPREAD: f64 = 0.1;

const MAGIC: &[u8; 8] = b"medfedH1";

/// For each hospital the logarithms of its norms relative to the median of the other
/// hospitals', oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History(BTreeMap<SiteId, VecDeque<f64>>);

/// A hospital's past as a prediction of its next value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Past {
    /// What is expected.
    pub(super) mean: f64,
    /// Standard deviation of the next value.
    pub(super) spread: f64,
    /// Distance in units of `spread` that an honest hospital passes with the chance asked for.
    pub(super) threshold: f64,
}

impl History {
    /// What the hospital's past predicts; nothing while it is too short.
    ///
    /// The past and a further value from one normal distribution differ by a variable of Student's t
    /// distribution with one degree of freedom less than there are past values: `chance`, on both sides
    /// together, is exact for them.
    pub(super) fn of(&self, site: &SiteId, chance: f64) -> Option<Past> {
        let past = self.0.get(site).filter(|past| past.len() >= SHORTEST)?;
        let n = past.len() as f64;
        let mean = past.iter().sum::<f64>() / n;
        let variance = past.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let spread = variance.sqrt().max(LEAST_SPREAD) * (1.0 + 1.0 / n).sqrt();
        let threshold = student_quantile(n - 1.0, chance / 2.0)?;
        Some(Past { mean, spread, threshold })
    }

    /// Remembers `value`.
    pub(super) fn push(&mut self, site: &SiteId, value: f64) {
        let past = self.0.entry(site.clone()).or_default();
        if past.len() == LONGEST {
            past.pop_front();
        }
        past.push_back(value);
    }

    /// All of it, bit by bit: a magic, then for each hospital the length of its name, the name, the
    /// number of values and the values, little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (site, past) in &self.0 {
            // A name has 64 bytes at most and a past LONGEST values.
            out.push(site.as_str().len() as u8);
            out.extend_from_slice(site.as_str().as_bytes());
            out.push(past.len() as u8);
            out.extend(past.iter().flat_map(|value| value.to_le_bytes()));
        }
        out
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, StateFault> {
        let truncated = StateFault::Length { found: bytes.len() };
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(StateFault::Format)?;
        let mut all: BTreeMap<SiteId, VecDeque<f64>> = BTreeMap::new();
        while let Some((length, after)) = rest.split_first() {
            let entry = all.len();
            let (name, after) = after.split_at_checked(usize::from(*length)).ok_or(truncated)?;
            let name = std::str::from_utf8(name).map_err(|_| StateFault::Name { entry })?;
            let site = SiteId::try_from(name).map_err(|_| StateFault::Name { entry })?;
            let (count, after) = after.split_first().ok_or(truncated)?;
            let (values, after) = after.split_at_checked(8 * usize::from(*count)).ok_or(truncated)?;
            let (values, _) = values.as_chunks::<8>();
            let past: VecDeque<f64> = values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
            if past.len() > LONGEST {
                return Err(truncated);
            }
            if past.iter().any(|value| !value.is_finite()) {
                return Err(StateFault::NotFinite { entry });
            }
            // In order also means that no name comes twice.
            if all.last_key_value().is_some_and(|(last, _)| *last >= site) {
                return Err(StateFault::Name { entry });
            }
            all.insert(site, past);
            rest = after;
        }
        Ok(Self(all))
    }
}

/// The value that a variable of Student's t distribution passes with probability `tail`, by bisection of
/// its distribution function; nothing when the degrees of freedom are none.
fn student_quantile(freedom: f64, tail: f64) -> Option<f64> {
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    let (mut low, mut high) = (0.0, 1.0);
    while student.sf(high) > tail && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if student.sf(middle) > tail { low = middle } else { high = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn site(name: &str) -> SiteId {
        SiteId::try_from(name).unwrap()
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, tail, expected) in [(4.0, 0.025, 2.776), (9.0, 0.005, 3.250), (19.0, 0.0005, 3.883)] {
            assert!((student_quantile(freedom, tail).unwrap() - expected).abs() < 1e-3);
        }
        assert_eq!(student_quantile(0.0, 0.1), None);
    }

    #[test]
    fn a_short_past_says_nothing_and_a_long_one_forgets() {
        let mut history = History::default();
        for round in 0..4 {
            history.push(&site("a"), f64::from(round));
        }
        assert_eq!(history.of(&site("a"), 0.01), None);
        for _ in 0..LONGEST {
            history.push(&site("a"), 1.0);
        }
        let past = history.of(&site("a"), 0.01).unwrap();
        assert!(past.mean == 1.0 && (past.spread - LEAST_SPREAD * 1.05f64.sqrt()).abs() < 1e-9);
        assert_eq!(history.of(&site("b"), 0.01), None);
    }

    #[test]
    fn damaged_bytes_are_named() {
        let mut history = History::default();
        history.push(&site("a"), 1.0);
        let bytes = history.to_bytes();
        assert_eq!(History::from_bytes(b"nonsense"), Err(StateFault::Format));
        for cut in MAGIC.len() + 1..bytes.len() {
            assert_eq!(History::from_bytes(&bytes[..cut]), Err(StateFault::Length { found: cut }));
        }
        let twice = [bytes.as_slice(), &bytes[MAGIC.len()..]].concat();
        assert_eq!(History::from_bytes(&twice), Err(StateFault::Name { entry: 1 }));
        history.push(&site("a"), f64::NAN);
        assert_eq!(History::from_bytes(&history.to_bytes()), Err(StateFault::NotFinite { entry: 0 }));
    }

    proptest! {
        #[test]
        fn bytes_keep_every_bit(past in prop::collection::vec(("[a-z]{1,9}", -1e3f64..1e3), 0..60)) {
            let mut history = History::default();
            for (name, value) in past {
                history.push(&site(&name), value);
            }
            prop_assert_eq!(&History::from_bytes(&history.to_bytes()).unwrap(), &history);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = History::from_bytes(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
