//! Canaries: examples that were put into the training data, or not, by coins that are known only to the
//! auditor, so that the finished model can be asked about them
//! ([`one_run`](medfed_eval::one_run)).
//!
//! Each canary is a privacy unit of its own at one hospital, beside the hospital's own units. Everything
//! that is public stays as it is without canaries: sampling rate, divisor, steps and the weight of the
//! hospital's updates do not tell how many coins fell on which side. No canary is evaluated on.
//!
//! The bound speaks about the hospitals' guarantees together: each hospital is private for its own units, so
//! the whole run is, at the largest ε of a hospital, for the canaries of all.

use crate::error::FederationError;
use crate::setup::Setup;
use crate::site::Images;
use medfed_config::section::CanaryKind;
use medfed_data::{Dataset, Sites};
use medfed_eval::membership::loss_score;
use medfed_eval::one_run::{OneRunAudit, ScoredCanary};
use medfed_nn::Executor;
use medfed_types::{ImageShape, ImageSource, SecretKey, Seed, SiteId};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use std::collections::HashSet;
use std::sync::Arc;

/// Squares along each side of a pattern.
const SQUARES: usize = 4;
/// Of this many training images of a hospital one may become a canary.
const MOST_SHARE: usize = 4;

/// The coins of so many canaries: whether each is trained on.
pub fn toss(number: u32, key: &SecretKey) -> Vec<bool> {
    let mut coins = key.generator("canary coins", &[]);
    (0..number).map(|_| coins.next_u64() & 1 == 1).collect()
}

/// One canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The hospital that holds it.
    pub site: SiteId,
    /// Whether it is trained on.
    pub included: bool,
    /// The label that it is trained with.
    pub label: u32,
    /// The image of the data set that it was taken from; nothing for a pattern.
    pub taken: Option<u32>,
}

/// The canaries of a run.
#[derive(Debug, Clone)]
pub struct Canaries {
    dataset: Arc<Dataset>,
    list: Arc<[Canary]>,
    /// Of each canary, `[channel, height, width]`.
    pixels: Arc<[Vec<u8>]>,
}

/// Images followed by canaries.
struct Planted {
    images: Images,
    canaries: Canaries,
}

impl Canaries {
    /// Makes one canary per coin, divided evenly between the hospitals. Images that become canaries are
    /// taken out of `sites`, whatever the coins say. The same seed makes the same canaries.
    ///
    /// With `patients_apart`, for protection per patient, the other images of a patient whose image becomes
    /// a canary are taken out of training too: the canary is the patient's only trace.
    pub fn plant(
        dataset: &Arc<Dataset>,
        sites: &mut Sites,
        kind: CanaryKind,
        patients_apart: bool,
        coins: &[bool],
        seed: Seed,
    ) -> Result<Self, FederationError> {
        let hospitals = sites.sites.len().max(1);
        let classes = dataset.classes().len() as u32;
        let mut rng = seed.generator("canaries", &[]);
        let (mut canaries, mut pixels) = (Vec::with_capacity(coins.len()), Vec::with_capacity(coins.len()));
        let mut coins = coins.iter();
        let total = coins.len();
        for (index, site) in sites.sites.iter_mut().enumerate() {
            let wanted = total / hospitals + usize::from(index < total % hospitals);
            let mut taken: Vec<Option<u32>> = vec![None; wanted];
            if kind == CanaryKind::Mislabelled {
                let most = site.train.len() / MOST_SHARE;
                if wanted > most {
                    return Err(FederationError::Setting {
                        key: "privacy_audit.canaries",
                        problem: format!(
                            "{wanted} of the {} training images of {} would become canaries, at most {most} may; take fewer, or `privacy_audit.canary_kind: pattern`, which takes no images",
                            site.train.len(),
                            site.id
                        ),
                    });
                }
                let mut order = site.train.clone();
                order.shuffle(&mut rng);
                order.truncate(wanted);
                site.train.retain(|image| !order.contains(image));
                if patients_apart {
                    let patient = |image: &u32| dataset.scans()[*image as usize].patient.as_deref();
                    let theirs: HashSet<&str> = order.iter().filter_map(patient).collect();
                    let (others, left) = site
                        .train
                        .iter()
                        .partition(|image| patient(image).is_some_and(|patient| theirs.contains(patient)));
                    site.train = left;
                    sites.unused.extend::<Vec<u32>>(others);
                }
                taken = order.into_iter().map(Some).collect();
            }
            for (taken, included) in taken.into_iter().zip(coins.by_ref()) {
                let (label, picture) = match taken {
                    Some(image) => {
                        let wrong = 1 + rng.random_range(0..classes - 1);
                        let label = (dataset.scans()[image as usize].label + wrong) % classes;
                        (label, dataset.pixels(image as usize).to_vec())
                    }
                    None => (rng.random_range(0..classes), pattern(dataset.shape(), &mut rng)),
                };
                canaries.push(Canary { site: site.id.clone(), included: *included, label, taken });
                pixels.push(picture);
            }
        }
        sites.unused.sort_unstable();
        Ok(Self { dataset: Arc::clone(dataset), list: canaries.into(), pixels: pixels.into() })
    }

    /// The canaries.
    pub fn list(&self) -> &[Canary] {
        &self.list
    }

    /// A hospital's images, all those of the data set, followed by the canaries.
    fn after(&self, images: Images) -> Images {
        Arc::new(Planted { images, canaries: self.clone() })
    }

    /// The canaries that a hospital trains on, by their index among images followed by canaries.
    fn trained_by(&self, site: &SiteId) -> impl Iterator<Item = u32> {
        let numbered = (self.dataset.len() as u32..).zip(&*self.list);
        numbered.filter(move |(_, canary)| canary.included && canary.site == *site).map(|(index, _)| index)
    }

    /// What the canaries prove about a model with `parameters`: the score of each is its negative loss.
    /// `delta` is the δ of the claim, 0 without one.
    pub fn audit(
        &self,
        executor: &Executor,
        parameters: &[f32],
        delta: f64,
    ) -> Result<OneRunAudit, FederationError> {
        let indices: Vec<u32> = (self.dataset.len() as u32..).take(self.list.len()).collect();
        let images = self.after(Arc::clone(&self.dataset) as _);
        let logits = executor.logits(parameters, &*images, &indices)?;
        let classes = executor.network().spec().classes;
        let scored = self.list.iter().zip(logits.chunks_exact(classes));
        let scored: Vec<ScoredCanary> = scored
            .map(|(canary, logits)| ScoredCanary {
                score: loss_score(logits, canary.label as usize),
                included: canary.included,
            })
            .collect();
        Ok(OneRunAudit::of(&scored, delta)?)
    }
}

impl Setup {
    /// The same federation with canaries among the training data. `self` must be made of the sites that the
    /// canaries were planted in.
    #[must_use]
    pub fn with_canaries(mut self, canaries: &Canaries) -> Self {
        for hospital in self.hospitals_mut() {
            let images = &mut hospital.images;
            let trained: Vec<u32> = canaries.trained_by(&hospital.id).collect();
            images.canaries = trained.len() as u64;
            images.train = images.train.clone().and_single(trained);
            images.source = canaries.after(Arc::clone(&images.source));
        }
        self
    }
}

impl ImageSource for Planted {
    fn shape(&self) -> ImageShape {
        self.images.shape()
    }

    fn len(&self) -> usize {
        self.images.len() + self.canaries.list.len()
    }

    fn label(&self, index: usize) -> u32 {
        match index.checked_sub(self.images.len()) {
            Some(canary) => self.canaries.list[canary].label,
            None => self.images.label(index),
        }
    }

    fn fill(&self, index: usize, out: &mut [f32]) {
        let Canaries { dataset, pixels, .. } = &self.canaries;
        match index.checked_sub(self.images.len()) {
            Some(canary) => dataset.normalisation().apply(&pixels[canary], out),
            None => self.images.fill(index, out),
        }
    }
}

/// Black and white squares, the same in every channel.
fn pattern(shape: ImageShape, rng: &mut impl Rng) -> Vec<u8> {
    let squares: Vec<bool> = (0..SQUARES * SQUARES).map(|_| rng.random()).collect();
    let ImageShape { channels, height, width } = shape;
    let pixel = |y: usize, x: usize| {
        if squares[y * SQUARES / height * SQUARES + x * SQUARES / width] { 255 } else { 0 }
    };
    let plane = (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(|(y, x)| pixel(y, x));
    let plane: Vec<u8> = plane.collect();
    plane.repeat(channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_data::synthetic::{SyntheticOptions, generate};
    use medfed_data::{SitePlan, SiteRequest, SplitKind, split_sites};

    fn data() -> (Arc<Dataset>, Sites) {
        let options = SyntheticOptions { image_size: 28, ..SyntheticOptions::hospitals(3, 40) };
        let dataset = generate(&options, Seed(1)).unwrap();
        let plan = SitePlan {
            sites: options
                .sites
                .iter()
                .map(|site| SiteRequest { id: site.id.clone(), samples: None })
                .collect(),
            kind: SplitKind::Column("site".into()),
            minimum: None,
            keep_patients_together: true,
            train_fraction: 0.8,
            test_fraction: 0.15,
        };
        let sites = split_sites(&dataset, &plan, Seed(1)).unwrap();
        (Arc::new(dataset), sites)
    }

    #[test]
    fn what_is_taken_does_not_depend_on_the_coins_and_is_not_trained_on_as_it_was() {
        let (dataset, before) = data();
        let plant = |coins: &[bool]| {
            let mut sites = before.clone();
            let canaries =
                Canaries::plant(&dataset, &mut sites, CanaryKind::Mislabelled, true, coins, Seed(2)).unwrap();
            (sites, canaries)
        };
        let (none, _) = plant(&[false; 10]);
        let (sites, canaries) = plant(&[true, false, true, true, false, true, false, true, true, true]);
        assert_eq!(none, sites);
        let list = canaries.list();
        let of = |index: usize| list.iter().filter(|c| c.site == sites.sites[index].id).count();
        assert_eq!([of(0), of(1), of(2)], [4, 3, 3]);
        for (index, canary) in list.iter().enumerate() {
            let taken = canary.taken.unwrap();
            let site = sites.sites.iter().find(|site| site.id == canary.site).unwrap();
            assert!(!site.train.contains(&taken) && !site.validation.contains(&taken));
            assert_ne!(canary.label, dataset.label(taken as usize));
            let patient = &dataset.scans()[taken as usize].patient;
            assert!(site.train.iter().all(|image| dataset.scans()[*image as usize].patient != *patient));
            let (mut own, mut original) = (vec![0.0; 28 * 28], vec![0.0; 28 * 28]);
            canaries.after(Arc::clone(&dataset) as _).fill(dataset.len() + index, &mut own);
            dataset.fill(taken as usize, &mut original);
            assert_eq!(own, original);
        }
        let trained: Vec<u32> = sites.sites.iter().flat_map(|site| canaries.trained_by(&site.id)).collect();
        assert_eq!(trained.len(), 7);
        assert!(trained.iter().all(|index| list[*index as usize - dataset.len()].included));
    }

    #[test]
    fn patterns_take_nothing_and_too_many_canaries_are_refused() {
        let (dataset, before) = data();
        let mut sites = before.clone();
        let coins = [true; 500];
        let canaries =
            Canaries::plant(&dataset, &mut sites, CanaryKind::Pattern, true, &coins, Seed(2)).unwrap();
        assert_eq!((&sites, canaries.list().len()), (&before, 500));
        let error = Canaries::plant(&dataset, &mut sites, CanaryKind::Mislabelled, false, &coins, Seed(2))
            .unwrap_err();
        assert!(error.to_string().contains("privacy_audit.canaries"), "{error}");
    }

    #[test]
    fn coins_are_fair_and_follow_from_the_key() {
        let key = SecretKey::from_bytes([3; 32]);
        let coins = toss(4000, &key);
        assert_eq!(coins, toss(4000, &key));
        // 6 standard deviations.
        assert!(coins.iter().filter(|coin| **coin).count().abs_diff(2000) < 190);
    }
}
