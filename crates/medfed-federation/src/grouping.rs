//! Groups of patients in a data set: which image is whose, and predictions counted by group.

use crate::error::FederationError;
use medfed_data::Dataset;
use medfed_eval::fairness::{AttributeFairness, GroupTally, Partition, ReportedTally};
use medfed_eval::{EvalError, Predictions, Resampling};
use std::collections::HashSet;
use std::sync::Arc;

/// Attributes of a data set's patients. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Grouping {
    attributes: Arc<[Partition]>,
    /// One number per image, shared by the images of one patient.
    patients: Arc<[u32]>,
    least: u64,
}

impl Grouping {
    /// Groups the images of `dataset` by `attributes`, of which those that the data do not have are left
    /// out. `least` is the number of patients below which a group is held back or not compared.
    pub fn new<'a>(
        dataset: &Dataset,
        attributes: impl IntoIterator<Item = &'a str>,
        least: u64,
    ) -> Result<Self, EvalError> {
        let known = attributes.into_iter().filter_map(|name| Some((name, dataset.groups_by(name)?)));
        let partitions: Result<Vec<_>, _> =
            known.map(|(name, groups)| Partition::new(name, &groups)).collect();
        Ok(Self { attributes: partitions?.into(), patients: dataset.patient_numbers().into(), least })
    }

    /// The same with the attribute `hospital`, as far as images are of one of `hospitals`.
    pub(crate) fn with_hospitals(&self, dataset: &Dataset, hospitals: &[&str]) -> Result<Self, EvalError> {
        let name = medfed_eval::fairness::FairnessReport::HOSPITAL;
        let of_federation = |site: &Arc<str>| hospitals.contains(&site.as_ref());
        let sites: Vec<_> =
            dataset.scans().iter().map(|scan| scan.site.clone().filter(of_federation)).collect();
        if sites.iter().all(Option::is_none) {
            return Ok(self.clone());
        }
        let more = Partition::new(name, &sites)?;
        let attributes = self.attributes.iter().cloned().chain([more]).collect();
        Ok(Self { attributes, ..self.clone() })
    }

    /// Names of the attributes.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(Partition::attribute)
    }

    /// The patients of `images`, as numbers.
    ///
    /// # Panics
    ///
    /// If an image is not one of the data set.
    pub fn patients(&self, images: &[u32]) -> Vec<u32> {
        images.iter().map(|image| self.patients[*image as usize]).collect()
    }

    /// Number of different patients among `images`.
    pub(crate) fn count(&self, images: &[u32]) -> u64 {
        self.patients(images).into_iter().collect::<HashSet<_>>().len() as u64
    }

    /// What a hospital may say about `predictions` of `images`: counts by group, small groups held back.
    pub(crate) fn tallies(
        &self,
        predictions: &Predictions,
        images: &[u32],
    ) -> Result<Vec<ReportedTally>, FederationError> {
        let patients = self.patients(images);
        let tally = |partition: &Partition| -> Result<ReportedTally, FederationError> {
            Ok(GroupTally::of(predictions, &partition.select(images), &patients)?.suppress(self.least))
        };
        self.attributes.iter().map(tally).collect()
    }

    /// How every attribute's groups fare in `predictions` of `images`, with intervals over patients. For
    /// images that need not be held back from whoever sees the result.
    ///
    /// # Panics
    ///
    /// If an image is not one of the data set.
    pub fn measure(
        &self,
        predictions: &Predictions,
        images: &[u32],
        resampling: Resampling,
    ) -> Result<Vec<AttributeFairness>, EvalError> {
        let patients = self.patients(images);
        let assess = |partition: &Partition| {
            let partition = partition.select(images);
            AttributeFairness::from_predictions(predictions, &partition, &patients, self.least, resampling)
        };
        self.attributes.iter().map(assess).collect()
    }
}
