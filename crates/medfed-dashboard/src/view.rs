//! What pages and API show: the store's contents, read once per change and shared.

use medfed_federation::report::{RoundReport, Summary};
use medfed_store::{Event, Reader, Run, StoreError};
use medfed_types::RoundId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A results folder as of one moment.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// All runs, oldest first.
    pub(crate) runs: Vec<Run>,
    /// The newest run in full.
    latest: Option<Arc<RunView>>,
}

/// One run in full.
#[derive(Debug)]
pub(crate) struct RunView {
    /// Its row.
    pub(crate) run: Run,
    /// Its reports, in order.
    pub(crate) rounds: Vec<RoundReport>,
    /// What happened, oldest first.
    pub(crate) events: Vec<Event>,
    /// Documents by name, such as `fairness_report`.
    pub(crate) documents: BTreeMap<String, Value>,
    /// Its summary, once it has ended.
    pub(crate) summary: Option<Summary>,
}

impl View {
    /// Reads the list of runs and the newest run. `before` is what the same store said earlier.
    pub(crate) fn read(reader: &Reader, before: Option<&Self>) -> Result<Self, StoreError> {
        let runs = reader.runs()?;
        let before = before.and_then(Self::latest);
        let latest = runs.last().map(|run| {
            let known = before.filter(|known| known.run.id == run.id).map(|known| known.rounds.clone());
            RunView::complete(reader, run.clone(), known.unwrap_or_default())
        });
        let latest = latest.transpose()?;
        Ok(Self { runs, latest: latest.map(Arc::new) })
    }

    /// The newest run.
    pub(crate) fn latest(&self) -> Option<&Arc<RunView>> {
        self.latest.as_ref()
    }
}

impl RunView {
    /// Reads one run.
    pub(crate) fn read(reader: &Reader, run: Run) -> Result<Self, StoreError> {
        Self::complete(reader, run, Vec::new())
    }

    /// Reads what is not known of a run of which these rounds are.
    fn complete(reader: &Reader, run: Run, mut rounds: Vec<RoundReport>) -> Result<Self, StoreError> {
        let unreadable = |what| move |source| StoreError::Json { what, source };
        // The last one is read again: a run that was killed in between may have written it once more.
        let first = rounds.pop().map_or(RoundId(0), |last| RoundId(last.round_num));
        for round in reader.rounds_from(&run.id, first)? {
            rounds.push(serde_json::from_value(round.report).map_err(unreadable("round"))?);
        }
        let documents = reader
            .documents(&run.id)?
            .into_iter()
            .filter_map(|name| Some((reader.document(&run.id, &name).transpose()?, name)))
            .map(|(text, name)| {
                let document = serde_json::from_str(&text?).map_err(unreadable("document"))?;
                Ok((name, document))
            })
            .collect::<Result<_, StoreError>>()?;
        let summary = run.summary.clone().map(serde_json::from_value).transpose();
        Ok(Self {
            rounds,
            events: reader.events(&run.id)?,
            documents,
            summary: summary.map_err(unreadable("summary"))?,
            run,
        })
    }

    /// The configuration, without what is stored beside it for resuming.
    pub(crate) fn config(&self) -> &Value {
        self.run.config.get("config").unwrap_or(&self.run.config)
    }

    /// Wall-clock time of each round, in seconds; nothing where it was not recorded.
    pub(crate) fn seconds(&self) -> Vec<f64> {
        let timing = self.documents.get("timing").and_then(|timing| timing["rounds"].as_array());
        timing.into_iter().flatten().filter_map(Value::as_f64).collect()
    }

    /// Rounds planned.
    pub(crate) fn planned_rounds(&self) -> u32 {
        self.config()["federated"]["num_rounds"].as_u64().unwrap_or_default() as u32
    }

    /// ε that no hospital may pass; nothing without privacy.
    pub(crate) fn budget(&self) -> Option<f64> {
        let privacy = &self.config()["privacy"];
        privacy["enabled"].as_bool().unwrap_or(true).then(|| privacy["epsilon_budget"].as_f64()).flatten()
    }
}
