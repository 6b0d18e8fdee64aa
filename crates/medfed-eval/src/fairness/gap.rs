//! Differences and ratios of rates between groups.

use super::tally::GroupCounts;
use serde::{Deserialize, Serialize};

/// A rate of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// Share of images whose predicted class is the true one.
    Accuracy,
    /// Share of images predicted to be of the class.
    Selection,
    /// Share of the class's images that are predicted to be (sensitivity).
    TruePositive,
    /// Share of the other images that are predicted to be of the class.
    FalsePositive,
}

impl Rate {
    /// Numerator and denominator in `counts`; `at` is a position in [`GroupCounts::cells`].
    pub(crate) fn fraction(self, counts: &GroupCounts, at: usize) -> (u64, u64) {
        let cells = &counts.cells[at];
        match self {
            Self::Accuracy => (counts.correct(), counts.images()),
            Self::Selection => (cells.tp + cells.fp, cells.total()),
            Self::TruePositive => (cells.tp, cells.tp + cells.missed),
            Self::FalsePositive => (cells.fp, cells.fp + cells.tn),
        }
    }

    /// The rate, where it is a share of at least `least` images, and of one at any rate.
    pub(crate) fn of(self, counts: &GroupCounts, at: usize, least: u64) -> Option<f64> {
        let (part, whole) = self.fraction(counts, at);
        (whole >= least.max(1)).then(|| part as f64 / whole as f64)
    }
}

/// How far two groups are apart in one rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The difference or ratio.
    pub value: f64,
    /// 95 % interval of the difference or ratio between these two groups. It does not know that they were
    /// chosen as the furthest apart; `chance` does. Null where it cannot be had.
    pub interval: Option<[f64; 2]>,
    /// What random groups of the same sizes exceed once in 20 times (for a ratio: fall below): a value no
    /// worse is no evidence of unfairness. Null where only counts are known.
    pub chance: Option<f64>,
    /// The group with the higher rate (for disparate impact: the group compared).
    pub high: String,
    /// The group with the lower rate (for disparate impact: the largest group).
    pub low: String,
    /// The rate that differs.
    pub rate: Rate,
    /// The class whose rate it is.
    pub class: u32,
}

/// What is measured about an attribute, in the order of its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    AccuracyDifference,
    DemographicParityDifference,
    DemographicParityRatio,
    TruePositiveDifference,
    FalsePositiveDifference,
    EqualizedOddsDifference,
    DisparateImpact,
}

/// Number of [`Measure`]s.
pub(crate) const MEASURES: usize = 7;

impl Measure {
    pub(crate) const ALL: [Self; MEASURES] = [
        Self::AccuracyDifference,
        Self::DemographicParityDifference,
        Self::DemographicParityRatio,
        Self::TruePositiveDifference,
        Self::FalsePositiveDifference,
        Self::EqualizedOddsDifference,
        Self::DisparateImpact,
    ];

    pub(crate) fn is_ratio(self) -> bool {
        matches!(self, Self::DemographicParityRatio | Self::DisparateImpact)
    }

    /// Whether the measure conditions on the true class, so that random groups must keep it.
    pub(crate) fn is_conditional(self) -> bool {
        matches!(
            self,
            Self::TruePositiveDifference | Self::FalsePositiveDifference | Self::EqualizedOddsDifference
        )
    }

    /// How far a value is from fairness, for comparing values with each other.
    pub(crate) fn distance(self, value: f64) -> f64 {
        if self.is_ratio() { value.ln().abs() } else { value }
    }
}

/// Two groups, by their positions, and how far they are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) value: f64,
    pub(crate) high: usize,
    pub(crate) low: usize,
    pub(crate) rate: Rate,
    pub(crate) at: usize,
}

impl Spread {
    /// The same two groups compared in other counts.
    pub(crate) fn again(&self, measure: Measure, groups: &[GroupCounts]) -> Option<f64> {
        let rate = |group: usize| self.rate.of(&groups[group], self.at, 1);
        // A difference is high − low, the parity ratio low ÷ high, disparate impact compared ÷ reference.
        let (high, low) = (rate(self.high)?, rate(self.low)?);
        match measure {
            Measure::DemographicParityRatio => (high > 0.0).then(|| low / high),
            Measure::DisparateImpact => (low > 0.0).then(|| high / low),
            _ => Some(high - low),
        }
    }
}

/// All measures of the groups in `groups`; `reference` is the largest of them. Rates that are shares of
/// fewer than `least` images are left out; a measure for which fewer than two groups have a rate is not
/// defined.
pub(crate) fn spreads(groups: &[GroupCounts], reference: usize, least: u64) -> [Option<Spread>; MEASURES] {
    let classes = groups.first().map_or(0, |group| group.cells.len());
    let over_classes = |rate: Rate, compare: &dyn Fn(Rate, usize) -> Option<Spread>, measure: Measure| {
        let compared = (0..classes).filter_map(|at| compare(rate, at));
        // The first of equals.
        compared.reduce(|a, b| if measure.distance(b.value) > measure.distance(a.value) { b } else { a })
    };
    let difference = |rate: Rate, at: usize| extremes(groups, rate, at, least);
    let ratio = |rate: Rate, at: usize| {
        let found = extremes(groups, rate, at, least)?;
        let value = found.again(Measure::DemographicParityRatio, groups)?;
        Some(Spread { value, ..found })
    };
    let impact = |rate: Rate, at: usize| {
        let against = rate.of(&groups[reference], at, least).filter(|rate| *rate > 0.0)?;
        let others = (0..groups.len()).filter(|group| *group != reference);
        let ratios = others.filter_map(|high| {
            let value = rate.of(&groups[high], at, least)? / against;
            Some(Spread { value, high, low: reference, rate, at })
        });
        let distance = |spread: &Spread| Measure::DisparateImpact.distance(spread.value);
        ratios.reduce(|a, b| if distance(&b) > distance(&a) { b } else { a })
    };
    let found =
        |rate, compare: &dyn Fn(Rate, usize) -> Option<Spread>, measure| over_classes(rate, compare, measure);
    let true_positive = found(Rate::TruePositive, &difference, Measure::TruePositiveDifference);
    let false_positive = found(Rate::FalsePositive, &difference, Measure::FalsePositiveDifference);
    let odds = match (true_positive, false_positive) {
        (Some(a), Some(b)) => Some(if b.value > a.value { b } else { a }),
        (a, b) => a.or(b),
    };
    [
        // The accuracy is that of all classes together.
        if classes > 0 { difference(Rate::Accuracy, 0) } else { None },
        found(Rate::Selection, &difference, Measure::DemographicParityDifference),
        found(Rate::Selection, &ratio, Measure::DemographicParityRatio),
        true_positive,
        false_positive,
        odds,
        if groups.is_empty() { None } else { found(Rate::Selection, &impact, Measure::DisparateImpact) },
    ]
}

/// The groups with the highest and the lowest rate.
fn extremes(groups: &[GroupCounts], rate: Rate, at: usize, least: u64) -> Option<Spread> {
    let mut rates =
        groups.iter().enumerate().filter_map(|(group, counts)| Some((group, rate.of(counts, at, least)?)));
    let first = rates.next()?;
    let (mut high, mut low, mut defined) = (first, first, 1);
    for (group, value) in rates {
        defined += 1;
        if value > high.1 {
            high = (group, value);
        }
        if value < low.1 {
            low = (group, value);
        }
    }
    if defined < 2 {
        return None;
    }
    if high.0 == low.0 {
        // All equal: name two different groups all the same.
        low.0 = (0..groups.len()).find(|g| *g != high.0 && rate.of(&groups[*g], at, least).is_some())?;
    }
    Some(Spread { value: high.1 - low.1, high: high.0, low: low.0, rate, at })
}

/// The 95 % interval of a measure from the counts of its two groups, images taken as independent.
///
/// Differences: Newcombe's hybrid score interval (Statistics in Medicine 17:873, 1998, method 10). Ratios:
/// Katz' interval on the logarithmic scale (Katz et al. 1978), with half an image added to each count
/// where one is zero.
pub(crate) fn interval_from_counts(
    measure: Measure,
    spread: &Spread,
    groups: &[GroupCounts],
) -> Option<[f64; 2]> {
    let high = spread.rate.fraction(&groups[spread.high], spread.at);
    let low = spread.rate.fraction(&groups[spread.low], spread.at);
    if high.1 == 0 || low.1 == 0 {
        return None;
    }
    Some(match measure {
        Measure::DemographicParityRatio => crate::interval::katz(low, high),
        Measure::DisparateImpact => crate::interval::katz(high, low),
        _ => crate::interval::newcombe_difference(high, low),
    })
}
