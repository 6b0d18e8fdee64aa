//! The rules, their parameters and what they have to say about a round.

use crate::error::AggregateError;
use medfed_types::SiteId;
use std::fmt;

/// β: the share of the values that a trimmed mean leaves out at either end, in [0, 0.5).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct TrimRatio(f64);

impl TrimRatio {
    /// Checks the range.
    pub fn new(ratio: f64) -> Result<Self, AggregateError> {
        if (0.0..0.5).contains(&ratio) {
            Ok(Self(ratio))
        } else {
            Err(AggregateError::TrimRatio { found: ratio })
        }
    }

    /// The share.
    pub fn get(self) -> f64 {
        self.0
    }

    /// ⌊βn⌋: the values that are left out at either end of `hospitals` values; at least one value stays.
    pub fn trimmed(self, hospitals: usize) -> usize {
        // 0.29 · 100 is 28.999…96: what the user wrote in decimal counts.
        let count = (self.0 * hospitals as f64 + 1e-9).floor() as usize;
        count.min(hospitals.saturating_sub(1) / 2)
    }

    /// The least number of hospitals of which one is left out at either end; none for a ratio of 0.
    pub fn trims_from(self) -> Option<usize> {
        (self.0 > 0.0).then(|| ((1.0 / self.0 - 1e-9).ceil() as usize).max(3))
    }
}

impl TryFrom<f64> for TrimRatio {
    type Error = AggregateError;
    fn try_from(ratio: f64) -> Result<Self, AggregateError> {
        Self::new(ratio)
    }
}

/// How one step is made of many updates.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// The mean, weighted by training images (McMahan et al. 2017). Withstands nobody.
    FedAvg,
    /// The median of every coordinate (Yin et al. 2018); the mean of the two middle values for even n.
    Median,
    /// The mean of every coordinate without its ⌊βn⌋ smallest and largest values (Yin et al. 2018).
    TrimmedMean {
        /// β.
        ratio: TrimRatio,
    },
    /// The update with the least sum of squared distances to its n−f−2 nearest others (Blanchard et al. 2017).
    Krum {
        /// f: bad hospitals to withstand.
        byzantine: usize,
    },
    /// The mean of the updates with the least such sums (Blanchard et al. 2017).
    MultiKrum {
        /// f: bad hospitals to withstand.
        byzantine: usize,
        /// m: updates to select. With m above n−f a bad one would be among them for certain: refused.
        selected: usize,
    },
    /// Krum, repeated without the update found, then a mean of the values around the median (El Mhamdi et
    /// al. 2018).
    Bulyan {
        /// f: bad hospitals to withstand.
        byzantine: usize,
    },
    /// Less weight for hospitals whose updates over all rounds resemble each other (Fung et al. 2018/2020).
    /// Withstands any number of Sybils with a common aim, not a single attacker.
    FoolsGold,
    /// The point with the least sum of distances to the updates (Pillutla et al. 2022).
    GeometricMedian,
    /// The last round's step plus the mean of the clipped differences to it (Karimireddy et al. 2021).
    CenteredClipping {
        /// τ, in the unit of the updates' L2 norm. Without one it is, in each iteration, the median distance
        /// of the updates from the centre (the lower one of two for even n).
        radius: Option<f64>,
        /// How often the centre moves in a round.
        iterations: usize,
    },
}

impl Rule {
    /// The name as the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FedAvg => "fedavg",
            Self::Median => "median",
            Self::TrimmedMean { .. } => "trimmed_mean",
            Self::Krum { .. } => "krum",
            Self::MultiKrum { .. } => "multi_krum",
            Self::Bulyan { .. } => "bulyan",
            Self::FoolsGold => "foolsgold",
            Self::GeometricMedian => "geometric_median",
            Self::CenteredClipping { .. } => "centered_clipping",
        }
    }

    /// Hospitals that the rule needs.
    pub fn needed(self) -> usize {
        let of = |factor: usize, f: usize, more: usize| f.saturating_mul(factor).saturating_add(more);
        match self {
            Self::Krum { byzantine } => of(2, byzantine, 3),
            Self::MultiKrum { byzantine, selected } => of(2, byzantine, 3).max(of(1, byzantine, selected)),
            Self::Bulyan { byzantine } => of(4, byzantine, 3),
            Self::FoolsGold => 2,
            _ => 1,
        }
    }

    /// The bad hospitals that the rule was told to withstand, where it is told.
    pub(crate) fn byzantine(self) -> Option<usize> {
        match self {
            Self::Krum { byzantine } | Self::MultiKrum { byzantine, .. } | Self::Bulyan { byzantine } => {
                Some(byzantine)
            }
            _ => None,
        }
    }

    /// The rule for the rest of the hospitals when `refused` of the bad ones are gone; as it is when they
    /// are more than it was told to withstand.
    pub(crate) fn without_bad(self, refused: usize) -> Self {
        let rest = |byzantine: usize| byzantine.checked_sub(refused).unwrap_or(byzantine);
        match self {
            Self::Krum { byzantine } => Self::Krum { byzantine: rest(byzantine) },
            Self::MultiKrum { byzantine, selected } => {
                Self::MultiKrum { byzantine: rest(byzantine), selected }
            }
            Self::Bulyan { byzantine } => Self::Bulyan { byzantine: rest(byzantine) },
            other => other,
        }
    }

    /// The rule for the `hospitals` that remain after `suspects` were left out because their updates were out
    /// of line, or withheld theirs because it did not fit. That is no proof: f stays where the rest is large enough, and is lowered only as far as
    /// the rest asks for, by `suspects` at the most. So the rule withstands as many as before as long as those
    /// by which f was lowered were bad. The warnings say what it withstands now.
    pub(crate) fn without_suspects(self, hospitals: usize, suspects: usize) -> (Self, Vec<RuleWarning>) {
        let mut warnings = Vec::new();
        if suspects == 0 {
            return (self, warnings);
        }
        let mut lowered = |byzantine: usize, factor: usize| {
            let most = hospitals.saturating_sub(3) / factor;
            let rest = byzantine.min(most.max(byzantine.saturating_sub(suspects)));
            if rest < byzantine {
                let rule = self.name();
                warnings.push(RuleWarning::WithstandsFewer { rule, left_out: suspects, byzantine, rest });
            }
            rest
        };
        let rule = match self {
            Self::Krum { byzantine } => Self::Krum { byzantine: lowered(byzantine, 2) },
            Self::Bulyan { byzantine } => Self::Bulyan { byzantine: lowered(byzantine, 4) },
            Self::MultiKrum { byzantine, selected } => {
                let byzantine = lowered(byzantine, 2);
                let rest = selected.min(hospitals.saturating_sub(byzantine)).max(1);
                if rest < selected {
                    warnings.push(RuleWarning::SelectsFewer { selected: rest, configured: selected });
                }
                Self::MultiKrum { byzantine, selected: rest }
            }
            other => other,
        };
        (rule, warnings)
    }

    /// What is known before the rule, which was `told` as this, works on the updates of `hospitals`; as many
    /// as it needs.
    pub(crate) fn warnings(self, told: Self, hospitals: usize) -> Vec<RuleWarning> {
        let mut warnings = Vec::new();
        if told.byzantine() == Some(0) {
            warnings.push(RuleWarning::WithstandsNobody { rule: told.name() });
        }
        match self {
            Self::TrimmedMean { ratio } if ratio.trimmed(hospitals) == 0 => {
                let from = ratio.trims_from();
                warnings.push(RuleWarning::TrimsNobody { ratio: ratio.get(), hospitals, from });
            }
            Self::MultiKrum { byzantine, selected } if selected > hospitals - byzantine - 2 => {
                warnings.push(RuleWarning::BeyondProof { selected, covered: hospitals - byzantine - 2 });
            }
            _ => {}
        }
        warnings
    }

    pub(crate) fn check(self) -> Result<(), AggregateError> {
        match self {
            Self::MultiKrum { selected: 0, .. } => {
                Err(AggregateError::Zero { what: "the number of updates to select" })
            }
            Self::CenteredClipping { iterations: 0, .. } => {
                Err(AggregateError::Zero { what: "the number of clipping iterations" })
            }
            Self::CenteredClipping { radius: Some(radius), .. } if !(radius.is_finite() && radius > 0.0) => {
                Err(AggregateError::Radius { found: radius })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::TrimmedMean { ratio } => write!(f, " (share {} at either end)", ratio.get()),
            Self::Krum { byzantine } | Self::Bulyan { byzantine } => write!(f, " (f = {byzantine})"),
            Self::MultiKrum { byzantine, selected } => write!(f, " (f = {byzantine}, {selected} selected)"),
            _ => Ok(()),
        }
    }
}

/// What happens to the updates before the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PreStep {
    /// Nothing.
    #[default]
    None,
    /// Every update becomes the mean of its n−f nearest, itself included (Allouah et al. 2023), so that
    /// hospitals with different patients look alike and bad ones cannot hide among them. Needs n ≥ 2f+1.
    NearestNeighbourMixing {
        /// f: bad hospitals to withstand.
        byzantine: usize,
    },
}

impl PreStep {
    /// The step for the rest of the hospitals, as [`Rule::without_bad`].
    pub(crate) fn without_bad(self, refused: usize) -> Self {
        match self {
            Self::None => Self::None,
            Self::NearestNeighbourMixing { byzantine } => Self::NearestNeighbourMixing {
                byzantine: byzantine.checked_sub(refused).unwrap_or(byzantine),
            },
        }
    }

    /// The step for the rest of the hospitals, as [`Rule::without_suspects`].
    pub(crate) fn without_suspects(self, hospitals: usize, suspects: usize) -> Self {
        match self {
            Self::NearestNeighbourMixing { byzantine } => {
                let most = hospitals.saturating_sub(1) / 2;
                let byzantine = byzantine.min(most.max(byzantine.saturating_sub(suspects)));
                Self::NearestNeighbourMixing { byzantine }
            }
            Self::None => Self::None,
        }
    }

    /// Hospitals that the step needs.
    pub fn needed(self) -> usize {
        match self {
            Self::None => 1,
            Self::NearestNeighbourMixing { byzantine } => byzantine.saturating_mul(2).saturating_add(1),
        }
    }
}

impl fmt::Display for PreStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::NearestNeighbourMixing { byzantine } => {
                write!(f, "nearest-neighbour mixing (f = {byzantine})")
            }
        }
    }
}

/// What the operator should know about a step that was made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RuleWarning {
    /// The trimmed mean left nobody out: it was the plain mean.
    TrimsNobody {
        /// β.
        ratio: f64,
        /// Hospitals of the round.
        hospitals: usize,
        /// From how many hospitals on this β leaves somebody out.
        from: Option<usize>,
    },
    /// A hospital claimed so many images that its weight was cut.
    WeightCapped {
        /// The hospital.
        site: SiteId,
        /// What it claimed.
        claimed: f64,
        /// What it counted for.
        counted: f64,
    },
    /// The rule was told to withstand nobody.
    WithstandsNobody {
        /// The rule.
        rule: &'static str,
    },
    /// Multi-Krum selected more updates than its guarantee covers.
    BeyondProof {
        /// Updates selected.
        selected: usize,
        /// Updates that the guarantee covers: n−f−2.
        covered: usize,
    },
    /// So many hospitals were left out because their updates were out of line or did not fit that the rule
    /// withstands fewer among the rest.
    WithstandsFewer {
        /// The rule.
        rule: &'static str,
        /// Hospitals that were left out.
        left_out: usize,
        /// Bad hospitals that it was told to withstand.
        byzantine: usize,
        /// Bad hospitals that it withstands among the rest.
        rest: usize,
    },
    /// Multi-Krum selects fewer updates than configured, since hospitals were left out.
    SelectsFewer {
        /// Updates selected.
        selected: usize,
        /// Updates configured.
        configured: usize,
    },
    /// The geometric median was still moving when its iterations were used up.
    NotConverged {
        /// Iterations made.
        iterations: usize,
        /// The last movement as a share of the median distance to the updates.
        movement: f64,
    },
}

impl fmt::Display for RuleWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimsNobody { ratio, hospitals, from } => {
                write!(
                    f,
                    "a trimmed mean with share {ratio} leaves out nobody of {hospitals} hospitals and is the plain mean"
                )?;
                match from {
                    Some(from) => write!(f, "; it begins to trim at {from} hospitals"),
                    None => Ok(()),
                }
            }
            Self::WeightCapped { site, claimed, counted } => {
                write!(f, "{site} claims {claimed} training images and counts for {counted}")
            }
            Self::WithstandsNobody { rule } => {
                write!(f, "{rule} was told to expect no bad hospital and withstands none")
            }
            Self::BeyondProof { selected, covered } => {
                write!(f, "multi_krum selects {selected} updates, its guarantee covers {covered}")
            }
            Self::WithstandsFewer { rule, left_out, byzantine, rest } => write!(
                f,
                "{left_out} hospitals were left out because their updates were out of line or did not fit; among the rest {rule} withstands {rest} bad ones, not {byzantine}"
            ),
            Self::SelectsFewer { selected, configured } => write!(
                f,
                "hospitals were left out because their updates were out of line or did not fit; multi_krum selects {selected} of the rest, not {configured}"
            ),
            Self::NotConverged { iterations, movement } => {
                write!(
                    f,
                    "the geometric median still moved by {movement:.1e} of the typical distance after {iterations} iterations"
                )
            }
        }
    }
}
