//! Before the first round: who takes part.

use super::{Asked, CoordinatorEffect, CoordinatorMachine, Notice, Phase};
use crate::error::ProtocolError;
use crate::message::{DeclineCode, RefusalCode, ToSite, decode};
use crate::payload::Payload;
use medfed_federation::Announcement;
use medfed_federation::report::RunStatus;
use medfed_types::{RoundId, SiteId};

/// Characters of a site's reason that are kept.
const MOST_REASON: usize = 500;

impl CoordinatorMachine {
    /// Offers the run to the cohort.
    pub(super) fn invite(&mut self, now: u64, out: &mut Vec<CoordinatorEffect>) {
        if !matches!(self.phase, Phase::New) {
            return;
        }
        let offer = Payload::from(self.terms.offer.to_bytes());
        let sites: Vec<SiteId> = self.links.keys().cloned().collect();
        for site in &sites {
            self.say(site, ToSite::Offer, offer.clone(), out);
        }
        let until = now + self.terms.patience.join_ms;
        self.phase = Phase::Joining { asked: Asked { pending: sites.into_iter().collect(), until } };
    }

    pub(super) fn join(
        &mut self,
        from: &SiteId,
        attachment: &Payload,
        out: &mut Vec<CoordinatorEffect>,
    ) -> bool {
        if !matches!(self.phase, Phase::Joining { .. }) {
            return false;
        }
        let announcement = decode::<Announcement>(attachment.as_bytes(), "the announcement");
        let refused = match &announcement {
            Ok(announcement) => {
                self.founding.check(announcement, &self.announcements).err().map(|it| it.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        match (announcement, refused) {
            (Ok(announcement), None) => {
                self.announcements.insert(from.clone(), announcement);
                out.push(CoordinatorEffect::Notice(Notice::Joined { site: from.clone() }));
                true
            }
            (_, reason) => {
                self.refuse(from, RefusalCode::Announcement, reason.unwrap_or_default(), out);
                true
            }
        }
    }

    /// A site does not do what it was asked.
    pub(super) fn decline(
        &mut self,
        from: &SiteId,
        round: Option<RoundId>,
        code: DeclineCode,
        reason: &str,
        out: &mut Vec<CoordinatorEffect>,
    ) {
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(MOST_REASON).collect();
        match &mut self.phase {
            Phase::Joining { .. } => {
                if let Some(link) = self.links.get_mut(from) {
                    link.talk.out = true;
                }
            }
            Phase::Training { training, .. } => {
                training.miss(from.clone(), format!("it declined ({code}): {reason}"));
                self.missed.insert(from.clone());
            }
            Phase::Masking { .. } => {
                self.missed.insert(from.clone());
            }
            _ => {}
        }
        out.push(CoordinatorEffect::Notice(Notice::Declined { site: from.clone(), round, code, reason }));
    }

    /// Everyone has answered, or the time is up.
    pub(super) fn found(&mut self, now: u64, out: &mut Vec<CoordinatorEffect>) -> Result<(), ProtocolError> {
        let (found, least) = (self.announcements.len(), self.founding.least());
        let absent: Vec<SiteId> =
            self.links.keys().filter(|site| !self.announcements.contains_key(*site)).cloned().collect();
        if found < least || found == 0 {
            let reason = format!("{found} hospitals take part, a round needs {least}");
            self.end_without_rounds(RunStatus::Aborted, reason, now, out);
            return Ok(());
        }
        for site in absent {
            if self.links.get(&site).is_some_and(|link| !link.talk.out) {
                let reason = "the run has begun without it".to_owned();
                self.refuse(&site, RefusalCode::TooLate, reason, out);
            }
        }
        match self.founding.found(&self.announcements) {
            Ok(core) => self.advance(core, now, out),
            Err(error) => {
                self.end_without_rounds(RunStatus::Aborted, error.to_string(), now, out);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, site: &SiteId, code: RefusalCode, reason: String, out: &mut Vec<CoordinatorEffect>) {
        if let Some(link) = self.links.get_mut(site) {
            link.talk.out = true;
        }
        out.push(CoordinatorEffect::Notice(Notice::Refused { site: site.clone(), reason: reason.clone() }));
        self.say(site, ToSite::Refused { code, reason }, Payload::default(), out);
    }
}
