//! Updates that are out of line with the other hospitals', with the hospital's own past, or with its plan.
//!
//! What enters is a round's finite updates and what an honest one would look like ([`Expected`]); what
//! leaves is an [`Inspection`]: findings, and the detector as it is after the round. The detector decides
//! nothing: whoever calls it flags, excludes or halts.
//!
//! | statistic | what is compared | with |
//! |---|---|---|
//! | [`Statistic::Norm`] | logarithm of the norm over [`Expected::scale`] | the hospitals' median, in units of their spread |
//! | [`Statistic::History`] | the same, relative to the median of the others | the hospital's own last 20 rounds, once there are 5; in units of their spread or that of all hospitals' changes |
//! | [`Statistic::Cosine`] | cosine to the mean of the other updates, below 0 only, of an update that is also long: a third of the way to the cut-off for norms | the hospitals' median cosine, in units of their spread |
//! | [`Statistic::TooSmall`] | the norm | [`Expected::least_norm`]: half of what the announced noise alone makes |
//! | [`Statistic::SampleCount`] | the claimed number of images | the number the hospital enrolled with |
//! | [`Statistic::NotFinite`] | a value that is NaN or infinite | – |
//!
//! **False alarms.** Centre and spread are the median and the median distance from it, which up to half
//! the hospitals cannot move far. The cut-offs for norm and cosine are simulated for every number of
//! hospitals, that for the history is a quantile of Student's t distribution; each of the three is passed
//! in one of 300 rounds, so that together at most about 1 % of the rounds without a bad hospital have a
//! finding, as long as the values are about normal. `threshold: 3`, the default, stands for that; another
//! threshold scales all three cut-offs. A norm that is thirty times the median, or a thirtieth of it, is
//! out of line whatever the spread. Spreads have a floor, below which differences mean nothing: 0.15 for
//! the logarithm of a norm; for the cosine a fifth of the median cosine, or 1/√d if that is more (what
//! unrelated directions have in d dimensions).
//!
//! **Power.** With few hospitals the spread is badly known and the cut-offs are far out. Each finding says
//! with what probability the statistic would have shown a stated deviation in this round: a norm ten times
//! as large ([`STATED_FACTOR`]), for the cosine turned around as well. Where that is less likely than not,
//! [`Inspection::warnings`] says that the statistic is blind.
//!
//! **Not seen.** An update inside the spread of the honest ones, whatever it does to the model: small
//! steady deviations, copies of an honest update, images with wrong labels, an update turned around that
//! is no longer than others. The direction alone tells nothing: where most hospitals have many ill and two
//! have many well patients, the honest updates of the two point against the rest.

mod cutoff;
mod direction;
mod expected;
mod history;
mod report;

pub use expected::{AnnouncedNoise, AnnouncedTraining, Expected};
pub use report::{Finding, InspectionWarning, Statistic};

use crate::distances::Gram;
use crate::error::AggregateError;
use crate::selection::OpenedProducts;
use crate::update::SiteUpdate;
use cutoff::{FEWEST, RATE, Sides, center_and_spread, cutoff, median};
use history::History;
use medfed_types::SiteId;
use statrs::function::erf::erfc;
use std::collections::BTreeMap;

/// Factor of a norm whose detection [`Finding::power`] is about.
pub const STATED_FACTOR: f64 = 10.0;

/// The threshold at which the cut-offs hold as simulated.
const REFERENCE: f64 = 3.0;
/// Least spread of the logarithms of norms.
const LEAST_SPREAD: f64 = 0.15;
/// Least spread of the cosines, as a part of their median.
const LEAST_TURN: f64 = 0.2;
/// A norm this many times the median, or this part of it, is out of line whatever the spread.
const FARTHEST: f64 = 30.0;
/// Hospitals whose scatter is known well enough to be what a change is held against.
const ENOUGH: usize = 8;
/// Logarithms need a number: less than the smallest positive `f32`.
const SMALLEST_NORM: f64 = 1e-46;

/// What a finding about an update leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDetection {
    /// It is reported.
    Flag,
    /// The update is left out.
    Exclude,
    /// The run stops with the last good model.
    Halt,
}

/// How norms are compared between hospitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Median and median distance, cut-offs by number of hospitals, history, direction.
    #[default]
    Robust,
    /// Distance of the norm from the mean of all norms in standard deviations. It is never more than
    /// (n−1)/√n, which is below 3 for up to 10 hospitals.
    ZScore,
}

/// What the detector goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorSettings {
    method: Method,
    threshold: f64,
}

impl DetectorSettings {
    /// With [`Method::Robust`] a threshold of 3 stands for the simulated cut-offs and another scales them;
    /// with [`Method::ZScore`] it is a number of standard deviations. It is finite and above 0.
    pub fn new(method: Method, threshold: f64) -> Result<Self, AggregateError> {
        if threshold.is_finite() && threshold > 0.0 {
            Ok(Self { method, threshold })
        } else {
            Err(AggregateError::Threshold { found: threshold })
        }
    }

    /// How norms are compared.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The threshold.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }
}

/// Searches each round's updates. It remembers what each hospital's updates were like.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    settings: DetectorSettings,
    history: History,
}

/// What a search of one round came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// What is out of line, in the order of the hospitals' names.
    pub findings: Vec<Finding>,
    /// What the search could not see.
    pub warnings: Vec<InspectionWarning>,
    /// The detector after this round; whoever drops the round drops it too.
    pub next: Detector,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(settings: DetectorSettings) -> Self {
        Self { settings, history: History::default() }
    }

    /// Searches the updates of one round, which have one length and come from one hospital each. A
    /// hospital without an entry in `expected` is compared as it is. The result does not depend on the
    /// order of `updates`.
    pub fn inspect(&self, updates: &[SiteUpdate], expected: &BTreeMap<SiteId, Expected>) -> Inspection {
        let mut updates: Vec<&SiteUpdate> = updates.iter().collect();
        updates.sort_by(|a, b| a.site().cmp(b.site()));
        let round = Round {
            sites: updates.iter().map(|update| update.site()).collect(),
            norms: updates.iter().map(|update| update.norm()).collect(),
            seen: Seen::Updates(updates),
            findings: Vec::new(),
            warnings: Vec::new(),
        };
        self.search(round, expected)
    }

    /// Searches the updates of one round of which only the inner products are known. Norms and directions
    /// follow from them; the numbers of images that hospitals claim do not, and are not searched.
    pub fn inspect_products(
        &self,
        opened: &OpenedProducts,
        expected: &BTreeMap<SiteId, Expected>,
    ) -> Inspection {
        let products = opened.products();
        let round = Round {
            sites: opened.sites().iter().collect(),
            norms: (0..products.rows()).map(|at| products.get(at, at).sqrt()).collect(),
            seen: Seen::Products { products, parameters: opened.parameters() },
            findings: Vec::new(),
            warnings: Vec::new(),
        };
        self.search(round, expected)
    }

    fn search(&self, mut round: Round<'_>, expected: &BTreeMap<SiteId, Expected>) -> Inspection {
        round.against_the_plan(expected);
        let mut next = self.clone();
        match self.settings.method {
            Method::Robust => {
                let scale = self.settings.threshold / REFERENCE;
                if let Some(sizes) = round.against_each_other(expected, scale, &mut next.history) {
                    round.directions(scale, &sizes);
                }
            }
            Method::ZScore => round.z_scores(self.settings.threshold),
        }
        let Round { mut findings, warnings, .. } = round;
        // Stable: within a hospital the order of the search stays.
        findings.sort_by(|a, b| a.site.cmp(&b.site));
        Inspection { findings, warnings, next }
    }

    /// The history, for [`restore`](Self::restore).
    pub fn to_bytes(&self) -> Vec<u8> {
        self.history.to_bytes()
    }

    /// Puts the history back to what [`to_bytes`](Self::to_bytes) wrote; on an error nothing changes.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), AggregateError> {
        self.history = History::from_bytes(bytes).map_err(AggregateError::DetectorState)?;
        Ok(())
    }
}

/// How the norms of a round compare.
struct Sizes {
    /// Of each update, in spreads from the middle.
    scores: Vec<f64>,
    /// Of the logarithms of the norms.
    spread: f64,
    /// Score from which an update is long enough for its direction to matter.
    long: f64,
}

/// What is known of a round's updates.
enum Seen<'a> {
    Updates(Vec<&'a SiteUpdate>),
    Products { products: &'a Gram, parameters: usize },
}

/// One round under search.
struct Round<'a> {
    /// In the order of their names.
    sites: Vec<&'a SiteId>,
    norms: Vec<f64>,
    seen: Seen<'a>,
    findings: Vec<Finding>,
    warnings: Vec<InspectionWarning>,
}

impl Round<'_> {
    fn find(&mut self, at: usize, statistic: Statistic, value: f64, threshold: f64, power: Option<f64>) {
        let site = self.sites[at].clone();
        self.findings.push(Finding { site, statistic, value, threshold, power });
    }

    /// Sizes and counts that the hospital's own plan rules out.
    fn against_the_plan(&mut self, expected: &BTreeMap<SiteId, Expected>) {
        for at in 0..self.sites.len() {
            let Some(expected) = expected.get(self.sites[at]) else { continue };
            let norm = self.norms[at];
            if let Some(least) = expected.least_norm().filter(|least| norm < *least) {
                self.find(at, Statistic::TooSmall, norm, least, None);
            }
            let Seen::Updates(updates) = &self.seen else { continue };
            let claimed = updates[at].weight();
            if let Some(enrolled) = expected.samples().filter(|enrolled| claimed != *enrolled) {
                self.find(at, Statistic::SampleCount, claimed, enrolled, None);
            }
        }
    }

    /// Norms against the round's median and against each hospital's own past; nothing among too few
    /// hospitals.
    fn against_each_other(
        &mut self,
        expected: &BTreeMap<SiteId, Expected>,
        scale: f64,
        history: &mut History,
    ) -> Option<Sizes> {
        let hospitals = self.sites.len();
        let Some(cutoff) = cutoff(hospitals, Sides::Both) else {
            self.warnings.push(InspectionWarning::TooFewHospitals { hospitals, needed: FEWEST });
            return None;
        };
        let logarithm = |(site, norm): (&&SiteId, &f64)| {
            let scale = expected.get(*site).map_or(1.0, Expected::scale);
            (norm.max(SMALLEST_NORM) / scale).ln()
        };
        let values: Vec<f64> = self.sites.iter().zip(&self.norms).map(logarithm).collect();
        let (center, spread) = center_and_spread(&values);
        let spread = spread.max(LEAST_SPREAD);
        let threshold = (cutoff * scale).min(FARTHEST.ln() / spread);
        let power = power(STATED_FACTOR.ln() / spread, threshold);
        self.blind(Statistic::Norm, power);
        let mut usual = vec![true; hospitals];
        let scores: Vec<f64> = values.iter().map(|value| (value - center) / spread).collect();
        for (at, score) in scores.iter().copied().enumerate() {
            if score.abs() > threshold {
                usual[at] = false;
                self.find(at, Statistic::Norm, score, threshold, Some(power));
            }
        }
        self.against_the_past(&values, scale, history, &mut usual);
        // What was out of line does not become the new usual.
        for (at, value) in relative(&values).into_iter().enumerate().filter(|(at, _)| usual[*at]) {
            history.push(self.sites[at], value);
        }
        Some(Sizes { scores, spread, long: threshold / 3.0 })
    }

    /// Norms against each hospital's own past. In a round in which the changes of all hospitals scatter more
    /// than the hospital's past, as when the learning rate runs out, they are what a change is held
    /// against.
    fn against_the_past(&mut self, values: &[f64], scale: f64, history: &History, usual: &mut [bool]) {
        let chance = RATE / values.len() as f64;
        let changed =
            |(site, value): (&&SiteId, f64)| history.of(site, chance).map(|past| (value - past.mean, past));
        let changes: Vec<_> = self.sites.iter().zip(relative(values)).map(changed).collect();
        let known: Vec<f64> = changes.iter().flatten().map(|(change, _)| *change).collect();
        if known.is_empty() {
            return;
        }
        let (center, of_all) = if known.len() < FEWEST { (0.0, 0.0) } else { center_and_spread(&known) };
        // The scatter of few hospitals is badly known, and would hide a change as often as explain it.
        let of_all = if known.len() < ENOUGH { 0.0 } else { of_all };
        let cutoff = cutoff(known.len(), Sides::Both).unwrap_or(0.0);
        let mut best: f64 = 0.0;
        for (at, change) in changes.into_iter().enumerate() {
            let Some((change, past)) = change else { continue };
            let (spread, threshold) = if of_all > past.spread {
                (of_all, past.threshold.max(cutoff) * scale)
            } else {
                (past.spread, past.threshold * scale)
            };
            let power = power(STATED_FACTOR.ln() / spread, threshold);
            best = best.max(power);
            // Among three hospitals one that changes moves the median of the other two's others: they seem
            // to change the other way, but not from the middle of all changes.
            let from_middle = change - center;
            let both = change.signum() == from_middle.signum();
            let score = change.signum() * change.abs().min(from_middle.abs()) / spread;
            if both && score.abs() > threshold {
                usual[at] = false;
                self.find(at, Statistic::History, score, threshold, Some(power));
            }
        }
        self.blind(Statistic::History, best);
    }

    /// Long updates that point against the others.
    fn directions(&mut self, scale: f64, sizes: &Sizes) {
        let hospitals = self.sites.len();
        let Some(cutoff) = cutoff(hospitals, Sides::Low) else { return };
        let (cosines, parameters) = match &self.seen {
            Seen::Updates(updates) => {
                let parameters = updates.first().map_or(0, |update| update.delta().len());
                (direction::cosines(updates, &self.norms), parameters)
            }
            Seen::Products { products, parameters } => (direction::cosines_of(products), *parameters),
        };
        let known: Vec<f64> = cosines.iter().copied().flatten().collect();
        if known.len() < FEWEST {
            return;
        }
        let (center, spread) = center_and_spread(&known);
        let parameters = parameters.max(1) as f64;
        let spread = spread.max(LEAST_TURN * center.abs()).max(1.0 / parameters.sqrt());
        let threshold = cutoff * scale;
        let power = power(2.0 * center.max(0.0) / spread, threshold)
            * power(STATED_FACTOR.ln() / sizes.spread, sizes.long);
        self.blind(Statistic::Cosine, power);
        for (at, cosine) in cosines.iter().enumerate() {
            let Some(cosine) = cosine.filter(|cosine| *cosine < 0.0) else { continue };
            let score = (cosine - center) / spread;
            if score < -threshold && sizes.scores[at] > sizes.long {
                self.find(at, Statistic::Cosine, score, threshold, Some(power));
            }
        }
    }

    /// The classical score on norms.
    fn z_scores(&mut self, threshold: f64) {
        let n = self.norms.len() as f64;
        let largest = (n - 1.0) / n.sqrt();
        if self.norms.len() < 2 || largest <= threshold {
            let hospitals = self.norms.len();
            self.warnings.push(InspectionWarning::ZScoreCannotFire { hospitals, threshold, largest });
            return;
        }
        let mean = self.norms.iter().sum::<f64>() / n;
        let variance = self.norms.iter().map(|norm| (norm - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let deviation = variance.sqrt();
        for at in 0..self.norms.len() {
            let score = (self.norms[at] - mean) / deviation;
            if score.abs() > threshold {
                self.find(at, Statistic::Norm, score, threshold, None);
            }
        }
    }

    fn blind(&mut self, statistic: Statistic, power: f64) {
        if power < 0.5 {
            let hospitals = self.sites.len();
            self.warnings.push(InspectionWarning::Blind { statistic, hospitals, power });
        }
    }
}

/// Each value less the median of the others. Against the others alone: whoever is the median itself would
/// be 0 from it, which is not normal.
fn relative(values: &[f64]) -> Vec<f64> {
    let from_others = |at: usize| {
        let others = values.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, value)| *value);
        values[at] - median(others.collect())
    };
    (0..values.len()).map(from_others).collect()
}

/// Probability that a standard normal value moved by `deviation` passes `threshold`.
fn power(deviation: f64, threshold: f64) -> f64 {
    0.5 * erfc((threshold - deviation) / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests;
