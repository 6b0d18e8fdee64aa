//! What was opened to select among masked updates, and who was selected.

use super::Exclusion;
use crate::masking::Prospect;
use medfed_aggregate::anomaly::Expected;
use medfed_aggregate::selection::{SelectionRule, Verdict};
use medfed_secagg::SessionContext;
use medfed_secagg::selection::Gram;
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `selection` object of a round's `masking`. Everything that it takes to select again is here or in the
/// configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelectionReport {
    /// The rule that selects, with its parameters.
    pub rule: String,
    /// Hospitals whose updates were compared, in the order of their names.
    pub compared: Vec<SiteId>,
    /// Hospitals whose updates were longer than agreed.
    pub too_long: Vec<SiteId>,
    /// Hospitals that said that their own update does not fit.
    pub withheld: Vec<SiteId>,
    /// Hospitals whose shares of inner products did not fit the others'.
    pub suspects: Vec<SiteId>,
    /// Hospitals whose updates were to be summed, in the order of their names.
    pub selected: Vec<SiteId>,
    /// The other hospitals that were compared, and why they were not selected.
    pub passed_over: Vec<Exclusion>,
    /// The largest L2 norm of an update.
    pub norm_bound: f64,
    /// Values in an update.
    pub parameters: u64,
    /// Integer steps to one.
    pub steps: f64,
    /// Exact inner products of the compared updates in steps, row by row, each row from its diagonal on.
    pub products: Vec<i64>,
    /// L2 norm of each compared update.
    pub norms: BTreeMap<SiteId, f64>,
    /// How far the squared distance between any two updates may be from the real one: each value of an update
    /// is rounded to half a step.
    pub distance_error: f64,
    /// What an honest update of each compared hospital looks like, by its announced plan.
    pub expected: BTreeMap<SiteId, ExpectedUpdate>,
}

/// L2 norms that follow from a hospital's announced plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExpectedUpdate {
    /// Of an ordinary update, up to a factor that all hospitals share.
    pub scale: f64,
    /// The least that the announced noise makes.
    pub least: Option<f64>,
}

impl From<&Expected> for ExpectedUpdate {
    fn from(expected: &Expected) -> Self {
        Self { scale: expected.scale(), least: expected.least_norm() }
    }
}

impl SelectionReport {
    /// Of opened products and the verdict on them.
    pub(crate) fn new(
        rule: &SelectionRule,
        prospect: &Prospect,
        context: &SessionContext,
        gram: &Gram,
        verdict: &Verdict,
    ) -> Self {
        let (members, parameters) = (gram.vectors(), context.input_words());
        let compared = context.names(members);
        let squared = |site, other| gram.squared_distance(site, other).unwrap_or(0.0);
        let pairs = members.iter().flat_map(|u| members.iter().map(move |v| (u, v)));
        let farthest = pairs.map(|(u, v)| squared(u, v)).fold(0.0, f64::max).sqrt();
        let norm = |index| gram.inner_product(index, index).unwrap_or(0.0).sqrt();
        Self {
            rule: rule.rule().to_string(),
            norms: compared.iter().cloned().zip(members.iter().map(norm)).collect(),
            expected: (compared.iter())
                .filter_map(|site| Some((site.clone(), prospect.expected.get(site)?.into())))
                .collect(),
            compared,
            too_long: Vec::new(),
            withheld: Vec::new(),
            suspects: Vec::new(),
            selected: verdict.selected.clone().unwrap_or_default(),
            passed_over: (verdict.passed_over.iter())
                .map(|it| Exclusion { hospital: it.site.clone(), reason: it.reason.to_string() })
                .collect(),
            norm_bound: prospect.norm.get(),
            parameters: parameters as u64,
            steps: gram.scale(),
            products: gram.integers().to_vec(),
            distance_error: gram.distance_error(farthest, parameters),
        }
    }
}
