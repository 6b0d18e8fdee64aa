//! From a path to a [`Dataset`].
//!
//! | path | read as |
//! |---|---|
//! | a `.npz` file | MedMNIST archive |
//! | a `.csv` file | manifest |
//! | a folder with `metadata.csv` or `manifest.csv` | manifest |
//! | any other folder | image folder: `{train,val,test}/CLASS/*` or `CLASS/*` |

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::DataError;

/// Bytes that the decoded images of one data set may take: 16 GiB.
pub const MOST_BYTES: u64 = 16 << 30;
/// Rows and columns of the images of a folder or manifest unless [`LoadOptions::image_size`] says otherwise.
pub const FOLDER_IMAGE_SIZE: usize = 64;

/// How to read a data set. The default takes the data as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Rows and columns after resizing, 1 to 4096. Unset: an archive keeps its own size, folders get
    /// [`FOLDER_IMAGE_SIZE`].
    pub image_size: Option<usize>,
    /// 1 (grey) or 3 (RGB). Unset: an archive keeps its own, folders are RGB if most images are in
    /// colour.
    pub channels: Option<usize>,
    /// Names of a manifest's columns.
    pub columns: ColumnNames,
}

/// Names of a manifest's columns. An unset name means the default, and then the column may be absent
/// (all but `file` and `label`); a name that is set must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnNames {
    /// Image file, relative to the manifest; default `file`.
    pub file: Option<String>,
    /// Class, as a number or as text; default `label`.
    pub label: Option<String>,
    /// Name of the class where `label` is a number; default `class_name` or `folder_class`.
    pub class_name: Option<String>,
    /// Patient; default `patient_id`.
    pub patient_id: Option<String>,
    /// Hospital; default `site`.
    pub site: Option<String>,
    /// `train`, `val` or `test`; default `split`.
    pub split: Option<String>,
    /// Age in years; default `age`.
    pub age: Option<String>,
    /// Sex; default `sex`.
    pub sex: Option<String>,
}

impl Dataset {
    /// Reads the data set at `path`, whatever kind it is (see the [module](self)).
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self, DataError> {
        check(options)?;
        let about =
            std::fs::metadata(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        if about.is_dir() {
            let manifest = ["metadata.csv", "manifest.csv"].map(|name| path.join(name));
            return match manifest.iter().find(|manifest| manifest.is_file()) {
                Some(manifest) => crate::manifest::load(manifest, options),
                None => crate::folder::load(path, options),
            };
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "npz" if about.is_file() => crate::archive::load(path, options),
            "csv" | "tsv" if about.is_file() => crate::manifest::load(path, options),
            _ => Err(DataError::Format {
                path: path.to_owned(),
                expected: "a .npz archive, a .csv manifest, or a folder of images",
                found: if extension.is_empty() {
                    "a file without an extension".to_owned()
                } else {
                    format!("a .{extension} file")
                },
            }),
        }
    }
}

fn check(options: &LoadOptions) -> Result<(), DataError> {
    let plan =
        |what, expected, found: usize| Err(DataError::Plan { what, expected, found: found.to_string() });
    match (options.image_size, options.channels) {
        (Some(size), _) if !(1..=4096).contains(&size) => plan("the image size", "1 to 4096 pixels", size),
        (_, Some(channels)) if !matches!(channels, 1 | 3) => {
            plan("the number of channels", "1 (grey) or 3 (colour)", channels)
        }
        _ => Ok(()),
    }
}

/// The last part of a path, without its extension: a name for messages and reports.
pub(crate) fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if full.is_dir() { full.file_name() } else { full.file_stem() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}
