//! Whether the entries tell a possible run.

use super::Problem;
use super::selections::SelectionCheck;
use crate::entry::{Entry, Excluded, Finished, Payment, Promise, RosterNumber, Round, Rules, Status};
use crate::merkle::Digest;
use medfed_dp::{Accountant, History, Phase, Spent};
use medfed_types::{RoundId, RunId, SiteId};
use serde::Serialize;
use std::collections::BTreeMap;

/// By how much a recomputed ε may differ, relatively: rounding of another processor or library.
const TOLERANCE: f64 = 1e-6;

/// Terms for which ε is recomputed: noise as a plan has it, and counts that accountants answer at once. A
/// forged payment of other terms could keep them busy for ever.
const NOISE: std::ops::RangeInclusive<f64> = 1e-3..=1e6;
const LEAST_RATE: f64 = 1e-12;
const MOST_STEPS: u64 = 1_000_000_000_000_000;

/// What a log says, in a few numbers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// The run.
    pub run: Option<RunId>,
    /// Entries.
    pub entries: u64,
    /// Checkpoints.
    pub checkpoints: usize,
    /// Hospitals' signatures that hold, over all checkpoints.
    pub cosignatures: usize,
    /// When a hospital signed last, by its own clock, in seconds since 1970.
    pub signed: Option<u64>,
    /// Rounds.
    pub rounds: u32,
    /// The rules.
    pub rules: Option<Rules>,
    /// The hospitals, in the order of the roster.
    pub hospitals: Vec<HospitalSummary>,
    /// How the run ended; nothing while it has not.
    pub finished: Option<Finished>,
}

/// What a log says about a hospital.
#[derive(Debug, Clone, Serialize)]
pub struct HospitalSummary {
    /// Its name.
    pub site: SiteId,
    /// Rounds that it took part in.
    pub rounds: u32,
    /// Steps paid for.
    pub steps: u64,
    /// ε spent, as recomputed; nothing where it did not pay.
    pub spent: Option<Spent>,
    #[serde(skip)]
    history: History,
    #[serde(skip)]
    paid: Option<RoundId>,
}

/// Follows the entries one by one.
#[derive(Debug, Default)]
pub(super) struct CourseCheck {
    summary: Summary,
    configured: bool,
    /// The model as of the newest round, and the models after all rounds.
    model: Option<Digest>,
    models: Vec<Digest>,
    averaged: bool,
    selections: SelectionCheck,
    /// Hospitals often pay for the same: ε of histories that were looked at.
    known: BTreeMap<Vec<(u64, u64, u64)>, Spent>,
}

impl CourseCheck {
    /// Takes the next entry and gives what is wrong with it.
    pub(super) fn take(&mut self, index: u64, entry: &Entry) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut order = |what| problems.push(Problem::Order { what });
        let (opening, ruled) = (matches!(entry, Entry::Started(_)), self.summary.rules.is_some());
        if opening != (index == 0) {
            order("a log begins with the start of its run, and nothing else does");
        }
        if self.summary.finished.is_some() {
            order("nothing follows the end of a run");
        }
        match entry {
            Entry::Configuration(_) if self.configured => order("the configuration is recorded twice"),
            Entry::Rules(_) if ruled => order("the rules are recorded twice"),
            Entry::Hospital(_) if ruled => order("a hospital joins after the rules"),
            Entry::Started(_) | Entry::Configuration(_) | Entry::Hospital(_) | Entry::Rules(_) => {}
            _ if !ruled || !self.configured => order("the configuration and the rules come first"),
            _ => {}
        }
        match entry {
            Entry::Started(started) => {
                self.summary.run = Some(started.run.clone());
                self.model = Some(started.model);
                self.models = vec![started.model];
                self.averaged = started.averaged;
            }
            Entry::Configuration(configuration) => {
                self.configured = true;
                self.selections.configured(configuration);
            }
            Entry::Hospital(hospital) => {
                let hospitals = &mut self.summary.hospitals;
                if usize::from(hospital.number.0) != hospitals.len() {
                    order("the numbers of the hospitals are not consecutive");
                }
                if hospitals.iter().any(|other| other.site == hospital.site) {
                    problems.push(Problem::Twice { site: hospital.site.clone() });
                }
                hospitals.push(HospitalSummary {
                    site: hospital.site.clone(),
                    rounds: 0,
                    steps: 0,
                    spent: None,
                    history: History::default(),
                    paid: None,
                });
            }
            Entry::Rules(rules) => {
                self.selections.ruled(rules);
                self.summary.rules = Some(rules.clone());
            }
            Entry::Selection(selection) => {
                self.within_next(selection.round, &mut problems);
                let names: Vec<SiteId> = self.summary.hospitals.iter().map(|it| it.site.clone()).collect();
                self.selections.take(selection, &names, &mut problems);
            }
            Entry::Payment(payment) => self.payment(payment, &mut problems),
            Entry::Event(event) => self.within_next(event.round, &mut problems),
            Entry::Round(round) => self.round(round, &mut problems),
            Entry::Operator(_) => {}
            Entry::Finished(finished) => self.finished(finished, &mut problems),
        }
        problems
    }

    pub(super) fn finish(self) -> Summary {
        self.summary
    }

    fn last(&self) -> RoundId {
        RoundId(self.summary.rounds)
    }

    /// What belongs to the round that comes next.
    fn within_next(&self, round: RoundId, problems: &mut Vec<Problem>) {
        let last = self.last();
        if round.0 != last.0.saturating_add(1) {
            problems.push(Problem::RoundOrder { last, found: round });
        }
    }

    fn payment(&mut self, payment: &Payment, problems: &mut Vec<Problem>) {
        self.within_next(payment.round, problems);
        let promise = self.summary.rules.as_ref().and_then(|rules| rules.privacy.clone());
        let Some(promise) = promise else {
            problems.push(Problem::NoPromise);
            return;
        };
        let number = payment.hospital.0;
        let Some(hospital) = self.summary.hospitals.get_mut(usize::from(number)) else {
            problems.push(Problem::NotEnrolled { number });
            return;
        };
        let (site, round) = (hospital.site.clone(), payment.round);
        if hospital.paid.is_some_and(|paid| paid >= round) {
            problems.push(Problem::PaidTwice { site: site.clone(), round });
        }
        hospital.paid = Some(round);
        hospital.steps = hospital.steps.saturating_add(payment.steps);
        let (rate, noise) = (payment.rate.get(), payment.noise.get());
        if !NOISE.contains(&noise) || rate < LEAST_RATE || hospital.steps > MOST_STEPS {
            problems.push(Problem::Terms { site });
            return;
        }
        hospital.history.push(Phase { rate: payment.rate, noise: payment.noise, steps: payment.steps });
        let history = hospital.history.clone();
        let spent = match self.spent(&history, &promise) {
            Ok(spent) => spent,
            Err(error) => {
                problems.push(Problem::NoEpsilon { site, reason: error.to_string() });
                return;
            }
        };
        for (accountant, name) in [(Accountant::Pld, "pld"), (Accountant::Rdp, "rdp")] {
            let (claimed, computed) = (payment.spent.by(accountant).get(), spent.by(accountant).get());
            let differs = (claimed - computed).abs() > TOLERANCE * computed.max(TOLERANCE);
            if claimed != computed && (differs || !claimed.is_finite() || !computed.is_finite()) {
                let site = site.clone();
                problems.push(Problem::Epsilon { site, accountant: name, claimed, computed });
            }
        }
        let official = spent.by(promise.accountant);
        if official > promise.budget {
            let (spent, budget) = (official.get(), promise.budget.get());
            problems.push(Problem::Budget { site, spent, budget });
        }
        self.summary.hospitals[usize::from(number)].spent = Some(spent);
    }

    /// ε of a history; equal histories are looked at once.
    fn spent(&mut self, history: &History, promise: &Promise) -> Result<Spent, medfed_dp::DpError> {
        let key = |phase: &Phase| (phase.rate.get().to_bits(), phase.noise.get().to_bits(), phase.steps);
        let key: Vec<_> = history.phases().iter().map(key).collect();
        if let Some(spent) = self.known.get(&key) {
            return Ok(*spent);
        }
        let spent = Spent::of(history, promise.delta)?;
        self.known.insert(key, spent);
        Ok(spent)
    }

    fn round(&mut self, round: &Round, problems: &mut Vec<Problem>) {
        self.within_next(round.round, problems);
        let rules = self.summary.rules.as_ref();
        let least = rules.map_or(0, |rules| rules.min_updates);
        let private = rules.is_some_and(|rules| rules.privacy.is_some());
        let found = round.participants.len();
        if (found as u64) < u64::from(least) {
            problems.push(Problem::TooFew { found, least });
        }
        if self.model.is_some_and(|model| model != round.before) {
            problems.push(Problem::ModelChain { round: round.round });
        }
        let excluded = |Excluded { hospital, .. }: &Excluded| *hospital;
        let everyone = round.participants.iter().copied().chain(round.excluded.iter().map(excluded));
        for RosterNumber(number) in everyone {
            if usize::from(number) >= self.summary.hospitals.len() {
                problems.push(Problem::NotEnrolled { number });
            }
        }
        for (number, hospital) in (0..).map(RosterNumber).zip(&mut self.summary.hospitals) {
            if round.participants.binary_search(&number).is_ok() {
                hospital.rounds += 1;
                if private && hospital.paid != Some(round.round) {
                    let site = hospital.site.clone();
                    problems.push(Problem::Unpaid { site, round: round.round });
                }
            } else if round.excluded.binary_search_by_key(&number, excluded).is_err() {
                problems.push(Problem::Unaccounted { site: hospital.site.clone() });
            }
        }
        self.selections.round(round, problems);
        self.summary.rounds = round.round.0;
        self.model = Some(round.after);
        self.models.push(round.after);
    }

    fn finished(&mut self, finished: &Finished, problems: &mut Vec<Problem>) {
        let best = finished.best_round.map_or(0, |round| round.0);
        let left = self.models.get(best as usize);
        let round = || finished.best_round.map_or("the start".to_owned(), |round| format!("round {round}"));
        // The model before the first round is never an average.
        let comparable = !self.averaged || best == 0;
        if left.is_none() || (comparable && left != Some(&finished.model)) {
            problems.push(Problem::SavedModel { round: round() });
        }
        if finished.status == Status::Completed && self.summary.rounds == 0 {
            problems.push(Problem::Order { what: "a run without rounds is not completed" });
        }
        self.summary.finished = Some(finished.clone());
    }
}
