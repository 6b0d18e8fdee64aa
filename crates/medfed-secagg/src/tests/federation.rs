//! A federation in one process. Every message goes through its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use medfed_types::{RoundId, SecretKey, SecretRng, SiteId};

use crate::context::*;
use crate::coordinator::*;
use crate::message::*;
use crate::signed::Body;
use crate::site::*;
use crate::*;

/// Sites that are gone before they send the message of a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drops {
    pub(crate) keys: Vec<usize>,
    pub(crate) dealing: Vec<usize>,
    pub(crate) input: Vec<usize>,
    pub(crate) consent: Vec<usize>,
    pub(crate) unmasking: Vec<usize>,
}

pub(crate) struct Federation {
    pub(crate) roster: Roster,
    pub(crate) identities: Vec<Arc<Identity>>,
    pub(crate) context: SessionContext,
    /// From which all randomness of the sites follows.
    pub(crate) key: SecretKey,
}

pub(crate) type States<S> = BTreeMap<SiteIndex, S>;

pub(crate) fn name(i: usize) -> SiteId {
    SiteId::try_from(format!("site {i:03}")).unwrap()
}

pub(crate) fn index(i: usize) -> SiteIndex {
    SiteIndex::new(i).unwrap()
}

pub(crate) fn updates(parameters: usize) -> Contribution {
    Contribution::Update { parameters, range: ClipRange::new(1.0).unwrap(), weighting: Weighting::Equal }
}

pub(crate) fn terms(sites: usize, contribution: Contribution) -> SessionTerms {
    SessionTerms {
        session: SessionId([7; 16]),
        round: RoundId(3),
        configuration: Digest::new([1; 32]),
        model: Digest::new([2; 32]),
        cohort: (0..sites).map(name).collect(),
        threshold: SessionTerms::least_threshold(sites),
        min_clients: sites.min(3),
        noise: SiteNoise::Private,
        contribution,
    }
}

impl Federation {
    pub(crate) fn new(sites: usize, contribution: Contribution) -> Self {
        Self::with(sites, terms(sites, contribution))
    }

    pub(crate) fn with(sites: usize, terms: SessionTerms) -> Self {
        let key = SecretKey::from_bytes([42; 32]);
        let identity = |i| Arc::new(Identity::new(name(i), &key.subkey("identity", &[i as u64])));
        let identities: Vec<_> = (0..sites).map(identity).collect();
        let enrolled = identities.iter().map(|it| (it.site().clone(), it.verifying_key()));
        let roster = Roster::new(enrolled).unwrap();
        let context = SessionContext::new(terms, &roster).unwrap();
        Self { roster, identities, context, key }
    }

    pub(crate) fn rng(&self, i: usize) -> SecretRng {
        self.key.generator("site", &[i as u64])
    }

    pub(crate) fn through<B: Body>(&self, message: &Signed<B>) -> Signed<B> {
        Signed::decode(&message.encode(), &self.context).unwrap()
    }

    pub(crate) fn broadcast<B: Body>(&self, messages: &Broadcast<B>) -> Broadcast<B> {
        Broadcast::decode(&messages.encode(&self.context), &self.context).unwrap()
    }

    fn present(&self, gone: &[usize]) -> impl Iterator<Item = usize> {
        (0..self.identities.len()).filter(move |i| !gone.contains(i))
    }

    /// Round 0.
    pub(crate) fn keys(
        &self,
        gone: &[usize],
    ) -> Result<(States<AwaitingKeys>, CollectingDealings, Broadcast<Keys>), SecaggError> {
        let mut sites = BTreeMap::new();
        let mut collecting = CollectingKeys::new(self.context.clone());
        for i in self.present(gone) {
            let (state, message) = join(&self.context, &self.identities[i], &mut self.rng(i))?;
            collecting.receive(self.through(&message))?;
            sites.insert(index(i), state);
        }
        let (next, broadcast) = collecting.close()?;
        Ok((sites, next, self.broadcast(&broadcast)))
    }

    /// Rounds 0 and 1.
    pub(crate) fn dealings(
        &self,
        drops: &Drops,
    ) -> Result<(States<AwaitingDealings>, CollectingDealings), SecaggError> {
        let (states, mut collecting, keys) = self.keys(&drops.keys)?;
        let mut sites = BTreeMap::new();
        for (site, state) in states.into_iter().filter(|(site, _)| !drops.dealing.contains(&site.get())) {
            let mut rng = self.key.generator("deal", &[site.get() as u64]);
            let (state, message) = state.deal(&keys, &mut rng)?;
            collecting.receive(self.through(&message))?;
            sites.insert(site, state);
        }
        Ok((sites, collecting))
    }

    /// Rounds 0 to 2.
    pub(crate) fn inputs<'a>(
        &self,
        drops: &Drops,
        input: impl Fn(usize) -> Input<'a>,
    ) -> Result<(States<AwaitingProposal>, CollectingConsents, Proposal), SecaggError> {
        let (states, collecting) = self.dealings(drops)?;
        let (mut collecting, dealings) = collecting.close()?;
        let dealings = self.broadcast(&dealings);
        let mut sites = BTreeMap::new();
        for (site, state) in states.into_iter().filter(|(site, _)| !drops.input.contains(&site.get())) {
            let (state, message) = state.mask(&dealings, input(site.get()), &mut Participation::default())?;
            collecting.receive(self.through(&message))?;
            sites.insert(site, state);
        }
        let (next, proposal) = collecting.close()?;
        let bytes = proposal.encode(&self.context);
        Ok((sites, next, Proposal::decode(&bytes, &self.context)?))
    }

    /// Rounds 3 and 4.
    pub(crate) fn open(
        &self,
        drops: &Drops,
        states: impl IntoIterator<Item = (SiteIndex, AwaitingAgreement, Signed<Consent>)>,
        mut collecting: CollectingConsents,
    ) -> Result<OpenedSum, SecaggError> {
        let mut sites = BTreeMap::new();
        for (site, state, message) in states {
            if drops.consent.contains(&site.get()) {
                continue;
            }
            collecting.receive(self.through(&message))?;
            sites.insert(site, state);
        }
        let (mut collecting, agreement) = collecting.close()?;
        let agreement = self.broadcast(&agreement);
        for (site, state) in sites.into_iter().filter(|(site, _)| !drops.unmasking.contains(&site.get())) {
            let _ = site;
            collecting.receive(self.through(&state.unmask(&agreement)?))?;
        }
        collecting.close()
    }

    /// A whole session.
    pub(crate) fn run<'a>(
        &self,
        drops: &Drops,
        input: impl Fn(usize) -> Input<'a>,
    ) -> Result<OpenedSum, SecaggError> {
        let (states, collecting, proposal) = self.inputs(drops, input)?;
        let consent = |(site, state): (SiteIndex, AwaitingProposal)| {
            state.consent(proposal).map(|(state, message)| (site, state, message))
        };
        let states = states.into_iter().map(consent).collect::<Result<Vec<_>, _>>()?;
        self.open(drops, states, collecting)
    }
}
