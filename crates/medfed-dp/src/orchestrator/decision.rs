//! What the orchestrator decides, and why, for people and for machines.

use medfed_types::{Epsilon, NoiseMultiplier};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

/// What happens to a hospital before a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It trains with the noise that it had.
    Keep,
    /// It trains with more.
    Raise,
    /// It trains with less, and not with less than its plan's.
    Lower,
    /// It leaves the federation.
    Leave,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The round takes the hospital over the warning share of its budget.
    Warning {
        /// ε after the round over the budget.
        share: f64,
        /// The share at which a warning is due.
        threshold: f64,
    },
    /// The round takes the hospital over the critical share of its budget.
    Critical {
        /// ε after the round over the budget.
        share: f64,
        /// The critical share.
        threshold: f64,
    },
    /// With the noise as it was, the rounds that are left would pass the budget.
    PlanPassesBudget {
        /// The ε they would lead to; nothing where there is no finite bound.
        projected: Option<Epsilon>,
        /// The budget.
        budget: Epsilon,
    },
    /// With the noise as it was, the round would end above the critical share of the budget.
    CriticalStep {
        /// The factor by which the noise was raised.
        factor: f64,
        /// ε after the round, as the noise was, over the budget.
        share: Option<f64>,
    },
    /// The round alone would pass the budget with the strategy's noise.
    RoundPassesBudget {
        /// The ε it would lead to.
        projected: Option<Epsilon>,
        /// The budget.
        budget: Epsilon,
    },
    /// The hospital sat rounds out, and the rounds that are left fit with less noise.
    Room,
    /// More noise would be needed than is allowed.
    Limit {
        /// The most that is allowed.
        limit: NoiseMultiplier,
        /// What would be needed; nothing where no noise is enough.
        needed: Option<NoiseMultiplier>,
    },
    /// No allowed noise makes another round fit.
    BudgetSpent {
        /// ε spent.
        spent: Epsilon,
        /// The budget.
        budget: Epsilon,
        /// The most noise that is allowed.
        most: NoiseMultiplier,
    },
}

/// What was decided about one hospital's next round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What happens.
    pub action: Action,
    /// The noise with which the hospital trains; when it leaves, the noise that it had.
    #[serde(rename = "noise_multiplier")]
    pub noise: NoiseMultiplier,
    /// The noise that it had.
    #[serde(rename = "previous_noise_multiplier")]
    pub previous: NoiseMultiplier,
    /// ε before the round, by the plan's accountant.
    #[serde(rename = "epsilon_spent")]
    pub spent: Epsilon,
    /// ε after the round.
    #[serde(rename = "epsilon_after_round")]
    pub after_round: Epsilon,
    /// ε after all rounds that are left, if the noise stays; nothing where there is no finite bound.
    #[serde(rename = "epsilon_at_end")]
    pub at_end: Option<Epsilon>,
    /// What ε never passes.
    #[serde(rename = "epsilon_budget")]
    pub budget: Epsilon,
    /// Rounds left, the one about to start included.
    #[serde(rename = "rounds_left")]
    pub rounds: NonZeroU32,
    /// Why; empty where nothing called for a change.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether people should hear of it: anything but going on as before.
    pub fn is_notable(&self) -> bool {
        self.action != Action::Keep || !self.reasons.is_empty()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Raise => "raise",
            Self::Lower => "lower",
            Self::Leave => "leave",
        })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (noise, previous) = (self.noise.get(), self.previous.get());
        match self.action {
            Action::Keep => write!(f, "trains with noise {noise:.4}")?,
            Action::Raise => write!(f, "trains with noise {noise:.4}, raised from {previous:.4}")?,
            Action::Lower => write!(f, "trains with noise {noise:.4}, lowered from {previous:.4}")?,
            Action::Leave => f.write_str("leaves")?,
        }
        for (index, reason) in self.reasons.iter().enumerate() {
            write!(f, "{}{reason}", if index == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning { share, threshold } => write!(
                f,
                "{} of its budget will be spent after the round (a warning is due from {})",
                percent(*share),
                percent(*threshold)
            ),
            Self::Critical { share, threshold } => write!(
                f,
                "{} of its budget will be spent after the round ({} is critical)",
                percent(*share),
                percent(*threshold)
            ),
            Self::PlanPassesBudget { projected, budget } => write!(
                f,
                "the rounds that are left would lead to epsilon {}, the budget is {budget}",
                bound(*projected)
            ),
            Self::CriticalStep { factor, share: Some(share) } => write!(
                f,
                "the round would have led to {} of its budget, noise is raised by the factor {factor}",
                percent(*share)
            ),
            Self::CriticalStep { factor, share: None } => {
                write!(f, "no bound was known for the round, noise is raised by the factor {factor}")
            }
            Self::RoundPassesBudget { projected, budget } => {
                write!(
                    f,
                    "with less noise the round would lead to epsilon {}, the budget is {budget}",
                    bound(*projected)
                )
            }
            Self::Room => f.write_str("it sat rounds out, and the rest of the plan fits with less noise"),
            Self::Limit { limit, needed: Some(needed) } => {
                write!(f, "noise {:.4} would be needed, {:.4} is the most allowed", needed.get(), limit.get())
            }
            Self::Limit { limit, needed: None } => {
                write!(f, "no noise would be enough, {:.4} is the most allowed", limit.get())
            }
            Self::BudgetSpent { spent, budget, most } => write!(
                f,
                "epsilon {} of {budget} is spent, and no noise up to {:.4} pays for another round",
                bound(Some(*spent)),
                most.get()
            ),
        }
    }
}

/// To a tenth of a percent, upwards.
fn percent(share: f64) -> String {
    format!("{:.1} %", (share * 1e3 - 1e-9).ceil() / 10.0)
}

/// Rounded up, or the word for no bound.
fn bound(epsilon: Option<Epsilon>) -> String {
    epsilon.map_or_else(|| "without bound".to_owned(), |epsilon| format!("{:.3}", epsilon.rounded_up(3)))
}
