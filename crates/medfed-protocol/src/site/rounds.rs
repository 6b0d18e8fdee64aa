//! What a site does about each message of the coordinator, one after the other.

use super::{Agreed, Ended, Joined, LocalResult, Open, SiteEffect, SiteMachine, SiteNotice, Work};
use crate::message::{DeclineCode, Offer, ToCoordinator, ToSite, Trained, encode};
use crate::payload::Payload;
use crate::policy::{Paid, Refusal};
use medfed_dp::DpPlan;
use medfed_federation::masking::{Expectation, Session};
use medfed_federation::site::{RawUpdate, TrainRequest};
use medfed_federation::{Announcement, SiteEvaluation, Snapshot};
use medfed_secagg::Digest;
use medfed_types::{NoiseMultiplier, RoundId};
use std::collections::BTreeMap;
use std::sync::Arc;

impl SiteMachine {
    /// Turns to the newest message, once the hospital is not at work.
    pub(super) fn go_on(&mut self, now: u64, out: &mut Vec<SiteEffect>) {
        if self.work.is_some() {
            return;
        }
        let Some((envelope, _)) = &self.next else { return };
        let open = self.open.as_ref().map(|open| open.round);
        let over = match &envelope.message {
            ToSite::RoundOver { round, .. } => Some(*round),
            ToSite::Train { round, .. } => Some(RoundId(round.0.saturating_sub(1))),
            ToSite::Ended { .. } | ToSite::Refused { .. } => open,
            _ => None,
        };
        let idle = matches!(&envelope.message, ToSite::RoundOver { round, .. } if *round > self.done);
        match (over, open) {
            (Some(over), Some(open)) if over >= open => self.close(open, now, out),
            // A round that went on without this hospital: what it measured need not be kept.
            (Some(over), None) if idle => self.close(over, now, out),
            _ => {}
        }
        let Some((envelope, packet)) = self.next.take() else { return };
        self.perform(now, envelope.message, packet.attachment(), out);
    }

    /// The round is over: durable first. The message that says so, or implies it, is part of the state.
    fn close(&mut self, round: RoundId, now: u64, out: &mut Vec<SiteEffect>) {
        self.open = None;
        self.done = round;
        out.push(SiteEffect::Commit { state: self.snapshot(now) });
        out.push(SiteEffect::Notice(SiteNotice::RoundOver { round }));
    }

    fn perform(&mut self, now: u64, message: ToSite, attachment: &Payload, out: &mut Vec<SiteEffect>) {
        match message {
            ToSite::Offer => self.offered(now, attachment, out),
            ToSite::Train { round, hospitals, noise, .. } => {
                self.asked_to_train(now, round, hospitals, noise, attachment, out);
            }
            ToSite::Masking { round } => self.mask(round, attachment, out),
            ToSite::Evaluate { round } => self.asked_to_evaluate(round, attachment, out),
            ToSite::Cosign { round } => {
                self.start(Work::Cosign { round, checkpoint: attachment.clone() }, out);
            }
            ToSite::RoundOver { .. } => {}
            ToSite::Ended { status, reason, best_round } => {
                let best = attachment.clone();
                self.end(Ended { status: Some(status), reason, best_round, best }, out);
            }
            ToSite::Refused { reason, .. } => {
                let best = Payload::default();
                self.end(Ended { status: None, reason: Some(reason), best_round: None, best }, out);
            }
        }
    }

    fn offered(&mut self, now: u64, attachment: &Payload, out: &mut Vec<SiteEffect>) {
        if self.joined.is_some() {
            return;
        }
        match self.consider(now, attachment) {
            Ok(joined) => {
                self.joined = Some(joined);
                self.start(Work::Prepare, out);
            }
            Err((offer, refusal)) => {
                let declined = Some((refusal.code, refusal.reason.clone()));
                self.joined = Some(Joined { offer, keys: BTreeMap::new(), announcement: None, declined });
                self.decline(None, refusal, out);
            }
        }
    }

    /// Checks an offer against certificates and policy.
    fn consider(&mut self, now: u64, attachment: &Payload) -> Result<Joined, (Offer, Refusal)> {
        let empty =
            Offer { configuration: String::new(), rounds: 0, cohort: Vec::new(), revocations: Vec::new() };
        let offer = match Offer::from_bytes(attachment.as_bytes()) {
            Ok(offer) => offer,
            Err(error) => {
                let reason = error.to_string();
                return Err((empty, Refusal { code: DeclineCode::Configuration, reason }));
            }
        };
        let mut keys = BTreeMap::new();
        for certified in &offer.cohort {
            match self.authority.verify(certified, &offer.revocations, now) {
                Ok(key) => {
                    keys.insert(certified.site.clone(), key);
                }
                Err(reason) => {
                    let reason = format!("the certificate of {}: {reason}", certified.site);
                    return Err((offer, Refusal { code: DeclineCode::Cohort, reason }));
                }
            }
        }
        if keys.get(&self.terms.site) != Some(&self.signer.verifying_key()) {
            let reason = "this hospital is not in the cohort with its own key".to_owned();
            return Err((offer, Refusal { code: DeclineCode::Cohort, reason }));
        }
        let reading = match Self::read(&offer, &keys) {
            Ok(read) => read,
            Err(refusal) => return Err((offer, refusal)),
        };
        let Some(Agreed { policy, .. }) = &self.agreed else {
            let reason = "the hospital has no policy".to_owned();
            return Err((offer, Refusal { code: DeclineCode::Failed, reason }));
        };
        if let Err(refusal) = policy.check_offer(&self.terms.coordinator, keys.len(), &reading.config) {
            return Err((offer, refusal));
        }
        self.reading = Some(reading);
        Ok(Joined { offer, keys, announcement: None, declined: None })
    }

    pub(super) fn prepared(&mut self, announcement: &Announcement, out: &mut Vec<SiteEffect>) {
        if self.work != Some(Work::Prepare) {
            return;
        }
        self.work = None;
        let (Some(joined), Some(Agreed { policy, .. })) = (&mut self.joined, &self.agreed) else { return };
        match policy.check_plan(announcement.plan.as_ref()) {
            Ok(()) => {
                let announcement = policy.release().of_announcement(announcement);
                let bytes = Payload::from(encode(&announcement));
                joined.announcement = Some(announcement);
                out.push(SiteEffect::Notice(SiteNotice::Joined));
                self.say(ToCoordinator::Join, bytes, out);
            }
            Err(refusal) => {
                joined.declined = Some((refusal.code, refusal.reason.clone()));
                self.decline(None, refusal, out);
            }
        }
    }

    /// Whether the site takes part, by the policy as it is now: the file may have changed since the offer.
    fn still_agrees(&self) -> Result<(), Refusal> {
        let (Some(Joined { keys, announcement: Some(announcement), .. }), Some(reading), Some(agreed)) =
            (&self.joined, &self.reading, &self.agreed)
        else {
            let reason = "the hospital has not joined".to_owned();
            return Err(Refusal { code: DeclineCode::Order, reason });
        };
        agreed.policy.check_offer(&self.terms.coordinator, keys.len(), &reading.config)?;
        agreed.policy.check_plan(announcement.plan.as_ref())
    }

    fn asked_to_train(
        &mut self,
        now: u64,
        round: RoundId,
        hospitals: u32,
        noise: Option<NoiseMultiplier>,
        model: &Payload,
        out: &mut Vec<SiteEffect>,
    ) {
        let order = |reason: &str| Refusal { code: DeclineCode::Order, reason: reason.to_owned() };
        let Some(announcement) = self.joined.as_ref().and_then(|joined| joined.announcement.as_ref()) else {
            return self.decline(Some(round), order("the hospital has not joined"), out);
        };
        if round <= self.done {
            return self.decline(Some(round), order("the round is over"), out);
        }
        if let Err(refusal) = self.still_agrees() {
            return self.decline(Some(round), refusal, out);
        }
        if let Some(open) = &mut self.open {
            if open.model != *model || open.noise != noise {
                let refusal = order("the round has begun with another model or noise");
                return self.decline(Some(round), refusal, out);
            }
            // Another attempt: its sessions begin anew, the update is the same.
            open.session = None;
            return if open.result.is_some() { self.report(out) } else { self.start(Work::Train, out) };
        }
        let phase = announcement.plan.as_ref().map(|plan| phase(plan, noise, announcement.steps));
        let accountant = announcement.plan.as_ref().map(|plan| plan.terms().accountant);
        let asked = accountant.zip(phase);
        let Some(Agreed { policy, past, .. }) = &self.agreed else { return };
        let paid: Vec<Paid> = past.iter().chain(&self.paid).copied().collect();
        if let Err(refusal) = policy.check_round(now, hospitals, &paid, asked) {
            return self.decline(Some(round), refusal, out);
        }
        self.paid.extend(phase.map(|phase| Paid { at_ms: now, phase }));
        self.open = Some(Open { round, model: model.clone(), noise, result: None, session: None });
        out.push(SiteEffect::Notice(SiteNotice::Training { round }));
        self.start(Work::Train, out);
    }

    pub(super) fn trained(
        &mut self,
        round: RoundId,
        result: LocalResult,
        state: Snapshot,
        out: &mut Vec<SiteEffect>,
    ) {
        self.hospital = Some(state);
        if !matches!(self.work, Some(Work::Train | Work::Stop)) {
            return;
        }
        self.work = None;
        let Some(open) = self.open.as_mut().filter(|open| open.round == round) else { return };
        // What was counted when it was asked for becomes what was paid.
        let steps = match &result {
            LocalResult::Update { report, .. } | LocalResult::Failed { report, .. } => report.steps,
            LocalResult::BudgetExhausted { .. } => 0,
        };
        if let Some(paid) = self.paid.last_mut() {
            paid.phase.steps = steps.min(paid.phase.steps);
        }
        open.result = Some(result);
        out.push(SiteEffect::Notice(SiteNotice::Trained { round }));
        if self.next.is_none() {
            self.report(out);
        }
    }

    /// Says what training came to: as much of it as leaves.
    fn report(&mut self, out: &mut Vec<SiteEffect>) {
        let Some(Open { round, result: Some(result), .. }) = &self.open else { return };
        let masked = self.reading.as_ref().is_some_and(|reading| reading.plan.is_some());
        let release = self.release();
        let (round, mut attachment) = (*round, Payload::default());
        let result = match result {
            LocalResult::Update { delta, weight, report } => {
                if !masked {
                    attachment = delta.clone();
                }
                Trained::Update { weight: (!masked).then_some(*weight), report: release.of_report(report) }
            }
            LocalResult::BudgetExhausted { privacy } => Trained::BudgetExhausted { privacy: *privacy },
            LocalResult::Failed { reason, report } => {
                Trained::Failed { reason: reason.clone(), report: release.of_report(report) }
            }
        };
        self.say(ToCoordinator::Trained { round, result }, attachment, out);
    }

    fn mask(&mut self, round: RoundId, call: &Payload, out: &mut Vec<SiteEffect>) {
        match self.masked(round, call) {
            Ok(answer) => self.say(ToCoordinator::Masking { round }, answer, out),
            Err(reason) => {
                self.decline(Some(round), Refusal { code: DeclineCode::Masking, reason }, out);
            }
        }
    }

    fn masked(&mut self, round: RoundId, call: &Payload) -> Result<Payload, String> {
        let not_due = || "no update of that round waits to be masked".to_owned();
        let open = self.open.as_mut().filter(|open| open.round == round).ok_or_else(not_due)?;
        let Some(LocalResult::Update { delta, weight, .. }) = &open.result else { return Err(not_due()) };
        let reading = self.reading.as_ref().ok_or_else(not_due)?;
        let plan = reading.plan.as_ref().ok_or_else(|| "updates are open in this run".to_owned())?;
        if open.session.is_none() {
            let expectation = Expectation {
                plan: plan.clone(),
                round,
                model: Digest::new(open.model.hash()),
                parameters: open.model.len() / 4,
            };
            let delta = delta.to_values().map_err(|error| error.to_string())?;
            let update = RawUpdate { round, delta, weight: *weight };
            open.session = Some(Session::new(expectation, reading.roster.clone(), update));
        }
        let session = open.session.as_mut().ok_or_else(not_due)?;
        let answer = session.handle(&mut self.party, call.as_bytes());
        answer.map(Payload::from).map_err(|error| error.to_string())
    }

    fn asked_to_evaluate(&mut self, round: Option<RoundId>, model: &Payload, out: &mut Vec<SiteEffect>) {
        if self.release().metrics && self.still_agrees().is_ok() && model.to_values().is_ok() {
            self.start(Work::Evaluate { round, model: model.clone() }, out);
        } else {
            self.say(ToCoordinator::Evaluated { round }, Payload::default(), out);
        }
    }

    pub(super) fn evaluated(&mut self, evaluation: Option<&SiteEvaluation>, out: &mut Vec<SiteEffect>) {
        let Some(Work::Evaluate { round, .. }) = &self.work else { return };
        let round = *round;
        self.work = None;
        if self.next.is_none() {
            let attachment = evaluation.map(|it| Payload::from(encode(it))).unwrap_or_default();
            self.say(ToCoordinator::Evaluated { round }, attachment, out);
        }
    }

    pub(super) fn cosigned(&mut self, note: Payload, out: &mut Vec<SiteEffect>) {
        let Some(Work::Cosign { round, .. }) = &self.work else { return };
        let round = *round;
        self.work = None;
        if self.next.is_none() {
            self.say(ToCoordinator::Cosigned { round }, note, out);
        }
    }

    /// The hospital could not do what it was asked.
    pub(super) fn unable(&mut self, refusal: Refusal, out: &mut Vec<SiteEffect>) {
        let round = match self.work.take() {
            Some(Work::Prepare) => {
                if let Some(joined) = &mut self.joined {
                    joined.declined = Some((refusal.code, refusal.reason.clone()));
                }
                None
            }
            Some(Work::Train) => self.open.as_ref().map(|open| open.round),
            Some(Work::Evaluate { round, .. }) => round,
            Some(Work::Cosign { round, .. }) => Some(round),
            Some(Work::Stop) | None => return,
        };
        if self.next.is_none() {
            self.decline(round, refusal, out);
        }
    }

    fn end(&mut self, ended: Ended, out: &mut Vec<SiteEffect>) {
        if self.ended.is_none() {
            out.push(ended.effect());
            self.ended = Some(ended);
        }
        self.say(ToCoordinator::Left, Payload::default(), out);
    }
}

impl Open {
    /// What the hospital is asked to do.
    pub(super) fn request(&self) -> Option<TrainRequest> {
        let parameters = Arc::new(self.model.to_values().ok()?);
        Some(TrainRequest { round: self.round, parameters, noise: self.noise })
    }
}

/// The steps of a round under a plan, with the noise that was asked for, which is never less than the plan's.
fn phase(plan: &DpPlan, noise: Option<NoiseMultiplier>, steps: u64) -> medfed_dp::Phase {
    let mut phase = plan.phase(steps);
    if let Some(noise) = noise.filter(|noise| *noise > phase.noise) {
        phase.noise = noise;
    }
    phase
}
