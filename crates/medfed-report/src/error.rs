//! How a report fails.

use medfed_store::StoreError;

/// A failure to make a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document of the run is not JSON.
    #[error("the document {name:?} of the run is not JSON")]
    Document {
        /// Its name.
        name: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The ledger of a hospital does not add up.
    #[error("the privacy ledger of {hospital} cannot be accounted")]
    Ledger {
        /// The hospital.
        hospital: medfed_types::SiteId,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pages cannot be written as PDF.
    #[error("the report cannot be written as PDF: {detail}")]
    Pdf {
        /// What the PDF library says.
        detail: String,
    },
    /// A chart cannot be turned into pixels.
    #[error("the chart {title:?} cannot be drawn as PNG: {detail}")]
    Png {
        /// The chart.
        title: String,
        /// What the rendering library says.
        detail: String,
    },
}
