//! Everything the store knows about a run.

use crate::error::ReportError;
use crate::fields::Fields;
use medfed_dp::{Accountant, History, Phase};
use medfed_store::{Event, Reader, Round, Run, RunStatus};
use medfed_types::{Delta, RoundId, RunId, SiteId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The document that names the data and their classes.
pub(crate) const DATA: &str = "data_description";

/// A run, read from the store at one moment.
#[derive(Debug)]
pub struct RunRecord {
    pub(crate) run: Run,
    pub(crate) rounds: Vec<Arc<Round>>,
    pub(crate) events: Vec<Event>,
    documents: BTreeMap<String, Value>,
    /// ε at each hospital, computed anew from its ledger by the official accountant.
    pub(crate) paid: BTreeMap<SiteId, f64>,
    /// ε at each hospital at the end of the run, if each coming round is like the mean of those before, on
    /// the terms of the last one. Empty when no round is to come.
    pub(crate) projected: BTreeMap<SiteId, f64>,
}

impl RunRecord {
    /// Reads a run.
    pub fn read(reader: &Reader, id: &RunId) -> Result<Self, ReportError> {
        Self::complete(reader, id, Vec::new())
    }

    /// Reads the run again from the same store: everything but the rounds that were read before.
    pub fn read_again(&self, reader: &Reader) -> Result<Self, ReportError> {
        Self::complete(reader, &self.run.id, self.rounds.clone())
    }

    /// Reads a run of which these rounds are known.
    fn complete(reader: &Reader, id: &RunId, mut rounds: Vec<Arc<Round>>) -> Result<Self, ReportError> {
        let run = reader.run(id)?;
        // The last one is read again: a run that was killed in between may have written it once more.
        let first = rounds.pop().map_or(RoundId(0), |last| last.round);
        rounds.extend(reader.rounds_from(id, first)?.into_iter().map(Arc::new));
        let mut documents = BTreeMap::new();
        for name in reader.documents(id)? {
            if let Some(text) = reader.document(id, &name)? {
                let value = serde_json::from_str(&text)
                    .map_err(|source| ReportError::Document { name: name.clone(), source })?;
                documents.insert(name, value);
            }
        }
        let (paid, projected) = paid(reader, &run, &rounds)?;
        Ok(Self { rounds, events: reader.events(id)?, documents, paid, projected, run })
    }

    /// The configuration, without what is stored beside it for resuming.
    pub(crate) fn config(&self) -> Fields<'_> {
        Fields(configuration(&self.run))
    }

    pub(crate) fn summary(&self) -> Fields<'_> {
        Fields(self.run.summary.as_ref().unwrap_or(&Value::Null))
    }

    /// A document; null when the run has none of this name.
    pub(crate) fn document(&self, name: &str) -> Fields<'_> {
        Fields(self.documents.get(name).unwrap_or(&Value::Null))
    }

    pub(crate) fn last_round(&self) -> Fields<'_> {
        Fields(self.rounds.last().map_or(&Value::Null, |round| &round.report))
    }

    /// The round whose model was saved, or the last one.
    pub(crate) fn best_round(&self) -> Fields<'_> {
        let best = self.summary().count("best_round");
        let report = self.rounds.iter().find(|round| best == Some(u64::from(round.round.0)));
        report.map_or_else(|| self.last_round(), |round| Fields(&round.report))
    }

    pub(crate) fn is_private(&self) -> bool {
        self.config().flag("privacy.enabled").unwrap_or(true)
    }

    /// ε of the hospital that spent most. The ledger knows also what a killed run paid for.
    pub(crate) fn epsilon(&self) -> Option<f64> {
        if !self.is_private() {
            return None;
        }
        let paid = self.paid.values().copied().reduce(f64::max);
        paid.or_else(|| self.summary().number("final_epsilon"))
            .or_else(|| self.last_round().number("epsilon_total"))
    }

    /// The name of a class; its number where it has none.
    pub(crate) fn class_name(&self, class: usize) -> String {
        let named = self.document(DATA).items("classes").nth(class).and_then(|name| name.0.as_str());
        named.map_or_else(|| format!("class {class}"), str::to_owned)
    }
}

fn configuration(run: &Run) -> &Value {
    run.config.get("config").unwrap_or(&run.config)
}

/// ε by hospital: now, and at the end of the run.
type Spending = (BTreeMap<SiteId, f64>, BTreeMap<SiteId, f64>);

fn paid(reader: &Reader, run: &Run, rounds: &[Arc<Round>]) -> Result<Spending, ReportError> {
    let (mut paid, mut projected) = (BTreeMap::new(), BTreeMap::new());
    let config = Fields(configuration(run));
    let privacy = config.at("privacy");
    let delta = privacy.number("delta").and_then(|delta| Delta::new(delta).ok());
    let accountant = privacy.text("accountant").and_then(|name| name.parse::<Accountant>().ok());
    let Some((delta, accountant)) = delta.zip(accountant) else { return Ok((paid, projected)) };
    let planned = config.count("federated.num_rounds").unwrap_or(0);
    let goes_on = matches!(run.status, RunStatus::Running | RunStatus::Interrupted);
    let done = rounds.len() as u64;
    let reported = if goes_on { reported_steps(rounds) } else { BTreeMap::new() };
    // Hospitals often pay for the same.
    let mut known: Vec<(History, f64)> = Vec::new();
    let mut epsilon = |history: &History| match known.iter().find(|(of, _)| of == history) {
        Some((_, epsilon)) => Ok(*epsilon),
        None => accountant.epsilon(history, delta).map(|epsilon| {
            known.push((history.clone(), epsilon.get()));
            epsilon.get()
        }),
    };
    for (site, records) in reader.ledgers(&run.id)? {
        let failed = |source| ReportError::Ledger { hospital: site.clone(), source: Box::new(source) };
        let history = medfed_dp::replay(&run.id, &site, &records).map_err(failed)?;
        paid.insert(site.clone(), epsilon(&history).map_err(failed)?);
        if let Some(last) = history.phases().last().filter(|_| goes_on) {
            let reported = reported.get(site.as_str()).copied().unwrap_or_default();
            let steps = steps_to_come(planned, done, history.steps(), reported);
            let to_come = Phase { steps, ..*last };
            // More steps than the accountant takes have no number.
            if let Ok(at_end) = epsilon(&history.with(to_come)) {
                projected.insert(site.clone(), at_end);
            }
        }
    }
    Ok((paid, projected))
}

/// Steps of each hospital in the rounds that are done.
fn reported_steps(rounds: &[Arc<Round>]) -> BTreeMap<&str, u64> {
    let mut steps: BTreeMap<&str, u64> = BTreeMap::new();
    for report in rounds.iter().flat_map(|round| Fields(&round.report).items("hospitals")) {
        if let Some((site, done)) = report.text("hospital").zip(report.count("steps")) {
            let sum = steps.entry(site).or_default();
            *sum = sum.saturating_add(done);
        }
    }
    steps
}

/// Steps of the coming rounds, if they are like the mean of those before. A hospital pays before it trains:
/// paid steps that no report has yet belong to the round in progress, which is not to come any more.
fn steps_to_come(planned: u64, done: u64, paid: u64, reported: u64) -> u64 {
    let begun = done.saturating_add(u64::from(paid > reported));
    let each = paid.div_ceil(begun.max(1));
    each.saturating_mul(planned.saturating_sub(begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_in_progress_is_paid_for_once() {
        assert_eq!(steps_to_come(5, 2, 80, 80), 120);
        assert_eq!(steps_to_come(5, 2, 120, 80), 80);
        assert_eq!(steps_to_come(5, 0, 40, 0), 160);
        assert_eq!(steps_to_come(5, 5, 200, 200), 0);
        // Drawn for every other round so far.
        assert_eq!(steps_to_come(8, 4, 80, 80), 80);
    }
}
