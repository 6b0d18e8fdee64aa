//! A hospital's side of a masked round: one call of the coordinator in, one answer out.

use super::error::Peer;
use super::party::Party;
use super::selection::{Basis, Prospect, put_vector, read_delivery, read_review};
use super::wire::{Invitation, Opened, Phase, Place, Step, Unfit, Verdict};
use super::{Expectation, MaskingError, MaskingMode};
use crate::site::RawUpdate;
use medfed_secagg::groups::{AwaitingCoins, AwaitingCommitments, toss};
use medfed_secagg::message::Proposal;
use medfed_secagg::site::{
    AwaitingAgreement, AwaitingDealings, AwaitingKeys, AwaitingProducts, AwaitingProposal, AwaitingShares,
    join,
};
use medfed_secagg::{Broadcast, ClipRange, Input, Roster, SecaggError, SessionContext};
use std::sync::Arc;

/// A hospital in one round, with the update that it holds.
///
/// Calls are answered in their order. The same call again, as from a network that repeats messages or after
/// a restart, is answered with the same bytes; another call for a step that was answered is refused. A call
/// that breaks the protocol ends the hospital's part in the session, and the answer says so.
#[derive(Debug)]
pub struct Session {
    expected: Expectation,
    roster: Roster,
    update: RawUpdate,
    range: Option<ClipRange>,
    /// What a selection goes by, from the invitation.
    prospect: Option<Prospect>,
    /// Hospitals that withhold their update, as the session's terms say.
    withheld: u8,
    at: Option<Place>,
    state: State,
    last: Option<Last>,
}

/// The newest answer.
#[derive(Debug)]
struct Last {
    place: Place,
    call: [u8; 32],
    answer: Arc<[u8]>,
}

/// Where the hospital stands; terms go along to read what comes next.
#[derive(Debug)]
enum State {
    /// No session.
    Idle,
    Tossed(SessionContext, AwaitingCommitments),
    Revealed(SessionContext, AwaitingCoins),
    Keys(SessionContext, AwaitingKeys),
    Dealings(SessionContext, AwaitingDealings),
    Shares(SessionContext, AwaitingShares),
    Products(SessionContext, AwaitingProducts),
    Proposal(SessionContext, AwaitingProposal),
    Agreement(SessionContext, AwaitingAgreement),
}

impl State {
    /// The step that is due; a session may begin at any time.
    fn due(&self) -> Option<Step> {
        match self {
            Self::Idle => None,
            Self::Tossed(..) => Some(Step::Reveal),
            Self::Revealed(..) => Some(Step::Draw),
            Self::Keys(..) => Some(Step::Deal),
            Self::Dealings(..) => Some(Step::Mask),
            Self::Shares(..) => Some(Step::Multiply),
            Self::Products(..) => Some(Step::Review),
            Self::Proposal(..) => Some(Step::Consent),
            Self::Agreement(..) => Some(Step::Unmask),
        }
    }
}

/// The message of a step, or that there is none.
enum Said {
    Answer(Vec<u8>),
    Withheld(Unfit),
}

impl Session {
    /// A hospital that holds `update` and goes by what it expects itself; `roster` has the keys of all
    /// hospitals, from a source that the hospital trusts.
    pub fn new(expected: Expectation, roster: Roster, update: RawUpdate) -> Self {
        let (range, prospect, at, state) = (None, None, None, State::Idle);
        Self { expected, roster, update, range, prospect, withheld: 0, at, state, last: None }
    }

    /// Answers a call. `party` must be durable before the answer leaves.
    ///
    /// An error means that the call is not answered and changed nothing: it is late, early, for another
    /// round, or another one for a step that was answered.
    pub fn handle(&mut self, party: &mut Party, bytes: &[u8]) -> Result<Arc<[u8]>, MaskingError> {
        let (place, body) = Place::of_call(bytes)?;
        let call = *blake3::hash(bytes).as_bytes();
        let from = Peer::Coordinator;
        if let Some(last) = self.last.as_ref().filter(|last| last.place == place) {
            let same = last.call == call;
            let second = MaskingError::Second { from, step: place.step };
            return if same { Ok(Arc::clone(&last.answer)) } else { Err(second) };
        }
        if place.round != self.expected.round || !self.is_due(place) {
            return Err(MaskingError::OutOfTurn { from, found: place.step });
        }
        let opened = match place.step {
            Step::Toss | Step::Join => {
                Some(Opened::decode(body).map_err(|fault| MaskingError::Malformed { from, fault })?)
            }
            _ => None,
        };
        let mut record = party.record.clone();
        let known = record.admit(place, call)?;
        if let Some(opened) = opened.as_ref().filter(|_| !known) {
            record.begin(place, &opened.cohort)?;
        }
        if place.step == Step::Invite {
            let (range, prospect) = self.invited(body)?;
            (self.range, self.prospect) = (Some(range), prospect);
        }
        party.record = record;
        let said = match opened {
            Some(opened) => self.open(party, place, call, &opened),
            None => self.step(party, place, call, body),
        };
        let answer = match &said {
            Ok(Said::Answer(answer)) => place.answer(&Verdict::Answer(answer)),
            Ok(Said::Withheld(unfit)) => place.answer(&Verdict::Withheld(*unfit)),
            Err(error) => {
                let (reason, culprits) = (error.to_string(), error.culprits());
                place.answer(&Verdict::Refused { reason, culprits })
            }
        };
        self.at = Some(place);
        let answer: Arc<[u8]> = answer.into();
        self.last = Some(Last { place, call, answer: Arc::clone(&answer) });
        Ok(answer)
    }

    /// Whether a call may come now.
    fn is_due(&self, place: Place) -> bool {
        match place.step {
            Step::Invite => self.range.is_none(),
            Step::Toss => {
                self.range.is_some()
                    && self.expected.plan.mode == MaskingMode::Groups
                    && place.phase == Phase::Updates
            }
            Step::Join => {
                let counts = place.phase == Phase::Counts;
                let plan = &self.expected.plan;
                self.range.is_some() && plan.mode != MaskingMode::Groups && (plan.by_samples || !counts)
            }
            step => {
                let here = |at: Place| (at.attempt, at.phase) == (place.attempt, place.phase);
                self.state.due() == Some(step) && self.at.is_some_and(here)
            }
        }
    }

    /// Checks an invitation against what the hospital knows.
    fn invited(&self, body: &[u8]) -> Result<(ClipRange, Option<Prospect>), MaskingError> {
        let Expectation { plan, model, parameters, .. } = &self.expected;
        let invitation = Invitation::decode(body)
            .map_err(|fault| MaskingError::Malformed { from: Peer::Coordinator, fault })?;
        let differs = |what| Err(MaskingError::Other { what });
        if invitation.configuration != plan.configuration {
            return differs("configuration");
        }
        if invitation.model != *model || invitation.parameters != *parameters {
            return differs("model");
        }
        if plan.clip_range.is_some_and(|range| range != invitation.range) {
            return differs("clip range");
        }
        if plan.selection.is_some() != invitation.prospect.is_some() {
            return differs("mode");
        }
        Ok((invitation.range, invitation.prospect))
    }

    /// Why the update does not leave; nothing where it fits.
    fn unfit(&self) -> Option<Unfit> {
        let range = self.range.map_or(0.0, ClipRange::get);
        let delta = &self.update.delta;
        if delta.len() != self.expected.parameters {
            return Some(Unfit::Length);
        }
        if delta.iter().any(|value| !value.is_finite()) {
            return Some(Unfit::NotFinite);
        }
        if delta.iter().any(|value| f64::from(value.abs()) > range) {
            return Some(Unfit::Range);
        }
        let norm = delta.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        self.prospect.as_ref().is_some_and(|prospect| norm > prospect.norm.get()).then_some(Unfit::Norm)
    }

    /// Begins a session: commits to a coin, or makes keys.
    fn open(
        &mut self,
        party: &Party,
        place: Place,
        call: [u8; 32],
        opened: &Opened,
    ) -> Result<Said, SecaggError> {
        self.state = State::Idle;
        self.withheld = opened.withheld;
        let range = self.range.expect("sessions are due after the invitation only");
        let context = SessionContext::new(
            self.expected.terms(place.phase, range, self.prospect.as_ref(), opened),
            &self.roster,
        )?;
        if place.step == Step::Toss {
            let (state, message) = toss(&context, &party.identity, &mut party.coin(place))?;
            self.state = State::Tossed(context, state);
            return Ok(Said::Answer(message.encode()));
        }
        self.join(party, context, call)
    }

    fn join(&mut self, party: &Party, context: SessionContext, call: [u8; 32]) -> Result<Said, SecaggError> {
        let (state, message) = join(&context, &party.identity, &mut party.random(context.digest(), call))?;
        self.state = State::Keys(context, state);
        Ok(Said::Answer(message.encode()))
    }

    /// The steps within a session. The state is used up; an error leaves none.
    fn step(
        &mut self,
        party: &mut Party,
        place: Place,
        call: [u8; 32],
        body: &[u8],
    ) -> Result<Said, SecaggError> {
        let answer = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                return Ok(self.unfit().map_or(Said::Answer(Vec::new()), Said::Withheld));
            }
            State::Tossed(context, state) => {
                let (state, message) = state.reveal(&Broadcast::decode(body, &context)?)?;
                self.state = State::Revealed(context, state);
                message.encode()
            }
            State::Revealed(whole, state) => {
                let groups = state.draw(&Broadcast::decode(body, &whole)?, self.expected.plan.least_group)?;
                let site = party.site();
                let stranger = || SecaggError::NotEnrolled { site: site.clone() };
                let own = whole.index(site).ok_or_else(stranger)?;
                let group = groups.groups().iter().position(|group| group.contains(own));
                let terms = group.and_then(|group| groups.terms(&whole, group)).ok_or_else(stranger)?;
                let context = SessionContext::new(terms, &self.roster)?;
                return self.join(party, context, call);
            }
            State::Keys(context, state) => {
                let keys = Broadcast::decode(body, &context)?;
                let (state, message) = state.deal(&keys, &mut party.random(context.digest(), call))?;
                self.state = State::Dealings(context, state);
                message.encode()
            }
            State::Dealings(context, state) if self.prospect.is_some() => {
                let dealings = Broadcast::decode(body, &context)?;
                let mut participation = party.record.participation();
                let mut random = party.random(context.digest(), call);
                let (state, input, shares) =
                    state.share(&dealings, &self.update.delta, &mut participation, &mut random)?;
                party.record.participated(participation);
                let answer = put_vector(&context, &input, &shares);
                self.state = State::Shares(context, state);
                answer
            }
            State::Shares(context, state) => {
                let (state, message) = state.multiply(read_delivery(&context, body)?)?;
                self.state = State::Products(context, state);
                message.encode()
            }
            State::Products(context, state) => {
                let (products, proposal) = read_review(&context, body)?;
                let (state, gram) = state.review(&products)?;
                let (rule, withheld) = (self.expected.plan.selection, self.withheld);
                let own = rule.zip(self.prospect.clone()).and_then(|(rule, prospect)| {
                    let basis = Basis { rule, prospect, withheld };
                    basis.own_selection(&context, &gram, state.too_long())
                });
                let (state, message) = state.consent(proposal, own.ok_or(SecaggError::OtherSelection)?)?;
                self.state = State::Agreement(context, state);
                message.encode()
            }
            State::Dealings(context, state) => {
                let dealings = Broadcast::decode(body, &context)?;
                let mut participation = party.record.participation();
                let (state, message) = state.mask(&dealings, self.input(place.phase), &mut participation)?;
                party.record.participated(participation);
                self.state = State::Proposal(context, state);
                message.encode()
            }
            State::Proposal(context, state) => {
                let (state, message) = state.consent(Proposal::decode(body, &context)?)?;
                self.state = State::Agreement(context, state);
                message.encode()
            }
            State::Agreement(context, state) => state.unmask(&Broadcast::decode(body, &context)?)?.encode(),
        };
        Ok(Said::Answer(answer))
    }

    /// What the hospital contributes.
    fn input(&self, phase: Phase) -> Input<'_> {
        // A cast from a number beyond the range gives the nearest in it.
        let samples = self.update.weight as u32;
        match phase {
            Phase::Counts => Input::Count(samples),
            Phase::Updates if self.expected.plan.by_samples => {
                Input::Weighted { values: &self.update.delta, samples }
            }
            Phase::Updates => Input::Update(&self.update.delta),
        }
    }
}
