//! A site's memory across sessions: one input for a round, once.

use medfed_types::RoundId;

use crate::context::{Contribution, SessionContext};
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::message::MaskedInput;
use crate::signed::Signed;

/// An input that left under its masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// For which round.
    pub round: RoundId,
    /// Hash of the signed message: of its session, its transcript and its words.
    pub message: Digest,
}

/// The last inputs that left.
///
/// Two sums over the same update and different survivors differ by what a single site sent. Within a
/// session no second sum can be opened; this keeps a coordinator from starting the round again. The very
/// same message may leave again, as after a restart: it tells nothing new. It belongs to one run, and must
/// be durable before a masked input is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Participation {
    /// The last sample count that left.
    pub counts: Option<Left>,
    /// The last update that left.
    pub updates: Option<Left>,
}

impl Participation {
    /// Notes that an input for the session's round leaves; refuses when another has left already for it,
    /// or any for a later round.
    pub(super) fn claim(
        &mut self,
        context: &SessionContext,
        message: &Signed<MaskedInput>,
    ) -> Result<(), SecaggError> {
        let slot = match context.terms().contribution {
            Contribution::Counts => &mut self.counts,
            Contribution::Update { .. } | Contribution::Selection { .. } => &mut self.updates,
        };
        let found = Left { round: context.terms().round, message: message.fingerprint() };
        if let Some(last) = slot.filter(|last| *last != found && last.round >= found.round) {
            return Err(SecaggError::Replayed { last: last.round, found: found.round });
        }
        *slot = Some(found);
        Ok(())
    }
}
