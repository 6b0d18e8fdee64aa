//! The course of a run, round by round, into its log.
//!
//! A [`Trail`] knows what is recorded: a round that is repeated after a crash is recorded once, and must be
//! the one that was recorded; a payment is recorded once, however the round that it belongs to goes on.

use crate::checkpoint::lines;
use crate::entry::{
    Action, Configuration, Entry, Event, Excluded, Finished, Hospital, Operator, Payment, RosterNumber,
    Round, Rules, Selection, Started,
};
use crate::error::AuditError;
use crate::log::{Log, Offer};
use crate::merkle::Digest;
use crate::note::{KeyKind, KeyName, PublicKey, Signature, Signer};
use crate::storage::Storage;
use medfed_dp::Spent;
use medfed_types::{NoiseMultiplier, RoundId, RunId, SamplingRate, SiteId};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of the log and of the hospitals, in the folder of the log: a copy for whoever wants to keep them.
pub const KEYS: &str = "keys";

/// What is known before the first round.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The run.
    pub run: RunId,
    /// Now, in seconds since 1970.
    pub time: u64,
    /// The program and its version.
    pub program: String,
    /// SHA-256 of the first global parameters.
    pub model: Digest,
    /// Whether the saved model is an average over rounds.
    pub averaged: bool,
    /// Commitment to the whole configuration.
    pub configuration: Digest,
    /// Commitment to the data and their division.
    pub data: Digest,
    /// The public part of the configuration, as canonical JSON.
    pub public_configuration: String,
    /// The hospitals, each with the key with which it signs checkpoints; all have to sign each one.
    pub hospitals: Vec<(SiteId, PublicKey)>,
    /// The rules.
    pub rules: Rules,
}

/// Steps that a hospital's ledger has paid for.
#[derive(Debug, Clone, PartialEq)]
pub struct PaidSteps {
    /// The hospital.
    pub site: SiteId,
    /// Probability with which each unit joins a step.
    pub rate: SamplingRate,
    /// Noise of each step.
    pub noise: NoiseMultiplier,
    /// Steps.
    pub steps: u64,
    /// ε of everything that the hospital has paid for so far.
    pub spent: Spent,
}

/// What happened in a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// The round.
    pub round: RoundId,
    /// Payments that are not recorded yet.
    pub payments: Vec<PaidSteps>,
    /// Decisions and incidents: a word, and a canonical JSON object.
    pub events: Vec<(String, String)>,
    /// What was opened to select among the updates, and who was selected; nothing where that is not done.
    pub selection: Option<Selection<SiteId>>,
    /// Hospitals whose updates moved the model.
    pub participants: Vec<SiteId>,
    /// The others, each with the reason.
    pub excluded: Vec<(SiteId, String)>,
    /// SHA-256 of the global parameters after the round.
    pub after: Digest,
}

/// A run's log with what it has recorded.
#[derive(Debug)]
pub struct Trail<S> {
    log: Log<S>,
    signer: Signer,
    roster: BTreeMap<SiteId, RosterNumber>,
    /// Payments recorded of each hospital.
    payments: BTreeMap<RosterNumber, usize>,
    /// The newest recorded round.
    newest: Option<Round>,
    /// What has happened so far, each kind of incident with its detail.
    said: BTreeSet<(String, String)>,
    finished: bool,
    model: Digest,
}

impl<S: Storage> Trail<S> {
    /// Begins the log of a run. Nothing is durable before [`Trail::publish`] but the list of keys.
    pub fn begin(storage: S, signer: Signer, opening: Opening) -> Result<Self, AuditError> {
        let mut log = Log::create(storage, signer.public().name().clone())?;
        let keys = std::iter::once(signer.public()).chain(opening.hospitals.iter().map(|(_, key)| key));
        log.attach(KEYS, lines(keys).as_bytes())?;
        let model = opening.model;
        let count = u16::try_from(opening.hospitals.len()).unwrap_or(u16::MAX);
        log.append(&Entry::Started(Started {
            run: opening.run,
            time: opening.time,
            program: opening.program,
            log_key: Digest::new(*signer.public().as_bytes()),
            cosignatures: count,
            model,
            averaged: opening.averaged,
            configuration: opening.configuration,
            data: opening.data,
        }))?;
        log.append(&Entry::Configuration(Configuration { json: opening.public_configuration }))?;
        let mut roster = BTreeMap::new();
        for (number, (site, key)) in (0..count).map(RosterNumber).zip(opening.hospitals) {
            let key = Digest::new(*key.as_bytes());
            log.append(&Entry::Hospital(Hospital { number, site: site.clone(), key }))?;
            roster.insert(site, number);
        }
        log.append(&Entry::Rules(opening.rules))?;
        let (payments, said) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { log, signer, roster, payments, newest: None, said, finished: false, model })
    }

    /// Goes on with the log of a run of which `done` rounds are kept. The log may be one round ahead: that
    /// round is about to be repeated.
    pub fn resume(storage: S, signer: Signer, done: RoundId) -> Result<Self, AuditError> {
        let (log, entries) = Log::open(storage, signer.public())?;
        let (roster, payments, said) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let (model, newest, finished) = (Digest::of_nothing(), None, false);
        let mut trail = Self { log, signer, roster, payments, newest, said, finished, model };
        for entry in entries {
            trail.recall(entry);
        }
        let logged = trail.done();
        if logged == done || logged == done.next() {
            Ok(trail)
        } else {
            Err(AuditError::Apart { logged, done })
        }
    }

    /// The newest recorded round; 0 before the first.
    pub fn done(&self) -> RoundId {
        self.newest.as_ref().map_or(RoundId(0), |round| round.round)
    }

    /// Whether the end of the run is recorded: nothing can follow it.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether an event of this kind and detail is recorded.
    pub fn has_event(&self, what: &str, detail: &str) -> bool {
        self.said.contains(&(what.to_owned(), detail.to_owned()))
    }

    /// How many payments of the hospital are recorded.
    pub fn payments_of(&self, site: &SiteId) -> usize {
        self.roster.get(site).and_then(|number| self.payments.get(number)).copied().unwrap_or(0)
    }

    /// Records a round. One that is recorded already must have had the same course.
    pub fn round(&mut self, course: Course) -> Result<(), AuditError> {
        let (last, found) = (self.done(), course.round);
        let mut round = Round {
            round: found,
            participants: self.numbers(&course.participants)?,
            excluded: Vec::new(),
            before: self.model,
            after: course.after,
        };
        for (site, reason) in course.excluded {
            round.excluded.push(Excluded { hospital: self.number(&site)?, reason });
        }
        round.excluded.sort_by_key(|excluded| excluded.hospital);
        if let Some(newest) = self.newest.as_ref().filter(|newest| newest.round == found) {
            round.before = newest.before;
            return if round == *newest { Ok(()) } else { Err(AuditError::RoundDiffers { round: found }) };
        }
        if found != last.next() {
            return Err(AuditError::RoundOrder { last, found });
        }
        self.payments(found, course.payments)?;
        for (what, detail) in course.events {
            self.add(Entry::Event(Event { round: found, what, detail }))?;
        }
        if let Some(selection) = course.selection {
            self.selection(selection)?;
        }
        self.add(Entry::Round(round))
    }

    /// Records what was opened to select among updates in the round after the newest.
    pub fn selection(&mut self, selection: Selection<SiteId>) -> Result<(), AuditError> {
        let selection = selection.map(|site| self.number(site))?;
        self.add(Entry::Selection(selection))
    }

    /// Records payments for a round that is not over.
    pub fn payments(&mut self, round: RoundId, payments: Vec<PaidSteps>) -> Result<(), AuditError> {
        for PaidSteps { site, rate, noise, steps, spent } in payments {
            let hospital = self.number(&site)?;
            self.add(Entry::Payment(Payment { round, hospital, rate, noise, steps, spent }))?;
        }
        Ok(())
    }

    /// Records something that happened in the round after the newest.
    pub fn event(&mut self, what: String, detail: String) -> Result<(), AuditError> {
        let round = self.done().next();
        self.add(Entry::Event(Event { round, what, detail }))
    }

    /// Records what the operator did, at `time` in seconds since 1970.
    pub fn operator(&mut self, action: Action, time: u64) -> Result<(), AuditError> {
        self.add(Entry::Operator(Operator { action, time }))
    }

    /// Records the end of the run.
    pub fn finish(&mut self, finished: Finished) -> Result<(), AuditError> {
        self.add(Entry::Finished(finished))
    }

    /// Makes everything recorded durable and signed; see [`Log::publish`].
    pub fn publish(
        &mut self,
        cosign: impl FnOnce(&Offer<'_>) -> Result<Vec<Signature>, AuditError>,
    ) -> Result<(), AuditError> {
        self.log.publish(&self.signer, cosign)
    }

    fn add(&mut self, entry: Entry) -> Result<(), AuditError> {
        self.log.append(&entry)?;
        self.recall(entry);
        Ok(())
    }

    /// Takes note of what is recorded.
    fn recall(&mut self, entry: Entry) {
        match entry {
            Entry::Started(started) => self.model = started.model,
            Entry::Hospital(hospital) => {
                self.roster.insert(hospital.site, hospital.number);
            }
            Entry::Event(event) => {
                self.said.insert((event.what, event.detail));
            }
            Entry::Finished(_) => self.finished = true,
            Entry::Payment(payment) => *self.payments.entry(payment.hospital).or_default() += 1,
            Entry::Round(round) => {
                self.model = round.after;
                self.newest = Some(round);
            }
            _ => {}
        }
    }

    fn number(&self, site: &SiteId) -> Result<RosterNumber, AuditError> {
        self.roster.get(site).copied().ok_or_else(|| AuditError::NotEnrolled { site: site.clone() })
    }

    fn numbers(&self, sites: &[SiteId]) -> Result<Vec<RosterNumber>, AuditError> {
        let mut numbers: Vec<_> = sites.iter().map(|site| self.number(site)).collect::<Result<_, _>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The key of the log of `run` whose secret is `secret`.
pub fn log_signer(run: &RunId, secret: &medfed_types::SecretKey) -> Signer {
    Signer::new(KeyName::of_log(run), KeyKind::Log, secret)
}

/// The key with which `site` signs the checkpoints of `run`.
pub fn site_signer(run: &RunId, site: &SiteId, secret: &medfed_types::SecretKey) -> Signer {
    Signer::new(KeyName::of_site(run, site), KeyKind::Cosigner, secret)
}

#[cfg(test)]
mod tests;
