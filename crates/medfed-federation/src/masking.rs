//! Secure aggregation of a round: hospitals keep their updates, and sums of them are opened under masks.
//!
//! [`MaskingPlan`] is what everyone goes by, [`Order`] what the coordinator asks for in a round,
//! [`Unmasked`] what it learns. The protocol itself is [`medfed_secagg`]; here are two machines that speak
//! it in bytes, without a network or a clock:
//!
//! ```text
//! Opening::start ─► calls ─► Session::handle (one a hospital) ─► answers ─► Opening::receive
//!        ▲                                                                       │ all in, or deadline
//!        └──────────────────────────── Turn::Ask ◄──────────────────────── Opening::close ─► Turn::Done
//! ```
//!
//! A round is an invitation; then, with weights, a session that sums numbers of samples; then a session that
//! sums updates, with two more steps where it selects among them, or a coin and a session for each group. An
//! attempt that fails before an input has left is repeated without the hospitals that made it fail
//! ([`Opening::close`]).
//!
//! Both machines are deterministic: names of sessions follow from the coordinator's key, round and attempt,
//! a hospital's keys from its own key of the run, the terms and the call. A round that is done again after a
//! restart repeats its messages; a hospital refuses any other call for a step that it answered ([`Record`]).
//!
//! Hidden are updates and their numbers of samples within the step. The reports that hospitals send beside
//! it (losses, counts, metrics) are as exact as without masks.

mod error;
mod live;
mod loopback;
mod opening;
mod party;
mod selection;
mod session;
mod wire;

pub use error::{MaskingError, Peer};
pub(crate) use loopback::unmask;
pub use opening::{Message, Opening, Turn};
pub use party::{Party, Record};
pub use selection::{Judgement, Prospect};
pub use session::Session;
pub use wire::{Fault, Step};

use crate::coordinator::{AnnouncedLocal, Member};
use crate::report::MaskingReport;
use medfed_aggregate::selection::SelectionRule;
use medfed_secagg::{ClipRange, Contribution, Digest, NormBound, SessionTerms, SiteNoise, Weighting};
use medfed_types::{NoiseMultiplier, RoundId, SiteId};
use serde::{Deserialize, Serialize};
use wire::{Opened, Phase};

/// The fewest hospitals among which inner products can be computed on shares.
const LEAST_FOR_SELECTION: usize = 4;
/// Clip range without privacy: nothing bounds a step there.
const RANGE_WITHOUT_PRIVACY: f64 = 4.0;
/// L2 norm of an update without privacy.
const NORM_WITHOUT_PRIVACY: f64 = 64.0;
/// Batches that are so many times the expected size do not happen.
const LARGEST_BATCH: f64 = 4.0;
/// Standard deviations that noise does not exceed: at 10, once in 10²³ values.
const LARGEST_NOISE: f64 = 10.0;
/// The largest step of Adam in learning rates: (1 − β₁)/√(1 − β₂) is 3.2 with the usual decays.
const LARGEST_ADAM_STEP: f64 = 4.0;

/// What is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskingMode {
    /// One sum of all updates.
    Sum,
    /// The inner products of all updates, then the sum of those that a rule selects.
    Selection,
    /// The sum of each of several random groups.
    Groups,
}

/// What coordinator and hospitals go by.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskingPlan {
    /// What is opened.
    pub mode: MaskingMode,
    /// How updates are selected, in [`MaskingMode::Selection`].
    pub selection: Option<SelectionRule>,
    /// Whether updates weigh as many samples as they come from; otherwise all weigh the same.
    pub by_samples: bool,
    /// Hospitals that it takes to open anything; the least that is safe without.
    pub threshold: Option<usize>,
    /// The least number of survivors whose sum is opened.
    pub min_clients: usize,
    /// Hospitals in a group at the least.
    pub least_group: usize,
    /// Whether updates carry noise of their own.
    pub noise: SiteNoise,
    /// Largest absolute value in an update; from the training plan without.
    pub clip_range: Option<ClipRange>,
    /// Largest L2 norm of an update that is selected among others; from the training plan without.
    pub norm_bound: Option<NormBound>,
    /// Hash of the configuration and the data.
    pub configuration: Digest,
}

impl MaskingPlan {
    /// The threshold for a cohort.
    pub(crate) fn threshold_of(&self, cohort: usize) -> usize {
        let least = SessionTerms::least_threshold(cohort);
        self.threshold.unwrap_or(2 * cohort / 3 + 1).clamp(least, cohort.max(least))
    }

    /// Hospitals that a round needs when its rule needs so many vectors.
    pub(crate) fn needed(&self, vectors: usize) -> usize {
        match self.mode {
            MaskingMode::Sum => self.min_clients.max(vectors),
            MaskingMode::Selection => self.min_clients.max(vectors).max(LEAST_FOR_SELECTION),
            MaskingMode::Groups => self.min_clients.max(self.least_group * vectors.max(2)),
        }
    }
}

/// What the coordinator asks the hospitals to sum in a round.
#[derive(Debug, Clone)]
pub struct Order {
    /// What everyone goes by.
    pub plan: MaskingPlan,
    /// The round.
    pub round: RoundId,
    /// Hash of the parameters from which hospitals trained.
    pub model: Digest,
    /// Parameters in an update.
    pub parameters: usize,
    /// Largest absolute value in an update.
    pub range: ClipRange,
    /// What a selection goes by, in [`MaskingMode::Selection`].
    pub prospect: Option<Prospect>,
}

/// What a hospital knows itself of a round, before the coordinator asks for anything.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// What everyone goes by.
    pub plan: MaskingPlan,
    /// The round.
    pub round: RoundId,
    /// Hash of the parameters from which it trained.
    pub model: Digest,
    /// Parameters in an update.
    pub parameters: usize,
}

impl Order {
    /// What each hospital that was asked to train knows of it.
    pub fn expectation(&self) -> Expectation {
        let Self { plan, round, model, parameters, .. } = self;
        Expectation { plan: plan.clone(), round: *round, model: *model, parameters: *parameters }
    }
}

impl Expectation {
    /// The terms of a session, of which the coordinator tells only its name, its cohort and the total.
    fn terms(
        &self,
        phase: Phase,
        range: ClipRange,
        prospect: Option<&Prospect>,
        opened: &Opened,
    ) -> SessionTerms {
        let Self { plan, round, model, parameters } = self;
        let weighting =
            if plan.by_samples { Weighting::Samples { total: opened.total } } else { Weighting::Equal };
        SessionTerms {
            session: opened.session,
            round: *round,
            configuration: prospect
                .map_or(plan.configuration, |it| it.bind(plan.configuration, opened.withheld)),
            model: *model,
            threshold: plan.threshold_of(opened.cohort.len()),
            min_clients: plan.min_clients,
            noise: plan.noise,
            contribution: match phase {
                Phase::Counts => Contribution::Counts,
                Phase::Updates => match prospect {
                    Some(Prospect { norm, .. }) => {
                        Contribution::Selection { parameters: *parameters, range, norm: *norm }
                    }
                    None => Contribution::Update { parameters: *parameters, range, weighting },
                },
            },
            cohort: opened.cohort.clone(),
        }
    }
}

/// What the coordinator learns of a round's updates.
#[derive(Debug, Clone)]
pub struct Unmasked {
    /// The opened means; the reason where none could be opened.
    pub opened: Result<Vec<OpenedMean>, String>,
    /// How it went.
    pub report: MaskingReport,
    /// What the terms allow that everyone should know.
    pub warnings: Vec<String>,
    /// What was opened to select among the updates, and what followed.
    pub judgement: Option<Judgement>,
}

/// The mean of some hospitals' updates.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedMean {
    /// Whose.
    pub sites: Vec<SiteId>,
    /// The mean, one value per parameter.
    pub mean: Vec<f32>,
}

/// A bound on every value of a round's updates, from what the hospitals announced: a power of two, so that
/// it does not change with every round.
///
/// A private step moves a parameter by the learning rate times the gradient at most, which is a clipped sum
/// over at most [`LARGEST_BATCH`] expected batches plus [`LARGEST_NOISE`] deviations of noise; momentum m
/// makes it 1/(1 − m) times that. `largest` is the largest absolute parameter, which weight decay pulls at.
pub(crate) fn range_of<'a>(
    members: impl Iterator<Item = (&'a Member, Option<NoiseMultiplier>)>,
    round: RoundId,
    largest: f64,
) -> Option<ClipRange> {
    let step = |terms: &Bounded<'_>| match terms {
        Bounded::Private { clip, noise, .. } => LARGEST_BATCH * clip + LARGEST_NOISE * noise,
        Bounded::Adam { .. } => LARGEST_ADAM_STEP,
    };
    ClipRange::new(bound_of(members, round, RANGE_WITHOUT_PRIVACY, largest, step)).ok()
}

/// A bound on the L2 norm of a round's updates, as [`range_of`]: the noise of d values has the norm √d, and
/// does not exceed it by [`LARGEST_NOISE`] deviations. `length` is the norm of the parameters.
pub(crate) fn norm_of<'a>(
    members: impl Iterator<Item = (&'a Member, Option<NoiseMultiplier>)>,
    round: RoundId,
    length: f64,
) -> Option<NormBound> {
    let root = |training: &AnnouncedLocal| (training.parameters as f64).sqrt();
    let step = |terms: &Bounded<'_>| match terms {
        Bounded::Private { clip, noise, training } => {
            LARGEST_BATCH * clip + (root(training) + LARGEST_NOISE) * noise
        }
        Bounded::Adam { training } => LARGEST_ADAM_STEP * root(training),
    };
    NormBound::new(bound_of(members, round, NORM_WITHOUT_PRIVACY, length, step)).ok()
}

/// What bounds a private step.
enum Bounded<'a> {
    /// Of gradient descent: the norm of a unit's gradient, and a deviation of the noise, both over the
    /// expected batch.
    Private { clip: f64, noise: f64, training: &'a AnnouncedLocal },
    /// Of Adam, which divides by the gradient's own size.
    Adam { training: &'a AnnouncedLocal },
}

/// The largest bound of a member, as a power of two; `decayed` is what weight decay pulls at.
fn bound_of<'a>(
    members: impl Iterator<Item = (&'a Member, Option<NoiseMultiplier>)>,
    round: RoundId,
    without_privacy: f64,
    decayed: f64,
    step: impl Fn(&Bounded<'_>) -> f64,
) -> f64 {
    let bound = |(member, noise): (&Member, Option<NoiseMultiplier>)| {
        let training = &member.training;
        let Some(plan) = &training.plan else { return without_privacy };
        let first = u64::from(round.0 - 1) * training.steps;
        let rates: f64 = (first..first + training.steps).map(|step| training.learning_rate.at(step)).sum();
        let terms = plan.terms();
        let clip = terms.clip.get();
        let noise = noise.unwrap_or(terms.noise).get() * clip / terms.expected_batch_size.get();
        let decay = training.weight_decay * decayed;
        let step = match training.momentum {
            Some(momentum) => {
                (step(&Bounded::Private { clip, noise, training }) + decay) / (1.0 - momentum).max(1e-3)
            }
            None => step(&Bounded::Adam { training }) + decay,
        };
        rates * step
    };
    let bound = members.map(bound).fold(0.0, f64::max);
    2f64.powf(bound.log2().ceil()).max(2f64.powi(-10))
}

#[cfg(test)]
mod tests;
