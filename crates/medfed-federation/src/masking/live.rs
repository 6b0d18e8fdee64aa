//! The coordinator's side of one session of [`medfed_secagg`], step by step.

use super::selection::{Basis, Judgement, put_deliveries, put_review, read_vector};
use super::wire::Step;
use crate::report::SelectionReport;
use medfed_secagg::coordinator::{
    CollectingConsents, CollectingDealings, CollectingInputs, CollectingKeys, CollectingProducts,
    CollectingUnmaskings, CollectingVectors, OpenedSum,
};
use medfed_secagg::{Members, SecaggError, SessionContext, SiteIndex};
use medfed_types::SiteId;

/// A session that goes on.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) context: SessionContext,
    /// How updates are selected; nothing where everyone's is summed.
    selecting: Option<Basis>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Keys(CollectingKeys),
    Dealings(CollectingDealings),
    Inputs(CollectingInputs),
    Vectors(CollectingVectors),
    Products(CollectingProducts),
    Consents(CollectingConsents),
    Unmaskings(CollectingUnmaskings),
}

/// What is asked of the hospitals of a session.
pub(super) enum Asked {
    /// The same of all.
    All(Vec<u8>),
    /// Something else of each.
    Each(Vec<(SiteId, Vec<u8>)>),
}

/// What follows a step.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub(super) enum Closed {
    /// The next step, and what is asked for it.
    Next(Live, Asked),
    /// Inner products are open. There is no next step where no sum may be opened.
    Judged(Judgement, SelectionReport, Option<(Live, Asked)>),
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
    pub(super) fn new(context: SessionContext, selecting: Option<Basis>) -> Self {
        let stage = Stage::Keys(CollectingKeys::new(context.clone()));
        Self { context, selecting, stage }
    }

    /// The step whose answers are collected.
    pub(super) fn step(&self) -> Step {
        match &self.stage {
            Stage::Keys(_) => Step::Join,
            Stage::Dealings(_) => Step::Deal,
            Stage::Inputs(_) | Stage::Vectors(_) => Step::Mask,
            Stage::Products(_) => Step::Multiply,
            Stage::Consents(_) if self.selecting.is_some() => Step::Review,
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
            Stage::Vectors(collecting) => collecting.received(),
            Stage::Products(collecting) => collecting.received(),
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
            Stage::Vectors(collecting) => {
                let (input, shares) = read_vector(context, bytes)?;
                of_sender(context, site, input.sender())?;
                collecting.receive(input, shares)?;
            }
            Stage::Products(collecting) => collecting.receive(read!(context, site, bytes))?,
            Stage::Consents(collecting) => collecting.receive(read!(context, site, bytes))?,
            Stage::Unmaskings(collecting) => collecting.receive(read!(context, site, bytes))?,
        }
        Ok(())
    }

    /// Ends the step.
    pub(super) fn close(self) -> Result<Closed, SecaggError> {
        let Self { context, selecting, stage } = self;
        let (stage, body) = match stage {
            Stage::Keys(collecting) => {
                let (next, keys) = collecting.close()?;
                (Stage::Dealings(next), keys.encode(&context))
            }
            Stage::Dealings(collecting) if selecting.is_some() => {
                let (next, dealings) = collecting.close_for_selection()?;
                (Stage::Vectors(next), dealings.encode(&context))
            }
            Stage::Vectors(collecting) => {
                let (next, deliveries) = collecting.close()?;
                let asked = Asked::Each(put_deliveries(&context, deliveries));
                return Ok(Closed::Next(Self { context, selecting, stage: Stage::Products(next) }, asked));
            }
            Stage::Products(collecting) => return Self::select(context, selecting, collecting),
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
        Ok(Closed::Next(Self { context, selecting, stage }, Asked::All(body)))
    }

    /// Opens the inner products and selects.
    fn select(
        context: SessionContext,
        selecting: Option<Basis>,
        collecting: CollectingProducts,
    ) -> Result<Closed, SecaggError> {
        let (opened, products) = collecting.close()?;
        // Products are collected in selections alone, and opened ones are finite.
        let judged = selecting.as_ref().and_then(|basis| basis.judge(&context, &opened).ok());
        let (judgement, report, selected) = judged.ok_or(SecaggError::OtherSelection)?;
        let Some(selected) = selected else { return Ok(Closed::Judged(judgement, report, None)) };
        let (next, proposal) = opened.select(selected)?;
        let asked = Asked::All(put_review(&context, &products, proposal));
        let live = Self { context, selecting, stage: Stage::Consents(next) };
        Ok(Closed::Judged(judgement, report, Some((live, asked))))
    }
}
