//! What a hospital needs to continue after a restart: its optimiser and, in the middle of a round, its
//! local parameters. The ledger and the key are kept elsewhere.

use super::Site;
use super::local::{Counts, LocalWork};
use crate::error::FederationError;
use crate::journal::{Snapshot, from_bytes, to_bytes};
use crate::masking::Record;
use medfed_dp::LedgerStorage;
use medfed_nn::optimizer::OptimizerState;
use medfed_types::RoundId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const OPTIMIZER: &str = "optimizer";
const PARAMETERS: &str = "parameters";
/// The part of a site's small state that changes within a round.
pub(crate) const MASKED: &str = "masked";

#[derive(Serialize, Deserialize)]
struct Meta {
    paused: Option<PausedMeta>,
    /// What it answered under masks.
    #[serde(default)]
    masked: Record,
}

#[derive(Serialize, Deserialize)]
struct PausedMeta {
    round: RoundId,
    counts: Counts,
    inputs: [u8; 32],
    /// [`LocalTraining::configuration`](super::LocalTraining) of the steps done. The ledger compares
    /// `inputs`, which are of the round's start; steps to come must follow the same settings and data, or
    /// another sum would meet the round's noise.
    configuration: [u8; 32],
}

impl<S: LedgerStorage> Site<S> {
    /// The name under which the hospital's state is kept.
    pub fn owner(&self) -> String {
        format!("site {}", self.id)
    }

    /// Everything that a restart needs.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every state")]
    pub fn snapshot(&self) -> Snapshot {
        let mut blobs = BTreeMap::new();
        if let Some(optimizer) = &self.optimizer {
            blobs.insert(OPTIMIZER.to_owned(), optimizer.to_bytes());
        }
        let paused = self.paused.as_ref().map(|work| {
            blobs.insert(PARAMETERS.to_owned(), to_bytes(&work.parameters));
            let configuration = self.training.configuration;
            PausedMeta { round: work.round, counts: work.counts, inputs: work.inputs, configuration }
        });
        let masked = self.party.as_ref().map(|party| party.record().clone()).unwrap_or_default();
        let meta = serde_json::to_value(Meta { paused, masked }).expect("plain numbers are JSON");
        Snapshot { owner: self.owner(), meta, blobs }
    }

    /// What it answered under masks: the field [`MASKED`] of the snapshot's small state.
    pub(crate) fn masked(&self) -> Option<serde_json::Value> {
        let party = self.party.as_ref()?;
        Some(serde_json::to_value(party.record()).expect("names and numbers are JSON"))
    }

    /// Puts the hospital back to where the snapshot was taken.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), FederationError> {
        let refuse = |problem: String| FederationError::Saved { owner: snapshot.owner.clone(), problem };
        let meta: Meta = serde_json::from_value(snapshot.meta.clone()).map_err(|e| refuse(e.to_string()))?;
        let len = self.executor.network().layout().len();
        self.optimizer = match snapshot.blobs.get(OPTIMIZER) {
            Some(bytes) => Some(OptimizerState::from_bytes(self.training.optimizer, len, bytes)?),
            None => None,
        };
        if let Some(party) = &mut self.party {
            party.restore(meta.masked);
        }
        self.paused = match meta.paused {
            Some(PausedMeta { configuration, .. }) if configuration != self.training.configuration => {
                return Err(refuse("it stopped within a round under other settings or on other data".into()));
            }
            Some(PausedMeta { round, counts, inputs, .. }) => {
                let bytes = snapshot.blobs.get(PARAMETERS).map(Vec::as_slice).unwrap_or_default();
                let parameters = from_bytes(bytes, len)
                    .ok_or_else(|| refuse("its parameters do not fit the model".into()))?;
                Some(LocalWork { round, counts, inputs, parameters })
            }
            None => None,
        };
        Ok(())
    }
}
