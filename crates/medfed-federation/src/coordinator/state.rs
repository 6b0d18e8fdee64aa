//! What the coordinator needs to continue after a restart.

use super::fairness::FairnessState;
use super::{Best, Coordinator};
use crate::error::FederationError;
use crate::journal::{Snapshot, from_bytes, to_bytes};
use crate::report::RoundReport;
use medfed_aggregate::selection::ProductHistory;
use medfed_nn::optimizer::Ema;
use medfed_types::{RoundId, SiteId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name under which the coordinator's state is kept.
pub(crate) const OWNER: &str = "coordinator";
const GLOBAL: &str = "global";
const AVERAGE: &str = "average";
const BEST: &str = "best";
const AGGREGATOR: &str = "aggregator";
const DETECTOR: &str = "detector";
const PRODUCTS: &str = "products";

#[derive(Serialize, Deserialize)]
struct Meta {
    done: RoundId,
    left: BTreeSet<SiteId>,
    best: Option<BestMeta>,
    #[serde(default)]
    fairness: FairnessState,
}

#[derive(Serialize, Deserialize)]
struct BestMeta {
    round: u32,
    auc: Option<f64>,
    loss: Option<f64>,
}

impl Coordinator {
    /// Everything that a restart needs besides the reports of the rounds done.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every state")]
    pub fn snapshot(&self) -> Snapshot {
        let mut blobs = BTreeMap::from([
            (GLOBAL.to_owned(), to_bytes(&self.global)),
            (AGGREGATOR.to_owned(), self.aggregator.to_bytes()),
        ]);
        if let Some(detector) = &self.detector {
            blobs.insert(DETECTOR.to_owned(), detector.to_bytes());
        }
        if self.past != ProductHistory::default() {
            blobs.insert(PRODUCTS.to_owned(), self.past.to_bytes());
        }
        if let Some(average) = &self.average {
            blobs.insert(AVERAGE.to_owned(), average.to_bytes());
        }
        if let Some(best) = &self.best {
            blobs.insert(BEST.to_owned(), to_bytes(&best.parameters));
        }
        let best =
            self.best.as_ref().map(|best| BestMeta { round: best.round, auc: best.auc, loss: best.loss });
        let meta = serde_json::to_value(Meta {
            done: self.done,
            left: self.left.clone(),
            best,
            fairness: self.fairness.clone(),
        })
        .expect("names and numbers are JSON");
        Snapshot { owner: OWNER.to_owned(), meta, blobs }
    }

    /// The global parameters in the coordinator's snapshot, if it is among `state`.
    pub fn saved_parameters(state: &[Snapshot]) -> Option<Vec<f32>> {
        let bytes = state.iter().find(|snapshot| snapshot.owner == OWNER)?.blobs.get(GLOBAL)?;
        from_bytes(bytes, bytes.len() / 4)
    }

    /// The newest finished round in the coordinator's snapshot, if it is among `state`.
    pub fn saved_round(state: &[Snapshot]) -> Option<RoundId> {
        let meta = &state.iter().find(|snapshot| snapshot.owner == OWNER)?.meta;
        serde_json::from_value::<Meta>(meta.clone()).ok().map(|meta| meta.done)
    }

    /// Puts a fresh coordinator back to where the snapshot was taken; `reports` are those of the rounds
    /// done.
    pub fn restore(
        &mut self,
        snapshot: &Snapshot,
        mut reports: Vec<RoundReport>,
    ) -> Result<(), FederationError> {
        let refuse = |problem: String| FederationError::Saved { owner: OWNER.into(), problem };
        let meta: Meta = serde_json::from_value(snapshot.meta.clone()).map_err(|e| refuse(e.to_string()))?;
        // A report may be ahead of the state: its round is done again, to the same result.
        reports.truncate(meta.done.0 as usize);
        if reports.len() < meta.done.0 as usize {
            return Err(refuse(format!("{} rounds are done, {} are reported", meta.done, reports.len())));
        }
        let len = self.global.len();
        let blob = |name: &str| snapshot.blobs.get(name).ok_or_else(|| refuse(format!("{name} is missing")));
        let parameters = |name: &str| {
            let values = from_bytes(blob(name)?, len);
            values.map(Arc::new).ok_or_else(|| refuse(format!("{name} does not fit the model")))
        };
        self.global = parameters(GLOBAL)?;
        if self.settings.ema_decay > 0.0 {
            self.average = Some(Ema::from_bytes(self.settings.ema_decay, len, blob(AVERAGE)?)?);
        }
        let unreadable = |error: medfed_aggregate::AggregateError| refuse(error.to_string());
        self.aggregator.restore(blob(AGGREGATOR)?).map_err(unreadable)?;
        if let Some(detector) = &mut self.detector {
            detector.restore(blob(DETECTOR)?).map_err(unreadable)?;
        }
        self.past = match snapshot.blobs.get(PRODUCTS) {
            Some(bytes) => ProductHistory::from_bytes(bytes).map_err(unreadable)?,
            None => ProductHistory::default(),
        };
        self.best = match meta.best {
            Some(BestMeta { round, auc, loss }) => {
                Some(Best { round, auc, loss, parameters: parameters(BEST)? })
            }
            None => None,
        };
        (self.done, self.left, self.reports) = (meta.done, meta.left, reports);
        self.fairness = meta.fairness;
        Ok(())
    }
}
