//! A site's side of the protocol: one state for each round, consumed by the step that leaves it.
//!
//! ```text
//! join ─► AwaitingKeys ─deal─► AwaitingDealings ─mask─► AwaitingProposal ─consent─► AwaitingAgreement ─unmask─► done
//!                                      └─share─► AwaitingShares ─multiply─► AwaitingProducts ─review─► AwaitingSelection ─consent─┘
//! ```
//!
//! A step that fails drops its state and with it every secret: the site is then out of the session, and
//! nothing can be asked of it twice.

mod consent;
mod dealing;
mod keys;
mod masked_input;
mod participation;
mod selection;
mod unmasking;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use consent::AwaitingProposal;
pub use dealing::AwaitingKeys;
pub use keys::join;
pub use masked_input::AwaitingDealings;
pub use participation::{Left, Participation};
pub use selection::{AwaitingProducts, AwaitingSelection, AwaitingShares};
pub use unmasking::AwaitingAgreement;

pub(crate) use dealing::seed_commitment;
pub(crate) use masked_input::{admit as admit_dealing, pairwise, self_mask_key};
pub(crate) use selection::check_selection;

use crate::context::SessionContext;
use crate::roster::{Identity, SiteIndex};
use crate::shamir::Seed;

/// Who a state belongs to.
#[derive(Debug)]
struct Me {
    context: SessionContext,
    identity: Arc<Identity>,
    index: SiteIndex,
}

/// The shares that this site holds of one dealer's seeds. At most one of the two is ever released.
#[derive(Debug)]
struct Held {
    self_mask: Seed,
    mask_key: Seed,
}

/// The shares that this site holds, by dealer.
type Holdings = BTreeMap<SiteIndex, Held>;
