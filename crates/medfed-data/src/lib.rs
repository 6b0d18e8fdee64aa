//! Scans in: archives, folders, manifests, synthetic radiographs; sites, splits, batches.
//!
//! What enters: a path (a MedMNIST archive, an image folder or a CSV manifest). What leaves: a
//! [`Dataset`] of labelled images, all of one [`ImageShape`](medfed_types::ImageShape), as bytes
//! `[image, channel, height, width]`; from it [`split_sites`] makes hospitals with training and
//! validation sets and one common test set; from a hospital's training set [`Units`] makes privacy
//! units and draws batches of them.
//!
//! Files are untrusted: a size that a header declares is checked against the bytes that are there
//! before memory is taken, and a malformed file is a [`DataError`], never a panic.
//!
//! *Not* protected here: nothing in this crate is private. Labels, patients and pixels are the
//! hospital's own; privacy starts where gradients are clipped and noised.

mod archive;
pub mod contact_sheet;
pub mod dataset;
pub mod decode;
mod demographics;
pub mod error;
mod folder;
pub mod inspect;
pub mod load;
mod manifest;
mod pictures;
pub mod scan;
pub mod site;
pub mod synthetic;
mod table;
pub mod units;

pub use dataset::{Attribute, Dataset, DatasetParts, Normalisation};
pub use decode::decode_image;
pub use error::{DataError, DataWarning, ImageFault};
pub use load::{ColumnNames, LoadOptions};
pub use scan::{Origin, Scan, Sex, Split};
pub use site::{SiteData, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
pub use units::{ShuffledBatches, UnitKind, Units};
