//! Whether the hospitals whose updates were summed are those that the opened inner products select.

use super::Problem;
use crate::entry::{
    Configuration, Consequence, Criterion, Matter, RosterNumber, Round, Rules, Search, Selection,
};
use medfed_aggregate::selection::{OpenedProducts, ProductHistory};
use medfed_types::{RoundId, SiteId};
use serde_json::Value;

/// Follows the selections of a run.
#[derive(Debug, Default)]
pub(super) struct SelectionCheck {
    /// As configured; nothing while it is not known.
    configured: Option<(Criterion, Option<Search>)>,
    /// Whether every round opens inner products.
    opens: bool,
    /// What was opened in the rounds that moved the model.
    past: ProductHistory,
    /// Of the round that is not over.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    round: RoundId,
    selected: Vec<RosterNumber>,
    opened: Option<OpenedProducts>,
}

impl SelectionCheck {
    pub(super) fn configured(&mut self, configuration: &Configuration) {
        let Ok(json) = serde_json::from_str::<Value>(&configuration.json) else { return };
        self.configured = criterion(&json["robust_aggregation"]);
    }

    pub(super) fn ruled(&mut self, rules: &Rules) {
        self.opens = rules.disclosures.iter().any(|it| it.what == Matter::Products);
    }

    /// Selects again. `names` are those of the roster.
    pub(super) fn take(&mut self, selection: &Selection, names: &[SiteId], problems: &mut Vec<Problem>) {
        let round = selection.round;
        if self.pending.as_ref().is_some_and(|pending| pending.round == round) {
            problems.push(Problem::Order { what: "hospitals are selected twice in a round" });
        }
        let same = |(criterion, search): (Criterion, Option<Search>)| {
            criterion == selection.criterion && same_search(search, selection.search)
        };
        if !self.configured.is_some_and(same) {
            problems.push(Problem::OtherCriterion);
        }
        let selected = selection.selected.clone();
        let name = |number: &RosterNumber| {
            names.get(usize::from(number.0)).cloned().ok_or(Problem::NotEnrolled { number: number.0 })
        };
        let named = match selection.clone().map(name) {
            Ok(named) => named,
            Err(problem) => {
                problems.push(problem);
                self.pending = Some(Pending { round, selected, opened: None });
                return;
            }
        };
        let opened = match (named.opened(), named.verdict(&self.past)) {
            (Ok(opened), Ok(verdict)) => {
                let computed = verdict.selected.unwrap_or_default();
                if computed != named.selected {
                    problems.push(Problem::Selection { round, computed, recorded: named.selected });
                }
                Some(opened)
            }
            (Err(error), _) | (_, Err(error)) => {
                problems.push(Problem::NoSelection { round, reason: error.to_string() });
                None
            }
        };
        self.pending = Some(Pending { round, selected, opened });
    }

    /// A round is over. One that came to nothing has no participants and is not remembered.
    pub(super) fn round(&mut self, round: &Round, problems: &mut Vec<Problem>) {
        let pending = self.pending.take().filter(|pending| pending.round == round.round);
        if round.participants.is_empty() {
            return;
        }
        match pending {
            Some(pending) => {
                if pending.selected != round.participants {
                    problems.push(Problem::NotSelected { round: round.round });
                }
                if let Some(opened) = pending.opened {
                    self.past = self.past.with_round(&opened);
                }
            }
            None if self.opens => {
                let reason = "the inner products are not recorded".to_owned();
                problems.push(Problem::NoSelection { round: round.round, reason });
            }
            None => {}
        }
    }
}

/// Whether two searches are one; JSON may have moved the last bit of the threshold.
fn same_search(one: Option<Search>, other: Option<Search>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let apart = (one.threshold - other.threshold).abs();
            (one.zscore, one.consequence) == (other.zscore, other.consequence)
                && apart <= 1e-12 * one.threshold.abs()
        }
        _ => false,
    }
}

/// The criterion and the search of a `robust_aggregation` section.
fn criterion(robust: &Value) -> Option<(Criterion, Option<Search>)> {
    let number = |key: &str| robust[key].as_u64().and_then(|value| u16::try_from(value).ok());
    let criterion = match robust["method"].as_str()? {
        "fedavg" => Criterion::Everyone,
        "foolsgold" => Criterion::FoolsGold,
        "multi_krum" => Criterion::MultiKrum {
            byzantine: number("num_byzantine")?,
            selected: number("multi_krum_k")?,
        },
        _ => return None,
    };
    if robust["enable_detection"] != true {
        return Some((criterion, None));
    }
    let search = Search {
        zscore: robust["detector"] == "zscore",
        threshold: robust["detection_threshold"].as_f64()?,
        consequence: match robust["on_detection"].as_str()? {
            "exclude" => Consequence::Exclude,
            "halt" => Consequence::Halt,
            _ => Consequence::Flag,
        },
    };
    Some((criterion, Some(search)))
}
