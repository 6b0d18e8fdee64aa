//! Secure aggregation within a round: the driver of [`medfed_federation::masking`] speaks, this carries.

use super::{Asked, CoordinatorEffect, CoordinatorMachine, Notice, Phase};
use crate::error::ProtocolError;
use crate::message::ToSite;
use crate::payload::Payload;
use medfed_federation::coordinator::Training;
use medfed_federation::masking::{Message, Opening, Order, Turn};
use medfed_secagg::Roster;
use medfed_types::{RoundId, SiteId};

impl CoordinatorMachine {
    /// Asks the sites that trained to sum their updates.
    pub(super) fn mask(
        &mut self,
        training: Training,
        order: Order,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let round = training.round();
        let sites = training.withheld();
        let keys = self.links.iter().map(|(site, link)| (site.clone(), link.key.to_bytes()));
        let roster =
            Roster::new(keys).map_err(|error| ProtocolError::Cohort { problem: error.to_string() })?;
        out.push(CoordinatorEffect::Notice(Notice::Masking { round, sites: sites.clone() }));
        let (opening, messages) = Opening::start(order, roster, sites, &self.secret);
        self.call(training, opening, messages, now, out);
        Ok(())
    }

    /// Carries the calls of a step.
    fn call(
        &mut self,
        training: Training,
        opening: Opening,
        messages: Vec<Message>,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        let round = training.round();
        for Message { to, bytes } in messages {
            self.say(&to, ToSite::Masking { round }, Payload::from(bytes), out);
        }
        let pending = opening.waiting_for().cloned().collect();
        let until = now + self.terms.patience.phase_ms;
        self.phase = Phase::Masking { training, opening, asked: Asked { pending, until } };
    }

    pub(super) fn masked(
        &mut self,
        from: &SiteId,
        round: RoundId,
        attachment: &Payload,
        out: &mut Vec<CoordinatorEffect>,
    ) -> bool {
        let Phase::Masking { training, opening, .. } = &mut self.phase else { return false };
        if training.round() != round {
            return false;
        }
        match opening.receive(from, attachment.as_bytes()) {
            Ok(()) => true,
            Err(error) => {
                let (site, reason) = (from.clone(), error.to_string());
                out.push(CoordinatorEffect::Notice(Notice::Refused { site, reason }));
                true
            }
        }
    }

    /// Everyone has answered a step, or the time is up.
    pub(super) fn close_step(
        &mut self,
        mut training: Training,
        opening: Opening,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        match opening.close() {
            Turn::Ask(opening, messages) => {
                self.call(training, opening, messages, now, out);
                Ok(())
            }
            Turn::Done(unmasked) => {
                // Whoever dropped out, by silence or by what it sent, is why a sum could not be opened.
                self.missed.extend(unmasked.report.lost.iter().map(|lost| lost.hospital.clone()));
                training.open(unmasked);
                self.aggregate(training, now, out)
            }
        }
    }
}
