//! What is in a data set, counted, and what is suspicious about it.

use std::collections::{BTreeMap, HashMap, HashSet};

use medfed_types::{ImageShape, ImageSource};
use serde::Serialize;

use crate::dataset::Dataset;
use crate::error::{DataWarning, pair};
use crate::scan::{Scan, Sex, Split};

/// Ages above this are taken for errors of recording.
const OLDEST: f32 = 120.0;
/// A class with fewer images cannot be in training, validation and test sets.
const RARE: usize = 3;
/// Distinct values up to which an attribute's values are counted one by one.
const MOST_VALUES: usize = 20;

/// A data set, counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The data set's name.
    pub name: String,
    /// Images in all.
    pub images: usize,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Names of the classes, in the order in which all class counts are given.
    pub classes: Vec<String>,
    /// Images per class.
    pub images_per_class: Vec<usize>,
    /// Per split; empty where the data set has none.
    pub splits: Vec<Part>,
    /// Per hospital; empty where none is known.
    pub sites: Vec<Part>,
    /// Patients; absent where none is known.
    pub patients: Option<Patients>,
    /// Sex; empty where none is known.
    pub sexes: Vec<Part>,
    /// Age in years; absent where none is known.
    pub ages: Option<Ages>,
    /// Further columns.
    pub attributes: Vec<AttributeSummary>,
    /// What the user should know.
    pub warnings: Vec<DataWarning>,
}

/// Images that share something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// What they share.
    pub name: String,
    /// How many.
    pub images: usize,
    /// Of each class.
    pub images_per_class: Vec<usize>,
    /// Known patients among them.
    pub patients: usize,
}

/// Patients, counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Patients {
    /// Known patients.
    pub known: usize,
    /// Images without a known patient.
    pub images_without: usize,
    /// Images of the patient with most of them.
    pub most_images: usize,
}

/// Ages, counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ages {
    /// Images with a known age.
    pub images: usize,
    /// Lowest.
    pub youngest: f32,
    /// Middle.
    pub median: f32,
    /// Highest.
    pub oldest: f32,
}

/// A further column, counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttributeSummary {
    /// The column's name.
    pub name: String,
    /// Distinct values.
    pub distinct: usize,
    /// Images without a value.
    pub blank: usize,
    /// Images per value, in the values' order; empty above 20 distinct values.
    pub values: Vec<(String, usize)>,
}

impl Summary {
    /// Counts `dataset`.
    pub fn of(dataset: &Dataset) -> Self {
        let scans = dataset.scans();
        let parts = |key: &dyn Fn(&Scan) -> Option<String>| parts(dataset, key);
        let images_per_class = per_class(dataset, scans.iter());
        let mut warnings = dataset.warnings().to_vec();
        for (class, images) in dataset.classes().iter().zip(&images_per_class) {
            if *images < RARE {
                warnings.push(DataWarning::RareClass { class: class.clone(), images: *images });
            }
        }
        warnings.extend(crossing_patients(scans));
        warnings.extend(single_class_splits(dataset));
        warnings.extend(equal_images(dataset));
        warnings.extend(odd_ages(scans));
        let mut splits = parts(&|scan| scan.split.map(|split| split.name().to_owned()));
        splits.sort_by_key(|part| Split::ALL.iter().position(|split| split.name() == part.name));
        Self {
            name: dataset.name().to_owned(),
            images: scans.len(),
            shape: dataset.shape(),
            classes: dataset.classes().to_vec(),
            images_per_class,
            splits,
            sites: parts(&|scan| scan.site.as_deref().map(str::to_owned)),
            patients: patients(scans),
            sexes: parts(&|scan| scan.sex.map(|sex: Sex| sex.name().to_owned())),
            ages: ages(scans),
            attributes: attributes(dataset),
            warnings,
        }
    }
}

fn per_class<'a>(dataset: &Dataset, scans: impl Iterator<Item = &'a Scan>) -> Vec<usize> {
    let mut counts = vec![0; dataset.classes().len()];
    for scan in scans {
        counts[scan.label as usize] += 1;
    }
    counts
}

fn parts(dataset: &Dataset, key: &dyn Fn(&Scan) -> Option<String>) -> Vec<Part> {
    let mut groups: BTreeMap<String, Vec<&Scan>> = BTreeMap::new();
    for scan in dataset.scans() {
        if let Some(name) = key(scan) {
            groups.entry(name).or_default().push(scan);
        }
    }
    let part = |(name, scans): (String, Vec<&Scan>)| Part {
        name,
        images: scans.len(),
        images_per_class: per_class(dataset, scans.iter().copied()),
        patients: scans.iter().filter_map(|scan| scan.patient.as_deref()).collect::<HashSet<_>>().len(),
    };
    groups.into_iter().map(part).collect()
}

fn patients(scans: &[Scan]) -> Option<Patients> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for patient in scans.iter().filter_map(|scan| scan.patient.as_deref()) {
        *counts.entry(patient).or_default() += 1;
    }
    let most_images = counts.values().copied().max()?;
    let images_without = scans.len() - counts.values().sum::<usize>();
    Some(Patients { known: counts.len(), images_without, most_images })
}

fn ages(scans: &[Scan]) -> Option<Ages> {
    let mut ages: Vec<f32> = scans.iter().filter_map(|scan| scan.age).collect();
    ages.sort_by(f32::total_cmp);
    let (youngest, oldest) = (*ages.first()?, *ages.last()?);
    Some(Ages { images: ages.len(), youngest, median: ages[ages.len() / 2], oldest })
}

fn attributes(dataset: &Dataset) -> Vec<AttributeSummary> {
    let summary = |attribute: &crate::Attribute| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for value in attribute.values.iter().flatten() {
            *counts.entry(value).or_default() += 1;
        }
        let few = counts.len() <= MOST_VALUES;
        AttributeSummary {
            name: attribute.name.clone(),
            distinct: counts.len(),
            blank: attribute.values.iter().filter(|value| value.is_none()).count(),
            values: counts.into_iter().filter(|_| few).map(|(v, n)| (v.to_owned(), n)).collect(),
        }
    };
    dataset.attributes().iter().map(summary).collect()
}

fn crossing_patients(scans: &[Scan]) -> Vec<DataWarning> {
    let of = |split: Split| -> HashSet<&str> {
        let scans = scans.iter().filter(|scan| scan.split == Some(split));
        scans.filter_map(|scan| scan.patient.as_deref()).collect()
    };
    let sets = Split::ALL.map(|split| (split, of(split)));
    let mut warnings = Vec::new();
    for (at, (first, theirs)) in sets.iter().enumerate() {
        for (second, others) in &sets[at + 1..] {
            let patients = theirs.intersection(others).count();
            if patients > 0 {
                let (first, second, of) = (*first, *second, others.len());
                warnings.push(DataWarning::PatientsCrossSplits { first, second, patients, of });
            }
        }
    }
    warnings
}

fn single_class_splits(dataset: &Dataset) -> Vec<DataWarning> {
    let mut warnings = Vec::new();
    for split in Split::ALL {
        let counts = per_class(dataset, dataset.scans().iter().filter(|scan| scan.split == Some(split)));
        let mut present = counts.iter().zip(dataset.classes()).filter(|(count, _)| **count > 0);
        if let (Some((_, class)), None) = (present.next(), present.next()) {
            warnings.push(DataWarning::SingleClassSplit { split, class: class.clone() });
        }
    }
    warnings
}

fn equal_images(dataset: &Dataset) -> Vec<DataWarning> {
    let scans = dataset.scans();
    let mut first_with: HashMap<&[u8], usize> = HashMap::with_capacity(scans.len());
    let (mut repeats, mut across, mut other_label) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..scans.len() {
        let first = *first_with.entry(dataset.pixels(index)).or_insert(index);
        if first == index {
            continue;
        }
        repeats.push((first, index));
        if scans[first].split != scans[index].split {
            across.push((first, index));
        }
        if scans[first].label != scans[index].label {
            other_label.push((first, index));
        }
    }
    let show = |pairs: &[(usize, usize)]| {
        pairs.first().map(|(a, b)| pair(&scans[*a].origin, &scans[*b].origin)).unwrap_or_default()
    };
    let mut warnings = Vec::new();
    if !repeats.is_empty() {
        let example = show(if across.is_empty() { &repeats } else { &across });
        warnings.push(DataWarning::EqualImages { images: repeats.len(), across: across.len(), example });
    }
    if !other_label.is_empty() {
        let example = show(&other_label);
        warnings.push(DataWarning::EqualImagesOtherLabel { images: other_label.len(), example });
    }
    warnings
}

fn odd_ages(scans: &[Scan]) -> Option<DataWarning> {
    let mut odd = scans.iter().filter(|scan| scan.age.is_some_and(|age| age > OLDEST));
    let example = odd.next()?.origin.to_string();
    Some(DataWarning::OddAges { count: 1 + odd.count(), example })
}
