//! Random groups: which sites are summed together in a round, drawn by a coin that nobody controls.
//!
//! A robust rule needs several vectors to compare, and a masked sum is one. So the sites are divided into
//! groups, each opens its own sum, and the rule works on the sums. If the coordinator could choose, it
//! would put a victim into a group with sites it colludes with and subtract what these sent. So the groups
//! follow from a coin: every site signs a commitment to 32 random bytes ([`toss`]), then opens it
//! ([`AwaitingCommitments::reveal`]); the hash of all openings draws the groups
//! ([`AwaitingCoins::draw`], [`CollectingCoins::close`]). As long as one site draws honestly, the groups are
//! uniform. Whoever does not open its commitment ends the attempt, and is named; leaving it out of the
//! next is all the choice it has.
//!
//! In a group of two, each can derive the other's input from the sum: only the noise of differential
//! privacy protects it there. Larger groups protect better and compare fewer.

use std::collections::BTreeMap;
use std::sync::Arc;

use medfed_types::SecretRng;
use rand::Rng;

use crate::agreement::derive;
use crate::context::{SessionContext, SessionId, SessionTerms, SiteNoise};
use crate::digest::Digest;
use crate::error::{Fault, SecaggError};
use crate::mask::Stream;
use crate::message::MessageKind;
use crate::roster::{Identity, Members, SiteIndex};
use crate::signed::{Body, Broadcast, Signed};
use crate::wire::Reader;

/// A commitment to a site's part of the coin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoinCommitment(Digest);

/// A site's part of the coin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin([u8; 32]);

impl Body for CoinCommitment {
    const KIND: MessageKind = MessageKind::CoinCommitment;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }

    fn read(reader: &mut Reader<'_>, _: &SessionContext) -> Result<Self, Fault> {
        reader.array().map(Digest::new).map(Self)
    }
}

impl Body for Coin {
    const KIND: MessageKind = MessageKind::Coin;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn read(reader: &mut Reader<'_>, _: &SessionContext) -> Result<Self, Fault> {
        reader.array().map(Self)
    }
}

impl Coin {
    fn commitment(&self, context: &SessionContext, site: SiteIndex) -> CoinCommitment {
        CoinCommitment(Digest::of("coin", &[context.digest().as_bytes(), &[site.byte()], &self.0]))
    }
}

/// Draws a site's part of the coin and commits to it. `context` is that of the whole cohort.
pub fn toss(
    context: &SessionContext,
    identity: &Arc<Identity>,
    rng: &mut SecretRng,
) -> Result<(AwaitingCommitments, Signed<CoinCommitment>), SecaggError> {
    let site = identity.site();
    let index = context.index(site).ok_or_else(|| SecaggError::NotEnrolled { site: site.clone() })?;
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    let coin = Coin(bytes);
    let own = Signed::new(context, context.digest(), identity, index, coin.commitment(context, index));
    let state = AwaitingCommitments {
        context: context.clone(),
        identity: Arc::clone(identity),
        index,
        coin,
        own: own.clone(),
    };
    Ok((state, own))
}

/// The site has committed and waits for the commitments of others.
#[derive(Debug)]
pub struct AwaitingCommitments {
    context: SessionContext,
    identity: Arc<Identity>,
    index: SiteIndex,
    coin: Coin,
    own: Signed<CoinCommitment>,
}

impl AwaitingCommitments {
    /// Takes everyone's commitments and opens its own. Refused are commitments that are not signed by
    /// sites of the cohort, and a list without this site's own.
    pub fn reveal(
        self,
        commitments: &Broadcast<CoinCommitment>,
    ) -> Result<(AwaitingCoins, Signed<Coin>), SecaggError> {
        let Self { context, identity, index, coin, own } = self;
        if !commitments.messages().contains(&own) {
            return Err(SecaggError::OwnMessage { message: MessageKind::CoinCommitment });
        }
        commitments.verify(&context, context.digest(), Members::all(context.sites()))?;
        let commitments = Commitments::new(context, commitments);
        let own = Signed::new(&commitments.context, commitments.transcript, &identity, index, coin);
        Ok((AwaitingCoins { commitments }, own))
    }
}

/// The site has opened its commitment and waits for the others to.
#[derive(Debug)]
pub struct AwaitingCoins {
    commitments: Commitments,
}

impl AwaitingCoins {
    /// Takes every coin and draws the groups, of at least `least` sites each. Refused is a coin that is
    /// missing, not signed, or not the one committed to.
    pub fn draw(self, coins: &Broadcast<Coin>, least: usize) -> Result<Groups, SecaggError> {
        let mut senders = Members::default();
        for message in coins.messages() {
            self.commitments.admit(message, senders)?;
            senders.insert(message.sender());
        }
        self.commitments.draw(coins, least)
    }
}

/// Everyone's verified commitments.
#[derive(Debug)]
struct Commitments {
    context: SessionContext,
    by_site: BTreeMap<SiteIndex, CoinCommitment>,
    transcript: Digest,
}

impl Commitments {
    fn new(context: SessionContext, broadcast: &Broadcast<CoinCommitment>) -> Self {
        let by_site = broadcast.messages().iter().map(|it| (it.sender(), it.body().clone())).collect();
        let transcript = broadcast.transcript(context.digest());
        Self { context, by_site, transcript }
    }

    fn members(&self) -> Members {
        self.by_site.keys().copied().collect()
    }

    fn admit(&self, message: &Signed<Coin>, others: Members) -> Result<(), SecaggError> {
        message.verify(&self.context, self.transcript, self.members())?;
        let sender = message.sender();
        let site = || self.context.name(sender);
        if others.contains(sender) {
            return Err(SecaggError::Duplicate { message: MessageKind::Coin, site: site() });
        }
        let found = message.body().commitment(&self.context, sender);
        if self.by_site.get(&sender) == Some(&found) {
            return Ok(());
        }
        Err(SecaggError::Coin { site: site() })
    }

    fn draw(&self, coins: &Broadcast<Coin>, least: usize) -> Result<Groups, SecaggError> {
        let members = self.members();
        let opened = coins.messages().iter().map(Signed::sender).collect();
        if let Some(missing) = members.without(opened).iter().next() {
            return Err(SecaggError::Coin { site: self.context.name(missing) });
        }
        if least < 2 || least > members.len() {
            let (what, expected) = ("the size of a group", "from 2 to the number of sites");
            return Err(SecaggError::Terms { what, expected, found: least as f64 });
        }
        Ok(Groups::new(members, least, coins.transcript(self.transcript)))
    }
}

/// The coordinator waits for commitments.
#[derive(Debug)]
pub struct CollectingCommitments {
    context: SessionContext,
    messages: BTreeMap<SiteIndex, Signed<CoinCommitment>>,
}

impl CollectingCommitments {
    /// Starts a toss among the whole cohort.
    pub fn new(context: SessionContext) -> Self {
        Self { context, messages: BTreeMap::new() }
    }

    /// Takes the commitment of one site.
    pub fn receive(&mut self, message: Signed<CoinCommitment>) -> Result<(), SecaggError> {
        let all = Members::all(self.context.sites());
        message.verify(&self.context, self.context.digest(), all)?;
        if self.messages.contains_key(&message.sender()) {
            let site = self.context.name(message.sender());
            return Err(SecaggError::Duplicate { message: MessageKind::CoinCommitment, site });
        }
        self.messages.insert(message.sender(), message);
        Ok(())
    }

    /// Ends the round: everyone's commitments, for every site that sent one.
    pub fn close(self) -> (CollectingCoins, Broadcast<CoinCommitment>) {
        let broadcast = Broadcast::new(self.messages.into_values());
        let commitments = Commitments::new(self.context, &broadcast);
        (CollectingCoins { commitments, messages: BTreeMap::new() }, broadcast)
    }
}

/// The coordinator waits for the coins that were committed to.
#[derive(Debug)]
pub struct CollectingCoins {
    commitments: Commitments,
    messages: BTreeMap<SiteIndex, Signed<Coin>>,
}

impl CollectingCoins {
    /// Takes the coin of one site; refused is one that it did not commit to.
    pub fn receive(&mut self, message: Signed<Coin>) -> Result<(), SecaggError> {
        let others = self.messages.keys().copied().collect();
        self.commitments.admit(&message, others)?;
        self.messages.insert(message.sender(), message);
        Ok(())
    }

    /// Draws the groups, of at least `least` sites each. Names a site whose coin is missing.
    pub fn close(self, least: usize) -> Result<(Groups, Broadcast<Coin>), SecaggError> {
        let broadcast = Broadcast::new(self.messages.into_values());
        Ok((self.commitments.draw(&broadcast, least)?, broadcast))
    }
}

/// The groups of one round. Every site is in exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    groups: Vec<Members>,
    coin: Digest,
}

impl Groups {
    /// Shuffles the members (Fisher and Yates) and deals them out, so that sizes differ by at most one.
    fn new(members: Members, least: usize, coin: Digest) -> Self {
        let stream = Stream::new(&derive(coin.as_bytes(), coin, "groups", &[]));
        let mut words = vec![0; 4 * members.len()];
        stream.words(0, &mut words);
        let mut order: Vec<SiteIndex> = members.iter().collect();
        for (last, words) in (1..order.len()).rev().zip(words.chunks_exact(4)) {
            // 128 bits modulo at most 100: uniform to 2^-121.
            let draw = words.iter().fold(0, |sum, word| sum << 32 | u128::from(*word));
            order.swap(last, (draw % (last as u128 + 1)) as usize);
        }
        let mut groups = vec![Members::default(); members.len() / least];
        let count = groups.len();
        for (at, site) in order.into_iter().enumerate() {
            groups[at % count].insert(site);
        }
        Self { groups, coin }
    }

    /// The groups, in the order in which they were drawn.
    pub fn groups(&self) -> &[Members] {
        &self.groups
    }

    /// The terms of the session of one group, under those of the whole cohort: its sites, a session name
    /// of its own, the least threshold, and as many survivors as noise allows (2, or 3 without).
    pub fn terms(&self, whole: &SessionContext, group: usize) -> Option<SessionTerms> {
        let members = *self.groups.get(group)?;
        let number = (group as u64).to_le_bytes();
        let name = Digest::of("group session", &[whole.digest().as_bytes(), self.coin.as_bytes(), &number]);
        let mut session = [0; 16];
        session.copy_from_slice(&name.as_bytes()[..16]);
        let terms = whole.terms().clone();
        Some(SessionTerms {
            session: SessionId(session),
            cohort: whole.names(members),
            threshold: SessionTerms::least_threshold(members.len()),
            min_clients: if terms.noise == SiteNoise::Private { 2 } else { 3 },
            ..terms
        })
    }
}

#[cfg(test)]
mod tests;
