//! Canaries in a run, and the privacy audit at its end.

use super::display::Display;
use super::prepare::{Folders, Prepared, shell_word};
use super::store_failure;
use crate::failure::Failure;
use crate::output;
use crate::privacy_audit::{
    Claim, DOCUMENT, MeasuredPrivacy, NonMembers, Order, ReferenceOrder, Subject, Targets, attack, write,
};
use medfed_config::section::Pretrained;
use medfed_config::{Config, section};
use medfed_data::{Dataset, Sites};
use medfed_federation::Outcome;
use medfed_federation::canary::{Canaries, toss};
use medfed_nn::Executor;
use medfed_store::{Reader, Store, Timestamp};
use medfed_types::random::danger;
use medfed_types::{Cancel, RunId, SecretKey, Seed};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Name of the document with the coins.
const COINS: &str = "canary_coins";

/// Whether each canary is trained on. Everyone who may not know it must not see the results folder, as
/// with the images.
#[derive(Debug, Serialize, Deserialize)]
struct Coins {
    included: Vec<bool>,
}

/// The canaries that the configuration asks for: their coins are tossed, or those of the interrupted run
/// are taken again. Images that become canaries leave `sites`.
pub(super) fn plant(
    store: &Store,
    prepared: &Prepared,
    dataset: &Arc<Dataset>,
    sites: &mut Sites,
    display: &Display,
) -> Result<Option<Canaries>, Failure> {
    let audit = &prepared.config.privacy_audit;
    if !audit.enabled || audit.canaries == 0 {
        return Ok(None);
    }
    let attack = prepared.config.simulation.attack;
    if prepared.config.privacy.enabled && attack.ignores_privacy() {
        let text = format!(
            "canaries cannot measure privacy under the attack {attack}: its hospitals train without noise, and no epsilon is claimed for them"
        );
        return Err(Failure::user(anyhow::anyhow!(text))
            .hint("--set privacy_audit.canaries=0 plants none; or leave the attack out"));
    }
    let coins = if prepared.resumed.is_some() {
        stored(store, &prepared.id)?.ok_or_else(|| {
            Failure::user(anyhow::anyhow!("the coins of the canaries of run {} are lost", prepared.id))
                .hint("start a new run without --resume")
        })?
    } else {
        let key = if prepared.reproducible_noise {
            danger::reproducible_key(prepared.seed).subkey("canaries", &[])
        } else {
            SecretKey::generate().map_err(Failure::internal)?
        };
        toss(audit.canaries, &key)
    };
    display.warn(&format!(
        "the model will contain canaries: {} examples that do not belong there, each trained on or not by a coin; it is for measuring privacy, not for use",
        coins.len()
    ));
    Ok(Some(planted(&prepared.config, dataset, sites, &coins, prepared.seed)?))
}

/// The canaries of a run that has ended, planted again; nothing where it had none.
pub(crate) fn replant(
    reader: &Reader,
    run: &RunId,
    config: &Config,
    dataset: &Arc<Dataset>,
    sites: &mut Sites,
    seed: Seed,
) -> Result<Option<Canaries>, Failure> {
    stored(reader, run)?.map(|coins| planted(config, dataset, sites, &coins, seed)).transpose()
}

fn planted(
    config: &Config,
    dataset: &Arc<Dataset>,
    sites: &mut Sites,
    coins: &[bool],
    seed: Seed,
) -> Result<Canaries, Failure> {
    let patients_apart = config.privacy.enabled && config.privacy.unit == section::PrivacyUnit::Patient;
    let kind = config.privacy_audit.canary_kind;
    Ok(Canaries::plant(dataset, sites, kind, patients_apart, coins, seed)?)
}

fn stored(reader: &Reader, run: &RunId) -> Result<Option<Vec<bool>>, Failure> {
    let Some(text) = reader.document(run, COINS).map_err(store_failure)? else { return Ok(None) };
    let coins: Coins = serde_json::from_str(&text).map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("the canaries of run {run} cannot be read")))
            .hint("restore the results folder from a backup")
    })?;
    Ok(Some(coins.included))
}

/// Keeps the coins of a new run for a resumption and for later audits.
pub(super) fn keep(store: &Store, prepared: &Prepared, canaries: Option<&Canaries>) -> Result<(), Failure> {
    let Some(canaries) = canaries.filter(|_| prepared.resumed.is_none()) else { return Ok(()) };
    let coins = Coins { included: canaries.list().iter().map(|canary| canary.included).collect() };
    let text = serde_json::to_string(&coins).map_err(Failure::internal)?;
    store.put_document(&prepared.id, COINS, &text).map_err(store_failure)?;
    let kind = prepared.config.privacy_audit.canary_kind;
    let detail = serde_json::json!({ "canaries": coins.included.len(), "kind": kind });
    store.event(&prepared.id, None, Timestamp::now(), "canaries_planted", &detail).map_err(store_failure)
}

/// A finished run as the audit sees it.
pub(super) struct Finished<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) dataset: &'a Arc<Dataset>,
    pub(super) sites: &'a Sites,
    pub(super) canaries: Option<&'a Canaries>,
    pub(super) executor: &'a Executor,
    /// The parameters that training began with.
    pub(super) initial: Option<Vec<f32>>,
    pub(super) outcome: &'a Outcome,
}

/// Audits the model of a run that has one, if the configuration says so: prints the report (not with
/// `json`), writes it to the results folder and keeps it in the store.
pub(super) fn audit(
    store: &Store,
    folders: &Folders,
    run: Finished<'_>,
    json: bool,
    cancel: &Cancel,
    display: &Display,
) -> Result<(), Failure> {
    let Finished { prepared, dataset, outcome, .. } = run;
    let config = &prepared.config;
    if !config.privacy_audit.enabled || outcome.best_round.is_none() {
        return Ok(());
    }
    let targets = Targets::of_run(dataset, run.sites, NonMembers::Auto, prepared.seed)?;
    let subject = Subject { executor: run.executor, parameters: &outcome.parameters, dataset };
    let references = ReferenceOrder {
        config,
        initial: run.initial,
        number: config.privacy_audit.references,
        seed: prepared.seed,
        folder: &folders.results,
        again: format!(
            "the run is done; `medfed privacy-audit --model {}` goes on with the audit",
            shell_word(&folders.results.join("best_model.safetensors"))
        ),
    };
    let order = Order {
        attacks: &config.privacy_audit.attack_types,
        targets: &targets,
        references: Some(references),
        cancel,
    };
    let report = attack(subject, &order)?;
    let claim = claim(prepared, outcome);
    let measured = match run.canaries {
        Some(canaries) => {
            let delta = claim.as_ref().map_or(0.0, |claim| claim.delta);
            let audit = canaries.audit(run.executor, &outcome.parameters, delta)?;
            Some(MeasuredPrivacy::new(audit, config.privacy_audit.canary_kind, claim.as_ref()))
        }
        None => None,
    };
    let report = report.about(Some(prepared.id.clone()), claim).with_measured(measured.clone());
    for warning in report.warnings() {
        display.warn(warning);
    }
    let [path, _] = write(&report, &folders.results)?;
    store.put_document(&prepared.id, DOCUMENT, &report.to_json()?).map_err(store_failure)?;
    if !json {
        output::print(&format!("\n{}", report.text()))?;
    }
    display.say(&format!("privacy audit: {}", path.display()));
    measured.map_or(Ok(()), |measured| measured.verdict())
}

/// What the run claims, where a bound is known.
fn claim(prepared: &Prepared, outcome: &Outcome) -> Option<Claim> {
    let privacy = &prepared.config.privacy;
    let spent = outcome.spent.iter().filter_map(|(_, spent)| spent.as_ref());
    let epsilon = spent.map(|spent| spent.epsilon_total).reduce(f64::max)?;
    epsilon.is_finite().then(|| Claim {
        epsilon,
        delta: privacy.delta.get(),
        unit: privacy.unit.as_str().to_owned(),
        reproducible_noise: prepared.reproducible_noise,
    })
}

/// The parameters that reference models start from: those of the configured file, else fresh ones.
pub(super) fn given_initial(config: &Config, initial: &[f32]) -> Option<Vec<f32>> {
    let given = matches!(config.model.pretrained, Pretrained::File(_));
    (given && config.privacy_audit.enabled).then(|| initial.to_vec())
}
