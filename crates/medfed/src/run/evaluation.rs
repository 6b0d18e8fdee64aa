//! What is kept of the measurements at the end of a run: documents in the store, files, pictures.

use super::prepare::{Folders, Prepared};
use super::results::replace_file;
use super::store_failure;
use crate::evaluation::fairness::FairnessFile;
use crate::evaluation::plots;
use crate::failure::Failure;
use medfed_federation::Outcome;
use medfed_store::Store;
use std::path::{Path, PathBuf};

/// Name of the document with everything measured about the saved model.
const EVALUATION: &str = "evaluation";
/// Name of the document and, with `.json`, of the file about fairness.
const FAIRNESS: &str = "fairness_report";

/// Writes `fairness_report.json` and the pictures, and keeps the documents in the store.
pub(super) fn keep(
    store: &Store,
    prepared: &Prepared,
    folders: &Folders,
    outcome: &Outcome,
    classes: &[String],
) -> Result<(), Failure> {
    let Some(found) = &outcome.evaluation else { return Ok(()) };
    let text = serde_json::to_string(found).map_err(Failure::internal)?;
    store.put_document(&prepared.id, EVALUATION, &text).map_err(store_failure)?;
    let mut pictures = found
        .test
        .as_ref()
        .map_or_else(Vec::new, |details| plots::performance(details, classes, "test images"));
    if let Some(fairness) = &found.fairness {
        // The groups of the test set where there are any, otherwise those of the hospitals' counts.
        let compared = fairness.test.as_ref().filter(|report| report.is_fair.is_some());
        let hospitals =
            fairness.validation.as_ref().map(|report| plots::fairness(report, "validation images"));
        let test = compared.map(|report| plots::fairness(report, "test images"));
        for (name, chart) in test.into_iter().chain(hospitals).flatten() {
            if !pictures.iter().any(|(taken, _)| *taken == name) {
                pictures.push((name, chart));
            }
        }
        if let Some(file) = FairnessFile::new(&prepared.id, outcome.best_round, fairness, &outcome.reports) {
            let mut text = serde_json::to_string_pretty(&file).map_err(Failure::internal)?;
            text.push('\n');
            replace_file(&fairness_path(&folders.results), text.as_bytes())?;
            store.put_document(&prepared.id, FAIRNESS, &text).map_err(store_failure)?;
        }
    }
    plots::write(&pictures, &plots_path(&folders.results))
}

/// Where the fairness report is.
pub(super) fn fairness_path(results: &Path) -> PathBuf {
    results.join(format!("{FAIRNESS}.json"))
}

/// Where the pictures are.
pub(super) fn plots_path(results: &Path) -> PathBuf {
    results.join("plots")
}
