//! Round 2: adds up masked inputs as they come.

use rayon::prelude::*;

use super::{CollectingConsents, Session, enough};
use crate::error::SecaggError;
use crate::mask::PIECE;
use crate::message::{MaskedInput, MessageKind, Proposal};
use crate::roster::Members;
use crate::signed::Signed;

/// Waits for the sites' masked inputs. Keeps one vector, their sum.
#[derive(Debug)]
pub struct CollectingInputs {
    session: Session,
    sum: Vec<u32>,
    received: Members,
}

impl CollectingInputs {
    pub(super) fn new(session: Session) -> Self {
        Self { session, sum: Vec::new(), received: Members::default() }
    }

    /// Takes the masked input of one site. Refused are one that is not signed under this transcript by a
    /// site that dealt, and a second one.
    pub fn receive(&mut self, message: Signed<MaskedInput>) -> Result<(), SecaggError> {
        admit(&self.session, &message, self.received)?;
        self.received.insert(message.sender());
        let MaskedInput { words } = message.into_body();
        if self.sum.is_empty() {
            // Takes the memory, too.
            self.sum = words;
        } else {
            add(&mut self.sum, &words);
        }
        Ok(())
    }

    /// Who has sent an input.
    pub fn received(&self) -> Members {
        self.received
    }

    /// Ends the round: the survivors are the sites whose inputs have come. An input that comes later is
    /// lost.
    pub fn close(self) -> Result<(CollectingConsents, Proposal), SecaggError> {
        let Self { session, sum, received } = self;
        enough(MessageKind::MaskedInput, received.len(), session.context.least_sites())?;
        Ok((CollectingConsents::new(session, sum, received, None), Proposal { summed: received }))
    }
}

/// Checks one masked input against the session and those that are there already.
pub(super) fn admit(
    session: &Session,
    message: &Signed<MaskedInput>,
    others: Members,
) -> Result<(), SecaggError> {
    let context = &session.context;
    message.verify(context, session.transcript, session.dealers())?;
    if others.contains(message.sender()) {
        let site = context.name(message.sender());
        return Err(SecaggError::Duplicate { message: MessageKind::MaskedInput, site });
    }
    // A decoded message has this length; one that was never bytes is of these terms, too.
    let (found, expected) = (message.body().words.len(), context.input_words());
    if found == expected { Ok(()) } else { Err(SecaggError::Length { expected, found }) }
}

/// Adds words modulo 2³².
pub(super) fn add(sum: &mut [u32], words: &[u32]) {
    sum.par_chunks_mut(PIECE).zip(words.par_chunks(PIECE)).for_each(|(sum, words)| {
        for (sum, word) in sum.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    });
}
