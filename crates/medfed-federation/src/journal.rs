//! Durable state, without saying where it is kept.

use crate::report::RoundReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that the coordinator or a site needs to continue after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `coordinator`, or `site` and the site's name.
    pub owner: String,
    /// Small state.
    pub meta: serde_json::Value,
    /// Buffers by name.
    #[serde(skip)]
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// Where a run is made durable. Each call is atomic: after a crash either all of it is there or nothing.
pub trait Journal {
    /// How it fails.
    type Error: std::error::Error + Send + Sync + 'static;

    /// A round is over: its report, and the state from which the next begins. It replaces all earlier
    /// state.
    fn commit_round(&mut self, report: &RoundReport, state: &[Snapshot]) -> Result<(), Self::Error>;

    /// The run stops in the middle of a round: the state from which it continues. It replaces all
    /// earlier state.
    fn suspend(&mut self, state: &[Snapshot]) -> Result<(), Self::Error>;

    /// One field of some owners' small state ([`Snapshot::meta`]) changes; everything else that was kept
    /// last stays. It is small, and written several times a round where updates are masked.
    fn amend(&mut self, field: &str, values: &[(String, serde_json::Value)]) -> Result<(), Self::Error>;

    /// Something happened that an auditor would ask about.
    fn event(&mut self, round: u32, kind: &str, detail: &serde_json::Value) -> Result<(), Self::Error>;
}

/// Little-endian bytes of a parameter buffer.
pub(crate) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A parameter buffer of `len` values, or nothing when the bytes are not one.
pub(crate) fn from_bytes(bytes: &[u8], len: usize) -> Option<Vec<f32>> {
    let (values, odd) = bytes.as_chunks::<4>();
    (odd.is_empty() && values.len() == len).then(|| values.iter().map(|b| f32::from_le_bytes(*b)).collect())
}
