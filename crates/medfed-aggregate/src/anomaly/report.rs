//! What a search says.

use super::STATED_FACTOR;
use crate::error::AggregateError;
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};

/// What about an update is out of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Statistic {
    /// Its norm, beside the other hospitals' norms.
    Norm,
    /// Its norm, beside the hospital's own earlier ones.
    History,
    /// Its direction, which is against that of the others, and its norm, which is large.
    Cosine,
    /// Its norm, which is less than the announced noise alone makes.
    TooSmall,
    /// A value that is NaN or infinite.
    NotFinite,
    /// The number of images it claims.
    SampleCount,
}

impl Statistic {
    /// The name as reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Norm => "norm",
            Self::History => "history",
            Self::Cosine => "cosine",
            Self::TooSmall => "too_small",
            Self::NotFinite => "not_finite",
            Self::SampleCount => "sample_count",
        }
    }
}

/// Something out of line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Whose update.
    #[serde(rename = "hospital")]
    pub site: SiteId,
    /// What about it.
    pub statistic: Statistic,
    /// What was found: a score in spreads (norm, history, cosine), an L2 norm (too small), a number of
    /// images (sample count), the position of the first bad value (not finite).
    pub value: f64,
    /// The limit it passed, in the same unit; for a sample count the number enrolled with.
    pub threshold: f64,
    /// Probability with which the statistic would have shown a norm [`STATED_FACTOR`] times as large (for
    /// the cosine, of an update turned around) in this round; nothing where there is no chance in it.
    pub power: Option<f64>,
}

impl Finding {
    /// The finding behind a refused update; nothing where the refusal is about something else than the
    /// update's numbers.
    pub fn of_refusal(error: &AggregateError) -> Option<Self> {
        let (site, statistic, value, threshold) = match error {
            AggregateError::NotFinite { site, index } => (site, Statistic::NotFinite, *index as f64, 0.0),
            // Reports are JSON, which has no NaN and no infinity.
            AggregateError::Weight { site, weight } => {
                let claimed = if weight.is_finite() { *weight } else { f64::MAX };
                (site, Statistic::SampleCount, claimed, 0.0)
            }
            _ => return None,
        };
        Some(Self { site: site.clone(), statistic, value, threshold, power: None })
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { site, statistic, value, threshold, .. } = self;
        let side = if *value < 0.0 { "below" } else { "above" };
        let size = value.abs();
        match statistic {
            Statistic::Norm => write!(
                f,
                "{site}: the norm of the update is {size:.1} spreads {side} the middle of all hospitals (cut-off {threshold:.1})"
            ),
            Statistic::History => write!(
                f,
                "{site}: the norm of the update is {size:.1} spreads {side} the hospital's own past (cut-off {threshold:.1})"
            ),
            Statistic::Cosine => write!(
                f,
                "{site}: the update is long and points against the others, {size:.1} spreads from their middle (cut-off {threshold:.1})"
            ),
            Statistic::TooSmall => write!(
                f,
                "{site}: the norm {value:.3e} of the update is less than the announced noise makes (at least {threshold:.3e})"
            ),
            Statistic::NotFinite => write!(f, "{site}: the update is not finite at parameter {value:.0}"),
            Statistic::SampleCount => {
                write!(f, "{site}: it claims {value} images and enrolled with {threshold}")
            }
        }
    }
}

/// What a search could not see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum InspectionWarning {
    /// The z-score cannot pass its threshold with so few hospitals.
    ZScoreCannotFire {
        /// Hospitals with an update.
        hospitals: usize,
        /// The configured threshold.
        threshold: f64,
        /// The largest score that is possible.
        largest: f64,
    },
    /// There are too few hospitals to compare.
    TooFewHospitals {
        /// Hospitals with an update.
        hospitals: usize,
        /// Hospitals that a comparison needs.
        needed: usize,
    },
    /// The statistic would rather miss the stated deviation than see it.
    Blind {
        /// Which.
        statistic: Statistic,
        /// Hospitals with an update.
        hospitals: usize,
        /// Probability to see it.
        power: f64,
    },
}

impl std::fmt::Display for InspectionWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ZScoreCannotFire { hospitals, threshold, largest } => write!(
                f,
                "the z-score cannot detect anything: with {hospitals} hospitals it is never above {largest:.2}, and the threshold is {threshold}"
            ),
            Self::TooFewHospitals { hospitals, needed } => write!(
                f,
                "norms and directions of {hospitals} hospitals cannot be compared; that needs {needed}"
            ),
            Self::Blind { statistic, hospitals, power } => {
                let deviation = match statistic {
                    Statistic::Cosine => format!("an update turned around and {STATED_FACTOR} times as long"),
                    _ => format!("a norm {STATED_FACTOR} times as large"),
                };
                let power = power * 100.0;
                write!(
                    f,
                    "with {hospitals} hospitals, which differ as much as these, the {} test sees {deviation} with a probability of {power:.0} %",
                    statistic.as_str()
                )
            }
        }
    }
}
