//! What was done to the data: an arbitrary sequence of homogeneous runs of steps.

use medfed_types::{NoiseMultiplier, SamplingRate};
use serde::{Deserialize, Serialize};

/// A run of steps under equal terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Probability with which each unit joins a batch.
    pub rate: SamplingRate,
    /// Standard deviation of the noise in multiples of the sum's sensitivity.
    pub noise: NoiseMultiplier,
    /// Number of noised sums released.
    pub steps: u64,
}

/// Every step that was paid for, in order. ε does not depend on the order. Empty at first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Phase>", into = "Vec<Phase>")]
pub struct History(Vec<Phase>);

impl History {
    /// Adds a run of steps; it joins the one before when their terms are equal.
    pub fn push(&mut self, phase: Phase) {
        if phase.steps == 0 {
            return;
        }
        match self.0.last_mut().filter(|last| same_terms(last, &phase)) {
            Some(last) => last.steps = last.steps.saturating_add(phase.steps),
            None => self.0.push(phase),
        }
    }

    /// This history and one more run of steps.
    #[must_use]
    pub fn with(&self, phase: Phase) -> Self {
        let mut longer = self.clone();
        longer.push(phase);
        longer
    }

    /// The runs of steps, in order; neighbours differ.
    pub fn phases(&self) -> &[Phase] {
        &self.0
    }

    /// Number of all steps.
    pub fn steps(&self) -> u64 {
        self.0.iter().fold(0, |sum, phase| sum.saturating_add(phase.steps))
    }

    /// Each kind of step once, in an order of its own, so that sums over it have the same bits for
    /// every order of the history.
    pub(super) fn distinct(&self) -> Vec<Phase> {
        let mut phases = self.0.clone();
        phases.sort_by(|a, b| {
            a.rate.get().total_cmp(&b.rate.get()).then(a.noise.get().total_cmp(&b.noise.get()))
        });
        let mut merged = Self::default();
        merged.extend(phases);
        merged.0
    }
}

fn same_terms(a: &Phase, b: &Phase) -> bool {
    a.rate == b.rate && a.noise == b.noise
}

impl Extend<Phase> for History {
    fn extend<I: IntoIterator<Item = Phase>>(&mut self, phases: I) {
        for phase in phases {
            self.push(phase);
        }
    }
}

impl FromIterator<Phase> for History {
    fn from_iter<I: IntoIterator<Item = Phase>>(phases: I) -> Self {
        let mut history = Self::default();
        history.extend(phases);
        history
    }
}

impl From<Vec<Phase>> for History {
    fn from(phases: Vec<Phase>) -> Self {
        phases.into_iter().collect()
    }
}

impl From<History> for Vec<Phase> {
    fn from(history: History) -> Self {
        history.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(rate: f64, noise: f64, steps: u64) -> Phase {
        Phase { rate: SamplingRate::new(rate).unwrap(), noise: NoiseMultiplier::new(noise).unwrap(), steps }
    }

    #[test]
    fn equal_neighbours_join_and_empty_runs_vanish() {
        let history: History = [
            phase(0.1, 1.0, 5),
            phase(0.1, 1.0, 0),
            phase(0.1, 1.0, 3),
            phase(0.2, 1.0, 1),
            phase(0.1, 1.0, 1),
        ]
        .into_iter()
        .collect();
        assert_eq!(history.phases(), [phase(0.1, 1.0, 8), phase(0.2, 1.0, 1), phase(0.1, 1.0, 1)]);
        assert_eq!(history.distinct(), [phase(0.1, 1.0, 9), phase(0.2, 1.0, 1)]);
        assert_eq!(history.steps(), 10);
        assert_eq!(history.with(phase(0.1, 1.0, u64::MAX)).steps(), u64::MAX);
    }

    #[test]
    fn reading_restores_the_invariant() {
        let text = r#"[{"rate":0.1,"noise":1.0,"steps":2},{"rate":0.1,"noise":1.0,"steps":3}]"#;
        let history: History = serde_json::from_str(text).unwrap();
        assert_eq!(history.phases(), [phase(0.1, 1.0, 5)]);
        assert_eq!(
            serde_json::from_str::<History>(&serde_json::to_string(&history).unwrap()).unwrap(),
            history
        );
        assert!(serde_json::from_str::<History>(&text.replace("0.1", "0")).is_err());
    }
}
