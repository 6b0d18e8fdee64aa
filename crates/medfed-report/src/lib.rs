//! Reports and model cards of stored runs.
//!
//! ```text
//! Reader ─► RunRecord ─► Document ─► HTML, PDF
//!                │                └► charts ─► SVG, PNG, CSV
//!                └► model card (Markdown)
//! ```
//!
//! Every number comes from the store; what a run did not measure is said to be so. A [`Document`] is the
//! same whatever it is written as.

mod document;
mod error;
mod fields;
mod html;
mod model_card;
mod number;
mod pdf;
mod png;
mod record;
mod report;

pub use document::{Block, Document, Section, Tone};
pub use error::ReportError;
pub use png::png;
pub use record::RunRecord;
pub use report::Part;
