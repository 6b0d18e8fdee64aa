//! Whom a rule selects when nothing but the inner products of a round's updates is known.
//!
//! Under masks the coordinator and every hospital see ⟨uᵢ, uⱼ⟩ for all pairs of updates and open one sum
//! (`medfed-secagg`, secure selection). What enters here is an [`OpenedProducts`]; what leaves is a
//! [`Verdict`]: whose updates are summed, each with the same weight, and why the others are not. The verdict
//! is a function of its arguments alone, so that everyone who has the inner products comes to the same one:
//! the coordinator, each hospital before it signs, whoever verifies the audit log afterwards.
//!
//! 1. *Search.* The statistics of [`anomaly`](crate::anomaly) that norms and directions of one round give:
//!    `norm`, `cosine`, `too_small`. The comparison with a hospital's own past is left to the coordinator,
//!    who reports it: hospitals that joined later do not know that past, and could not sign what follows
//!    from it. With [`OnDetection::Exclude`] whoever is out of line is left out; with
//!    [`OnDetection::Halt`] nothing is opened.
//! 2. *Selection.*
//!    * [`Rule::FedAvg`] selects all who are left.
//!    * [`Rule::MultiKrum`] selects as it does on open updates: distances follow from inner products.
//!    * [`Rule::FoolsGold`] selects whoever has a weight of at least ½ ([`LEAST_WEIGHT`]). On open updates the
//!      weights scale the updates. Under masks they cannot: they follow from what is opened after the masked
//!      inputs have left, and a masked input cannot be scaled without its masks. The weights are those of
//!      [`foolsgold_weights`] on [`ProductHistory`]. Where fewer are selected than a sum must have, those
//!      of the rest that resemble others least join them, unless they cannot be told from another.
//!
//! Nobody opens the sum of fewer than [`LEAST_SELECTED`] updates: two could tell each other's.
//!
//! **Not the same as on open updates.** Weights are equal, whatever the numbers of images. FoolsGold's
//! history on open updates is the *sum* of a hospital's updates; here it is their *sequence*, since products
//! between updates of different rounds are not known. Both agree in the first round. Later, noise that
//! differs from round to round averages out of a sum and not out of a sequence: Sybils that add much noise
//! of their own are recognised later or not at all.

use crate::anomaly::{Detector, DetectorSettings, Expected, Finding, InspectionWarning, OnDetection};
use crate::distances::Gram;
use crate::error::{AggregateError, StateFault};
use crate::foolsgold::{INDISTINGUISHABLE, distinctness, foolsgold_weights};
use crate::krum::{check, krum_scores, krum_selection};
use crate::rule::{Rule, RuleWarning};
use medfed_types::SiteId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The fewest updates whose sum may be opened.
pub const LEAST_SELECTED: usize = 3;

/// The least weight at which FoolsGold selects a hospital.
pub const LEAST_WEIGHT: f64 = 0.5;

const MAGIC: &[u8; 8] = b"medfedP1";

/// Inner products between the updates of a round, one for each pair of hospitals.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedProducts {
    sites: Vec<SiteId>,
    products: Gram,
    parameters: usize,
}

impl OpenedProducts {
    /// `products` has a row for each of `sites`, which are in ascending order; the updates have `parameters`
    /// values each.
    pub fn new(sites: Vec<SiteId>, products: Gram, parameters: usize) -> Result<Self, AggregateError> {
        if products.rows() != sites.len() {
            return Err(AggregateError::MatrixSize {
                rows: sites.len(),
                found: products.rows() * products.rows(),
            });
        }
        if let Some(pair) = sites.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(AggregateError::Unordered { first: pair[0].clone(), second: pair[1].clone() });
        }
        Ok(Self { sites, products, parameters })
    }

    /// Whose updates, in the order of their names.
    pub fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// The inner products, a row for each site.
    pub fn products(&self) -> &Gram {
        &self.products
    }

    /// Values in an update.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// L2 norm of each update.
    pub fn norms(&self) -> impl Iterator<Item = (&SiteId, f64)> {
        self.sites.iter().enumerate().map(|(at, site)| (site, self.products.get(at, at).sqrt()))
    }

    /// The products among the other sites.
    fn without(&self, left_out: &BTreeSet<SiteId>) -> Self {
        let kept: Vec<usize> =
            (0..self.sites.len()).filter(|at| !left_out.contains(&self.sites[*at])).collect();
        Self {
            sites: kept.iter().map(|at| self.sites[*at].clone()).collect(),
            products: self.products.only(&kept),
            parameters: self.parameters,
        }
    }
}

/// How hospitals are selected: the same for everyone, agreed before a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelectionRule {
    rule: Rule,
    detection: Option<Detection>,
    least: usize,
}

/// Hospitals that were asked for an update and have none among those that are compared, and not because they
/// fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Who took part with something that is no update, such as one longer than agreed. They are among the bad
    /// ones that the rule expects.
    pub refused: usize,
    /// Who said that their own update does not fit. They may be bad or not, as those whose update is out of
    /// line.
    pub withheld: usize,
}

/// A search of what is opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// How.
    pub settings: DetectorSettings,
    /// What a finding leads to.
    pub on_detection: OnDetection,
}

/// What the opened inner products lead to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whose updates are summed, at least [`LEAST_SELECTED`], in the order of their names; the reason where
    /// there is no sum that may be opened.
    pub selected: Result<Vec<SiteId>, AggregateError>,
    /// The others, in the order of their names.
    pub passed_over: Vec<PassedOver>,
    /// What is out of line.
    pub findings: Vec<Finding>,
    /// What the search could not see.
    pub unseen: Vec<InspectionWarning>,
    /// What the rule has to say.
    pub warnings: Vec<RuleWarning>,
}

/// A hospital that was not selected.
#[derive(Debug, Clone, PartialEq)]
pub struct PassedOver {
    /// The hospital.
    pub site: SiteId,
    /// Why not.
    pub reason: NotSelected,
}

/// Why a hospital was not selected.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NotSelected {
    /// Its update is out of line, and detection excludes.
    OutOfLine {
        /// In which ways.
        findings: Vec<Finding>,
    },
    /// Multi-Krum: others are nearer to their neighbours.
    Score {
        /// Sum of the squared distances to its nearest others.
        score: f64,
        /// The largest such sum of a selected hospital.
        selected: f64,
    },
    /// FoolsGold: its past resembles another hospital's.
    Weight {
        /// Its weight.
        weight: f64,
    },
}

impl fmt::Display for NotSelected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfLine { findings } => {
                for (at, finding) in findings.iter().enumerate() {
                    let sentence = finding.to_string();
                    let prefix = format!("{}: ", finding.site);
                    let sentence = sentence.strip_prefix(&prefix).unwrap_or(&sentence);
                    write!(f, "{}{sentence}", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Score { score, selected } => write!(
                f,
                "multi_krum did not select it: its distances to the nearest others add up to {score:.3e}, those of the selected to {selected:.3e} at the most"
            ),
            Self::Weight { weight } => write!(
                f,
                "foolsgold did not select it: its updates resemble another hospital's (weight {weight:.2}, from {LEAST_WEIGHT} on it is selected)"
            ),
        }
    }
}

impl SelectionRule {
    /// A sum has `least` updates, and never fewer than [`LEAST_SELECTED`]. Refuses rules that do not select
    /// from distances, or that would select fewer.
    pub fn new(rule: Rule, detection: Option<Detection>, least: usize) -> Result<Self, AggregateError> {
        rule.check()?;
        let least = least.max(LEAST_SELECTED);
        match rule {
            Rule::FedAvg | Rule::FoolsGold => {}
            Rule::MultiKrum { selected, .. } if selected >= least => {}
            Rule::MultiKrum { selected, .. } => {
                let (rule, needed) = (rule.to_string(), least);
                return Err(AggregateError::TooFewSelected { rule, selected, needed });
            }
            _ => return Err(AggregateError::NotSelecting { rule: rule.to_string() }),
        }
        Ok(Self { rule, detection, least })
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The search before it.
    pub fn detection(&self) -> Option<Detection> {
        self.detection
    }

    /// Updates that a sum has at the least.
    pub fn least(&self) -> usize {
        self.least
    }

    /// Hospitals with an update that a round needs.
    pub fn needed(&self) -> usize {
        self.rule.needed().max(self.least)
    }

    /// Whether the rule goes by earlier rounds.
    pub fn remembers(&self) -> bool {
        self.rule == Rule::FoolsGold
    }

    /// Who is selected. `past` is what was opened in earlier rounds, `gone` says who is not among the compared.
    pub fn select(
        &self,
        opened: &OpenedProducts,
        expected: &BTreeMap<SiteId, Expected>,
        past: &ProductHistory,
        gone: LeftOut,
    ) -> Verdict {
        let mut verdict = Verdict {
            selected: Ok(Vec::new()),
            passed_over: Vec::new(),
            findings: Vec::new(),
            unseen: Vec::new(),
            warnings: Vec::new(),
        };
        let mut left_out: BTreeMap<SiteId, Vec<Finding>> = BTreeMap::new();
        if let Some(Detection { settings, on_detection }) = self.detection {
            let found = Detector::new(settings).inspect_products(opened, expected);
            // A detector that has seen nothing has no past to find anything in, nor to be blind about.
            verdict.unseen = found.warnings;
            match on_detection {
                OnDetection::Exclude => {
                    for finding in &found.findings {
                        left_out.entry(finding.site.clone()).or_default().push(finding.clone());
                    }
                }
                OnDetection::Halt if !found.findings.is_empty() => {
                    let sites: BTreeSet<_> = found.findings.iter().map(|it| it.site.clone()).collect();
                    let sites = sites.into_iter().collect();
                    verdict.selected = Err(AggregateError::OutOfLine { sites });
                }
                OnDetection::Flag | OnDetection::Halt => {}
            }
            verdict.findings = found.findings;
        }
        if verdict.selected.is_err() {
            return verdict;
        }
        let excluded = left_out.keys().cloned().collect();
        let rest = opened.without(&excluded);
        let out_of_line = |(site, findings)| PassedOver { site, reason: NotSelected::OutOfLine { findings } };
        verdict.passed_over.extend(left_out.into_iter().map(out_of_line));
        let suspects = excluded.len() + gone.withheld;
        let (rule, warnings) =
            self.rule.without_bad(gone.refused).without_suspects(rest.sites.len(), suspects);
        let selected = self.choose(rule, &rest, past, &mut verdict.passed_over);
        if selected.is_ok() {
            verdict.warnings = rule.warnings(self.rule, rest.sites.len());
        }
        verdict.warnings.extend(warnings);
        verdict.passed_over.sort_by(|a, b| a.site.cmp(&b.site));
        verdict.selected = selected.and_then(|sites| {
            if sites.len() < self.least {
                let (selected, needed) = (sites.len(), self.least);
                return Err(AggregateError::TooFewSelected { rule: rule.to_string(), selected, needed });
            }
            Ok(sites)
        });
        verdict
    }

    /// The rule's choice, in the order of the names; the others are noted.
    fn choose(
        &self,
        rule: Rule,
        opened: &OpenedProducts,
        past: &ProductHistory,
        passed_over: &mut Vec<PassedOver>,
    ) -> Result<Vec<SiteId>, AggregateError> {
        let sites = &opened.sites;
        check(rule, sites.len())?;
        let chosen: Vec<usize> = match rule {
            Rule::MultiKrum { byzantine, selected } => {
                let distances = opened.products.squared_distances();
                let scores = krum_scores(&distances, byzantine)?;
                let chosen = krum_selection(&distances, byzantine, selected)?;
                let largest = chosen.iter().map(|at| scores[*at]).fold(0.0, f64::max);
                let others = (0..sites.len()).filter(|at| !chosen.contains(at));
                passed_over.extend(others.map(|at| PassedOver {
                    site: sites[at].clone(),
                    reason: NotSelected::Score { score: scores[at], selected: largest },
                }));
                chosen
            }
            Rule::FoolsGold => {
                let products = past.with_round(opened).products_of(sites)?;
                let (weights, distinct) = (foolsgold_weights(&products), distinctness(&products));
                // The weights are the distinctness, spread: one order serves both.
                let mut order: Vec<usize> = (0..sites.len()).collect();
                order.sort_by(|a, b| distinct[*b].total_cmp(&distinct[*a]).then(a.cmp(b)));
                let heavy = weights.iter().filter(|weight| **weight >= LEAST_WEIGHT).count();
                let some = distinct.iter().filter(|it| **it >= INDISTINGUISHABLE).count();
                let others = order.split_off(heavy.max(self.least.min(some)));
                let chosen = order;
                passed_over.extend(others.into_iter().map(|at| PassedOver {
                    site: sites[at].clone(),
                    reason: NotSelected::Weight { weight: weights[at] },
                }));
                chosen
            }
            _ => (0..sites.len()).collect(),
        };
        let mut chosen: Vec<SiteId> = chosen.into_iter().map(|at| sites[at].clone()).collect();
        chosen.sort();
        Ok(chosen)
    }
}

/// Σ ⟨uᵢ, uⱼ⟩ over the rounds in which both hospitals took part: the inner products of the sequences of their
/// updates. Cloning copies one number for each pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProductHistory(BTreeMap<(SiteId, SiteId), f64>);

impl ProductHistory {
    /// After one more round.
    #[must_use]
    pub fn with_round(&self, opened: &OpenedProducts) -> Self {
        let mut next = self.clone();
        for (i, first) in opened.sites.iter().enumerate() {
            for (j, second) in opened.sites.iter().enumerate().skip(i) {
                let sum = next.0.entry((first.clone(), second.clone())).or_default();
                *sum = (*sum + opened.products.get(i, j)).clamp(f64::MIN, f64::MAX);
            }
        }
        next
    }

    /// What is remembered among `sites`, in ascending order; 0 of a pair that never met.
    fn products_of(&self, sites: &[SiteId]) -> Result<Gram, AggregateError> {
        let n = sites.len();
        let entry = |k: usize| {
            let (i, j) = (k / n, k % n);
            let pair = (sites[i.min(j)].clone(), sites[i.max(j)].clone());
            self.0.get(&pair).copied().unwrap_or(0.0)
        };
        Gram::new(n, (0..n * n).map(entry).collect())
    }

    /// All of it, bit by bit: a mark, then for each pair both names, each behind its length, and the sum,
    /// little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for ((first, second), sum) in &self.0 {
            for name in [first, second] {
                // A name has 64 bytes at most.
                out.push(name.as_str().len() as u8);
                out.extend_from_slice(name.as_str().as_bytes());
            }
            out.extend_from_slice(&sum.to_le_bytes());
        }
        out
    }

    /// What [`to_bytes`](Self::to_bytes) wrote, and nothing else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AggregateError> {
        let truncated = StateFault::Length { found: bytes.len() };
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(StateFault::Format)?;
        let mut all = BTreeMap::<(SiteId, SiteId), f64>::new();
        while !rest.is_empty() {
            let entry = all.len();
            let mut name = || -> Result<SiteId, StateFault> {
                let (length, after) = rest.split_first().ok_or(truncated)?;
                let (name, after) = after.split_at_checked(usize::from(*length)).ok_or(truncated)?;
                rest = after;
                let name = std::str::from_utf8(name).map_err(|_| StateFault::Name { entry })?;
                SiteId::try_from(name).map_err(|_| StateFault::Name { entry })
            };
            let pair = (name()?, name()?);
            let (sum, after) = rest.split_first_chunk().ok_or(truncated)?;
            rest = after;
            let sum = f64::from_le_bytes(*sum);
            if !sum.is_finite() || (pair.0 == pair.1 && sum < 0.0) {
                return Err(StateFault::NotFinite { entry }.into());
            }
            // In order also means that no pair comes twice.
            if pair.0 > pair.1 || all.last_key_value().is_some_and(|(last, _)| *last >= pair) {
                return Err(StateFault::Name { entry }.into());
            }
            all.insert(pair, sum);
        }
        Ok(Self(all))
    }
}
