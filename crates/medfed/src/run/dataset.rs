//! From the configuration to images divided between hospitals.

use crate::failure::Failure;
use medfed_config::section::PathologyBias;
use medfed_config::{Config, section};
use medfed_data::synthetic::{self, Ages, Finding, SyntheticOptions, SyntheticSite};
use medfed_data::{ColumnNames, DataError, Dataset, LoadOptions, SitePlan, SiteRequest, Sites, SplitKind};
use medfed_types::{ImageSource, Seed};
use rand_distr::{Distribution, Gamma};
use sha2::{Digest, Sha256};

/// Side of synthetic images unless configured, in pixels.
const SYNTHETIC_SIZE: u32 = 64;
/// Part of the images to test on where the data have no test split.
const TEST_FRACTION: f64 = 0.15;

/// What is about to be read or drawn.
pub(crate) fn describe(config: &Config) -> String {
    if config.data.is_synthetic() {
        "drawing synthetic chest radiographs".to_owned()
    } else {
        format!("reading {}", config.data.data_dir.display())
    }
}

/// Reads or draws the images.
pub(crate) fn load(config: &Config, seed: Seed) -> Result<Dataset, Failure> {
    let data = &config.data;
    let dataset = if data.is_synthetic() {
        synthetic::generate(&synthetic_options(config, seed), seed)
    } else {
        let options = LoadOptions {
            image_size: data.image_size.map(|size| size as usize),
            channels: data.channels.map(usize::from),
            columns: columns(&data.columns),
        };
        Dataset::load(&data.data_dir, &options)
    };
    dataset.map_err(data_failure)
}

/// Divides the images between the hospitals.
pub(crate) fn divide(config: &Config, dataset: &Dataset, seed: Seed) -> Result<Sites, Failure> {
    let data = &config.data;
    let by_site = data.split_by_site || data.is_synthetic();
    let hospitals = config.hospitals();
    // Synthetic images are drawn for their hospital; files are cut down only where a node says so.
    let samples = |name: &medfed_types::SiteId| {
        let node = data.nodes.iter().find(|node| node.name == *name);
        node.and_then(|node| node.samples).filter(|_| !data.is_synthetic()).map(|samples| samples as usize)
    };
    let named = hospitals
        .iter()
        .map(|hospital| SiteRequest { id: hospital.name.clone(), samples: samples(&hospital.name) });
    let plan = SitePlan {
        // The manifest's own sites take part, unless the configuration lists some of them.
        sites: if data.split_by_site && data.nodes.is_empty() { Vec::new() } else { named.collect() },
        kind: if by_site {
            // Whatever a manifest calls the column, the data set knows it as this.
            SplitKind::Column("site".to_owned())
        } else if data.non_iid.enabled {
            SplitKind::Dirichlet { alpha: data.non_iid.alpha }
        } else {
            SplitKind::Iid
        },
        minimum: None,
        // A patient known to two hospitals would be protected by the sum of both.
        keep_patients_together: data.keep_patients_together || protects_patients(config),
        train_fraction: data.train_split,
        test_fraction: TEST_FRACTION,
    };
    medfed_data::split_sites(dataset, &plan, seed).map_err(data_failure)
}

/// Whether a patient is what the guarantee protects.
fn protects_patients(config: &Config) -> bool {
    config.privacy.enabled && config.privacy.unit == section::PrivacyUnit::Patient
}

/// SHA-256 of everything about the data that decides a run: pixels, labels, division.
pub(crate) fn fingerprint(dataset: &Dataset, sites: &Sites) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"medfed data v1\0");
    let shape = dataset.shape();
    for number in [shape.channels, shape.height, shape.width, dataset.scans().len()] {
        hash.update((number as u64).to_le_bytes());
    }
    for (index, scan) in dataset.scans().iter().enumerate() {
        hash.update(scan.label.to_le_bytes());
        hash.update(dataset.pixels(index));
    }
    let lists = sites.sites.iter().flat_map(|site| [&site.train, &site.validation]).chain([&sites.test]);
    for list in lists {
        hash.update((list.len() as u64).to_le_bytes());
        for index in list {
            hash.update(index.to_le_bytes());
        }
    }
    for site in &sites.sites {
        hash.update(site.id.as_str());
        hash.update([0]);
    }
    hash.finalize().into()
}

/// What a failure of the data asks of the user.
pub(crate) fn data_failure(error: DataError) -> Failure {
    let hint = match &error {
        DataError::MissingColumn { .. } => {
            "name the columns under data.columns in the configuration, or with --column of `medfed data`"
        }
        DataError::Images { .. } => "replace these files or take them out; nothing was trained on",
        DataError::Empty { .. } | DataError::Format { .. } => {
            "images are PNG or JPEG in folders CLASS/ or {train,val,test}/CLASS/, or listed in a metadata.csv"
        }
        DataError::Write { .. } => "the folder must exist and be writable",
        _ => "`medfed data inspect PATH` shows what is in a data set",
    };
    Failure::user(error).hint(hint)
}

fn columns(columns: &section::Columns) -> ColumnNames {
    // A default name may be absent from the manifest, a configured one may not.
    let default = section::Columns::default();
    let set = |name: &String, default: &String| (name != default).then(|| name.clone());
    ColumnNames {
        file: set(&columns.file, &default.file),
        label: set(&columns.label, &default.label),
        class_name: None,
        patient_id: set(&columns.patient_id, &default.patient_id),
        site: set(&columns.site, &default.site),
        split: set(&columns.split, &default.split),
        age: set(&columns.age, &default.age),
        sex: set(&columns.sex, &default.sex),
    }
}

/// How much more often than evenly a hospital's patients are ill, -1 to 1: a draw of the Dirichlet
/// distribution over ill and well, as the classes of other data are divided.
fn prevalence_bias(alpha: f64, seed: Seed, hospital: u64) -> f64 {
    let mut rng = seed.generator("synthetic prevalence", &[hospital]);
    let gamma = Gamma::new(alpha, 1.0).expect("the configuration keeps alpha finite and above 0");
    let (ill, well) = (gamma.sample(&mut rng), gamma.sample(&mut rng));
    // Two draws of a tiny alpha may both be 0.
    if ill + well > 0.0 { (ill - well) / (ill + well) } else { 0.0 }
}

fn synthetic_options(config: &Config, seed: Seed) -> SyntheticOptions {
    let data = &config.data;
    let sites = config.hospitals().into_iter().enumerate().map(|(index, hospital)| {
        let mut site = SyntheticSite::numbered(index + 1, hospital.samples as usize);
        site.id = hospital.name;
        site.leading_finding = match hospital.pathology_bias {
            PathologyBias::Balanced => None,
            PathologyBias::Pneumonia => Some(Finding::Pneumonia),
            PathologyBias::Cardiomegaly => Some(Finding::Cardiomegaly),
        };
        site.pathology_bias =
            if data.non_iid.enabled { prevalence_bias(data.non_iid.alpha, seed, index as u64) } else { 0.0 };
        if let Some(age) = hospital.demographics.age_bias {
            site.demographics.ages = Ages::Groups(age.shares());
        }
        if let Some(sex) = hospital.demographics.sex_bias {
            site.demographics.female_fraction = sex.women();
        }
        site
    });
    SyntheticOptions {
        sites: sites.collect(),
        image_size: data.image_size.unwrap_or(SYNTHETIC_SIZE) as usize,
        classes: config.model.num_classes.unwrap_or(2) as usize,
        label_noise: data.label_noise,
        class_overlap: data.class_overlap,
        realistic: data.use_realistic,
    }
}
