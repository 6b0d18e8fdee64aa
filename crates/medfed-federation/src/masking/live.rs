//! The coordinator's side of one session of [`medfed_secagg`], step by step.

use super::wire::Step;
use medfed_secagg::coordinator::{
    CollectingConsents, CollectingDealings, CollectingInputs, CollectingKeys, CollectingUnmaskings, OpenedSum,
};
use medfed_secagg::{Members, SecaggError, SessionContext, SiteIndex};
use medfed_types::SiteId;

/// A session that goes on.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) context: SessionContext,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Keys(CollectingKeys),
    Dealings(CollectingDealings),
    Inputs(CollectingInputs),
    Consents(CollectingConsents),
    Unmaskings(CollectingUnmaskings),
}

/// What follows a step.
pub(super) enum Closed {
    /// The next step, and what is asked for it.
    Next(Live, Vec<u8>),
    /// The sum.
    Opened(OpenedSum),
}

/// Why an answer is refused.
pub(super) enum Wrong {
    /// It names another sender.
    Sender,
    /// The protocol refuses it.
    Protocol(SecaggError),
}

impl From<SecaggError> for Wrong {
    fn from(error: SecaggError) -> Self {
        Self::Protocol(error)
    }
}

/// Reads a message of `site`.
macro_rules! read {
    ($context:expr, $site:expr, $bytes:expr) => {{
        let message = medfed_secagg::Signed::decode($bytes, $context)?;
        $crate::masking::live::of_sender($context, $site, message.sender())?;
        message
    }};
}
pub(super) use read;

/// Refuses a message that names another sender than it came from.
pub(super) fn of_sender(context: &SessionContext, site: &SiteId, named: SiteIndex) -> Result<(), Wrong> {
    if context.site(named) == Some(site) { Ok(()) } else { Err(Wrong::Sender) }
}

impl Live {
    /// A session in which keys are due.
    pub(super) fn new(context: SessionContext) -> Self {
        let stage = Stage::Keys(CollectingKeys::new(context.clone()));
        Self { context, stage }
    }

    /// The step whose answers are collected.
    pub(super) fn step(&self) -> Step {
        match &self.stage {
            Stage::Keys(_) => Step::Join,
            Stage::Dealings(_) => Step::Deal,
            Stage::Inputs(_) => Step::Mask,
            Stage::Consents(_) => Step::Consent,
            Stage::Unmaskings(_) => Step::Unmask,
        }
    }

    /// Whose answers have come.
    pub(super) fn received(&self) -> Vec<SiteId> {
        let received: Members = match &self.stage {
            Stage::Keys(collecting) => collecting.received(),
            Stage::Dealings(collecting) => collecting.received(),
            Stage::Inputs(collecting) => collecting.received(),
            Stage::Consents(collecting) => collecting.received(),
            Stage::Unmaskings(collecting) => collecting.received(),
        };
        self.context.names(received)
    }

    /// Takes an answer.
    pub(super) fn receive(&mut self, site: &SiteId, bytes: &[u8]) -> Result<(), Wrong> {
        let context = &self.context;
        match &mut self.stage {
            Stage::Keys(collecting) => collecting.receive(read!(context, site, bytes))?,
            Stage::Dealings(collecting) => collecting.receive(read!(context, site, bytes))?,
            Stage::Inputs(collecting) => collecting.receive(read!(context, site, bytes))?,
            Stage::Consents(collecting) => collecting.receive(read!(context, site, bytes))?,
            Stage::Unmaskings(collecting) => collecting.receive(read!(context, site, bytes))?,
        }
        Ok(())
    }

    /// Ends the step.
    pub(super) fn close(self) -> Result<Closed, SecaggError> {
        let Self { context, stage } = self;
        let (stage, body) = match stage {
            Stage::Keys(collecting) => {
                let (next, keys) = collecting.close()?;
                (Stage::Dealings(next), keys.encode(&context))
            }
            Stage::Dealings(collecting) => {
                let (next, dealings) = collecting.close()?;
                (Stage::Inputs(next), dealings.encode(&context))
            }
            Stage::Inputs(collecting) => {
                let (next, proposal) = collecting.close()?;
                (Stage::Consents(next), proposal.encode(&context))
            }
            Stage::Consents(collecting) => {
                let (next, agreement) = collecting.close()?;
                (Stage::Unmaskings(next), agreement.encode(&context))
            }
            Stage::Unmaskings(collecting) => return collecting.close().map(Closed::Opened),
        };
        Ok(Closed::Next(Self { context, stage }, body))
    }
}
