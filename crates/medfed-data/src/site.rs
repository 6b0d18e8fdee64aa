//! Dividing a data set between hospitals.
//!
//! One rule for every kind of data:
//!
//! 1. **Test.** The data set's own test split where there is one. Otherwise [`SitePlan::test_fraction`]
//!    of all images, stratified by class and with all images of a patient on one side.
//! 2. **Training pool.** The training split, or what the test left; divided by [`SplitKind`].
//! 3. **Validation.** The data set's own validation split where there is one, divided in the
//!    hospitals' shares of each class (or by the column), *except* images whose patient also occurs in
//!    the training or test images: these are left out, with a warning. Otherwise every hospital sets
//!    `1 - train_fraction` of its share aside, stratified and with all images of a patient on one side.
//!
//! Nothing is lost silently: `train`, `validation`, `test` and `unused` together are every image once.

mod division;
mod group;

use std::collections::HashSet;

use medfed_types::{Seed, SiteId};

use self::division::Division;
use crate::dataset::Dataset;
use crate::error::{DataError, DataWarning};

/// The most hospitals that one data set is divided between.
const MOST_SITES: usize = 1000;

/// A hospital to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRequest {
    /// Its name.
    pub id: SiteId,
    /// The most images it may have, training and validation together (training alone where the data
    /// set has a validation split). Unset: its share of what is left.
    pub samples: Option<usize>,
}

/// How the training pool is divided.
#[derive(Debug, Clone, PartialEq)]
pub enum SplitKind {
    /// Every hospital gets the same mixture of classes, in equal shares or as `samples` asks.
    Iid,
    /// Each class is divided in proportions drawn from a symmetric Dirichlet distribution: the smaller
    /// `alpha`, the more one-sided the hospitals. (Hsu, Qi, Brown 2019.)
    Dirichlet {
        /// Concentration, above 0.
        alpha: f64,
    },
    /// Every value of a column is a hospital: `site` or the name of a further column of the manifest.
    Column(String),
}

/// How to divide a data set between hospitals.
#[derive(Debug, Clone, PartialEq)]
pub struct SitePlan {
    /// The hospitals. With [`SplitKind::Column`] their names are values of the column; none means one
    /// hospital per value that has `minimum` images.
    pub sites: Vec<SiteRequest>,
    /// How the training pool is divided.
    pub kind: SplitKind,
    /// The least images of the training pool a hospital must get, before validation is set aside.
    /// Unset: 10, or fewer where the data are few.
    pub minimum: Option<usize>,
    /// Whether all images of a patient go to one hospital.
    pub keep_patients_together: bool,
    /// Part of a hospital's share to train on where the data set has no validation split; above 0, at
    /// most 1.
    pub train_fraction: f64,
    /// Part of all images to test on where the data set has no test split; 0 to below 1.
    pub test_fraction: f64,
}

/// One hospital's images, by their index in the data set, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteData {
    /// Its name.
    pub id: SiteId,
    /// For training.
    pub train: Vec<u32>,
    /// For validation.
    pub validation: Vec<u32>,
}

/// A data set divided between hospitals. Every image is in exactly one of the lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Sites {
    /// The hospitals, in the plan's order (or in the order of the column's values).
    pub sites: Vec<SiteData>,
    /// The common test set.
    pub test: Vec<u32>,
    /// Images that nobody uses; a warning says why.
    pub unused: Vec<u32>,
    /// What the user should know.
    pub warnings: Vec<DataWarning>,
}

/// Divides `dataset` between hospitals as the [module](self) says; the same seed divides it the same way.
pub fn split_sites(dataset: &Dataset, plan: &SitePlan, seed: Seed) -> Result<Sites, DataError> {
    check(plan)?;
    Division::new(dataset, plan, seed).finish()
}

fn check(plan: &SitePlan) -> Result<(), DataError> {
    let refuse = |what, expected, found: String| Err(DataError::Plan { what, expected, found });
    if !(plan.train_fraction > 0.0 && plan.train_fraction <= 1.0) {
        return refuse("the training fraction", "above 0 and at most 1", plan.train_fraction.to_string());
    }
    if !(0.0..1.0).contains(&plan.test_fraction) {
        return refuse("the test fraction", "0 to below 1", plan.test_fraction.to_string());
    }
    match plan.kind {
        SplitKind::Dirichlet { alpha } if !(alpha.is_finite() && alpha > 0.0) => {
            return refuse("the Dirichlet concentration alpha", "finite and above 0", alpha.to_string());
        }
        SplitKind::Iid | SplitKind::Dirichlet { .. } if plan.sites.is_empty() => {
            return refuse("the number of hospitals", "at least 1", "0".to_owned());
        }
        _ => {}
    }
    if plan.sites.len() > MOST_SITES {
        return refuse("the number of hospitals", "at most 1000", plan.sites.len().to_string());
    }
    let mut names = HashSet::new();
    for site in &plan.sites {
        if !names.insert(&site.id) {
            return refuse(
                "the names of the hospitals",
                "different from each other",
                format!("{} twice", site.id),
            );
        }
        if site.samples == Some(0) {
            return refuse("the samples of a hospital", "at least 1", format!("0 ({})", site.id));
        }
    }
    if plan.minimum == Some(0) {
        return refuse("the least images of a hospital", "at least 1", "0".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
