//! The messages of sessions between coordinator and hospitals in one process. Every message goes through
//! its bytes, which are counted.

use super::Party;
use crate::report::{Exclusion, Traffic};
use medfed_secagg::coordinator::CollectingKeys;
use medfed_secagg::coordinator::OpenedSum;
use medfed_secagg::groups::{CollectingCommitments, Groups, toss};
use medfed_secagg::message::Proposal;
use medfed_secagg::site::join;
use medfed_secagg::{Broadcast, Input, Roster, SecaggError, SessionContext, SessionTerms, Signed, SiteIndex};
use medfed_types::SiteId;
use std::collections::BTreeMap;

/// Everyone who takes part in a round's sessions.
pub(super) struct Table<'a> {
    pub(super) parties: BTreeMap<SiteId, &'a mut Party>,
    pub(super) roster: Roster,
    pub(super) traffic: BTreeMap<SiteId, Traffic>,
    /// Hospitals that dropped out, in the order in which they did.
    pub(super) lost: Vec<Exclusion>,
}

/// The hospitals still there, with their states.
type States<S> = BTreeMap<SiteIndex, S>;

/// A message to the coordinator, through its bytes.
macro_rules! sent {
    ($table:expr, $context:expr, $message:expr) => {{
        let message = $message;
        let bytes = message.encode();
        $table.sent($context, message.sender(), bytes.len());
        Signed::decode(&bytes, $context)
    }};
}

/// What the coordinator passes on to everyone who is still there, through its bytes.
macro_rules! passed_on {
    ($table:expr, $context:expr, $states:expr, $broadcast:expr) => {{
        let bytes = $broadcast.encode($context);
        $table.passed_on($context, $states.keys(), bytes.len());
        Broadcast::decode(&bytes, $context)?
    }};
}

impl<'a> Table<'a> {
    pub(super) fn new(parties: BTreeMap<SiteId, &'a mut Party>) -> Result<Self, SecaggError> {
        let keys = parties.iter().map(|(site, party)| (site.clone(), party.identity.verifying_key()));
        Ok(Self { roster: Roster::new(keys)?, parties, traffic: BTreeMap::new(), lost: Vec::new() })
    }

    /// A session from the first key to the opened sum.
    pub(super) fn open<'i>(
        &mut self,
        terms: SessionTerms,
        input: impl Fn(&SiteId) -> Input<'i>,
    ) -> Result<OpenedSum, SecaggError> {
        let context = &SessionContext::new(terms, &self.roster)?;
        let mut collecting = CollectingKeys::new(context.clone());
        let mut states = States::new();
        for site in &context.terms().cohort {
            let Some(party) = self.parties.get_mut(site) else { continue };
            let joined = join(context, &party.identity.clone(), &mut party.random());
            let joined = joined.and_then(|(state, message)| {
                collecting.receive(sent!(self, context, message)?)?;
                Ok(state)
            });
            self.keep(context, context.index(site), joined, &mut states);
        }
        let (mut collecting, keys) = collecting.close()?;
        let keys = passed_on!(self, context, states, keys);

        let mut dealt = States::new();
        for (index, state) in states {
            let random = self.party(context, index).map(Party::random);
            let Some(mut random) = random else { continue };
            let result = state.deal(&keys, &mut random).and_then(|(state, message)| {
                collecting.receive(sent!(self, context, message)?)?;
                Ok(state)
            });
            self.keep(context, Some(index), result, &mut dealt);
        }
        let (mut collecting, dealings) = collecting.close()?;
        let dealings = passed_on!(self, context, dealt, dealings);

        let mut masked = States::new();
        for (index, state) in dealt {
            let Some(site) = context.site(index) else { continue };
            let Some(party) = self.parties.get_mut(site) else { continue };
            let result = state.mask(&dealings, input(site), &mut party.participation);
            let result = result.and_then(|(state, message)| {
                collecting.receive(sent!(self, context, message)?)?;
                Ok(state)
            });
            self.keep(context, Some(index), result, &mut masked);
        }
        let (mut collecting, proposal) = collecting.close()?;
        let bytes = proposal.encode(context);
        self.passed_on(context, masked.keys(), bytes.len());
        let proposal = Proposal::decode(&bytes, context)?;

        let mut agreed = States::new();
        for (index, state) in masked {
            let result = state.consent(proposal).and_then(|(state, message)| {
                collecting.receive(sent!(self, context, message)?)?;
                Ok(state)
            });
            self.keep(context, Some(index), result, &mut agreed);
        }
        let (mut collecting, consents) = collecting.close()?;
        let consents = passed_on!(self, context, agreed, consents);

        for (index, state) in agreed {
            let result = state
                .unmask(&consents)
                .and_then(|message| collecting.receive(sent!(self, context, message)?));
            if let Err(error) = result {
                self.lose(context, index, &error);
            }
        }
        collecting.close()
    }

    /// The coin of a round, and the groups that it draws. All hospitals draw the same.
    pub(super) fn draw(&mut self, context: &SessionContext, least: usize) -> Result<Groups, SecaggError> {
        let round = context.terms().round;
        let mut collecting = CollectingCommitments::new(context.clone());
        let mut states = States::new();
        for site in &context.terms().cohort {
            let Some(party) = self.parties.get(site) else { continue };
            let tossed = toss(context, &party.identity, &mut party.coin(round));
            let tossed = tossed.and_then(|(state, message)| {
                collecting.receive(sent!(self, context, message)?)?;
                Ok(state)
            });
            self.keep(context, context.index(site), tossed, &mut states);
        }
        let (mut collecting, commitments) = collecting.close();
        let commitments = passed_on!(self, context, states, commitments);
        let mut revealed = States::new();
        for (index, state) in states {
            let result = state.reveal(&commitments).and_then(|(state, message)| {
                collecting.receive(sent!(self, context, message)?)?;
                Ok(state)
            });
            self.keep(context, Some(index), result, &mut revealed);
        }
        let (groups, coins) = collecting.close(least)?;
        let coins = passed_on!(self, context, revealed, coins);
        for (index, state) in revealed {
            if state.draw(&coins, least)? != groups {
                let site = context.site(index).cloned();
                return Err(site.map_or(SecaggError::DeclaredDropped, |site| SecaggError::Coin { site }));
            }
        }
        Ok(groups)
    }

    fn party(&mut self, context: &SessionContext, index: SiteIndex) -> Option<&mut Party> {
        self.parties.get_mut(context.site(index)?).map(|party| &mut **party)
    }

    /// Keeps the state of a hospital, or notes that it dropped out.
    fn keep<S>(
        &mut self,
        context: &SessionContext,
        index: Option<SiteIndex>,
        result: Result<S, SecaggError>,
        states: &mut States<S>,
    ) {
        let Some(index) = index else { return };
        match result {
            Ok(state) => {
                states.insert(index, state);
            }
            Err(error) => self.lose(context, index, &error),
        }
    }

    /// Notes that a hospital dropped out.
    fn lose(&mut self, context: &SessionContext, index: SiteIndex, error: &SecaggError) {
        let hospital = context.site(index).cloned();
        let reason = error.to_string();
        self.lost.extend(hospital.map(|hospital| Exclusion { hospital, reason }));
    }

    fn sent(&mut self, context: &SessionContext, sender: SiteIndex, bytes: usize) {
        if let Some(site) = context.site(sender) {
            self.traffic.entry(site.clone()).or_default().sent_bytes += bytes as u64;
        }
    }

    fn passed_on<'s>(
        &mut self,
        context: &SessionContext,
        receivers: impl Iterator<Item = &'s SiteIndex>,
        bytes: usize,
    ) {
        for site in receivers.filter_map(|index| context.site(*index)) {
            self.traffic.entry(site.clone()).or_default().received_bytes += bytes as u64;
        }
    }
}
