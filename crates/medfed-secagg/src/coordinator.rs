//! The coordinator's side of the protocol: one state for each round. A state takes messages until it is
//! closed; a message that is refused changes nothing, and its error names the culprit.
//!
//! ```text
//! CollectingKeys ─► CollectingDealings ─► CollectingInputs ─► CollectingConsents ─► CollectingUnmaskings ─► OpenedSum
//!                            └─► CollectingVectors ─► CollectingProducts ─► Selecting ─┘
//! ```
//!
//! The coordinator is not trusted: whatever it passes on is checked by the sites. It checks for its own
//! part what the sites send, so that a dishonest site is named and costs the others no more than a retry.

mod consents;
mod dealings;
mod inputs;
mod keys;
mod opened;
mod selection;
mod unmaskings;

pub use consents::CollectingConsents;
pub use dealings::CollectingDealings;
pub use inputs::CollectingInputs;
pub use keys::CollectingKeys;
pub use opened::OpenedSum;
pub use selection::{CollectingProducts, CollectingVectors, Selecting};
pub use unmaskings::CollectingUnmaskings;

use std::collections::BTreeMap;

use crate::context::SessionContext;
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::keyring::Keyring;
use crate::message::{Dealing, MessageKind};
use crate::roster::{Members, SiteIndex};

/// What the coordinator keeps of the first two rounds.
#[derive(Debug)]
struct Session {
    context: SessionContext,
    ring: Keyring,
    dealings: BTreeMap<SiteIndex, Dealing>,
    /// Of the rounds so far.
    transcript: Digest,
}

impl Session {
    fn dealers(&self) -> Members {
        self.dealings.keys().copied().collect()
    }
}

/// Refuses to go on with fewer sites than are needed.
fn enough(message: MessageKind, found: usize, expected: usize) -> Result<(), SecaggError> {
    if found < expected { Err(SecaggError::TooFew { message, expected, found }) } else { Ok(()) }
}
