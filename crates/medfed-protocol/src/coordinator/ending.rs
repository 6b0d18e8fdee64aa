//! The end of a run: the last measurement, and the word to everyone.

use super::{Asked, CoordinatorEffect, CoordinatorMachine, End, Finished, Phase};
use crate::error::ProtocolError;
use crate::message::ToSite;
use crate::payload::Payload;
use medfed_federation::SiteEvaluation;
use medfed_federation::coordinator::Coordinator;
use medfed_federation::report::RunStatus;
use medfed_types::SiteId;
use std::collections::BTreeMap;
use std::sync::Arc;

impl CoordinatorMachine {
    /// The hospitals measure the model that the run leaves.
    pub(super) fn measure(
        &mut self,
        core: Coordinator,
        end: End,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        let sites = match core.best() {
            Some(best) => {
                let model = Payload::of_values(&best.parameters);
                let sites = self.present();
                for site in &sites {
                    self.say(site, ToSite::Evaluate { round: None }, model.clone(), out);
                }
                sites
            }
            None => Vec::new(),
        };
        let asked = self.ask(sites, now);
        self.phase = Phase::Measuring { core, end, found: BTreeMap::new(), asked };
    }

    /// Too few sites came back.
    pub(super) fn give_up_waiting(&mut self, now: u64, out: &mut Vec<CoordinatorEffect>) {
        match std::mem::replace(&mut self.phase, Phase::Moving) {
            Phase::Waiting { core, .. } => {
                let seconds = self.terms.patience.return_ms / 1000;
                let reason = format!("too few hospitals for a round came back within {seconds} s");
                let end = End {
                    status: RunStatus::Aborted,
                    reason: Some(reason),
                    decisions: Vec::new(),
                    aborted: None,
                };
                self.measure(*core, end, now, out);
            }
            other => self.phase = other,
        }
    }

    pub(super) fn finish(
        &mut self,
        core: &Coordinator,
        end: End,
        found: &BTreeMap<SiteId, SiteEvaluation>,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let best = core.best().cloned();
        let evaluation = if found.is_empty() { None } else { Some(core.final_evaluation(found)?) };
        let parameters = best.as_ref().map_or_else(|| core.parameters(), |best| &best.parameters);
        let End { status, reason, decisions: last_decisions, aborted } = end;
        let parameters = Arc::clone(parameters);
        let finished = Finished { status, reason, best, parameters, evaluation, last_decisions, aborted };
        self.tell_the_end(finished, now, out);
        Ok(())
    }

    /// Too few sites joined.
    pub(super) fn end_without_rounds(
        &mut self,
        status: RunStatus,
        reason: String,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        let finished = Finished {
            status,
            reason: Some(reason),
            best: None,
            parameters: Arc::default(),
            evaluation: None,
            last_decisions: Vec::new(),
            aborted: None,
        };
        self.tell_the_end(finished, now, out);
    }

    fn tell_the_end(&mut self, finished: Finished, now: u64, out: &mut Vec<CoordinatorEffect>) {
        let sites: Vec<SiteId> =
            self.links.iter().filter(|(_, link)| !link.talk.out).map(|(site, _)| site.clone()).collect();
        let model =
            finished.best.as_ref().map(|best| Payload::of_values(&best.parameters)).unwrap_or_default();
        let finished = Box::new(finished);
        out.push(CoordinatorEffect::Finished(finished.clone()));
        for site in &sites {
            let message = ToSite::Ended {
                status: finished.status,
                reason: finished.reason.clone(),
                best_round: finished.best.as_ref().map(|best| best.round),
            };
            self.say(site, message, model.clone(), out);
        }
        let until = now + self.terms.patience.phase_ms;
        self.phase = Phase::Ended { finished, asked: Asked { pending: sites.into_iter().collect(), until } };
    }
}
