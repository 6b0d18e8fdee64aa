//! What the store keeps about the data of a run, for reports: what they are, never what they show.

use super::prepare::Prepared;
use super::store_failure;
use crate::failure::Failure;
use medfed_data::{Dataset, Sites};
use medfed_store::Store;

/// Name of the document.
const DATA: &str = "data_description";

/// Keeps the names of the data set, of its classes and of its columns, and what the reader noticed.
pub(super) fn keep(
    store: &Store,
    prepared: &Prepared,
    dataset: &Dataset,
    sites: &Sites,
) -> Result<(), Failure> {
    let columns: Vec<&str> = dataset.attributes().iter().map(|attribute| attribute.name.as_str()).collect();
    let warnings: Vec<String> =
        dataset.warnings().iter().chain(&sites.warnings).map(ToString::to_string).collect();
    let description = serde_json::json!({
        "name": dataset.name(),
        "classes": dataset.classes(),
        "columns": columns,
        "test_images": sites.test.len(),
        "warnings": warnings,
    });
    store.put_document(&prepared.id, DATA, &description.to_string()).map_err(store_failure)
}
