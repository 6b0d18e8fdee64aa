//! Axes: from values to pixels.

use crate::chart::Span;
use crate::number::{Ticks, drawable, linear_ticks, log_ticks};

/// One axis of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: String,
    /// How values are spread over it.
    pub scale: Scale,
    /// Ends that it has whatever the values are; without them the values decide.
    pub range: Option<(f64, f64)>,
    /// Whether only whole numbers have a meaning, as for rounds.
    pub whole: bool,
}

/// How values are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal differences are equally long.
    #[default]
    Linear,
    /// Equal ratios are equally long; values of 0 and below have no place.
    Log,
}

impl Axis {
    /// A linear axis whose ends follow from the values.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), scale: Scale::Linear, range: None, whole: false }
    }

    /// The same with logarithmic scale.
    #[must_use]
    pub fn log(self) -> Self {
        Self { scale: Scale::Log, ..self }
    }

    /// The same with ends. Values beyond are drawn at the end.
    #[must_use]
    pub fn range(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }

    /// The same for whole numbers.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Whether a value has a place on it.
    pub(crate) fn takes(&self, value: f64) -> bool {
        drawable(value).is_some_and(|value| self.scale == Scale::Linear || value >= 1e-15)
    }

    /// The axis over `pixels`, wide enough for `values`, with about `wanted` ticks. `pixels` run from the
    /// low end to the high one.
    pub(crate) fn fit(&self, values: impl Iterator<Item = f64>, pixels: (f64, f64), wanted: f64) -> Fitted {
        let known = |range: &(f64, f64)| self.takes(range.0) && self.takes(range.1) && range.0 < range.1;
        let fixed = self.range.filter(known);
        let (low, high) = fixed
            .or_else(|| {
                values.filter(|value| self.takes(*value)).fold(None, |ends: Option<(f64, f64)>, value| {
                    Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
                })
            })
            .unwrap_or(if self.scale == Scale::Log { (0.1, 1.0) } else { (0.0, 1.0) });
        let mut ticks = match self.scale {
            Scale::Linear => linear_ticks(low, high, wanted, self.whole),
            Scale::Log => log_ticks(low, high, wanted),
        };
        // Given ends are kept, and rounds do not begin at 0 because 0 is a nice number.
        if fixed.is_some() || (self.whole && low < high) {
            let slack = (high - low) * 1e-9;
            ticks.marks.retain(|(value, _)| (low - slack..=high + slack).contains(value));
            (ticks.low, ticks.high) = (low, high);
        }
        Fitted { scale: self.scale, ticks, pixels }
    }
}

/// An axis that has its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fitted {
    scale: Scale,
    pub(crate) ticks: Ticks,
    pixels: (f64, f64),
}

impl Fitted {
    /// Where its ends are.
    pub(crate) fn span(&self) -> Span {
        Span { scale: self.scale, values: (self.ticks.low, self.ticks.high), pixels: self.pixels }
    }

    /// The pixel of a value; values beyond an end are at the end.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let measure = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        };
        let (low, high) = (measure(self.ticks.low), measure(self.ticks.high));
        let share = ((measure(value) - low) / (high - low)).clamp(0.0, 1.0);
        (self.pixels.1 - self.pixels.0).mul_add(share, self.pixels.0)
    }

    /// `count` values evenly spread over the axis in pixels, both ends included; for curves.
    pub(crate) fn spread(&self, count: usize) -> impl Iterator<Item = f64> {
        let (low, high, scale) = (self.ticks.low, self.ticks.high, self.scale);
        (0..count).map(move |index| {
            let share = index as f64 / count.saturating_sub(1).max(1) as f64;
            match scale {
                Scale::Linear => (high - low).mul_add(share, low),
                Scale::Log => low * (high / low).powf(share),
            }
        })
    }
}
