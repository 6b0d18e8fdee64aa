//! A hospital's part in the protocol: its signing key, and what it has sent already.

use medfed_secagg::Identity;
use medfed_secagg::site::Participation;
use medfed_types::{RoundId, SecretKey, SecretRng, SiteId};
use std::sync::Arc;

/// What a hospital brings to a session.
#[derive(Debug)]
pub(crate) struct Party {
    pub(super) identity: Arc<Identity>,
    pub(crate) participation: Participation,
    /// From which the coins of the rounds follow: a round that is repeated after a crash has its groups.
    coins: SecretKey,
    /// Of this sitting alone: keys of sessions are never made again.
    fresh: SecretKey,
    sessions: u64,
}

impl Party {
    /// With the hospital's signing key, and a key that was made for this sitting.
    pub(crate) fn new(site: SiteId, signing: &SecretKey, fresh: SecretKey) -> Self {
        Self {
            identity: Arc::new(Identity::new(site, &signing.subkey("identity", &[]))),
            participation: Participation::default(),
            coins: signing.subkey("coins", &[]),
            fresh,
            sessions: 0,
        }
    }

    /// Randomness that was not used before.
    pub(super) fn random(&mut self) -> SecretRng {
        self.sessions += 1;
        self.fresh.generator("secure aggregation", &[self.sessions])
    }

    /// The hospital's part of the coin of a round.
    pub(super) fn coin(&self, round: RoundId) -> SecretRng {
        self.coins.generator("coin", &[u64::from(round.0)])
    }
}
