//! The run's audit log: from reports to entries, and the hospitals that sign.
//!
//! Everything that is recorded of a round follows from its report and from the hospitals' ledgers, so a
//! round that is repeated after a crash is recorded as it was. Not from a report into the log: numbers of
//! images, losses, metrics, norms and weights of updates.

use super::prepare::Prepared;
use super::store_failure;
use crate::failure::Failure;
use medfed_audit::entry::{
    Action, Audience, Compared, Consequence, Criterion, Disclosure, Escape, ExpectedNorm, Finished, Matter,
    Promise, Rules, Search, Selection, Status, canonical_json, commitment,
};
use medfed_audit::trail::{Course, Opening, PaidSteps, Trail, log_signer, site_signer};
use medfed_audit::{AuditError, Checkpoint, Digest, Offer, Refusal, Signature, Witness};
use medfed_config::Config;
use medfed_config::section::{
    AccountantName, AnomalyDetector, OnDetection, PreAggregation, PrivacyUnit, RobustAggregation,
    RobustMethod, SecureMode,
};
use medfed_dp::{Accountant, History, Phase, Spent};
use medfed_federation::report::{
    RoundReport, RunStatus, SecurityReport, SelectionReport, SiteRound, SiteStatus,
};
use medfed_federation::{Outcome, Setup};
use medfed_store::{AuditFolder, Store, StoreError, Timestamp};
use medfed_types::{Delta, Epsilon, RoundId, RunId, SiteId};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Sections of the configuration that every hospital may know. Not among them: where data lie, how many
/// there are and how they are distributed; and the seed, from which noise may follow.
const PUBLIC: [&str; 8] = [
    "federated",
    "training",
    "privacy",
    "secure_aggregation",
    "robust_aggregation",
    "orchestrator",
    "evaluation",
    "simulation",
];
/// Statistics of an update that are scores, in spreads, and not numbers of the update itself.
const SCORES: [&str; 3] = ["norm", "history", "cosine"];

/// The log of a run, and the hospitals that sign it.
#[derive(Debug)]
pub(super) struct Audit {
    trail: Trail<AuditFolder>,
    store: Store,
    run: RunId,
    witnesses: Vec<(SiteId, Witness)>,
    /// The δ of the guarantee; nothing without privacy.
    delta: Option<Delta>,
    /// How hospitals are selected where updates are masked.
    criterion: Criterion,
    /// How updates are searched before that.
    search: Option<Search>,
}

impl Audit {
    /// Begins the log, or goes on with it; nothing where the configuration does without.
    pub(super) fn open(
        store: &Store,
        prepared: &Prepared,
        setup: &Setup,
        initial: &[f32],
        fingerprint: &[u8; 32],
    ) -> Result<Option<Self>, Failure> {
        let (config, run) = (&prepared.config, &prepared.id);
        if !config.secure_aggregation.audit_enabled {
            return Ok(None);
        }
        let signer = log_signer(run, &store.audit_key(run, None).map_err(store_failure)?);
        let log_key = signer.public().clone();
        let mut seen = store.signed_checkpoints(run).map_err(store_failure)?;
        let (mut witnesses, mut hospitals) = (Vec::new(), Vec::new());
        for hospital in setup.hospitals() {
            let site = hospital.id.clone();
            let key = store.audit_key(run, Some(&site)).map_err(store_failure)?;
            let signer = site_signer(run, &site, &key);
            let seen = seen.remove(&site).map(|text| Checkpoint::parse(&text)).transpose();
            let seen = seen
                .map_err(|problem| Failure::user(problem).hint("restore the results folder from a backup"))?;
            hospitals.push((site.clone(), signer.public().clone()));
            witnesses.push((site, Witness::new(signer, log_key.clone(), seen)));
        }
        let folder = store.audit_folder(run);
        let trail = if let Some(saved) = &prepared.resumed {
            Trail::resume(folder, signer, saved.done())
        } else {
            let salt = store.audit_salt(run).map_err(store_failure)?;
            let opening = Opening {
                run: run.clone(),
                time: now(),
                program: format!("medfed {}", env!("CARGO_PKG_VERSION")),
                model: digest(initial),
                averaged: config.training.ema_decay > 0.0,
                configuration: commitment(salt.expose(), config.hash().as_bytes()),
                data: commitment(salt.expose(), super::prepare::hex(fingerprint).as_bytes()),
                public_configuration: public(config),
                hospitals,
                rules: rules(prepared, setup.attackers().is_some()),
            };
            Trail::begin(folder, signer, opening)
        };
        let delta = config.privacy.enabled.then_some(config.privacy.delta);
        let trail = trail.map_err(audit_failure)?;
        let (criterion, search) = (criterion(&config.robust_aggregation), search(&config.robust_aggregation));
        let (store, run) = (store.clone(), run.clone());
        let mut audit = Self { trail, store, run, witnesses, delta, criterion, search };
        if prepared.resumed.is_some() && !audit.trail.is_finished() {
            audit.trail.operator(Action::Resumed, now()).map_err(audit_failure)?;
        }
        audit.publish().map_err(audit_failure)?;
        Ok(Some(audit))
    }

    /// Records a round, durably and signed.
    pub(super) fn round(&mut self, report: &RoundReport) -> Result<(), AuditError> {
        let round = RoundId(report.round_num);
        let (mut participants, mut excluded) = (Vec::new(), Vec::new());
        for hospital in &report.hospitals {
            match reason(hospital, &report.security) {
                None => participants.push(hospital.hospital.clone()),
                Some(reason) => excluded.push((hospital.hospital.clone(), reason)),
            }
        }
        let after = Digest::from_hex(&report.model_hash).ok_or_else(|| {
            let detail = "a round without the hash of its model".to_owned();
            AuditError::storage(StoreError::Corrupt { path: self.store.dir().to_owned(), detail })
        })?;
        let payments = self.payments(&report.hospitals)?;
        let mut events = events(&report.security);
        for decision in report.orchestrator.iter().flat_map(|orchestrator| &orchestrator.decisions) {
            if decision.decision.is_notable() {
                events.push(event("budget_decision", json!(decision)));
            }
        }
        let factors = report.fairness.as_ref().map(|fairness| &fairness.weight_factors);
        if let Some(factors) = factors.filter(|factors| !factors.is_empty()) {
            events
                .push(event("weights_adjusted", json!({ "hospitals": factors.keys().collect::<Vec<_>>() })));
        }
        // A warning is of the whole run as a rule: once is enough.
        events.retain(|(what, detail)| what != "warning" || !self.trail.has_event(what, detail));
        let selection = self.selection(round, &report.security);
        self.trail.round(Course { round, payments, events, selection, participants, excluded, after })?;
        self.publish()
    }

    /// What was opened to select among a round's updates; nothing where that is not done.
    fn selection(&self, round: RoundId, security: &SecurityReport) -> Option<Selection<SiteId>> {
        let masking = security.masking.as_ref()?;
        let SelectionReport { compared, too_long, withheld, selected, .. } = masking.selection.as_ref()?;
        let SelectionReport { parameters, steps, products, expected, .. } = masking.selection.as_ref()?;
        let norm = |site: &SiteId| {
            expected.get(site).map(|norm| ExpectedNorm { scale: norm.scale, least: norm.least })
        };
        Some(Selection {
            round,
            criterion: self.criterion,
            search: self.search,
            // A cohort has at most 100 hospitals.
            least: masking.min_clients as u16,
            parameters: *parameters,
            steps: *steps,
            compared: (compared.iter())
                .map(|site| Compared { hospital: site.clone(), expected: norm(site) })
                .collect(),
            products: products.clone(),
            too_long: too_long.clone(),
            withheld: withheld.clone(),
            selected: selected.clone(),
        })
    }

    /// Records how the run ended, or that it was stopped.
    pub(super) fn close(&mut self, outcome: &Outcome, checkpoint: &[u8]) -> Result<(), Failure> {
        self.end(outcome, checkpoint).map_err(audit_failure)
    }

    fn end(&mut self, outcome: &Outcome, checkpoint: &[u8]) -> Result<(), AuditError> {
        if self.trail.is_finished() {
            return Ok(());
        }
        // What a round that was not finished has cost.
        let round = self.trail.done().next();
        let payments = self.payments(&[])?;
        self.trail.payments(round, payments)?;
        let status = match outcome.status {
            RunStatus::Interrupted => None,
            RunStatus::Completed => Some(Status::Completed),
            RunStatus::BudgetExhausted => Some(Status::BudgetExhausted),
            RunStatus::Aborted => Some(Status::Aborted),
            RunStatus::Halted => Some(Status::Halted),
        };
        let Some(status) = status else {
            self.trail.operator(Action::Stopped, now())?;
            return self.publish();
        };
        for decision in &outcome.last_decisions {
            if decision.decision.is_notable() {
                let (what, detail) = event("budget_decision", json!(decision));
                self.trail.event(what, detail)?;
            }
        }
        if let Some(security) = &outcome.aborted {
            if let Some(selection) = self.selection(round, security) {
                self.trail.selection(selection)?;
            }
            let excluded = json!({ "excluded": security.excluded_clients });
            for (what, detail) in events(security).into_iter().chain([event("round_aborted", excluded)]) {
                self.trail.event(what, detail)?;
            }
        }
        self.trail.finish(Finished {
            time: now(),
            status,
            best_round: outcome.best_round.map(RoundId),
            model: digest(&outcome.parameters),
            file: outcome.best_round.map(|_| Digest::of(checkpoint)),
        })?;
        self.publish()
    }

    /// Payments of the ledgers that are not recorded yet. `reports` know what was spent after the newest.
    fn payments(&self, reports: &[SiteRound]) -> Result<Vec<PaidSteps>, AuditError> {
        let Some(delta) = self.delta else { return Ok(Vec::new()) };
        let mut payments = Vec::new();
        for (site, records) in self.store.ledgers(&self.run).map_err(AuditError::storage)? {
            let replay = |count: usize| {
                medfed_dp::replay(&self.run, &site, &records[..count]).map_err(AuditError::storage)
            };
            for position in self.trail.payments_of(&site)..records.len() {
                let (before, after) = (replay(position)?, replay(position + 1)?);
                let Some(Phase { rate, noise, steps }) = added(&before, &after) else { continue };
                let report = reports.iter().find(|report| report.hospital == site);
                let known =
                    report.and_then(|report| report.privacy).filter(|_| position + 1 == records.len());
                let known = known.map(|privacy| (privacy.spent.epsilon_pld, privacy.spent.epsilon_rdp));
                let spent = match known.map(|(pld, rdp)| (Epsilon::new(pld), Epsilon::new(rdp))) {
                    Some((Ok(pld), Ok(rdp))) => Spent { pld, rdp },
                    _ => Spent::of(&after, delta).map_err(AuditError::storage)?,
                };
                payments.push(PaidSteps { site: site.clone(), rate, noise, steps, spent });
            }
        }
        Ok(payments)
    }

    fn publish(&mut self) -> Result<(), AuditError> {
        let Self { trail, store, run, witnesses, .. } = self;
        trail.publish(|offer| cosign(offer, store, run, witnesses))
    }
}

/// Every hospital checks the log against the checkpoint that it signed last, keeps the new one, and signs.
fn cosign(
    offer: &Offer<'_>,
    store: &Store,
    run: &RunId,
    witnesses: &mut [(SiteId, Witness)],
) -> Result<Vec<Signature>, AuditError> {
    let (mut kept, mut approvals) = (Vec::new(), Vec::new());
    for (site, witness) in witnesses {
        let refused = |refusal| AuditError::Refused { site: site.clone(), refusal };
        let (seen, found) = (witness.seen(), offer.signed().checkpoint().size);
        let proof = offer.proof_since(seen).ok_or_else(|| refused(Refusal::RolledBack { seen, found }))?;
        let approval = witness.check(offer.signed(), &proof).map_err(refused)?;
        kept.push((site.clone(), approval.checkpoint().text()));
        approvals.push(approval);
    }
    store.keep_signed_checkpoints(run, &kept).map_err(AuditError::storage)?;
    Ok(approvals.into_iter().map(|approval| approval.sign(now())).collect())
}

/// Why a hospital's update did not enter the step; nothing where it did.
fn reason(hospital: &SiteRound, security: &SecurityReport) -> Option<String> {
    let masking = security.masking.as_ref().filter(|masking| masking.selection.is_some());
    let passed_over = masking.is_some_and(|masking| !masking.survivors.contains(&hospital.hospital));
    let reason = match hospital.status {
        SiteStatus::Trained if passed_over => "not selected".to_owned(),
        SiteStatus::Trained => return None,
        SiteStatus::NotSelected => "not drawn for the round".to_owned(),
        SiteStatus::BudgetExhausted => "its privacy budget is spent".to_owned(),
        SiteStatus::Failed | SiteStatus::Absent => "it gave no update".to_owned(),
        SiteStatus::Excluded => {
            let about = security.anomalies.iter().filter(|finding| finding.site == hospital.hospital);
            let names: BTreeSet<&str> = about.map(|finding| finding.statistic.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            if names.is_empty() {
                "it was no update".to_owned()
            } else {
                format!("left out: {}", names.join(", "))
            }
        }
    };
    Some(reason)
}

/// What one more payment has added to a history.
fn added(before: &History, after: &History) -> Option<Phase> {
    let last = after.phases().last()?;
    let steps = after.steps().saturating_sub(before.steps());
    (steps > 0).then_some(Phase { steps, ..*last })
}

/// What the log says of the updates of a round.
fn events(security: &SecurityReport) -> Vec<(String, String)> {
    let mut events = Vec::new();
    for finding in &security.anomalies {
        let statistic = finding.statistic.as_str();
        let mut detail = json!({ "hospital": finding.site, "statistic": statistic });
        if SCORES.contains(&statistic) {
            detail["score"] = json!(finding.value);
            detail["threshold"] = json!(finding.threshold);
        }
        events.push(event("update_out_of_line", detail));
    }
    let unused: Vec<&SiteId> =
        security.weights.iter().filter(|it| it.weight == Some(0.0)).map(|it| &it.hospital).collect();
    // A selection among masked updates has an entry of its own.
    let selects = security.masking.as_ref().is_some_and(|masking| masking.selection.is_some());
    if !unused.is_empty() && !selects {
        let detail = json!({ "rule": security.aggregation_method, "hospitals": unused });
        events.push(event("update_without_weight", detail));
    }
    if let Some(masking) = &security.masking {
        let revealed: Vec<String> = masking.revealed.iter().map(ToString::to_string).collect();
        let lost: Vec<&SiteId> = masking.lost.iter().map(|lost| &lost.hospital).collect();
        events.push(event(
            "updates_masked",
            json!({
                "mode": masking.mode,
                "revealed": revealed,
                "participants": masking.participants,
                "survivors": masking.survivors,
                "lost": lost,
                "culprits": masking.culprits,
                "groups": masking.groups,
                "threshold": masking.threshold,
                "min_clients": masking.min_clients,
            }),
        ));
    }
    let warnings = security.warnings.iter().map(|text| event("warning", json!({ "text": text })));
    events.extend(warnings);
    events
}

fn event(what: &str, detail: Value) -> (String, String) {
    let object = match detail {
        Value::Object(object) => object,
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    (what.to_owned(), canonical_json(&object))
}

/// The public part of the configuration.
fn public(config: &Config) -> String {
    let all = config.to_json();
    let mut object = Map::new();
    for section in PUBLIC {
        object.insert(section.to_owned(), all[section].clone());
    }
    let mut model = all["model"].clone();
    if model["pretrained"].is_string() {
        // A path says more about the machine than about the model.
        model["pretrained"] = json!("a file");
    }
    object.insert("model".to_owned(), model);
    canonical_json(&object)
}

fn rules(prepared: &Prepared, attacked: bool) -> Rules {
    let config = &prepared.config;
    let robust = &config.robust_aggregation;
    let aggregation = match (robust.enabled, robust.pre) {
        (false, _) => "fedavg".to_owned(),
        (true, PreAggregation::None) => robust.method.as_str().to_owned(),
        (true, PreAggregation::Nnm) => format!("{} after nnm", robust.method.as_str()),
    };
    let privacy = &config.privacy;
    let promise = privacy.enabled.then_some(Promise {
        unit: match privacy.unit {
            PrivacyUnit::Image => medfed_dp::PrivacyUnit::Image,
            PrivacyUnit::Patient => medfed_dp::PrivacyUnit::Patient,
        },
        clip: privacy.max_grad_norm,
        delta: privacy.delta,
        accountant: match privacy.accountant {
            AccountantName::Pld => Accountant::Pld,
            AccountantName::Rdp => Accountant::Rdp,
        },
        budget: privacy.epsilon_budget,
        secure_mode: privacy.secure_mode,
    });
    let update = match (config.secure_aggregation.masks(), privacy.enabled) {
        (true, _) => Matter::Sums,
        (false, true) => Matter::NoisedUpdate,
        (false, false) => Matter::Update,
    };
    let mut disclosures = vec![
        Disclosure { what: update, to: Audience::Coordinator },
        Disclosure { what: Matter::Model, to: Audience::Coordinator },
        Disclosure { what: Matter::Model, to: Audience::Hospitals },
        Disclosure { what: Matter::Measurements, to: Audience::Coordinator },
    ];
    if config.secure_aggregation.masks() && config.secure_mode() == Ok(SecureMode::Selection) {
        for to in [Audience::Coordinator, Audience::Hospitals] {
            disclosures.push(Disclosure { what: Matter::Products, to });
        }
    }
    disclosures.sort_unstable();
    let mut escapes = vec![Escape::Simulation];
    if !privacy.enabled {
        escapes.push(Escape::NoPrivacy);
    } else if prepared.reproducible_noise {
        escapes.push(Escape::ReproducibleNoise);
    }
    if attacked {
        escapes.push(Escape::SimulatedAttack);
    }
    escapes.sort_unstable();
    let warnings = config.notes().into_iter().map(|note| format!("{}: {}", note.key, note.text)).collect();
    let min_updates = config.federated.min_fit_clients;
    Rules { aggregation, min_updates, privacy: promise, disclosures, escapes, warnings }
}

/// How the configured rule selects under masks; other rules select nobody out.
fn criterion(robust: &RobustAggregation) -> Criterion {
    // The ranges of the configuration are far below the limit.
    let number = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    match robust.method {
        RobustMethod::Foolsgold => Criterion::FoolsGold,
        RobustMethod::MultiKrum => Criterion::MultiKrum {
            byzantine: number(robust.num_byzantine),
            selected: number(robust.multi_krum_k),
        },
        _ => Criterion::Everyone,
    }
}

fn search(robust: &RobustAggregation) -> Option<Search> {
    robust.enable_detection.then_some(Search {
        zscore: robust.detector == AnomalyDetector::Zscore,
        threshold: robust.detection_threshold,
        consequence: match robust.on_detection {
            OnDetection::Flag => Consequence::Flag,
            OnDetection::Exclude => Consequence::Exclude,
            OnDetection::Halt => Consequence::Halt,
        },
    })
}

/// SHA-256 of parameters, as reports state it: of their little-endian bytes.
fn digest(parameters: &[f32]) -> Digest {
    let bytes: Vec<u8> = parameters.iter().flat_map(|value| value.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// Seconds since 1970.
fn now() -> u64 {
    u64::try_from(Timestamp::now().0 / 1000).unwrap_or(0)
}

/// What a failure of the audit log asks of the user.
fn audit_failure(error: AuditError) -> Failure {
    let hint = match &error {
        AuditError::Storage(_) => {
            "check the folder's owner, permissions and free space, and run the command again"
        }
        AuditError::Unwritable { .. } => return Failure::internal(error),
        _ => {
            "the log was changed, removed or rolled back since the run stopped: restore the results folder from a backup; `medfed audit verify` says what is wrong"
        }
    };
    Failure::user(error).hint(hint)
}
