//! Privacy units of one hospital, and the batches drawn from them.
//!
//! What enters: image indices of a hospital's training set. What leaves:
//! [`Batch`]es of whole units. [`Units::poisson`] is the only sampling whose amplification the
//! accountants know; [`ShuffledBatches`] are for training without privacy.

use std::collections::HashMap;

use medfed_types::{Batch, SamplingRate, SecretRng, SimulationRng};
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;

/// Whom the guarantee protects: adding or removing one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// One image.
    Image,
    /// All images of one patient at one hospital; an image of an unknown patient is a unit by itself.
    Patient,
}

/// The privacy units of one hospital's training set, each one or more images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    images: Vec<u32>,
    /// `starts[u]..starts[u + 1]` are the positions of unit `u` in `images`.
    starts: Vec<u32>,
}

impl Units {
    /// Groups the images `indices` of `dataset`. Units are in the order in which they first occur.
    ///
    /// # Panics
    ///
    /// If `unit` is [`UnitKind::Patient`] and an index is not in the data set.
    pub fn new(dataset: &Dataset, indices: &[u32], unit: UnitKind) -> Self {
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for &index in indices {
            let patient = match unit {
                UnitKind::Image => None,
                UnitKind::Patient => dataset.scans()[index as usize].patient.as_deref(),
            };
            let group = patient.map_or(groups.len(), |patient| *known.entry(patient).or_insert(groups.len()));
            match groups.get_mut(group) {
                Some(images) => images.push(index),
                None => groups.push(vec![index]),
            }
        }
        let mut units = Self { images: Vec::with_capacity(indices.len()), starts: vec![0] };
        for group in groups {
            units.images.extend(group);
            units.starts.push(units.images.len() as u32);
        }
        units
    }

    /// These units and, for each of `images`, one more of that image alone.
    #[must_use]
    pub fn and_single(mut self, images: impl IntoIterator<Item = u32>) -> Self {
        for image in images {
            self.images.push(image);
            self.starts.push(self.images.len() as u32);
        }
        self
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The images of unit `unit`.
    ///
    /// # Panics
    ///
    /// If there is no such unit.
    pub fn unit(&self, unit: usize) -> &[u32] {
        &self.images[self.starts[unit] as usize..self.starts[unit + 1] as usize]
    }

    /// All images, unit after unit.
    pub fn images(&self) -> &[u32] {
        &self.images
    }

    /// A Poisson sample: each unit joins with probability `rate`, independently of all others.
    ///
    /// One 64-bit integer per unit is compared with the rate in units of 2⁻⁶⁴, rounded *down*, so the
    /// probability is exact or smaller by less than 2⁻⁶⁴; a smaller rate costs less privacy. Skipping
    /// ahead by geometric gaps would need logarithms, whose rounding moves the probabilities.
    pub fn poisson(&self, rate: SamplingRate, rng: &mut SecretRng) -> Batch {
        // 2⁶⁴ · 1.0 does not fit 64 bits; in 128 bits a rate of 1 takes every unit.
        let threshold = (rate.get() * 18_446_744_073_709_551_616.0) as u128;
        let drawn = (0..self.len()).filter(|_| u128::from(rng.next_u64()) < threshold);
        self.batch(drawn)
    }

    fn batch(&self, units: impl Iterator<Item = usize>) -> Batch {
        Batch::of_units(units.map(|unit| self.unit(unit)))
            .expect("every unit was made from at least one image")
    }
}

/// One epoch without privacy: every unit once, in random order, in batches of `batch_size` units; the
/// last batch may be smaller.
#[derive(Debug)]
pub struct ShuffledBatches<'a> {
    units: &'a Units,
    order: Vec<usize>,
    next: usize,
    batch_size: std::num::NonZeroUsize,
}

impl<'a> ShuffledBatches<'a> {
    /// Draws the epoch's order.
    pub fn new(units: &'a Units, batch_size: std::num::NonZeroUsize, rng: &mut SimulationRng) -> Self {
        let mut order: Vec<usize> = (0..units.len()).collect();
        order.shuffle(rng);
        Self { units, order, next: 0, batch_size }
    }
}

impl Iterator for ShuffledBatches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let end = self.order.len().min(self.next.saturating_add(self.batch_size.get()));
        let batch = (self.next < end).then(|| self.units.batch(self.order[self.next..end].iter().copied()));
        self.next = end;
        batch
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.next).div_ceil(self.batch_size.get());
        (left, Some(left))
    }
}

impl ExactSizeIterator for ShuffledBatches<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatasetParts, Origin, Scan};
    use medfed_types::{ImageShape, SecretKey, Seed};
    use proptest::prelude::*;

    fn dataset(patients: &[Option<u8>]) -> Dataset {
        let scan = |(at, patient): (u32, &Option<u8>)| Scan {
            patient: patient.map(|patient| patient.to_string().into()),
            ..Scan::new(at % 2, Origin::Drawn(at))
        };
        Dataset::new(DatasetParts {
            name: "test".to_owned(),
            shape: ImageShape { channels: 1, height: 1, width: 1 },
            classes: vec!["0".to_owned(), "1".to_owned()],
            scans: (0..).zip(patients).map(scan).collect(),
            pixels: vec![0; patients.len()],
            attributes: Vec::new(),
            warnings: Vec::new(),
        })
        .unwrap()
    }

    #[test]
    fn patients_are_units_and_unknown_ones_stand_alone() {
        let dataset = dataset(&[Some(7), None, Some(3), Some(7), None]);
        let units = Units::new(&dataset, &[0, 1, 2, 3, 4], UnitKind::Patient);
        let lists: Vec<&[u32]> = (0..units.len()).map(|unit| units.unit(unit)).collect();
        assert_eq!(lists, [&[0, 3][..], &[1], &[2], &[4]]);
        assert_eq!(Units::new(&dataset, &[3, 0], UnitKind::Image).len(), 2);
        assert!(Units::new(&dataset, &[], UnitKind::Patient).is_empty());
        let more = units.and_single([7, 3]);
        assert_eq!(
            (more.len(), more.unit(0), more.unit(4), more.unit(5)),
            (6, &[0, 3][..], &[7][..], &[3][..])
        );
    }

    /// Counts of 1000 units over 400 samples: each within 6 standard deviations of its mean, which
    /// fails by chance less than once in 500 000 runs; the key is fixed, so it never does.
    #[test]
    fn poisson_samples_have_the_rate_and_are_independent() {
        let dataset = dataset(&vec![None; 1000]);
        let units = Units::new(&dataset, &(0..1000).collect::<Vec<_>>(), UnitKind::Image);
        let rate = SamplingRate::new(0.07).unwrap();
        let mut rng = SecretKey::from_bytes([1; 32]).generator("test", &[]);
        let mut joined = vec![0u32; 1000];
        let mut sizes = Vec::new();
        for _ in 0..400 {
            let batch = units.poisson(rate, &mut rng);
            sizes.push(batch.units() as f64);
            for image in batch.images() {
                joined[*image as usize] += 1;
            }
        }
        assert!(joined.iter().all(|n| (f64::from(*n) - 28.0).abs() < 6.0 * (28.0f64 * 0.93).sqrt()));
        let mean = sizes.iter().sum::<f64>() / 400.0;
        let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / 399.0;
        assert!((mean - 70.0).abs() < 6.0 * (65.1f64 / 400.0).sqrt(), "{mean}");
        // A fixed batch size would have none of this variance.
        assert!((variance - 65.1).abs() < 6.0 * 65.1 * (2.0f64 / 399.0).sqrt(), "{variance}");

        assert_eq!(units.poisson(SamplingRate::new(1.0).unwrap(), &mut rng).units(), 1000);
        assert_eq!(units.poisson(SamplingRate::new(1e-300).unwrap(), &mut rng).units(), 0);
    }

    proptest! {
        #[test]
        fn an_epoch_has_every_image_once(
            patients in prop::collection::vec(prop::option::of(0u8..5), 2..40),
            size in 1usize..50,
            seed: u64,
        ) {
            let dataset = dataset(&patients);
            let indices: Vec<u32> = (0..patients.len() as u32).collect();
            let units = Units::new(&dataset, &indices, UnitKind::Patient);
            let size = std::num::NonZeroUsize::new(size).unwrap();
            let batches = ShuffledBatches::new(&units, size, &mut Seed(seed).generator("test", &[]));
            let expected = batches.len();
            let batches: Vec<Batch> = batches.collect();
            prop_assert_eq!(batches.len(), expected);
            prop_assert!(batches.iter().rev().skip(1).all(|batch| batch.units() == size.get()));
            let mut images: Vec<u32> = batches.iter().flat_map(|batch| batch.images().to_vec()).collect();
            images.sort_unstable();
            prop_assert_eq!(images, indices);
        }
    }
}
