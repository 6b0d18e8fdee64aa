//! How a round's sums were opened under masks.

use super::{Exclusion, SelectionReport};
use crate::masking::{MaskingMode, Order};
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `masking` object of a round's `security`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskingReport {
    /// What was opened.
    pub mode: MaskingMode,
    /// What was revealed, and to whom.
    pub revealed: Vec<Revealed>,
    /// Hospitals whose updates fitted, in the order of their names.
    pub participants: Vec<SiteId>,
    /// Hospitals whose updates are in an opened sum, in the order of their names.
    pub survivors: Vec<SiteId>,
    /// Hospitals that withheld their update or dropped out, and why.
    pub lost: Vec<Exclusion>,
    /// Hospitals that are to blame for a session that ended with an error, where that is known.
    pub culprits: Vec<SiteId>,
    /// The groups, as they were drawn; empty for one sum.
    pub groups: Vec<Vec<SiteId>>,
    /// Hospitals that it takes to open the sum of all; a group has the least threshold for its size.
    pub threshold: usize,
    /// The least number of survivors whose sum is opened; a group opens that of 2 or 3.
    pub min_clients: usize,
    /// Largest absolute value in an update.
    pub clip_range: f64,
    /// How far any value of an opened mean may be from that of the real updates.
    pub error_bound: f64,
    /// Bytes of each hospital's messages.
    pub traffic: BTreeMap<SiteId, Traffic>,
    /// Attempts that failed, in their order. One that fails before a masked input has left is repeated
    /// without those who made it fail, where enough hospitals remain.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// What was opened to select among the updates, and who was selected; null where that is not done.
    #[serde(default)]
    pub selection: Option<SelectionReport>,
}

/// An attempt at opening a round's sums that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Who took part.
    pub hospitals: Vec<SiteId>,
    /// Whom the next attempt leaves out, or would have to.
    pub left_out: Vec<SiteId>,
    /// Why it failed, in a sentence without full stop.
    pub reason: String,
}

/// What a hospital sent and received for the sums of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// To the coordinator.
    pub sent_bytes: u64,
    /// From the coordinator.
    pub received_bytes: u64,
}

/// What is revealed of updates, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revealed {
    /// The sum of all updates.
    Sum,
    /// The total of the samples behind them.
    TotalSamples,
    /// The sum of each group's updates, and who is in which group.
    GroupSums,
    /// All inner products between updates: norms, distances and directions.
    InnerProducts,
    /// The sum of the selected updates.
    SelectedSum,
}

impl std::fmt::Display for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sum => "the sum of the updates, to the coordinator",
            Self::TotalSamples => "the total number of samples, to the coordinator and every hospital",
            Self::InnerProducts => {
                "all inner products between updates, so their norms, distances and directions, and who was selected, to the coordinator and every hospital"
            }
            Self::SelectedSum => "the sum of the selected updates, to the coordinator",
            Self::GroupSums => {
                "the sum of each group's updates, to the coordinator; who is in which group, to everyone"
            }
        })
    }
}

impl MaskingReport {
    /// Before anything was sent.
    pub(crate) fn new(order: &Order) -> Self {
        Self {
            mode: order.plan.mode,
            revealed: Vec::new(),
            participants: Vec::new(),
            survivors: Vec::new(),
            lost: Vec::new(),
            culprits: Vec::new(),
            groups: Vec::new(),
            threshold: 0,
            min_clients: order.plan.min_clients,
            clip_range: order.range.get(),
            error_bound: 0.0,
            traffic: BTreeMap::new(),
            attempts: Vec::new(),
            selection: None,
        }
    }
}
