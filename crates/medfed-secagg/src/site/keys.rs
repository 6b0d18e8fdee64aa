//! Round 0: fresh keys.

use std::sync::Arc;

use medfed_types::SecretRng;

use super::{AwaitingKeys, Me};
use crate::agreement::AgreementSecret;
use crate::context::SessionContext;
use crate::error::SecaggError;
use crate::message::Keys;
use crate::roster::Identity;
use crate::shamir::Seed;
use crate::signed::Signed;

/// Enters a session: makes two key pairs for it and signs their public halves.
///
/// Refused is an identity that is not of the cohort or not the enrolled one.
pub fn join(
    context: &SessionContext,
    identity: &Arc<Identity>,
    rng: &mut SecretRng,
) -> Result<(AwaitingKeys, Signed<Keys>), SecaggError> {
    let site = identity.site();
    let index = context.index(site).ok_or_else(|| SecaggError::NotEnrolled { site: site.clone() })?;
    if *context.cohort().key(index).as_bytes() != identity.verifying_key() {
        return Err(SecaggError::OtherIdentity { site: site.clone() });
    }
    let encryption = AgreementSecret::random(rng);
    // The seed of the mask key is what gets shared: the key follows from it.
    let mask_seed = Seed::random(rng);
    let mask = AgreementSecret::of_seed(&mask_seed, context.digest());
    let keys = Keys { encryption: encryption.public(), mask: mask.public() };
    let own = Signed::new(context, context.digest(), identity, index, keys);
    let me = Me { context: context.clone(), identity: Arc::clone(identity), index };
    Ok((AwaitingKeys { me, encryption, mask_seed, mask, own: own.clone() }, own))
}
