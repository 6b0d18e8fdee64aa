//! The coordinator's side of a masked round: calls out, answers in, one step after the other.

mod ending;

use super::error::Peer;
use super::live::{Asked, Closed, Live, Wrong, read};
use super::selection::{Basis, Judgement};
use super::wire::{Invitation, Opened, Phase, Place, Step, Unfit, Verdict};
use super::{MaskingError, MaskingMode, OpenedMean, Order, Unmasked};
use crate::report::{Exclusion, MaskingReport};
use medfed_secagg::coordinator::OpenedSum;
use medfed_secagg::groups::{CollectingCoins, CollectingCommitments};
use medfed_secagg::{MessageKind, Roster, SecaggError, SessionContext, SessionId};
use medfed_types::{SecretKey, SiteId};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A call for one hospital.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// For whom.
    pub to: SiteId,
    /// The bytes; hospitals that get the same share them.
    pub bytes: Arc<[u8]>,
}

/// What follows a step.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
#[derive(Debug)]
pub enum Turn {
    /// The next step, with its calls.
    Ask(Opening, Vec<Message>),
    /// The round's sums are open, or cannot be.
    Done(Unmasked),
}

/// The coordinator in one masked round.
///
/// The same answers give the same calls: nothing is drawn but from the key. So a round that is done again
/// after a restart repeats its sessions bit by bit.
#[derive(Debug)]
pub struct Opening {
    order: Order,
    roster: Roster,
    key: SecretKey,
    /// Who is in the attempt.
    cohort: Vec<SiteId>,
    attempt: u8,
    phase: Phase,
    step: Step,
    at: At,
    asked: BTreeSet<SiteId>,
    /// The hash of each hospital's answer to the step.
    answered: BTreeMap<SiteId, [u8; 32]>,
    /// Who dropped out of the attempt, and whom it blamed.
    out: BTreeMap<SiteId, Vec<SiteId>>,
    /// Who gave a usable answer to the step.
    good: BTreeSet<SiteId>,
    /// The samples by which updates are scaled, once they are summed.
    total: Option<u32>,
    opened: Vec<OpenedMean>,
    failure: Option<SecaggError>,
    report: MaskingReport,
    warnings: Vec<String>,
    judgement: Option<Judgement>,
    /// Hospitals that said that their update does not fit.
    withheld: Vec<SiteId>,
}

#[derive(Debug)]
enum At {
    Inviting,
    Tossing(SessionContext, CollectingCommitments),
    Revealing(SessionContext, CollectingCoins),
    /// One session, or one for each group.
    Summing(Vec<Live>),
}

impl Opening {
    /// Invites `hospitals` to the sums that `order` asks for. `roster` has their keys; `key` is the
    /// coordinator's for this run: names of sessions follow from it.
    pub fn start(
        order: Order,
        roster: Roster,
        hospitals: impl IntoIterator<Item = SiteId>,
        key: &SecretKey,
    ) -> (Self, Vec<Message>) {
        let cohort: Vec<SiteId> = hospitals.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut opening = Self {
            report: MaskingReport::new(&order),
            key: key.subkey("masked rounds", &[]),
            roster,
            attempt: 0,
            phase: Phase::Counts,
            step: Step::Invite,
            at: At::Inviting,
            asked: BTreeSet::new(),
            answered: BTreeMap::new(),
            out: BTreeMap::new(),
            good: BTreeSet::new(),
            total: None,
            opened: Vec::new(),
            failure: None,
            warnings: Vec::new(),
            judgement: None,
            withheld: Vec::new(),
            cohort,
            order,
        };
        let Order { plan, model, parameters, range, prospect, .. } = &opening.order;
        let (configuration, model, parameters, range) = (plan.configuration, *model, *parameters, *range);
        let prospect = prospect.clone();
        let body = Invitation { configuration, model, parameters, range, prospect }.encode();
        let to = opening.cohort.clone();
        let messages = opening.ask(Step::Invite, &[(to, body)]);
        (opening, messages)
    }

    /// Hospitals whose answers are due. When there are none, or at a deadline, [`close`](Self::close) goes
    /// on.
    pub fn waiting_for(&self) -> impl Iterator<Item = &SiteId> {
        self.asked.iter().filter(|site| !self.answered.contains_key(*site))
    }

    /// The step whose answers are collected.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Takes the answer of a hospital, from a transport that knows who sent it. The same answer again
    /// changes nothing.
    ///
    /// Every error names the sender. A hospital whose answer breaks the protocol is out of the session; one
    /// whose answer is late, early or another than its first is as it was.
    pub fn receive(&mut self, site: &SiteId, bytes: &[u8]) -> Result<(), MaskingError> {
        if !self.asked.contains(site) {
            return Err(MaskingError::NotAsked { site: site.clone() });
        }
        let (from, step) = (|| Peer::Site(site.clone()), self.step);
        let hash = *blake3::hash(bytes).as_bytes();
        if let Some(first) = self.answered.get(site) {
            return if *first == hash { Ok(()) } else { Err(MaskingError::Second { from: from(), step }) };
        }
        self.report.traffic.entry(site.clone()).or_default().sent_bytes += bytes.len() as u64;
        let result = Place::of_answer(bytes, site).and_then(|(place, verdict)| {
            if place != self.place(step) {
                return Err(MaskingError::OutOfTurn { from: from(), found: place.step });
            }
            self.take(site, verdict)
        });
        if matches!(result, Err(MaskingError::OutOfTurn { .. })) {
            return result;
        }
        self.answered.insert(site.clone(), hash);
        match &result {
            Ok(()) => {}
            Err(MaskingError::Refused { source, .. }) => {
                let reason = source.to_string();
                self.drop_out(site, reason, Vec::new());
            }
            Err(error) => self.drop_out(site, error.to_string(), Vec::new()),
        }
        result
    }

    /// Takes an answer that is due.
    fn take(&mut self, site: &SiteId, verdict: Verdict<'_>) -> Result<(), MaskingError> {
        let step = self.step;
        let body = match verdict {
            Verdict::Answer(body) => body,
            Verdict::Withheld(unfit) => {
                let reason = self.unfit(unfit);
                self.withheld.push(site.clone());
                self.drop_out(site, reason, Vec::new());
                return Ok(());
            }
            Verdict::Refused { reason, culprits } => {
                self.drop_out(site, reason, culprits);
                return Ok(());
            }
        };
        let taken = match &mut self.at {
            At::Inviting => Ok(()),
            At::Tossing(context, collecting) => toss(context, collecting, site, body),
            At::Revealing(context, collecting) => reveal(context, collecting, site, body),
            At::Summing(lives) => match lives.iter_mut().find(|live| live.context.index(site).is_some()) {
                Some(live) => live.receive(site, body),
                None => Err(Wrong::Sender),
            },
        };
        match taken {
            Ok(()) => {
                self.good.insert(site.clone());
                Ok(())
            }
            Err(Wrong::Sender) => Err(MaskingError::Sender { site: site.clone(), step }),
            Err(Wrong::Protocol(source)) => {
                Err(MaskingError::Refused { from: Peer::Site(site.clone()), step, source })
            }
        }
    }

    fn unfit(&self, unfit: Unfit) -> String {
        let range = self.order.range.get();
        match unfit {
            Unfit::Length => format!("the update does not have {} values", self.order.parameters),
            Unfit::Range => format!(
                "the update has a value beyond ±{range}; secure_aggregation.clip_range sets the range"
            ),
            Unfit::Norm => format!(
                "the update is longer than {}; secure_aggregation.norm_bound sets the bound",
                self.order.prospect.as_ref().map_or(0.0, |prospect| prospect.norm.get())
            ),
            Unfit::NotFinite => "the update has a value that is not finite".to_owned(),
        }
    }

    /// Ends the step with the answers that are there; hospitals that have not answered drop out.
    pub fn close(mut self) -> Turn {
        let silent: Vec<SiteId> = self.waiting_for().cloned().collect();
        for site in silent {
            let reason = format!("no answer to the {} message", self.step);
            self.drop_out(&site, reason, Vec::new());
        }
        match std::mem::replace(&mut self.at, At::Inviting) {
            At::Inviting => {
                self.cohort = std::mem::take(&mut self.good).into_iter().collect();
                self.report.participants.clone_from(&self.cohort);
                self.out.clear();
                self.begin()
            }
            At::Tossing(context, collecting) => {
                let (expected, found) = (2 * self.order.plan.least_group, self.good.len());
                if found < expected {
                    let message = MessageKind::CoinCommitment;
                    return self.failed(SecaggError::TooFew { message, expected, found });
                }
                let (next, commitments) = collecting.close();
                let body = commitments.encode(&context);
                self.at = At::Revealing(context, next);
                let to = self.good.iter().cloned().collect();
                let messages = self.ask(Step::Reveal, &[(to, body)]);
                Turn::Ask(self, messages)
            }
            At::Revealing(context, collecting) => self.draw(&context, collecting),
            At::Summing(lives) => self.advance(lives),
        }
    }

    /// Begins an attempt with the cohort.
    fn begin(mut self) -> Turn {
        let plan = &self.order.plan;
        self.report.threshold = plan.threshold_of(self.cohort.len());
        self.phase = if plan.by_samples && self.total.is_none() { Phase::Counts } else { Phase::Updates };
        let tosses = plan.mode == MaskingMode::Groups;
        let (found, needed) = (self.cohort.len(), 2 * plan.least_group);
        if tosses && found < needed {
            let why = format!("{found} hospitals have an update that fits, and two groups take {needed}");
            return self.finish(None, Some(why));
        }
        let session = if tosses { self.toss_session() } else { self.session() };
        let (total, cohort) = (self.total.unwrap_or(0), self.cohort.clone());
        // An invitation goes to at most 100 hospitals.
        let opened = Opened { session, total, cohort, withheld: self.withheld.len() as u8 };
        let prospect = self.order.prospect.as_ref();
        let terms = self.order.expectation().terms(self.phase, self.order.range, prospect, &opened);
        let context = match SessionContext::new(terms, &self.roster) {
            Ok(context) => context,
            Err(error) => return self.finish(Some(error), None),
        };
        let step = if tosses { Step::Toss } else { Step::Join };
        self.at = if tosses {
            At::Tossing(context.clone(), CollectingCommitments::new(context))
        } else {
            if self.phase == Phase::Updates {
                self.warn(&context);
            }
            let selecting = self.order.plan.selection.zip(self.order.prospect.clone());
            let withheld = opened.withheld;
            let selecting = selecting.map(|(rule, prospect)| Basis { rule, prospect, withheld });
            At::Summing(vec![Live::new(context, selecting)])
        };
        let to = self.cohort.clone();
        let messages = self.ask(step, &[(to, opened.encode())]);
        Turn::Ask(self, messages)
    }

    /// Draws the groups by the coins, and begins their sessions.
    fn draw(mut self, whole: &SessionContext, collecting: CollectingCoins) -> Turn {
        let (groups, coins) = match collecting.close(self.order.plan.least_group) {
            Ok(drawn) => drawn,
            Err(error) => return self.failed(error),
        };
        self.report.groups = groups.groups().iter().map(|members| whole.names(*members)).collect();
        let terms = (0..groups.groups().len()).filter_map(|group| groups.terms(whole, group));
        let contexts = terms.map(|terms| SessionContext::new(terms, &self.roster));
        let contexts = match contexts.collect::<Result<Vec<_>, _>>() {
            Ok(contexts) => contexts,
            Err(error) => return self.finish(Some(error), None),
        };
        for context in &contexts {
            self.warn(context);
        }
        let to = self.good.iter().cloned().collect();
        self.at = At::Summing(contexts.into_iter().map(|context| Live::new(context, None)).collect());
        let messages = self.ask(Step::Draw, &[(to, coins.encode(whole))]);
        Turn::Ask(self, messages)
    }

    /// Ends a step of all sessions.
    fn advance(mut self, lives: Vec<Live>) -> Turn {
        let (mut next, mut calls, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let (mut counted, mut failed_selection) = (None, None);
        for live in lives {
            let mut received = live.received();
            received.retain(|site| self.good.contains(site));
            let go_on = |(live, asked): (Live, Asked)| {
                match asked {
                    Asked::All(body) => calls.push((received, body)),
                    Asked::Each(bodies) => {
                        let bodies = bodies.into_iter().filter(|(site, _)| received.contains(site));
                        calls.extend(bodies.map(|(site, body)| (vec![site], body)));
                    }
                }
                next.push(live);
            };
            match live.close() {
                Ok(Closed::Next(live, asked)) => go_on((live, asked)),
                Ok(Closed::Judged(judgement, mut report, following)) => {
                    report.withheld.clone_from(&self.withheld);
                    self.report.selection = Some(report);
                    match (&judgement.verdict.selected, following) {
                        (_, Some(following)) => go_on(following),
                        (Err(error), None) => failed_selection = Some(error.to_string()),
                        (Ok(_), None) => {}
                    }
                    self.judgement = Some(judgement);
                }
                Ok(Closed::Opened(sum)) if self.phase == Phase::Counts => counted = Some(sum),
                Ok(Closed::Opened(sum)) => {
                    self.report.error_bound = self.report.error_bound.max(sum.error_bound());
                    self.opened.push(mean(&sum));
                }
                Err(error) => failures.push(error),
            }
        }
        if let Some(sum) = counted {
            self.cohort = sum.sites();
            self.total = Some(sum.samples().unwrap_or(0));
            return self.begin();
        }
        if failed_selection.is_some() {
            return self.finish(None, failed_selection);
        }
        if let Some(error) = failures.into_iter().next() {
            match self.another(&error) {
                // All groups together try again.
                Ok(remaining) => return self.again(&error, remaining),
                // The other groups go on where there are two to compare.
                Err(_) if next.len() + self.opened.len() >= 2 => self.failure = Some(error),
                Err(why) => return self.give_up(error, why),
            }
        }
        let Some(step) = next.first().map(Live::step) else { return self.finish(None, None) };
        self.at = At::Summing(next);
        let messages = self.ask(step, &calls);
        Turn::Ask(self, messages)
    }

    /// Notes that a hospital is out of the attempt.
    fn drop_out(&mut self, site: &SiteId, reason: String, blamed: Vec<SiteId>) {
        self.good.remove(site);
        self.answered.entry(site.clone()).or_insert([0; 32]);
        self.out.insert(site.clone(), blamed);
        if !self.report.lost.iter().any(|lost| lost.hospital == *site) {
            self.report.lost.push(Exclusion { hospital: site.clone(), reason });
        }
    }

    /// Begins a step: the calls for it, one body for each list of hospitals.
    fn ask(&mut self, step: Step, calls: &[(Vec<SiteId>, Vec<u8>)]) -> Vec<Message> {
        self.step = step;
        self.good.clear();
        self.answered.clear();
        self.asked = calls.iter().flat_map(|(to, _)| to.iter().cloned()).collect();
        let mut messages = Vec::with_capacity(self.asked.len());
        for (to, body) in calls {
            let bytes: Arc<[u8]> = self.place(step).call(body).into();
            for site in to {
                let traffic = self.report.traffic.entry(site.clone()).or_default();
                traffic.received_bytes += bytes.len() as u64;
                messages.push(Message { to: site.clone(), bytes: Arc::clone(&bytes) });
            }
        }
        messages
    }

    fn place(&self, step: Step) -> Place {
        Place { round: self.order.round, attempt: self.attempt, phase: self.phase, step }
    }

    /// A name that no other session has.
    fn session(&self) -> SessionId {
        let numbers = [u64::from(self.order.round.0), u64::from(self.attempt), self.phase as u64];
        let mut session = [0; 16];
        self.key.generator("session", &numbers).fill_bytes(&mut session);
        SessionId(session)
    }

    /// The name of a toss. No key depends on it.
    fn toss_session(&self) -> SessionId {
        let mut session = [0; 16];
        session[0] = self.attempt;
        SessionId(session)
    }

    fn warn(&mut self, context: &SessionContext) {
        for warning in context.warnings() {
            let warning = warning.to_string();
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }
}

fn toss(
    context: &SessionContext,
    collecting: &mut CollectingCommitments,
    site: &SiteId,
    body: &[u8],
) -> Result<(), Wrong> {
    Ok(collecting.receive(read!(context, site, body))?)
}

fn reveal(
    context: &SessionContext,
    collecting: &mut CollectingCoins,
    site: &SiteId,
    body: &[u8],
) -> Result<(), Wrong> {
    Ok(collecting.receive(read!(context, site, body))?)
}

fn mean(opened: &OpenedSum) -> OpenedMean {
    OpenedMean { sites: opened.sites(), mean: opened.mean().into_iter().map(|value| value as f32).collect() }
}

#[cfg(test)]
impl Opening {
    pub(super) fn attempt(&self) -> u8 {
        self.attempt
    }
}
