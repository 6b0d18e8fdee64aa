//! What a session is about. Every signature covers all of it, so a site that was told anything else finds
//! that nobody's signature verifies.

use std::sync::Arc;

use medfed_types::{RoundId, SiteId};

use crate::digest::Digest;
use crate::error::SecaggError;
use crate::fixed_point::{ClipRange, FixedPoint};
use crate::roster::{Cohort, Members, Roster, SiteIndex};

/// The most values in an input: 2²⁸, one GiB on the wire.
const MOST_VALUES: usize = 1 << 28;
/// The fewest sites among which inner products can be shared.
const LEAST_FOR_SELECTION: usize = 4;

/// A random name that no two sessions share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// How inputs are weighted in the opened mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighting {
    /// Every survivor counts the same.
    Equal,
    /// Every survivor counts with its number of samples, which it never tells: it scales its own input by
    /// its share of the total, and the counts are summed under masks beside the values.
    Samples {
        /// The total that a [`Contribution::Counts`] session opened before.
        total: u32,
    },
}

/// What a session sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Contribution {
    /// One sample count a site, so that only the total is known.
    Counts,
    /// Updates: the weighted mean of the survivors is opened.
    Update {
        /// Values in an update.
        parameters: usize,
        /// The largest absolute value.
        range: ClipRange,
        /// How updates are weighted.
        weighting: Weighting,
    },
    /// Updates whose inner products are opened first, then the mean of those selected. Weights are equal.
    Selection {
        /// Values in an update.
        parameters: usize,
        /// The largest absolute value.
        range: ClipRange,
        /// The largest L2 norm of an update.
        norm: NormBound,
    },
}

/// The largest L2 norm of an input to [`Contribution::Selection`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormBound(f64);

impl NormBound {
    /// A finite bound from 10⁻³⁰ to 10³⁰.
    pub fn new(bound: f64) -> Result<Self, SecaggError> {
        if (1e-30..=1e30).contains(&bound) {
            return Ok(Self(bound));
        }
        Err(SecaggError::Terms { what: "the norm bound", expected: "from 1e-30 to 1e30", found: bound })
    }

    /// The bound.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Whether each site adds noise to its own input before it is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteNoise {
    /// Differential privacy is on: the input is private by itself.
    Private,
    /// Masks are all that protects an input.
    None,
}

/// What is agreed before a session starts. Each party fills it in from what it knows itself: the model it
/// trained from, its own policy.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionTerms {
    /// Names the session.
    pub session: SessionId,
    /// The federated round.
    pub round: RoundId,
    /// Hash of the configuration.
    pub configuration: Digest,
    /// Hash of the global model that training started from.
    pub model: Digest,
    /// The sites that are invited, in any order.
    pub cohort: Vec<SiteId>,
    /// How many sites it takes to open anything: t.
    pub threshold: usize,
    /// The least number of survivors whose sum is opened.
    pub min_clients: usize,
    /// Whether inputs carry noise of their own.
    pub noise: SiteNoise,
    /// What is summed.
    pub contribution: Contribution,
}

impl SessionTerms {
    /// The least threshold for a cohort: ⌊2n/3⌋ + 1, so that two different sets of survivors cannot both
    /// find t signatures while fewer than a third of the sites deviate. Three sites may use 2, which
    /// survives one dropout and gives in to two sites that collude with the coordinator.
    pub fn least_threshold(sites: usize) -> usize {
        if sites <= 3 { 2 } else { 2 * sites / 3 + 1 }
    }
}

/// Something that the terms allow and that everyone should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The sum of two survivors may be opened.
    #[error("a sum of two sites may be opened: each of the two can derive the other's noised update")]
    TwoSurvivors,
    /// Two of three sites can open anything.
    #[error(
        "with a threshold of 2 among 3 sites, a coordinator and one dishonest site can open the update of another"
    )]
    LowThreshold,
}

/// Checked terms. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    terms: SessionTerms,
    cohort: Cohort,
    header: Vec<u8>,
    digest: Digest,
    fixed: Option<FixedPoint>,
}

impl SessionContext {
    /// Checks terms against the enrolled sites.
    ///
    /// Refused: a cohort of fewer than 2 or more than 100 sites, or with a site that is not enrolled; a
    /// threshold below [`SessionTerms::least_threshold`]; fewer than 3 survivors, or fewer than 2 where
    /// inputs carry noise of their own; an input that is empty or has more than 2²⁸ values; selection
    /// among fewer than 4 sites or with fewer than 3 selected.
    pub fn new(terms: SessionTerms, roster: &Roster) -> Result<Self, SecaggError> {
        let cohort = roster.cohort(&terms.cohort)?;
        let sites = cohort.len();
        let lowest = SessionTerms::least_threshold(sites);
        if !(lowest..=sites).contains(&terms.threshold) {
            return Err(SecaggError::Threshold { sites, lowest, found: terms.threshold });
        }
        let selects = matches!(terms.contribution, Contribution::Selection { .. });
        let lowest = if terms.noise == SiteNoise::Private && !selects { 2 } else { 3 };
        if !(lowest..=sites).contains(&terms.min_clients) {
            return Err(SecaggError::MinClients { sites, lowest, found: terms.min_clients });
        }
        if selects && sites < LEAST_FOR_SELECTION {
            let (what, expected) = ("the cohort of a secure selection", "at least 4 sites");
            return Err(SecaggError::Terms { what, expected, found: sites as f64 });
        }
        let fixed = fixed_point(&terms.contribution, sites)?;
        let header = header(&terms, roster.digest(), cohort.digest());
        let digest = Digest::of("context", &[&header]);
        Ok(Self(Arc::new(Inner { terms, cohort, header, digest, fixed })))
    }

    /// The terms.
    pub fn terms(&self) -> &SessionTerms {
        &self.0.terms
    }

    /// The hash of everything that was agreed.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// What these terms allow that everyone should know.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.terms().min_clients == 2 {
            warnings.push(Warning::TwoSurvivors);
        }
        if self.sites() == 3 && self.terms().threshold == 2 {
            warnings.push(Warning::LowThreshold);
        }
        warnings
    }

    /// Sites in the cohort: n.
    pub fn sites(&self) -> usize {
        self.0.cohort.len()
    }

    /// The site at a place of the cohort.
    pub fn site(&self, index: SiteIndex) -> Option<&SiteId> {
        (index.get() < self.sites()).then(|| self.0.cohort.site(index))
    }

    /// The place of a site in the cohort.
    pub fn index(&self, site: &SiteId) -> Option<SiteIndex> {
        self.0.cohort.index(site)
    }

    /// The names of a set of places.
    pub fn names(&self, members: Members) -> Vec<SiteId> {
        members.iter().filter_map(|index| self.site(index).cloned()).collect()
    }

    /// The places of a set of names.
    pub fn members(&self, sites: &[SiteId]) -> Result<Members, SecaggError> {
        let index =
            |site: &SiteId| self.index(site).ok_or_else(|| SecaggError::NotEnrolled { site: site.clone() });
        sites.iter().map(index).collect()
    }

    /// How values become integers; a session that sums counts has none.
    pub fn fixed_point(&self) -> Option<&FixedPoint> {
        self.0.fixed.as_ref()
    }

    /// Integers in a masked input: one for each value and, with weights, one for the count.
    pub fn input_words(&self) -> usize {
        match self.terms().contribution {
            Contribution::Counts => 1,
            Contribution::Update { parameters, weighting: Weighting::Samples { .. }, .. } => parameters + 1,
            Contribution::Update { parameters, .. } | Contribution::Selection { parameters, .. } => {
                parameters
            }
        }
    }

    /// Sites that may pool their shares of vectors without learning anything: T = ⌊(n − 1)/3⌋.
    pub fn selection_privacy(&self) -> usize {
        (self.sites() - 1) / 3
    }

    pub(crate) fn cohort(&self) -> &Cohort {
        &self.0.cohort
    }

    pub(crate) fn header(&self) -> &[u8] {
        &self.0.header
    }

    pub(crate) fn selects(&self) -> bool {
        matches!(self.terms().contribution, Contribution::Selection { .. })
    }

    /// Sites without which nothing goes on: enough to open, and enough to be opened.
    pub(crate) fn least_sites(&self) -> usize {
        self.terms().threshold.max(self.terms().min_clients)
    }

    /// The name of a place that a reader or a set has checked to be in the cohort.
    pub(crate) fn name(&self, index: SiteIndex) -> SiteId {
        self.0.cohort.site(index).clone()
    }
}

fn fixed_point(contribution: &Contribution, sites: usize) -> Result<Option<FixedPoint>, SecaggError> {
    let checked = |parameters: usize| {
        if (1..MOST_VALUES).contains(&parameters) {
            return Ok(());
        }
        let (what, expected) = ("the number of parameters", "from 1 to 268435455");
        Err(SecaggError::Terms { what, expected, found: parameters as f64 })
    };
    Ok(match *contribution {
        Contribution::Counts => None,
        Contribution::Update { parameters, range, weighting: Weighting::Equal } => {
            checked(parameters)?;
            Some(FixedPoint::equal(range, sites))
        }
        Contribution::Update { parameters, range, weighting: Weighting::Samples { total } } => {
            checked(parameters)?;
            if total == 0 {
                let (what, expected) = ("the total of samples", "at least 1");
                return Err(SecaggError::Terms { what, expected, found: 0.0 });
            }
            Some(FixedPoint::weighted(range, sites))
        }
        Contribution::Selection { parameters, range, norm } => {
            checked(parameters)?;
            Some(FixedPoint::equal(range, sites).at_most(crate::selection::scale(norm)))
        }
    })
}

/// The canonical bytes of terms.
fn header(terms: &SessionTerms, roster: Digest, cohort: Digest) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"medfed secure aggregation v1\0");
    out.extend_from_slice(&terms.session.0);
    out.extend_from_slice(&terms.round.0.to_le_bytes());
    for digest in [terms.configuration, roster, cohort, terms.model] {
        out.extend_from_slice(digest.as_bytes());
    }
    // A cohort has at most 100 sites, and so have both numbers.
    out.extend_from_slice(&[terms.threshold as u8, terms.min_clients as u8]);
    out.push(u8::from(terms.noise == SiteNoise::Private));
    let mut sized = |kind: u8, parameters: usize, range: ClipRange| {
        out.push(kind);
        out.extend_from_slice(&(parameters as u64).to_le_bytes());
        out.extend_from_slice(&range.get().to_le_bytes());
    };
    match terms.contribution {
        Contribution::Counts => out.push(0),
        Contribution::Update { parameters, range, weighting: Weighting::Equal } => {
            sized(1, parameters, range);
        }
        Contribution::Update { parameters, range, weighting: Weighting::Samples { total } } => {
            sized(2, parameters, range);
            out.extend_from_slice(&total.to_le_bytes());
        }
        Contribution::Selection { parameters, range, norm } => {
            sized(3, parameters, range);
            out.extend_from_slice(&norm.get().to_le_bytes());
        }
    }
    out
}
