//! A site's memory across sessions: one input for a round, once.

use medfed_types::RoundId;

use crate::context::{Contribution, SessionContext};
use crate::error::SecaggError;

/// The last rounds in which inputs left.
///
/// Two sums over the same update and different survivors differ by what a single site sent. Within a
/// session no second sum can be opened; this keeps a coordinator from starting the round again. It
/// belongs to one run, and must be durable before a masked input is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Participation {
    /// The last round in which a sample count left.
    pub counts: Option<RoundId>,
    /// The last round in which an update left.
    pub updates: Option<RoundId>,
}

impl Participation {
    /// Notes that an input for the session's round leaves; refuses when one has left already for it or
    /// for a later round.
    pub(super) fn claim(&mut self, context: &SessionContext) -> Result<(), SecaggError> {
        let slot = match context.terms().contribution {
            Contribution::Counts => &mut self.counts,
            Contribution::Update { .. } | Contribution::Selection { .. } => &mut self.updates,
        };
        let found = context.terms().round;
        if let Some(last) = slot.filter(|last| *last >= found) {
            return Err(SecaggError::Replayed { last, found });
        }
        *slot = Some(found);
        Ok(())
    }
}
