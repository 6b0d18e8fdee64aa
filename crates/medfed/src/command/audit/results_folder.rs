//! What a results folder knows besides the log: ledgers, signatures of hospitals, the saved model, the
//! configuration. A log that was exchanged for another as a whole differs from them.

use super::location::Log;
use crate::failure::Failure;
use crate::run::{Terms, store_failure};
use medfed_audit::entry::commitment;
use medfed_audit::{Checkpoint, Digest, Entry, Verdict};
use medfed_store::Reader;
use medfed_types::RunId;

/// The checkpoints that the folder's hospitals signed last.
pub(super) fn signed(log: &Log) -> Result<Vec<Checkpoint>, Failure> {
    let Some((reader, run)) = log.reader.as_ref().zip(log.run_id()) else { return Ok(Vec::new()) };
    let signed = reader.signed_checkpoints(&run).map_err(store_failure)?;
    let mut checkpoints: Vec<Checkpoint> =
        signed.values().filter_map(|text| Checkpoint::parse(text).ok()).collect();
    // In a simulation all have signed the same.
    checkpoints.sort_by_key(|checkpoint| checkpoint.size);
    checkpoints.dedup();
    Ok(checkpoints)
}

/// In what the log differs from the folder: place and problem.
pub(super) fn compare(log: &Log, verdict: &Verdict) -> Result<Vec<(String, String)>, Failure> {
    let Some((reader, run)) = log.reader.as_ref().zip(log.run_id()) else { return Ok(Vec::new()) };
    let mut faults = Vec::new();
    // What is wrong with the log is wrong with everything that it says.
    if !verdict.faults.is_empty() || verdict.entries.is_empty() {
        return Ok(faults);
    }
    ledgers(reader, &run, verdict, &mut faults)?;
    model(reader, &run, verdict, &mut faults)?;
    commitments(reader, &run, verdict, &mut faults)?;
    if verdict.summary.run.as_ref().is_some_and(|found| *found != run) {
        let problem = format!("it is the log of another run than its folder says, {run}");
        faults.push(("entry 0".to_owned(), problem));
    }
    Ok(faults)
}

/// Every hospital has paid for what the log says it has. A run that was killed has paid for a round more.
fn ledgers(
    reader: &Reader,
    run: &RunId,
    verdict: &Verdict,
    faults: &mut Vec<(String, String)>,
) -> Result<(), Failure> {
    let ended = verdict.summary.finished.is_some();
    let mut ledgers = reader.ledgers(run).map_err(store_failure)?;
    for hospital in &verdict.summary.hospitals {
        let site = &hospital.site;
        let place = || format!("the ledger of {site}");
        let records = ledgers.remove(site).unwrap_or_default();
        match medfed_dp::replay(run, site, &records) {
            Ok(history) => {
                let (paid, logged) = (history.steps(), hospital.steps);
                if paid < logged || (ended && paid != logged) {
                    let problem = format!("it has paid for {paid} steps, the log says {logged}");
                    faults.push((place(), problem));
                }
            }
            Err(error) => faults.push((place(), error.to_string())),
        }
    }
    for (site, records) in ledgers.iter().filter(|(_, records)| !records.is_empty()) {
        let problem = format!("it has {} entries, and the hospital is not in the log", records.len());
        faults.push((format!("the ledger of {site}"), problem));
    }
    Ok(())
}

/// The saved model is the one that the log ends with.
fn model(
    reader: &Reader,
    run: &RunId,
    verdict: &Verdict,
    faults: &mut Vec<(String, String)>,
) -> Result<(), Failure> {
    let Some(file) = verdict.summary.finished.as_ref().and_then(|finished| finished.file) else {
        return Ok(());
    };
    let place = "the saved model".to_owned();
    let models = reader.models(run).map_err(store_failure)?;
    match models.iter().find(|(label, _)| label == "best") {
        Some((_, hash)) if Digest::new(*hash.as_bytes()) != file => {
            faults.push((place, format!("its SHA-256 is {hash}, the log ends with {file}")));
        }
        Some((_, hash)) => {
            if let Err(error) = reader.get_model(*hash) {
                faults.push((place, error.to_string()));
            }
        }
        // A crash after the end of the log and before the end of the run leaves it for the resumption.
        None => {}
    }
    Ok(())
}

/// What the log committed to is what the database has.
fn commitments(
    reader: &Reader,
    run: &RunId,
    verdict: &Verdict,
    faults: &mut Vec<(String, String)>,
) -> Result<(), Failure> {
    let Some((_, Entry::Started(started))) = verdict.entries.first() else { return Ok(()) };
    let Some(salt) = reader.kept_audit_salt(run).map_err(store_failure)? else { return Ok(()) };
    let stored = reader.run(run).map_err(store_failure)?.config;
    let Ok(terms) = serde_json::from_value::<Terms>(stored) else { return Ok(()) };
    let mut compare = |what: &str, committed: Digest, value: &str| {
        if commitment(salt.expose(), value.as_bytes()) != committed {
            let problem = format!("the {what} in the database is not what was committed to");
            faults.push(("entry 0".to_owned(), problem));
        }
    };
    compare("digest of the data", started.data, &terms.data);
    // As it was stored: read by a newer program it would have keys that the run did not know.
    compare("configuration", started.configuration, &medfed_config::hash_of(terms.config));
    Ok(())
}
