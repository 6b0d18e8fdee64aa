//! Masked rounds with hospitals that fall silent, break the protocol or are lied to.

mod attacks;
mod dropouts;
mod mutations;
mod selection;

use super::*;
use crate::site::RawUpdate;
use medfed_secagg::{Identity, Roster};
use medfed_types::random::danger::reproducible_key;
use medfed_types::{SecretKey, Seed};
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;

const PARAMETERS: usize = 5;
const RANGE: f64 = 4.0;

fn site(index: usize) -> SiteId {
    SiteId::try_from(format!("hospital {index}")).unwrap()
}

fn plan(mode: MaskingMode, by_samples: bool) -> MaskingPlan {
    MaskingPlan {
        selection: None,
        norm_bound: None,
        mode,
        by_samples,
        threshold: None,
        min_clients: 2,
        least_group: 2,
        noise: SiteNoise::Private,
        clip_range: None,
        configuration: Digest::new([1; 32]),
    }
}

fn order(plan: MaskingPlan) -> Order {
    let (model, range) = (Digest::new([2; 32]), ClipRange::new(RANGE).unwrap());
    Order { plan, round: RoundId(3), model, parameters: PARAMETERS, range, prospect: None }
}

fn key() -> SecretKey {
    reproducible_key(Seed(1)).subkey("coordinator", &[])
}

/// An update of every hospital, and the number of samples that it weighs.
fn updates(hospitals: usize) -> BTreeMap<SiteId, RawUpdate> {
    let update = |index: usize| {
        let mut rng = Seed(9).generator("update", &[index as u64]);
        let delta = (0..PARAMETERS).map(|_| rng.random_range(-1.0..1.0)).collect();
        RawUpdate { round: RoundId(3), delta, weight: (10 + 7 * index) as f64 }
    };
    (0..hospitals).map(|index| (site(index), update(index))).collect()
}

/// The hospitals of one round.
struct Hospitals {
    order: Order,
    roster: Roster,
    parties: BTreeMap<SiteId, Party>,
    sessions: BTreeMap<SiteId, Session>,
}

impl Hospitals {
    fn new(order: &Order, updates: BTreeMap<SiteId, RawUpdate>) -> Self {
        let party = |site: &SiteId| {
            let key = reproducible_key(Seed(2)).subkey(site.as_str(), &[]);
            Party::new(Identity::new(site.clone(), &key.subkey("identity", &[])), key.subkey("run", &[]))
        };
        let parties: BTreeMap<SiteId, Party> =
            updates.keys().map(|site| (site.clone(), party(site))).collect();
        let keys = parties.iter().map(|(site, party)| (site.clone(), party.verifying_key()));
        let roster = Roster::new(keys).unwrap();
        let mut hospitals = Self { order: order.clone(), roster, parties, sessions: BTreeMap::new() };
        hospitals.train(updates);
        hospitals
    }

    /// Forgets everything but keys and records, as a restart does, and has the updates again.
    fn train(&mut self, updates: BTreeMap<SiteId, RawUpdate>) {
        let session =
            |(site, update)| (site, Session::new(self.order.expectation(), self.roster.clone(), update));
        self.sessions = updates.into_iter().map(session).collect();
    }

    fn start(&self) -> (Opening, Vec<Message>) {
        let hospitals = self.parties.keys().cloned();
        Opening::start(self.order.clone(), self.roster.clone(), hospitals, &key())
    }

    fn handle(&mut self, call: &Message) -> Result<Arc<[u8]>, MaskingError> {
        let session = self.sessions.get_mut(&call.to).unwrap();
        session.handle(self.parties.get_mut(&call.to).unwrap(), &call.bytes)
    }

    /// Plays a round. `answer` makes of the answer of a hospital what the coordinator gets.
    fn play(
        &mut self,
        mut answer: impl FnMut(&Opening, &SiteId, Result<Arc<[u8]>, MaskingError>) -> Option<Arc<[u8]>>,
    ) -> Unmasked {
        let (mut opening, mut calls) = self.start();
        loop {
            for call in &calls {
                let answered = self.handle(call);
                if let Some(bytes) = answer(&opening, &call.to, answered) {
                    let _ = opening.receive(&call.to, &bytes);
                }
            }
            match opening.close() {
                Turn::Ask(next, messages) => (opening, calls) = (next, messages),
                Turn::Done(unmasked) => return unmasked,
            }
        }
    }

    /// Plays a round up to a step of an attempt: the coordinator and the calls of that step.
    fn play_to(&mut self, step: Step) -> (Opening, Vec<Message>) {
        let (mut opening, mut calls) = self.start();
        while opening.step() != step {
            for call in &calls {
                let bytes = self.handle(call).unwrap();
                opening.receive(&call.to, &bytes).unwrap();
            }
            match opening.close() {
                Turn::Ask(next, messages) => (opening, calls) = (next, messages),
                Turn::Done(unmasked) => panic!("{step} never came: {:?}", unmasked.opened),
            }
        }
        (opening, calls)
    }
}

/// The mean of some hospitals' updates, in double precision.
fn mean_of(updates: &BTreeMap<SiteId, RawUpdate>, sites: &[SiteId], by_samples: bool) -> Vec<f64> {
    let weight = |site: &SiteId| if by_samples { updates[site].weight } else { 1.0 };
    let total: f64 = sites.iter().map(weight).sum();
    let value = |at: usize| {
        let sum = sites.iter().map(|site| weight(site) * f64::from(updates[site].delta[at]));
        sum.sum::<f64>() / total
    };
    (0..PARAMETERS).map(value).collect()
}

/// That an opened mean is the one of its hospitals' updates.
fn assert_mean(opened: &OpenedMean, updates: &BTreeMap<SiteId, RawUpdate>, by_samples: bool) {
    let expected = mean_of(updates, &opened.sites, by_samples);
    for (found, expected) in opened.mean.iter().zip(&expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
    }
    assert_eq!(opened.mean.len(), PARAMETERS);
}
