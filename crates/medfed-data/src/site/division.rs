//! The steps of [`split_sites`](super::split_sites), in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use medfed_types::{ImageSource, Seed, SimulationRng, SiteId};

use super::group::{Group, dirichlet, divide, gather, images, level, select};
use super::{SiteData, SitePlan, Sites, SplitKind};
use crate::dataset::Dataset;
use crate::error::{DataError, DataWarning, UnusedReason, nearest};
use crate::scan::Split;

/// A hospital's least number of training images unless the plan says otherwise.
const USUAL_MINIMUM: usize = 10;

/// A data set on its way to the hospitals.
pub(super) struct Division<'a> {
    dataset: &'a Dataset,
    plan: &'a SitePlan,
    rng: SimulationRng,
    classes: usize,
    /// Images to be divided for training.
    pool: Vec<u32>,
    /// The data set's own validation images, if it has any.
    validation: Option<Vec<u32>>,
    test: Vec<u32>,
    unused: Vec<u32>,
    warnings: Vec<DataWarning>,
}

/// A hospital with its part of the pool.
struct Share {
    id: SiteId,
    samples: Option<usize>,
    groups: Vec<Group>,
}

impl<'a> Division<'a> {
    /// Step 1: the test set; and which images of the validation split can be used.
    pub(super) fn new(dataset: &'a Dataset, plan: &'a SitePlan, seed: Seed) -> Self {
        let mut division = Self {
            dataset,
            plan,
            rng: seed.generator("split into sites", &[]),
            classes: dataset.classes().len(),
            pool: Vec::new(),
            validation: None,
            test: Vec::new(),
            unused: Vec::new(),
            warnings: Vec::new(),
        };
        let mut validation = Vec::new();
        for (index, scan) in (0u32..).zip(dataset.scans()) {
            match scan.split {
                Some(Split::Test) => division.test.push(index),
                Some(Split::Validation) => validation.push(index),
                Some(Split::Train) | None => division.pool.push(index),
            }
        }
        if plan.keep_patients_together && dataset.scans().iter().all(|scan| scan.patient.is_none()) {
            division.warnings.push(DataWarning::NoPatients);
        }
        if division.test.is_empty() {
            let target = (division.pool.len() as f64 * plan.test_fraction).round() as usize;
            let groups = gather(dataset, &division.pool, true);
            let (test, pool) = select(groups, target, division.classes, 1, &mut division.rng);
            division.test = indices(&test);
            division.pool = indices(&pool);
        } else {
            let patients = division.patients(&division.test);
            let both = division.patients(&division.pool).intersection(&patients).count();
            if both > 0 {
                division.warnings.push(DataWarning::TestPatientsInTraining { patients: both });
            }
        }
        if !validation.is_empty() {
            division.validation = Some(division.usable_validation(validation));
        }
        division
    }

    /// The known patients of some images.
    fn patients(&self, images: &[u32]) -> HashSet<&'a str> {
        images.iter().filter_map(|index| self.dataset.scans()[*index as usize].patient.as_deref()).collect()
    }

    /// Leaves out validation images whose patient is trained or tested on.
    fn usable_validation(&mut self, validation: Vec<u32>) -> Vec<u32> {
        let mut elsewhere = self.patients(&self.pool);
        elsewhere.extend(self.patients(&self.test));
        let dataset = self.dataset;
        let is_elsewhere = |index: &u32| {
            dataset.scans()[*index as usize].patient.as_deref().is_some_and(|p| elsewhere.contains(p))
        };
        let (left_out, kept): (Vec<u32>, Vec<u32>) = validation.into_iter().partition(is_elsewhere);
        if !left_out.is_empty() {
            self.warnings.push(DataWarning::ValidationPatientsElsewhere {
                images: left_out.len(),
                patients: self.patients(&left_out).len(),
            });
        }
        self.unused.extend(left_out);
        kept
    }

    /// Steps 2 and 3: training and validation sets.
    pub(super) fn finish(mut self) -> Result<Sites, DataError> {
        let plan = self.plan;
        let pool = std::mem::take(&mut self.pool);
        let mut shares = match &plan.kind {
            SplitKind::Iid => self.by_class(&pool, None)?,
            SplitKind::Dirichlet { alpha } => self.by_class(&pool, Some(*alpha))?,
            SplitKind::Column(column) => self.by_column(&pool, column)?,
        };
        self.cap(&mut shares);
        let validation = match self.validation.take() {
            Some(own) => self.divide_validation(own, &shares)?,
            None => self.set_aside(&mut shares),
        };
        let mut sites = Vec::new();
        for (share, validation) in shares.into_iter().zip(validation) {
            sites.push(SiteData {
                id: share.id,
                train: indices(&share.groups),
                validation: indices(&validation),
            });
        }
        self.look_at(&sites);
        self.test.sort_unstable();
        self.unused.sort_unstable();
        Ok(Sites { sites, test: self.test, unused: self.unused, warnings: self.warnings })
    }

    /// Divides the pool alike, or with class proportions drawn for concentration `alpha`.
    fn by_class(&mut self, pool: &[u32], alpha: Option<f64>) -> Result<Vec<Share>, DataError> {
        let requests = &self.plan.sites;
        let sites = requests.len();
        let minimum = self.plan.minimum.unwrap_or(USUAL_MINIMUM.min(pool.len() / (2 * sites)).max(1));
        let targets = self.targets(pool.len());
        let groups = gather(self.dataset, pool, self.plan.keep_patients_together);
        let mut shares = divide(groups, self.classes, sites, &mut self.rng, |_, rng| match alpha {
            None => targets.clone(),
            Some(alpha) => {
                let total = targets.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                let concentrations: Vec<f64> =
                    targets.iter().map(|target| alpha * sites as f64 * target / total).collect();
                dirichlet(&concentrations, rng)
            }
        });
        // A hospital that asked for fewer than the minimum gets what it asked for.
        let least = |site: usize| requests[site].samples.map_or(minimum, |samples| minimum.min(samples));
        if !level(&mut shares, &mut self.rng, least) {
            return Err(DataError::TooFewImages {
                sites: requests.iter().map(|request| request.id.clone()).collect(),
                minimum,
                found: pool.len(),
                together: self.plan.keep_patients_together,
            });
        }
        let shares = requests.iter().zip(shares);
        Ok(shares
            .map(|(request, groups)| Share { id: request.id.clone(), samples: request.samples, groups })
            .collect())
    }

    /// Images that each hospital should have: what it asked for, the others what that leaves, in equal
    /// shares. Their proportions count; the sum may be less than the pool, or more.
    fn targets(&self, pool: usize) -> Vec<f64> {
        let asked: usize = self.plan.sites.iter().filter_map(|site| site.samples).sum();
        let open = self.plan.sites.iter().filter(|site| site.samples.is_none()).count();
        let rest = pool.saturating_sub(asked) as f64 / open.max(1) as f64;
        self.plan.sites.iter().map(|site| site.samples.map_or(rest, |samples| samples as f64)).collect()
    }

    /// Divides the pool by the values of a column.
    fn by_column(&mut self, pool: &[u32], column: &str) -> Result<Vec<Share>, DataError> {
        let values = self.column(column)?;
        let mut by_value: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut blank = Vec::new();
        for &index in pool {
            match values(index) {
                Some(value) => by_value.entry(value).or_default().push(index),
                None => blank.push(index),
            }
        }
        self.leave_out(&blank, UnusedReason::NoSite);
        if self.plan.keep_patients_together {
            self.settle_patients(&mut by_value);
        }
        let usual = USUAL_MINIMUM.min(pool.len() / (2 * by_value.len().max(1))).max(1);
        let minimum = self.plan.minimum.unwrap_or(usual);
        let mut chosen: Vec<(SiteId, Option<usize>, Vec<u32>)> = Vec::new();
        if self.plan.sites.is_empty() {
            for value in by_value.keys().copied().collect::<Vec<_>>() {
                if by_value[value].len() >= minimum {
                    let id = SiteId::try_from(value)
                        .map_err(|source| DataError::SiteName { column: column.to_owned(), source })?;
                    chosen.push((id, None, by_value.remove(value).unwrap_or_default()));
                }
            }
        } else {
            let absent = self.plan.sites.iter().filter(|site| !by_value.contains_key(site.id.as_str()));
            let absent: Vec<SiteId> = absent.map(|site| site.id.clone()).collect();
            if !absent.is_empty() {
                let found = by_value.keys().take(20).map(|value| (*value).to_owned()).collect();
                return Err(DataError::UnknownSites { column: column.to_owned(), sites: absent, found });
            }
            for site in &self.plan.sites {
                let images = by_value.remove(site.id.as_str()).unwrap_or_default();
                chosen.push((site.id.clone(), site.samples, images));
            }
        }
        let strict = self.plan.minimum.unwrap_or(1);
        let poor = chosen.iter().filter(|(_, _, images)| images.len() < strict);
        let sites: Vec<SiteId> = poor.map(|(id, _, _)| id.clone()).collect();
        if !sites.is_empty() || chosen.is_empty() {
            let together = self.plan.keep_patients_together;
            return Err(DataError::TooFewImages { sites, minimum, found: pool.len(), together });
        }
        let others: Vec<u32> = by_value.into_values().flatten().collect();
        self.leave_out(&others, UnusedReason::OtherSite);
        let together = self.plan.keep_patients_together;
        let shares = chosen.into_iter().map(|(id, samples, images)| Share {
            id,
            samples,
            groups: gather(self.dataset, &images, together),
        });
        Ok(shares.collect())
    }

    /// The values of a column: `site` or the name of an attribute.
    fn column(&self, name: &str) -> Result<impl Fn(u32) -> Option<&'a str> + use<'a>, DataError> {
        let scans = self.dataset.scans();
        let attributes = self.dataset.attributes();
        let attribute = attributes.iter().find(|attribute| attribute.name == name);
        let has_sites = scans.iter().any(|scan| scan.site.is_some());
        if attribute.is_none() && !(name == "site" && has_sites) {
            let names = attributes.iter().map(|attribute| attribute.name.clone());
            let found: Vec<String> = has_sites.then(|| "site".to_owned()).into_iter().chain(names).collect();
            return Err(DataError::UnknownAttribute {
                expected: name.to_owned(),
                nearest: nearest(name, found.iter().map(String::as_str)),
                found,
            });
        }
        Ok(move |index: u32| {
            let value: &Option<Arc<str>> = match attribute {
                Some(attribute) => &attribute.values[index as usize],
                None => &scans[index as usize].site,
            };
            value.as_deref()
        })
    }

    /// Leaves every patient at the hospital with most of their images.
    fn settle_patients(&mut self, by_value: &mut BTreeMap<&str, Vec<u32>>) {
        let scans = self.dataset.scans();
        let mut counts: HashMap<&str, BTreeMap<&str, usize>> = HashMap::new();
        for (value, images) in by_value.iter() {
            for patient in images.iter().filter_map(|index| scans[*index as usize].patient.as_deref()) {
                *counts.entry(patient).or_default().entry(value).or_default() += 1;
            }
        }
        let home: HashMap<&str, &str> = counts
            .into_iter()
            .filter(|(_, sites)| sites.len() > 1)
            .filter_map(|(patient, sites)| {
                // Of equal counts the first hospital by name.
                let home = sites.into_iter().rev().max_by_key(|(_, count)| *count)?;
                Some((patient, home.0))
            })
            .collect();
        let mut left_out = Vec::new();
        for (value, images) in by_value.iter_mut() {
            images.retain(|index| {
                let patient = scans[*index as usize].patient.as_deref();
                let stays = patient.and_then(|patient| home.get(patient)).is_none_or(|home| home == value);
                if !stays {
                    left_out.push(*index);
                }
                stays
            });
        }
        by_value.retain(|_, images| !images.is_empty());
        if !left_out.is_empty() {
            self.warnings
                .push(DataWarning::PatientImagesElsewhere { images: left_out.len(), patients: home.len() });
        }
        self.unused.extend(left_out);
    }

    fn leave_out(&mut self, images: &[u32], reason: UnusedReason) {
        if !images.is_empty() {
            self.warnings.push(DataWarning::Unused { images: images.len(), reason });
            self.unused.extend(images);
        }
    }

    /// Takes no more than `samples` images for each hospital.
    fn cap(&mut self, shares: &mut [Share]) {
        let mut over = Vec::new();
        for share in shares {
            let Some(samples) = share.samples else { continue };
            if images(&share.groups) > samples {
                let groups = std::mem::take(&mut share.groups);
                let (kept, rest) = select(groups, samples, self.classes, 0, &mut self.rng);
                share.groups = kept;
                over.extend(indices(&rest));
            }
            let found = images(&share.groups);
            if found < samples {
                let id = share.id.clone();
                self.warnings.push(DataWarning::FewerThanAsked { site: id, asked: samples, found });
            }
        }
        self.leave_out(&over, UnusedReason::Capped);
    }

    /// Divides the data set's own validation images like the training images.
    fn divide_validation(&mut self, own: Vec<u32>, shares: &[Share]) -> Result<Vec<Vec<Group>>, DataError> {
        if let SplitKind::Column(column) = &self.plan.kind {
            let values = self.column(column)?;
            let position: HashMap<&str, usize> =
                shares.iter().enumerate().map(|(at, share)| (share.id.as_str(), at)).collect();
            let mut divided = vec![Vec::new(); shares.len()];
            let mut others = Vec::new();
            for index in own {
                match values(index).and_then(|value| position.get(value)) {
                    Some(at) => divided[*at].extend(gather(self.dataset, &[index], false)),
                    None => others.push(index),
                }
            }
            self.leave_out(&others, UnusedReason::OtherSite);
            return Ok(divided);
        }
        let mut counts = vec![vec![0.0; shares.len()]; self.classes];
        for (at, share) in shares.iter().enumerate() {
            for index in indices(&share.groups) {
                counts[self.dataset.label(index as usize) as usize][at] += 1.0;
            }
        }
        let groups = gather(self.dataset, &own, self.plan.keep_patients_together);
        let mut divided =
            divide(groups, self.classes, shares.len(), &mut self.rng, |class, _| counts[class].clone());
        // One image each where there are enough; where not, a warning follows.
        level(&mut divided, &mut self.rng, |_| 1);
        Ok(divided)
    }

    /// Sets part of every hospital's share aside for validation, its patients whole.
    fn set_aside(&mut self, shares: &mut [Share]) -> Vec<Vec<Group>> {
        let fraction = 1.0 - self.plan.train_fraction;
        let mut validation = Vec::new();
        for share in shares {
            let all = indices(&share.groups);
            let groups = gather(self.dataset, &all, true);
            let wanted = (all.len() as f64 * fraction).round() as usize;
            let target = if fraction > 0.0 { wanted.max(1) } else { 0 };
            let (aside, rest) = if groups.len() < 2 {
                (Vec::new(), groups)
            } else {
                select(groups, target, self.classes, 1, &mut self.rng)
            };
            share.groups = rest;
            validation.push(aside);
        }
        validation
    }

    /// Warns of hospitals that cannot learn or validate, and of patients known to several.
    fn look_at(&mut self, sites: &[SiteData]) {
        let mut home: HashMap<&str, usize> = HashMap::new();
        let mut several: HashSet<&str> = HashSet::new();
        for (at, site) in sites.iter().enumerate() {
            if site.validation.is_empty() {
                self.warnings.push(DataWarning::NoValidation { site: site.id.clone() });
            }
            let labels: HashSet<u32> =
                site.train.iter().map(|index| self.dataset.label(*index as usize)).collect();
            if let (1, Some(label)) = (labels.len(), labels.iter().next()) {
                let class = self.dataset.classes()[*label as usize].clone();
                self.warnings.push(DataWarning::SingleClassSite { site: site.id.clone(), class });
            }
            for patient in self.patients(&site.train).union(&self.patients(&site.validation)) {
                if *home.entry(patient).or_insert(at) != at {
                    several.insert(patient);
                }
            }
        }
        if !several.is_empty() {
            self.warnings.push(DataWarning::PatientsAtSeveralSites { patients: several.len() });
        }
    }
}

/// The images of `groups` in ascending order.
fn indices(groups: &[Group]) -> Vec<u32> {
    let mut images: Vec<u32> = groups.iter().flat_map(|group| group.images.iter().copied()).collect();
    images.sort_unstable();
    images
}
