//! What a site is to its runs: its folder, its policy, what it has paid.

use super::super::display::Display;
use super::super::results::replace_file;
use super::{Data, OwnHospital, Prepared};
use crate::failure::Failure;
use medfed_config::section::LogLevel;
use medfed_dp::{History, Phase};
use medfed_federation::report::RunStatus;
use medfed_net::runtime::{Hospital, KeeperError, SiteEnd, SiteKeeper};
use medfed_net::{Certificate, Revocations};
use medfed_nn::checkpoint::{Checkpoint, CheckpointMetadata, PrivacyStatement};
use medfed_protocol::message::Certified;
use medfed_protocol::policy::{Paid, Policy};
use medfed_protocol::site::{Authority, SiteNotice};
use medfed_store::{Store, Timestamp};
use medfed_types::{Epsilon, RoundId, RunId, SecretKey, SiteId};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the secret from which randomness of secure aggregation follows.
const SESSIONS: &str = "sessions";
/// Bytes of a policy's file at most.
const LARGEST_POLICY: u64 = 1 << 20;

/// The folder of a site.
#[derive(Debug, Clone)]
pub(crate) struct SiteFolder {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// The file of its policy.
    pub(crate) policy: PathBuf,
}

impl SiteFolder {
    /// Where its store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The policy's text, if it is one.
    pub(crate) fn read_policy(&self) -> Result<String, Failure> {
        let path = &self.policy;
        let failed = |error: std::io::Error| {
            Failure::user(anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
                .hint("a site says what it agrees to in policy.yaml; docs/network.md lists its keys, and an empty file holds their defaults")
        };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        std::io::Read::read_to_string(&mut std::io::Read::take(file, LARGEST_POLICY), &mut text)
            .map_err(failed)?;
        Policy::from_yaml(&text, &path.display().to_string())
            .map_err(|error| Failure::user(error).hint("docs/network.md lists the keys of a policy"))?;
        Ok(text)
    }
}

/// Keeps the site's state.
pub(crate) struct Kept {
    folder: SiteFolder,
    store: Store,
    site: SiteId,
    data: Data,
    authority: medfed_net::Authority,
    display: Arc<Display>,
    prepared: Arc<Mutex<Option<Prepared>>>,
    /// The policy's text as it was read last, and when the file was changed last.
    policy: Option<(std::time::SystemTime, String)>,
    /// What was paid in other runs than this one.
    past: Option<(RunId, Vec<Paid>)>,
}

impl Kept {
    /// With an open store.
    pub(crate) fn new(
        folder: SiteFolder,
        store: Store,
        site: SiteId,
        data: Data,
        authority: medfed_net::Authority,
    ) -> Self {
        let display = Arc::new(Display::new(false, LogLevel::Info));
        let prepared = Arc::default();
        Self { folder, store, site, data, authority, display, prepared, policy: None, past: None }
    }

    /// Says something to whoever watches, also while bars are shown.
    pub(crate) fn announcer(&self) -> impl Fn(&str) + Send + 'static {
        self.display.announcer()
    }

    /// ε that the site has spent in a run.
    fn spent(&self, run: &RunId, privacy: &PrivacyStatement) -> Result<Epsilon, KeeperError> {
        let accountant = match privacy.accountant.as_str() {
            "rdp" => medfed_dp::Accountant::Rdp,
            _ => medfed_dp::Accountant::Pld,
        };
        let ledgers = self.store.ledgers(run)?;
        let records = ledgers.get(&self.site).map_or(&[][..], Vec::as_slice);
        Ok(accountant.epsilon(&medfed_dp::replay(run, &self.site, records)?, privacy.delta)?)
    }
}

impl SiteKeeper for Kept {
    fn hospital(&mut self, run: &RunId) -> Result<Box<dyn Hospital>, KeeperError> {
        self.display.say(&format!("run {run}"));
        Ok(Box::new(OwnHospital {
            store: self.store.clone(),
            run: run.clone(),
            site: self.site.clone(),
            data: self.data.clone(),
            display: Arc::clone(&self.display),
            prepared: Arc::clone(&self.prepared),
            work: None,
        }))
    }

    fn policy(&mut self) -> Result<String, KeeperError> {
        let changed = std::fs::metadata(&self.folder.policy).and_then(|file| file.modified());
        if let (Ok(changed), Some((at, text))) = (&changed, &self.policy)
            && changed == at
        {
            return Ok(text.clone());
        }
        match self.folder.read_policy() {
            Ok(text) => {
                self.policy = changed.ok().map(|at| (at, text.clone()));
                Ok(text)
            }
            // Half-written or mistyped while the site runs: what it agreed to before holds.
            Err(failure) => match &self.policy {
                Some((_, text)) => {
                    let text = text.clone();
                    failure.log();
                    Ok(text)
                }
                None => Err(failure.into_error()),
            },
        }
    }

    fn past(&mut self, run: &RunId) -> Result<Vec<Paid>, KeeperError> {
        if let Some((known, past)) = &self.past
            && known == run
        {
            return Ok(past.clone());
        }
        let mut runs: BTreeMap<RunId, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
        for payment in self.store.payments(&self.site)?.into_iter().filter(|payment| payment.run != *run) {
            let paid = payment.paid.0.max(0).cast_unsigned();
            runs.entry(payment.run).or_default().push((paid, payment.record));
        }
        let mut past = Vec::new();
        for (run, payments) in runs {
            let records: Vec<Vec<u8>> = payments.iter().map(|(_, record)| record.clone()).collect();
            let mut before = History::default();
            for (position, (at_ms, _)) in payments.iter().enumerate() {
                let after = medfed_dp::replay(&run, &self.site, &records[..=position])?;
                let steps = after.steps().saturating_sub(before.steps());
                if let Some(last) = after.phases().last().filter(|_| steps > 0) {
                    past.push(Paid { at_ms: *at_ms, phase: Phase { steps, ..*last } });
                }
                before = after;
            }
        }
        past.sort_by_key(|paid| paid.at_ms);
        self.past = Some((run.clone(), past.clone()));
        Ok(past)
    }

    fn authority(&self) -> Box<dyn Authority> {
        Box::new(Enrolled(self.authority.clone()))
    }

    fn secret(&mut self, run: &RunId) -> Result<SecretKey, KeeperError> {
        Ok(self.store.run_secret(run, SESSIONS)?)
    }

    fn notice(&mut self, run: &RunId, notice: &SiteNotice) -> Result<(), KeeperError> {
        let text = notice.to_string();
        match notice {
            SiteNotice::Declined { .. } => self.display.warn(&text),
            _ => self.display.say(&text),
        }
        let mut detail = serde_json::to_value(notice)?;
        let kind = detail.as_object_mut().and_then(|detail| detail.remove("kind"));
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("notice").to_owned();
        let round: Option<RoundId> = serde_json::from_value(detail["round"].clone()).ok();
        Ok(self.store.event(run, round, Timestamp::now(), &kind, &detail)?)
    }

    fn link(&mut self, connected: bool, detail: &str) {
        if connected {
            self.display.say("connected to the coordinator");
        } else {
            self.display.warn(&format!("the coordinator is gone: {detail}; trying again"));
        }
    }

    fn ended(&mut self, run: &RunId, end: &SiteEnd) -> Result<(), KeeperError> {
        self.display.end();
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What the coordinator calls the model must not keep the run from ending here.
        let values = end.best.to_values().unwrap_or_default();
        let fits = |it: &Prepared| it.network.layout().len() == values.len();
        if !end.best.is_empty() && !prepared.as_ref().is_some_and(fits) {
            self.display.warn("the model that came with the end of the run does not fit, and is not kept");
        }
        if let Some(Prepared { network, metadata }) = prepared.filter(fits) {
            let privacy = metadata.privacy.clone();
            let privacy = privacy.map(|statement| {
                let epsilon = self.spent(run, &statement)?;
                Ok::<_, KeeperError>(PrivacyStatement { epsilon, ..statement })
            });
            let metadata = CheckpointMetadata {
                privacy: privacy.transpose()?,
                round: end.best_round.map(RoundId),
                ..metadata
            };
            let bytes = Checkpoint::write(network.layout(), &values, &metadata)?;
            let path = self.folder.dir.join("best_model.safetensors");
            replace_file(&path, &bytes).map_err(Failure::into_error)?;
            self.display.say(&format!("the model of the run: {}", path.display()));
        }
        let status = match end.status {
            Some(RunStatus::Completed) => medfed_store::RunStatus::Completed,
            Some(RunStatus::BudgetExhausted) => medfed_store::RunStatus::BudgetExhausted,
            _ => medfed_store::RunStatus::Failed,
        };
        let summary = json!({ "status": end.status, "reason": end.reason, "best_round": end.best_round });
        self.store.finish_run(run, status, Timestamp::now(), &summary)?;
        let word = end.status.map_or("without this hospital", ended_word);
        let reason = end.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        self.display.say(&format!("run {run} is over, {word}{reason}"));
        Ok(())
    }
}

fn ended_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "completed",
        RunStatus::BudgetExhausted => "the privacy budget is spent",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Aborted => "aborted",
        RunStatus::Halted => "halted",
    }
}

/// Certificates are checked against the authority that the site enrolled with.
struct Enrolled(medfed_net::Authority);

impl Authority for Enrolled {
    fn verify(&self, certified: &Certified, revocations: &[u8], now_ms: u64) -> Result<[u8; 32], String> {
        let revoked = Revocations::parse(revocations, &self.0).map_err(|problem| problem.to_string())?;
        let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
        let der = Certificate::parse(&certified.certificate).map_err(|problem| problem.to_string())?;
        let checked = self.0.verify(der.der(), now, Some(&revoked)).map_err(|problem| problem.to_string())?;
        match checked.party().site() {
            Some(site) if *site == certified.site => Ok(*checked.key()),
            _ => Err(format!("it is for {}", checked.party())),
        }
    }
}
