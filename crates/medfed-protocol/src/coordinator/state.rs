//! What the coordinator's machine keeps between two rounds.

use super::link::Talk;
use super::{CoordinatorMachine, Phase};
use crate::error::ProtocolError;
use medfed_federation::report::RoundReport;
use medfed_federation::{Announcement, Coordinator, Snapshot};
use medfed_types::SiteId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name under which the machine's own state is kept, beside the coordinator's.
const OWNER: &str = "protocol";

#[derive(Serialize, Deserialize)]
struct Meta {
    committed_ms: u64,
    lost: u32,
    talks: BTreeMap<SiteId, Talk>,
    announcements: BTreeMap<SiteId, Announcement>,
}

impl CoordinatorMachine {
    /// The state after a commit at `now`.
    pub(super) fn snapshot(&self, core: &Coordinator, now: u64) -> Vec<Snapshot> {
        let talks = self.links.iter().map(|(site, link)| (site.clone(), link.talk.clone())).collect();
        let announcements = self.announcements.clone();
        let meta = Meta { committed_ms: now, lost: self.lost, talks, announcements };
        let meta = serde_json::to_value(meta).expect("names and finite numbers are JSON");
        let own = Snapshot { owner: OWNER.to_owned(), meta, blobs: BTreeMap::new() };
        vec![core.snapshot(), own]
    }

    /// Puts a new machine back to right after a commit; `reports` are those of the rounds done. Then come
    /// the events of the log.
    pub fn restore(&mut self, state: &[Snapshot], reports: Vec<RoundReport>) -> Result<(), ProtocolError> {
        let refuse = |owner: &str, problem: String| ProtocolError::Saved { owner: owner.to_owned(), problem };
        let find = |owner: &str| {
            let found = state.iter().find(|snapshot| snapshot.owner == owner);
            found.ok_or_else(|| refuse(owner, "it is missing".to_owned()))
        };
        let meta = serde_json::from_value::<Meta>(find(OWNER)?.meta.clone());
        let Meta { committed_ms, lost, talks, announcements } =
            meta.map_err(|error| refuse(OWNER, error.to_string()))?;
        for (site, talk) in talks {
            let link = self.links.get_mut(&site);
            let link = link.ok_or_else(|| refuse(OWNER, format!("{site} is not in the cohort")))?;
            link.talk = talk;
        }
        let mut core = self.founding.found(&announcements)?;
        core.restore(find(Coordinator::OWNER)?, reports)?;
        (self.announcements, self.lost, self.attempt) = (announcements, lost, 1);
        self.phase = Phase::Moving;
        let mut said = Vec::new();
        self.after_commit(core, committed_ms, &mut said)?;
        while self.settle(committed_ms, &mut said)? {}
        Ok(())
    }
}
