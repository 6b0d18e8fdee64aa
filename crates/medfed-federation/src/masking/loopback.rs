//! A masked round among hospitals of one process: every message as the bytes that a network would carry.

use super::{Opening, Order, Session, Turn, Unmasked};
use crate::error::FederationError;
use crate::site::{RawUpdate, Site};
use medfed_dp::LedgerStorage;
use medfed_secagg::Roster;
use medfed_types::{SecretKey, SiteId};
use std::collections::BTreeMap;

/// Opens the sums that `order` asks for, of the updates that hospitals hold.
///
/// `key` is the coordinator's for the run. `keep` makes the state of the hospitals durable; it is called
/// before answers leave that a hospital must not forget.
pub(crate) fn unmask<S: LedgerStorage>(
    order: Order,
    sites: &mut [Site<S>],
    updates: BTreeMap<SiteId, RawUpdate>,
    key: &SecretKey,
    mut keep: impl FnMut(&[Site<S>]) -> Result<(), FederationError>,
) -> Result<Unmasked, FederationError> {
    let mut keys = Vec::with_capacity(updates.len());
    for site in sites.iter_mut().filter(|site| updates.contains_key(site.id())) {
        let key = site.party().ok_or(FederationError::NotEnrolled)?.verifying_key();
        keys.push((site.id().clone(), key));
    }
    let roster = Roster::new(keys)?;
    let session = |(site, update)| (site, Session::new(order.expectation(), roster.clone(), update));
    let mut sessions: BTreeMap<SiteId, Session> = updates.into_iter().map(session).collect();
    let hospitals: Vec<SiteId> = sessions.keys().cloned().collect();
    let (mut opening, mut calls) = Opening::start(order, roster.clone(), hospitals, key);
    loop {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let party = sites.iter_mut().find(|site| *site.id() == call.to).and_then(Site::party);
            let (Some(session), Some(party)) = (sessions.get_mut(&call.to), party) else { continue };
            // A call that is refused is not answered: the hospital counts as silent.
            if let Ok(answer) = session.handle(party, &call.bytes) {
                answers.push((call.to, answer));
            }
        }
        if opening.step().binds() {
            keep(sites)?;
        }
        for (site, answer) in answers {
            // Who sends what is refused drops out, and the report says so.
            let _ = opening.receive(&site, &answer);
        }
        match opening.close() {
            Turn::Ask(next, messages) => (opening, calls) = (next, messages),
            Turn::Done(unmasked) => return Ok(unmasked),
        }
    }
}
