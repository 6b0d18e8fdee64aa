//! Images and how hospitals share them.

use std::path::PathBuf;

use medfed_types::SiteId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Images and how hospitals share them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Synthetic radiographs, or the files at `data_dir`.
    pub dataset: Dataset,
    /// An `.npz` file, a folder with one folder of images per class, or a folder with a
    /// `metadata.csv`. Read with `dataset: files` only.
    #[schemars(length(min = 1))]
    pub data_dir: PathBuf,
    /// Rows and columns to which images are scaled, in pixels. Without this key the size of the files,
    /// and 64 for synthetic images.
    #[schemars(range(min = 8, max = 1024))]
    pub image_size: Option<u32>,
    /// 1 (grey) or 3 (RGB). Without this key as in the files, and 1 for synthetic images.
    #[schemars(extend("enum" = [1, 3, null]))]
    pub channels: Option<u8>,
    /// Share of a hospital's images that it trains on; it validates on the others.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub train_split: f64,
    /// Synthetic images of each hospital, unless its entry in `nodes` says otherwise.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub samples_per_client: u32,
    /// Draws the anatomy of the chest; `false` draws plain shapes.
    pub use_realistic: bool,
    /// Share of the synthetic training labels that are wrong.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 0.5))]
    pub label_noise: f64,
    /// How far the synthetic classes overlap: 0 is easy, 1 hopeless.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub class_overlap: f64,
    /// Hospitals that differ in how common each class is.
    pub non_iid: NonIid,
    /// Gives each hospital the images that carry its name in the manifest's column `columns.site`, in
    /// place of a random split.
    pub split_by_site: bool,
    /// Gives all images of a patient to one hospital where patients are known.
    pub keep_patients_together: bool,
    /// Columns of a manifest.
    pub columns: Columns,
    /// Names and peculiarities of the hospitals, `federated.num_clients` of them at the most; the
    /// others get names of their own.
    #[schemars(length(max = 1000))]
    pub nodes: Vec<Node>,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dataset: Dataset::Synthetic,
            data_dir: PathBuf::from("data"),
            image_size: None,
            channels: None,
            train_split: 0.8,
            samples_per_client: 600,
            use_realistic: true,
            label_noise: 0.02,
            class_overlap: 0.25,
            non_iid: NonIid::default(),
            split_by_site: false,
            keep_patients_together: true,
            columns: Columns::default(),
            nodes: Vec::new(),
        }
    }
}

/// Where images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dataset {
    /// Synthetic chest radiographs.
    Synthetic,
    /// Another name of `synthetic`, that of the original project.
    Chestxray,
    /// The files at `data_dir`.
    Files,
}

/// Hospitals that differ in how common each class is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NonIid {
    /// Shares the images of each class between hospitals by a Dirichlet draw; `false` shares all
    /// images evenly at random.
    pub enabled: bool,
    /// Parameter α of the Dirichlet distribution: the smaller, the more hospitals differ.
    #[schemars(range(min = 0.001, max = 1.0e6))]
    pub alpha: f64,
}

impl Default for NonIid {
    fn default() -> Self {
        Self { enabled: true, alpha: 0.5 }
    }
}

/// Columns of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Image file, relative to the manifest.
    #[schemars(length(min = 1))]
    pub file: String,
    /// Class.
    #[schemars(length(min = 1))]
    pub label: String,
    /// Patient.
    #[schemars(length(min = 1))]
    pub patient_id: String,
    /// Hospital.
    #[schemars(length(min = 1))]
    pub site: String,
    /// `train`, `val` or `test`.
    #[schemars(length(min = 1))]
    pub split: String,
    /// Age in years.
    #[schemars(length(min = 1))]
    pub age: String,
    /// Sex.
    #[schemars(length(min = 1))]
    pub sex: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            file: "file".to_owned(),
            label: "label".to_owned(),
            patient_id: "patient_id".to_owned(),
            site: "site".to_owned(),
            split: "split".to_owned(),
            age: "age".to_owned(),
            sex: "sex".to_owned(),
        }
    }
}

/// A hospital.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name: letters, digits, space, `.`, `_`, `-`, 64 bytes at the most.
    #[schemars(with = "String", extend("format" = "name"))]
    pub name: SiteId,
    /// Synthetic images. Without this key `data.samples_per_client`.
    #[serde(default)]
    #[schemars(range(min = 2, max = 1_000_000))]
    pub samples: Option<u32>,
    /// Finding that is more common in this hospital's synthetic images.
    #[serde(default)]
    pub pathology_bias: PathologyBias,
}

/// A finding that is more common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[derive(Default)]
pub enum PathologyBias {
    /// None.
    #[default]
    Balanced,
    /// An enlarged heart.
    Cardiomegaly,
    /// Pneumonia.
    Pneumonia,
}
