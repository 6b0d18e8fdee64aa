//! A round: train, open, evaluate, sign, commit; and what follows when it comes to nothing.

use super::{AfterAbort, Asked, CoordinatorEffect, CoordinatorMachine, End, Notice, Phase};
use crate::error::ProtocolError;
use crate::message::{ToSite, Trained, decode};
use crate::payload::Payload;
use medfed_eval::Performance;
use medfed_federation::SiteEvaluation;
use medfed_federation::coordinator::{
    Aborted, Coordinator, Ended, Evaluating, Presence, Selection, Training,
};
use medfed_federation::report::{RoundReport, RoundStatus, RunStatus};
use medfed_federation::site::{RawUpdate, SiteReply};
use medfed_types::{RoundId, SiteId};
use std::collections::{BTreeMap, BTreeSet};

impl CoordinatorMachine {
    /// What comes after a round, or before the first: the next one, the end, or waiting for sites.
    pub(super) fn advance(
        &mut self,
        core: Coordinator,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let away: BTreeSet<SiteId> =
            self.links.iter().filter(|(_, link)| link.talk.away).map(|(site, _)| site.clone()).collect();
        match core.select_without(&away)? {
            Presence::Enough(selection) => match *selection {
                Selection::Round(training) => self.begin(training, now, out),
                Selection::Ended(Ended { coordinator, status, reason, decisions }) => {
                    let end = End { status, reason, decisions, aborted: None };
                    self.measure(coordinator, end, now, out);
                }
            },
            Presence::TooFew { coordinator, missing, needed } => {
                let return_ms = self.terms.patience.return_ms;
                let seconds = return_ms / 1000;
                out.push(CoordinatorEffect::Notice(Notice::Waiting { missing, needed, seconds }));
                self.phase = Phase::Waiting { core: coordinator, until: now + return_ms };
            }
        }
        Ok(())
    }

    fn begin(&mut self, training: Training, now: u64, out: &mut Vec<CoordinatorEffect>) {
        let (round, attempt, sites) = (training.round(), self.attempt, training.selected().to_vec());
        self.missed.clear();
        for decision in training.decisions() {
            let decision = decision.clone();
            out.push(CoordinatorEffect::Notice(Notice::Decided { round, decision }));
        }
        out.push(CoordinatorEffect::Notice(Notice::RoundStarted { round, attempt, sites: sites.clone() }));
        let hospitals = sites.len() as u32;
        let mut model = None;
        for site in &sites {
            let request = training.request(site);
            let model = model.get_or_insert_with(|| Payload::of_values(&request.parameters)).clone();
            self.say(site, ToSite::Train { round, attempt, hospitals, noise: request.noise }, model, out);
        }
        let until = now + self.terms.patience.train_ms;
        self.phase =
            Phase::Training { training, asked: Asked { pending: sites.into_iter().collect(), until } };
    }

    pub(super) fn trained(
        &mut self,
        from: &SiteId,
        round: RoundId,
        result: Trained,
        attachment: &Payload,
        out: &mut Vec<CoordinatorEffect>,
    ) -> bool {
        let Phase::Training { training, .. } = &mut self.phase else { return false };
        if round != training.round() {
            return false;
        }
        let masked = training.is_masked();
        let reply = match result {
            Trained::Update { report, .. } if masked => SiteReply::Withheld { report },
            Trained::Update { weight, report } => {
                // Whatever is no list of values is refused by name with the other updates.
                let delta = attachment.to_values().unwrap_or_default();
                let update = RawUpdate { round, delta, weight: weight.unwrap_or_default() };
                SiteReply::Trained { update, report }
            }
            Trained::BudgetExhausted { privacy } => SiteReply::BudgetExhausted { privacy },
            Trained::Failed { reason, report } => SiteReply::Failed { reason, report },
        };
        out.push(CoordinatorEffect::Notice(match training.receive(from.clone(), reply) {
            Ok(()) => Notice::Trained { round, site: from.clone() },
            // Whoever was asked for its last word can say anything: that must not end the run.
            Err(error) => Notice::Refused { site: from.clone(), reason: error.to_string() },
        }));
        true
    }

    /// Everyone has trained, or the time is up.
    pub(super) fn trained_all(
        &mut self,
        training: Training,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        match training.order()? {
            Some(order) if !training.withheld().is_empty() => self.mask(training, order, now, out),
            _ => self.aggregate(training, now, out),
        }
    }

    /// Makes the step.
    pub(super) fn aggregate(
        &mut self,
        training: Training,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let evaluating = match training.aggregate() {
            Ok(evaluating) => evaluating,
            Err(aborted) => return self.aborted(*aborted, now, out),
        };
        let round = evaluating.round();
        let security = evaluating.security();
        let said = security.sentence().into_iter().chain(security.warnings.iter().cloned());
        out.extend(said.map(|text| CoordinatorEffect::Notice(Notice::Security { round, text })));
        let refused = evaluating.failures().into_iter();
        out.extend(
            refused.map(|(site, reason)| {
                CoordinatorEffect::Notice(Notice::UpdateRefused { round, site, reason })
            }),
        );
        let present = self.present();
        let evaluators: Vec<SiteId> =
            evaluating.evaluators().into_iter().filter(|site| present.contains(site)).collect();
        if !evaluators.is_empty() {
            out.push(CoordinatorEffect::Notice(Notice::Evaluating { round }));
        }
        let model = Payload::of_values(evaluating.parameters());
        for site in &evaluators {
            self.say(site, ToSite::Evaluate { round: Some(round) }, model.clone(), out);
        }
        let asked = self.ask(evaluators, now);
        self.phase = Phase::Evaluating { evaluating, asked };
        Ok(())
    }

    pub(super) fn evaluated(
        &mut self,
        from: &SiteId,
        round: Option<RoundId>,
        attachment: &Payload,
        out: &mut Vec<CoordinatorEffect>,
    ) -> bool {
        let due = match &self.phase {
            Phase::Evaluating { evaluating, .. } => Some(evaluating.round()) == round,
            Phase::Measuring { .. } => round.is_none(),
            _ => false,
        };
        if !due {
            return false;
        }
        if attachment.is_empty() {
            return true;
        }
        let evaluation = decode::<SiteEvaluation>(attachment.as_bytes(), "the evaluation");
        let evaluation = evaluation.map_err(|error| error.to_string()).and_then(|evaluation| {
            if plausible(&evaluation.performance) {
                Ok(evaluation)
            } else {
                Err("its measurements cannot be".to_owned())
            }
        });
        let taken = evaluation.and_then(|evaluation| match &mut self.phase {
            Phase::Evaluating { evaluating, .. } => {
                evaluating.receive(from.clone(), evaluation).map_err(|error| error.to_string())
            }
            Phase::Measuring { core, found, .. } => {
                core.check_evaluation(&evaluation).map_err(|error| error.to_string())?;
                found.insert(from.clone(), evaluation);
                Ok(())
            }
            _ => Ok(()),
        });
        if let Err(reason) = taken {
            out.push(CoordinatorEffect::Notice(Notice::Refused { site: from.clone(), reason }));
        }
        true
    }

    /// Everyone has measured, or the time is up.
    pub(super) fn evaluated_all(
        &mut self,
        evaluating: Evaluating,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let (core, report) = evaluating.commit();
        self.close(core, report, now, out)
    }

    /// The round has its report: it is signed where there is an audit log, then committed.
    fn close(
        &mut self,
        core: Coordinator,
        report: RoundReport,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let report = Box::new(report);
        if !self.terms.audited {
            return self.commit(core, report, BTreeMap::new(), now, out);
        }
        out.push(CoordinatorEffect::Seal { report: report.clone() });
        self.phase = Phase::Sealing { core, report };
        Ok(())
    }

    /// The round is in the audit log: those who are there sign its checkpoint.
    pub(super) fn collect_signatures(
        &mut self,
        now: u64,
        checkpoint: &Payload,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        match std::mem::replace(&mut self.phase, Phase::Moving) {
            Phase::Sealing { core, report } => {
                let signers = if checkpoint.is_empty() { Vec::new() } else { self.present() };
                let round = RoundId(report.round_num);
                for site in &signers {
                    self.say(site, ToSite::Cosign { round }, checkpoint.clone(), out);
                }
                let asked = self.ask(signers, now);
                self.phase = Phase::Cosigning { core, report, signed: BTreeMap::new(), asked };
            }
            other => self.phase = other,
        }
    }

    pub(super) fn cosigned(&mut self, from: &SiteId, round: RoundId, attachment: &Payload) -> bool {
        match &mut self.phase {
            Phase::Cosigning { report, signed, .. } if report.round_num == round.0 => {
                signed.insert(from.clone(), attachment.clone());
                true
            }
            _ => false,
        }
    }

    /// The round is over: durable first, then announced.
    pub(super) fn commit(
        &mut self,
        core: Coordinator,
        report: Box<RoundReport>,
        cosignatures: BTreeMap<SiteId, Payload>,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        self.attempt = 1;
        self.lost = if report.status == RoundStatus::Completed { 0 } else { self.lost + 1 };
        let state = self.snapshot(&core, now);
        out.push(CoordinatorEffect::Commit { report, state, cosignatures });
        self.after_commit(core, now, out)
    }

    /// What follows a commit; a restart begins here.
    pub(super) fn after_commit(
        &mut self,
        core: Coordinator,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let completed = core.reports().last().is_some_and(|it| it.status == RoundStatus::Completed);
        let members: Vec<SiteId> = self.announcements.keys().cloned().collect();
        for site in members {
            self.say(&site, ToSite::RoundOver { round: core.done(), completed }, Payload::default(), out);
        }
        self.advance(core, now, out)
    }

    /// An attempt came to nothing. Where sites gave no answer the round is tried again; where it cannot be,
    /// the next round goes on from the same model. Anything else ends the run, as it would in a simulation.
    fn aborted(
        &mut self,
        aborted: Aborted,
        now: u64,
        out: &mut Vec<CoordinatorEffect>,
    ) -> Result<(), ProtocolError> {
        let (round, attempt, reason) = (aborted.round, self.attempt, aborted.reason.clone());
        let patience = self.terms.patience;
        let next = if self.missed.is_empty() || aborted.budget_exhausted {
            AfterAbort::End
        } else if attempt < patience.attempts {
            AfterAbort::Again
        } else if self.lost + 1 < patience.lost_rounds {
            AfterAbort::NextRound
        } else {
            AfterAbort::End
        };
        let text = reason.clone();
        out.push(CoordinatorEffect::Notice(Notice::RoundAborted { round, attempt, reason: text, next }));
        match next {
            AfterAbort::Again => {
                self.attempt += 1;
                self.advance(aborted.coordinator, now, out)
            }
            AfterAbort::NextRound => {
                let (core, report) = aborted.pass();
                self.close(core, report, now, out)
            }
            AfterAbort::End => {
                let status =
                    if aborted.budget_exhausted { RunStatus::BudgetExhausted } else { RunStatus::Aborted };
                let end = End {
                    status,
                    reason: Some(format!("round {round}: {reason}")),
                    decisions: Vec::new(),
                    aborted: Some(aborted.security),
                };
                self.measure(aborted.coordinator, end, now, out);
                Ok(())
            }
        }
    }

    /// An answer from each of `sites` within the time of a phase.
    pub(super) fn ask(&self, sites: Vec<SiteId>, now: u64) -> Asked {
        Asked { pending: sites.into_iter().collect(), until: now + self.terms.patience.phase_ms }
    }
}

/// Whether a hospital's measurements can be: means over hospitals are made of them.
fn plausible(performance: &Performance) -> bool {
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let Performance { accuracy, log_loss, auc, .. } = performance;
    share(accuracy.estimate)
        && auc.is_none_or(|auc| share(auc.estimate))
        && log_loss.is_finite()
        && *log_loss >= 0.0
}
