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
    /// Updates that a sum has at the least, as configured.
    least: u64,
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
        self.least = json["secure_aggregation"]["min_clients"].as_u64().unwrap_or(0);
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
            criterion == selection.criterion
                && same_search(search, selection.search)
                && u64::from(selection.least) >= self.least
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
        "multi_krum" => {
            Criterion::MultiKrum { byzantine: number("num_byzantine")?, selected: number("multi_krum_k")? }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Audience, Compared, Disclosure, ExpectedNorm};
    use crate::merkle::Digest;
    use crate::sample::{self, faults, model, run, signer, site};
    use crate::storage::memory::Memory;
    use crate::trail::{Course, Opening, Trail, site_signer};
    use medfed_types::SecretKey;

    const NAMES: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

    fn rules() -> Rules {
        let what = Matter::Products;
        let disclosures = [Audience::Coordinator, Audience::Hospitals].map(|to| Disclosure { what, to });
        Rules { min_updates: 0, privacy: None, disclosures: disclosures.into(), ..sample::rules() }
    }

    fn opening(robust: &str) -> Opening {
        let key = |name: &&str| {
            let key = SecretKey::from_bytes([name.as_bytes()[0]; 32]);
            (site(name), site_signer(&run(), &site(name), &key).public().clone())
        };
        Opening {
            hospitals: NAMES.iter().map(key).collect(),
            public_configuration: format!(r#"{{"robust_aggregation":{robust}}}"#),
            rules: rules(),
            ..sample::opening()
        }
    }

    /// Five unit vectors that are pairwise at one angle, and one that points against them.
    fn selection(
        round: u32,
        criterion: Criterion,
        search: Option<Search>,
        selected: &[&str],
    ) -> Selection<SiteId> {
        let product = |i: i64, j: i64| match (i, j) {
            (i, j) if i == j => 1_000_000 + i,
            (_, 5) => -500_000,
            (i, j) => 600_000 - 10 * (i + j),
        };
        Selection {
            round: RoundId(round),
            criterion,
            search,
            least: 3,
            parameters: 100,
            steps: 1000.0,
            compared: (NAMES.iter())
                .map(|name| Compared {
                    hospital: site(name),
                    expected: Some(ExpectedNorm { scale: 1.0, least: Some(0.25) }),
                })
                .collect(),
            products: (0..6).flat_map(|i| (i..6).map(move |j| product(i, j))).collect(),
            too_long: Vec::new(),
            withheld: Vec::new(),
            selected: selected.iter().map(|name| site(name)).collect(),
        }
    }

    /// What is wrong with a log of two rounds with these selections and participants.
    fn found(robust: &str, rounds: &[(Option<Selection<SiteId>>, &[&str])]) -> Vec<String> {
        let mut memory = Memory::default();
        let mut trail = Trail::begin(&mut memory, signer(), opening(robust)).unwrap();
        for (at, (selection, participants)) in (1..).zip(rounds) {
            let participants: Vec<SiteId> = participants.iter().map(|name| site(name)).collect();
            let others = NAMES.iter().map(|name| site(name)).filter(|it| !participants.contains(it));
            let excluded = others.map(|it| (it, "not selected".to_owned())).collect();
            let after: Digest = model(if participants.is_empty() { at - 1 } else { at });
            trail
                .round(Course {
                    round: RoundId(at),
                    payments: Vec::new(),
                    events: Vec::new(),
                    selection: selection.clone(),
                    participants,
                    excluded,
                    after,
                })
                .unwrap();
        }
        trail.publish(|_| Ok(Vec::new())).unwrap();
        // Nobody cosigns in this federation.
        faults(&memory).into_iter().filter(|fault| !fault.contains("have signed")).collect()
    }

    const KRUM: &str = r#"{"method":"multi_krum","multi_krum_k":4,"num_byzantine":1}"#;
    const MULTI_KRUM: Criterion = Criterion::MultiKrum { byzantine: 1, selected: 4 };

    #[test]
    fn a_selection_that_follows_has_no_fault() {
        let four: &[&str] = &["A", "B", "C", "D"];
        let sound = selection(1, MULTI_KRUM, None, four);
        let verdict = sound.verdict(&ProductHistory::default()).unwrap();
        assert_eq!(verdict.selected.unwrap(), sound.selected);
        let second = selection(2, MULTI_KRUM, None, four);
        assert_eq!(found(KRUM, &[(Some(sound), four), (Some(second), four)]), Vec::<String>::new());
    }

    #[test]
    fn a_selection_that_does_not_follow_is_named() {
        let four: &[&str] = &["A", "B", "C", "D"];
        let other: &[&str] = &["A", "B", "C", "E"];
        let forged = selection(1, MULTI_KRUM, None, other);
        let faults = found(KRUM, &[(Some(forged), other)]);
        assert!(
            faults[0].contains("the inner products of round 1 select A, B, C, D, and it says A, B, C, E"),
            "{faults:?}"
        );
        let mut moved = selection(1, MULTI_KRUM, None, four);
        moved.products[3] = -moved.products[3];
        assert!(found(KRUM, &[(Some(moved), four)])[0].contains("inner products of round 1 select"));
        let sound = selection(1, MULTI_KRUM, None, four);
        let summed = found(KRUM, &[(Some(sound.clone()), other)]);
        assert!(summed[0].contains("round 1 sums the updates of other hospitals"), "{summed:?}");
        let absent = found(KRUM, &[(None, four)]);
        assert!(
            absent[0].contains("cannot be recomputed: the inner products are not recorded"),
            "{absent:?}"
        );
        let other_rule = r#"{"method":"multi_krum","multi_krum_k":4,"num_byzantine":0}"#;
        let faults = found(other_rule, &[(Some(sound), four)]);
        assert!(faults[0].contains("in another way than the configuration says"), "{faults:?}");
        // A long vector whose product with itself is negative is no vector.
        let mut impossible = selection(1, MULTI_KRUM, None, four);
        impossible.products[0] = -1;
        let faults = found(KRUM, &[(Some(impossible), four)]);
        assert!(faults[0].contains("cannot be recomputed"), "{faults:?}");
    }

    #[test]
    fn a_round_that_came_to_nothing_is_not_remembered() {
        let robust = r#"{"method":"foolsgold"}"#;
        let all: &[&str] = &["A", "B", "C", "D", "E", "F"];
        let five = |round| {
            let past = ProductHistory::default();
            let sound = selection(round, Criterion::FoolsGold, None, &[]);
            let selected = sound.verdict(&past).unwrap().selected.unwrap_or_default();
            Selection { selected, ..sound }
        };
        let first = five(1);
        let names: Vec<String> = first.selected.iter().map(ToString::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(names.is_empty() || names.len() < all.len());
        // Nobody's update moved the model in the first round, so the second one is judged alone.
        assert_eq!(found(robust, &[(Some(first), &[]), (Some(five(2)), &names)]), Vec::<String>::new());
    }

    #[test]
    fn a_search_is_part_of_what_is_verified() {
        let robust = r#"{"detection_threshold":3.0,"detector":"robust","enable_detection":true,"method":"fedavg","on_detection":"exclude"}"#;
        let search = Search { zscore: false, threshold: 3.0, consequence: Consequence::Exclude };
        let mut long = selection(1, Criterion::Everyone, Some(search), &["A", "B", "C", "D", "E"]);
        // The last one is a thousand times as long.
        *long.products.last_mut().unwrap() = 1_000_000_000_000;
        let five: &[&str] = &["A", "B", "C", "D", "E"];
        assert_eq!(found(robust, &[(Some(long.clone()), five)]), Vec::<String>::new());
        long.selected.push(site("F"));
        let all: &[&str] = &["A", "B", "C", "D", "E", "F"];
        assert!(found(robust, &[(Some(long), all)])[0].contains("select A, B, C, D, E, and it says"));
    }
}
