//! One rule with what it remembers between rounds.

use crate::bulyan::bulyan_selection;
use crate::centered_clipping;
use crate::combination::combination;
use crate::coordinate;
use crate::distances::SquaredDistances;
use crate::error::AggregateError;
use crate::fedavg;
use crate::foolsgold;
use crate::geometric_median;
use crate::krum::{check, krum_selection};
use crate::mixing::nearest_neighbours;
use crate::rows::Rows;
use crate::rule::{PreStep, Rule, RuleWarning};
use crate::state::State;
use crate::update::SiteUpdate;
use medfed_types::{RoundId, SiteId};
use std::sync::Arc;

/// Makes one step of a round's updates. Cloning is cheap: a caller that may yet drop the round aggregates on
/// a clone and keeps the clone when the round is committed.
#[derive(Debug, Clone)]
pub struct Aggregator {
    rule: Rule,
    pre: PreStep,
    pub(crate) state: State,
    /// Hospitals of the next round that sent no update at all, but something else.
    refused: usize,
    /// Hospitals of the next round whose updates were left out because they were out of line.
    suspects: usize,
}

/// A step and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// What to add to the global parameters, one value per parameter; always finite.
    pub step: Vec<f32>,
    /// The weight of each hospital's update in the step, in the order of the names. None where each
    /// coordinate has its own weights: median, trimmed mean, and the hospitals that Bulyan selected.
    pub shares: Vec<(SiteId, Option<f64>)>,
    /// What the operator should know.
    pub warnings: Vec<RuleWarning>,
}

impl Aggregator {
    /// A rule before its first round. Refuses parameters that make no sense.
    pub fn new(rule: Rule, pre: PreStep) -> Result<Self, AggregateError> {
        rule.check()?;
        if rule == Rule::FoolsGold && pre != PreStep::None {
            return Err(AggregateError::MixedSybils);
        }
        let state = match rule {
            Rule::FoolsGold => State::Histories(foolsgold::Histories::new()),
            Rule::CenteredClipping { .. } => State::Centre(None),
            _ => State::Nothing,
        };
        Ok(Self { rule, pre, state, refused: 0, suspects: 0 })
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The step before the rule.
    pub fn pre(&self) -> PreStep {
        self.pre
    }

    /// Hospitals with an update that a round needs, for the guarantees of the rule and of the step before it.
    pub fn needed(&self) -> usize {
        self.rule.needed().max(self.pre.needed())
    }

    /// For the next round: `refused` further hospitals sent something that is no update (values that are not
    /// finite, a forged number of images), and it was not let in. No honest hospital does that, so they are
    /// among the bad ones that the rule was told to withstand, and so many fewer are left: what it needs it
    /// needs of the rest. Where more were refused than it was told to expect, it needs as much as before.
    pub fn refuse(&mut self, refused: usize) {
        self.refused = refused;
    }

    /// For the next round: the updates of `suspects` further hospitals were left out because they were out of
    /// line. That is no proof that they are bad. Where the rest is too small for the f that the rule was told
    /// to withstand, f is lowered by what is missing, and by `suspects` at the most; a warning says so.
    pub fn suspect(&mut self, suspects: usize) {
        self.suspects = suspects;
    }

    /// The step of `round`, for a model of `parameters` parameters.
    ///
    /// Every update must belong to `round`, have `parameters` values and come from a site of its own. The
    /// result is the same whatever their order. On an error the state is what it was.
    pub fn aggregate(
        &mut self,
        updates: &[SiteUpdate],
        round: RoundId,
        parameters: usize,
    ) -> Result<Aggregate, AggregateError> {
        self.aggregate_into(Vec::new(), updates, round, parameters)
    }

    /// The same in memory that is there already, such as that of the last round's step: for large models
    /// fresh memory costs as much as the rule.
    pub fn aggregate_into(
        &mut self,
        memory: Vec<f32>,
        updates: &[SiteUpdate],
        round: RoundId,
        parameters: usize,
    ) -> Result<Aggregate, AggregateError> {
        let updates = in_order(updates, round, parameters)?;
        let (rule, lowered) =
            self.rule.without_bad(self.refused).without_suspects(updates.len(), self.suspects);
        let pre = self.pre.without_bad(self.refused).without_suspects(updates.len(), self.suspects);
        check(rule, updates.len())?;
        self.state.check(parameters)?;
        let rows = Rows::new(updates.iter().map(|update| update.delta()).collect(), parameters);
        let rows = match pre {
            PreStep::None => rows,
            PreStep::NearestNeighbourMixing { byzantine } => {
                let neighbours = nearest_neighbours(&SquaredDistances::of(&rows), byzantine)?;
                rows.mixed(neighbours)
            }
        };
        let mut warnings = rule.warnings(self.rule, updates.len());
        warnings.extend(lowered);
        let outcome = self.outcome(rule, &updates, &rows, memory, &mut warnings)?;
        self.remember(&updates, &outcome.step);
        (self.refused, self.suspects) = (0, 0);
        let sites = updates.iter().map(|update| update.site().clone());
        Ok(Aggregate { shares: sites.zip(outcome.shares).collect(), step: outcome.step, warnings })
    }

    fn outcome(
        &self,
        rule: Rule,
        updates: &[&SiteUpdate],
        rows: &Rows<'_>,
        memory: Vec<f32>,
        warnings: &mut Vec<RuleWarning>,
    ) -> Result<Outcome, AggregateError> {
        let n = rows.len();
        let by_coordinate = |step| Outcome { step, shares: vec![None; n] };
        Ok(match rule {
            Rule::FedAvg => {
                let (shares, capped) = fedavg::shares(updates);
                warnings.extend(capped);
                Outcome::combined(rows, &shares, memory)
            }
            Rule::Median => by_coordinate(coordinate::median(rows, memory)),
            Rule::TrimmedMean { ratio } => {
                by_coordinate(coordinate::trimmed_mean(rows, ratio.trimmed(n), memory))
            }
            Rule::Krum { byzantine } => {
                selected(rows, &krum_selection(&SquaredDistances::of(rows), byzantine, 1)?, memory)
            }
            Rule::MultiKrum { byzantine, selected: m } => {
                selected(rows, &krum_selection(&SquaredDistances::of(rows), byzantine, m)?, memory)
            }
            Rule::Bulyan { byzantine } => {
                let mut selection = bulyan_selection(&SquaredDistances::of(rows), byzantine)?;
                selection.sort_unstable();
                let step = coordinate::mean_around_median(&rows.only(&selection), byzantine, memory);
                let shares = (0..n).map(|row| if selection.contains(&row) { None } else { Some(0.0) });
                Outcome { step, shares: shares.collect() }
            }
            Rule::FoolsGold => {
                let histories: Vec<Option<&[f32]>> =
                    updates.iter().map(|u| self.state.history(u.site())).collect();
                let Some(shares) = foolsgold::shares(rows, &histories) else {
                    let sites = updates.iter().map(|update| update.site().clone()).collect();
                    return Err(AggregateError::NobodyLeft { rule: rule.to_string(), sites });
                };
                Outcome::combined(rows, &shares, memory)
            }
            Rule::GeometricMedian => {
                let (weights, warning) = geometric_median::weights(rows);
                warnings.extend(warning);
                Outcome::combined(rows, &weights, memory)
            }
            Rule::CenteredClipping { radius, iterations } => {
                let start = self.state.centre();
                let (weights, of_start) = centered_clipping::weights(rows, start, radius, iterations);
                let shares = rows.unmixed_weights(&weights);
                let mut all = rows.unmixed().to_vec();
                let mut factors = shares.clone();
                if let Some(start) = start {
                    all.push(start);
                    factors.push(of_start);
                }
                let step = combination(&all, &factors, rows.columns(), memory);
                Outcome { step, shares: shares.into_iter().map(Some).collect() }
            }
        })
    }

    fn remember(&mut self, updates: &[&SiteUpdate], step: &[f32]) {
        match &mut self.state {
            State::Nothing => {}
            State::Histories(histories) => {
                for update in updates {
                    foolsgold::remember(histories, update.site(), update.delta());
                }
            }
            State::Centre(centre) => *centre = Some(Arc::new(step.to_vec())),
        }
    }
}

struct Outcome {
    step: Vec<f32>,
    shares: Vec<Option<f64>>,
}

impl Outcome {
    /// The combination of the rows with `weights`.
    fn combined(rows: &Rows<'_>, weights: &[f64], memory: Vec<f32>) -> Self {
        let shares = rows.unmixed_weights(weights);
        let step = combination(rows.unmixed(), &shares, rows.columns(), memory);
        Self { step, shares: shares.into_iter().map(Some).collect() }
    }
}

/// The mean of the selected rows.
fn selected(rows: &Rows<'_>, selection: &[usize], memory: Vec<f32>) -> Outcome {
    let mut weights = vec![0.0; rows.len()];
    for row in selection {
        weights[*row] = 1.0 / selection.len() as f64;
    }
    Outcome::combined(rows, &weights, memory)
}

/// The updates in the order of the site names, if they belong together.
fn in_order(
    updates: &[SiteUpdate],
    round: RoundId,
    parameters: usize,
) -> Result<Vec<&SiteUpdate>, AggregateError> {
    let mut updates: Vec<&SiteUpdate> = updates.iter().collect();
    updates.sort_by(|a, b| a.site().cmp(b.site()));
    for update in &updates {
        if update.round() != round {
            let (site, found) = (update.site().clone(), update.round());
            return Err(AggregateError::Round { site, expected: round, found });
        }
        if update.delta().len() != parameters {
            let (site, found) = (update.site().clone(), update.delta().len());
            return Err(AggregateError::Length { site, expected: parameters, found });
        }
    }
    if let Some(pair) = updates.windows(2).find(|pair| pair[0].site() == pair[1].site()) {
        return Err(AggregateError::Duplicate { site: pair[0].site().clone() });
    }
    if updates.is_empty() { Err(AggregateError::Empty) } else { Ok(updates) }
}
