//! Resampling of patients: the bootstrap's intervals, and random groups for comparison.
//!
//! Patients, not images, are drawn with replacement, within strata of which each keeps its size (Efron &
//! Tibshirani 1993, chapters 6 and 13; cluster bootstrap: Davison & Hinkley 1997, section 3.8). Intervals
//! are percentile intervals. Replicate r has the generator of its own number, so results depend neither on
//! threads nor on how many replicates there are in all.

use medfed_types::{Seed, random::SimulationRng};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often to resample, and from which generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resampling {
    /// Where the draws come from.
    pub seed: Seed,
    /// Number of replicates; 1000 give a percentile interval's ends to about a tenth of its width.
    pub replicates: u32,
}

impl Resampling {
    /// 1000 replicates.
    pub fn new(seed: Seed) -> Self {
        Self { seed, replicates: 1000 }
    }

    /// The generator of each replicate for one purpose.
    pub(crate) fn generators(self, purpose: &str) -> impl Iterator<Item = SimulationRng> {
        (0..u64::from(self.replicates)).map(move |replicate| self.seed.generator(purpose, &[replicate]))
    }
}

/// Images by patient, patients by stratum.
pub(crate) struct Clusters {
    strata: Vec<Vec<Vec<u32>>>,
}

impl Clusters {
    /// Images with equal `patients` belong together; a patient belongs to the stratum of the first image
    /// that has one. A patient none of whose images has a stratum is left out.
    pub(crate) fn new(patients: &[u32], stratum: impl Fn(usize) -> Option<usize>) -> Self {
        let mut images: BTreeMap<u32, (Option<usize>, Vec<u32>)> = BTreeMap::new();
        for (image, patient) in patients.iter().enumerate() {
            let (found, list) = images.entry(*patient).or_default();
            *found = found.or_else(|| stratum(image));
            list.push(image as u32);
        }
        let mut strata: BTreeMap<usize, Vec<Vec<u32>>> = BTreeMap::new();
        for (stratum, images) in images.into_values() {
            if let Some(stratum) = stratum {
                strata.entry(stratum).or_default().push(images);
            }
        }
        Self { strata: strata.into_values().collect() }
    }

    /// Draws as many patients as there are, with replacement within their stratum, and shows each image of
    /// each of them.
    pub(crate) fn draw(&self, rng: &mut SimulationRng, mut show: impl FnMut(usize)) {
        for stratum in &self.strata {
            for _ in 0..stratum.len() {
                for image in &stratum[rng.random_range(0..stratum.len())] {
                    show(*image as usize);
                }
            }
        }
    }

    /// The patients of each stratum, each with its images.
    pub(crate) fn strata(&self) -> &[Vec<Vec<u32>>] {
        &self.strata
    }
}

/// The q-quantile by linear interpolation between order statistics. `None` of no values.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q * last as f64;
    let below = (at.floor() as usize).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    // Two equal infinities have no difference.
    Some(if low == high { low } else { low + (at - below as f64) * (high - low) })
}

/// The percentile interval at 95 % of what the replicates gave. `None` where more than one replicate in ten
/// had no value: the rest are not a fair sample.
pub(crate) fn percentile_interval(mut values: Vec<f64>, replicates: u32) -> Option<[f64; 2]> {
    if (values.len() as f64) < 0.9 * f64::from(replicates) {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    Some([quantile(&values, 0.025)?, quantile(&values, 0.975)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.975), Some(3.0));
        assert_eq!(quantile(&[0.0, 1.0, 2.0, 3.0], 0.5), Some(1.5));
        assert_eq!(quantile(&[0.0, f64::INFINITY, f64::INFINITY], 1.0), Some(f64::INFINITY));
        assert_eq!(percentile_interval(vec![1.0; 89], 100), None);
        assert_eq!(percentile_interval(vec![1.0; 90], 100), Some([1.0, 1.0]));
    }

    #[test]
    fn patients_are_drawn_whole_and_strata_keep_their_size() {
        // Patients 0 (images 0, 1), 1 (2), 2 (3, 4, 5) and 3 (6); strata 0, 0, 1, none.
        let patients = [0, 0, 1, 2, 2, 2, 3];
        let strata = [Some(0), None, Some(0), Some(1), Some(1), Some(0), None];
        let clusters = Clusters::new(&patients, |image| strata[image]);
        for mut rng in (Resampling { seed: Seed(3), replicates: 50 }).generators("test") {
            let mut counts = [0u32; 7];
            clusters.draw(&mut rng, |image| counts[image] += 1);
            assert_eq!(counts[0], counts[1]);
            assert_eq!(counts[0] + counts[2], 2);
            assert_eq!(counts[3..], [1, 1, 1, 0]);
        }
    }
}
