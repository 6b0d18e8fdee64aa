//! Who takes part: enrolled sites and their keys, the cohort of a session, places and sets in it.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use medfed_types::{SecretKey, SiteId};

use crate::digest::Digest;
use crate::error::{Fault, SecaggError};

/// The most sites in one session.
pub const MOST_SITES: usize = 100;

/// A site's place in the cohort: sites are sorted by name and counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteIndex(u8);

impl SiteIndex {
    /// A place below [`MOST_SITES`].
    pub fn new(index: usize) -> Option<Self> {
        (index < MOST_SITES).then_some(Self(index as u8))
    }

    /// The place, counted from 0.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn byte(self) -> u8 {
        self.0
    }
}

/// A set of sites of one cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Members(u128);

impl Members {
    /// The set of all `sites` places of a cohort.
    pub(crate) fn all(sites: usize) -> Self {
        Self((1 << sites) - 1)
    }

    /// The set whose canonical bytes these are, if it stays within a cohort of `sites`.
    pub(crate) fn from_bits(bits: u128, sites: usize) -> Result<Self, Fault> {
        if bits >> sites == 0 { Ok(Self(bits)) } else { Err(Fault::Value) }
    }

    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    /// Adds a site; says whether it was new.
    pub fn insert(&mut self, site: SiteIndex) -> bool {
        let before = self.0;
        self.0 |= 1 << site.0;
        self.0 != before
    }

    /// Whether the site is in the set.
    pub fn contains(self, site: SiteIndex) -> bool {
        self.0 >> site.0 & 1 == 1
    }

    /// How many sites there are.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is no site.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every site is in `other` too.
    pub fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The sites that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The sites in ascending order.
    pub fn iter(self) -> impl Iterator<Item = SiteIndex> + Clone {
        (0..MOST_SITES as u8).map(SiteIndex).filter(move |site| self.contains(*site))
    }
}

impl FromIterator<SiteIndex> for Members {
    fn from_iter<I: IntoIterator<Item = SiteIndex>>(sites: I) -> Self {
        let mut set = Self::default();
        for site in sites {
            set.insert(site);
        }
        set
    }
}

/// A site's signing key. Wiped on drop, never printed.
pub struct Identity {
    site: SiteId,
    key: SigningKey,
}

impl Identity {
    /// The identity of a site whose Ed25519 seed (RFC 8032) is `key`.
    pub fn new(site: SiteId, key: &SecretKey) -> Self {
        Self { site, key: SigningKey::from_bytes(key.expose()) }
    }

    /// Whose identity it is.
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// The public half, to be enrolled in the [`Roster`].
    pub fn verifying_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, <redacted>)", self.site)
    }
}

/// All enrolled sites with their Ed25519 verifying keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster(BTreeMap<SiteId, VerifyingKey>);

impl Roster {
    /// Checks that names and keys differ and that every key is a valid point of large order.
    pub fn new(sites: impl IntoIterator<Item = (SiteId, [u8; 32])>) -> Result<Self, SecaggError> {
        let mut roster: BTreeMap<SiteId, VerifyingKey> = BTreeMap::new();
        for (site, bytes) in sites {
            let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak());
            let Some(key) = key else { return Err(SecaggError::VerifyingKey { site }) };
            if let Some((first, _)) = roster.iter().find(|(_, other)| **other == key) {
                return Err(SecaggError::SharedKey { first: first.clone(), second: site });
            }
            if roster.contains_key(&site) {
                return Err(SecaggError::Twice { site });
            }
            roster.insert(site, key);
        }
        Ok(Self(roster))
    }

    /// The sites, sorted by name.
    pub fn sites(&self) -> impl Iterator<Item = &SiteId> {
        self.0.keys()
    }

    /// The hash of all names and keys.
    pub fn digest(&self) -> Digest {
        digest(&self.0)
    }

    /// The cohort of a session: some of the enrolled sites.
    pub(crate) fn cohort(&self, sites: &[SiteId]) -> Result<Cohort, SecaggError> {
        if !(2..=MOST_SITES).contains(&sites.len()) {
            return Err(SecaggError::CohortSize { found: sites.len(), most: MOST_SITES });
        }
        let mut cohort = BTreeMap::new();
        for site in sites {
            let key = self.0.get(site).ok_or_else(|| SecaggError::NotEnrolled { site: site.clone() })?;
            if cohort.insert(site.clone(), *key).is_some() {
                return Err(SecaggError::Twice { site: site.clone() });
            }
        }
        let digest = digest(&cohort);
        Ok(Cohort { sites: cohort.into_iter().collect(), digest })
    }
}

fn digest(sites: &BTreeMap<SiteId, VerifyingKey>) -> Digest {
    let mut bytes = Vec::new();
    for (site, key) in sites {
        // A name has at most 64 bytes.
        bytes.push(site.as_str().len() as u8);
        bytes.extend_from_slice(site.as_str().as_bytes());
        bytes.extend_from_slice(key.as_bytes());
    }
    Digest::of("roster", &[&bytes])
}

/// The sites of one session, sorted by name.
#[derive(Debug)]
pub(crate) struct Cohort {
    sites: Vec<(SiteId, VerifyingKey)>,
    digest: Digest,
}

impl Cohort {
    pub(crate) fn len(&self) -> usize {
        self.sites.len()
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// The place of a site.
    pub(crate) fn index(&self, site: &SiteId) -> Option<SiteIndex> {
        self.sites.binary_search_by(|(other, _)| other.cmp(site)).ok().and_then(SiteIndex::new)
    }

    /// The name at a place that is known to be in the cohort.
    pub(crate) fn site(&self, index: SiteIndex) -> &SiteId {
        &self.sites[index.get()].0
    }

    pub(crate) fn key(&self, index: SiteIndex) -> &VerifyingKey {
        &self.sites[index.get()].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, byte: u8) -> Identity {
        Identity::new(SiteId::try_from(name).unwrap(), &SecretKey::from_bytes([byte; 32]))
    }

    fn entry(identity: &Identity) -> (SiteId, [u8; 32]) {
        (identity.site().clone(), identity.verifying_key())
    }

    #[test]
    fn a_roster_refuses_what_is_not_unique_or_weak() {
        let (a, b, c) = (identity("a", 1), identity("b", 2), identity("c", 1));
        assert!(Roster::new([entry(&a), entry(&b)]).is_ok());
        assert!(matches!(Roster::new([entry(&a), entry(&c)]), Err(SecaggError::SharedKey { .. })));
        let twice = [entry(&a), (a.site().clone(), b.verifying_key())];
        assert!(matches!(Roster::new(twice), Err(SecaggError::Twice { .. })));
        // The neutral point has order 1.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let weak = Roster::new([(a.site().clone(), neutral)]);
        assert!(matches!(weak, Err(SecaggError::VerifyingKey { .. })));
    }

    #[test]
    fn cohorts_are_sorted_and_enrolled() {
        let (a, b, c) = (identity("a", 1), identity("b", 2), identity("c", 3));
        let roster = Roster::new([entry(&b), entry(&a)]).unwrap();
        let cohort = roster.cohort(&[b.site().clone(), a.site().clone()]).unwrap();
        assert_eq!(cohort.index(a.site()).map(SiteIndex::get), Some(0));
        assert_eq!(cohort.site(SiteIndex::new(1).unwrap()), b.site());
        let stranger = roster.cohort(&[a.site().clone(), c.site().clone()]).unwrap_err();
        assert_eq!(stranger.culprits(), [c.site().clone()]);
        assert!(roster.cohort(&[a.site().clone(), a.site().clone()]).is_err());
        assert!(matches!(roster.cohort(&[]), Err(SecaggError::CohortSize { found: 0, .. })));
    }

    #[test]
    fn sets_are_sets() {
        let index = |i| SiteIndex::new(i).unwrap();
        let set: Members = [index(0), index(99), index(5)].into_iter().collect();
        assert_eq!(set.iter().map(SiteIndex::get).collect::<Vec<_>>(), [0, 5, 99]);
        assert!(set.is_subset(Members::all(100)) && !set.is_subset(Members::all(99)));
        assert_eq!(Members::from_bits(set.bits(), 99), Err(Fault::Value));
        assert_eq!(set.without(Members::all(6)).len(), 1);
        assert!(SiteIndex::new(MOST_SITES).is_none());
    }

    #[test]
    fn identities_are_not_printed() {
        assert_eq!(format!("{:?}", identity("a", 9)), "Identity(a, <redacted>)");
    }
}
