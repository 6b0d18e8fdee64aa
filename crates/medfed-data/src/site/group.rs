//! Images that stay together, and how lists of them are divided and cut.

use std::collections::HashMap;

use medfed_types::SimulationRng;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_distr::{Distribution, Gamma};

use crate::dataset::Dataset;

/// Images that go the same way: one image, or all of a patient in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The class of most of its images.
    pub(super) label: u32,
    pub(super) images: Vec<u32>,
}

/// Number of images in `groups`.
pub(super) fn images(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.images.len()).sum()
}

/// Makes groups of `indices`: by patient if `together`, else single images.
pub(super) fn gather(dataset: &Dataset, indices: &[u32], together: bool) -> Vec<Group> {
    let scan = |index: u32| &dataset.scans()[index as usize];
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for &index in indices {
        let patient = scan(index).patient.as_deref().filter(|_| together);
        let at = patient.map_or(groups.len(), |patient| *known.entry(patient).or_insert(groups.len()));
        match groups.get_mut(at) {
            Some(group) => group.images.push(index),
            None => groups.push(Group { label: scan(index).label, images: vec![index] }),
        }
    }
    for group in groups.iter_mut().filter(|group| group.images.len() > 1) {
        let mut labels: Vec<u32> = group.images.iter().map(|index| scan(*index).label).collect();
        labels.sort_unstable();
        let count = |label: u32| labels.iter().filter(|other| **other == label).count();
        group.label = labels.iter().copied().max_by_key(|label| count(*label)).unwrap_or(group.label);
    }
    groups
}

/// `groups` class by class, in random order within a class.
fn by_class(mut groups: Vec<Group>, classes: usize, rng: &mut SimulationRng) -> Vec<Vec<Group>> {
    groups.shuffle(rng);
    let mut lists = vec![Vec::new(); classes];
    for group in groups {
        lists[group.label as usize].push(group);
    }
    lists
}

/// Divides `groups` so that each class goes to the sites in proportion to `weights(class)`.
///
/// Every group goes to the site that lacks most of its share, the larger groups first; what a site
/// lacks of one class it is owed in the next. Single images end within one of every share.
pub(super) fn divide(
    groups: Vec<Group>,
    classes: usize,
    sites: usize,
    rng: &mut SimulationRng,
    mut weights: impl FnMut(usize, &mut SimulationRng) -> Vec<f64>,
) -> Vec<Vec<Group>> {
    let mut shares = vec![Vec::new(); sites];
    let mut owed = vec![0.0; sites];
    for (class, mut groups) in by_class(groups, classes, rng).into_iter().enumerate() {
        let weights = weights(class, rng);
        let (total, count) = (weights.iter().sum::<f64>(), images(&groups) as f64);
        for (owed, weight) in owed.iter_mut().zip(&weights) {
            *owed += if total > 0.0 { weight / total * count } else { count / sites as f64 };
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.images.len()));
        for group in groups {
            let most = (0..sites).reduce(|a, b| if owed[b] > owed[a] { b } else { a }).unwrap_or(0);
            owed[most] -= group.images.len() as f64;
            shares[most].push(group);
        }
    }
    shares
}

/// Takes about `target` images, never more, in the classes' proportions; `leave` groups of each class
/// stay behind. Gives what was taken and the rest.
pub(super) fn select(
    groups: Vec<Group>,
    target: usize,
    classes: usize,
    leave: usize,
    rng: &mut SimulationRng,
) -> (Vec<Group>, Vec<Group>) {
    let total = images(&groups).max(1);
    let (mut taken, mut rest) = (Vec::new(), Vec::new());
    let (mut seen, mut have) = (0, 0);
    for groups in by_class(groups, classes, rng) {
        seen += images(&groups);
        // Cumulative quotas: what rounding loses in one class it gives back in the next.
        let quota = (target as f64 * seen as f64 / total as f64).round() as usize;
        let mut left = groups.len();
        for group in groups {
            if left > leave && have + group.images.len() <= quota {
                have += group.images.len();
                left -= 1;
                taken.push(group);
            } else {
                rest.push(group);
            }
        }
    }
    (taken, rest)
}

/// Moves groups from the largest shares until every site `s` has `least(s)` images; `false` if that
/// cannot be done without taking another site below its own least.
pub(super) fn level(
    shares: &mut [Vec<Group>],
    rng: &mut SimulationRng,
    least: impl Fn(usize) -> usize,
) -> bool {
    let mut sizes: Vec<usize> = shares.iter().map(|share| images(share)).collect();
    while let Some(poor) = (0..sizes.len()).find(|site| sizes[*site] < least(*site)) {
        let mut rich: Vec<usize> = (0..sizes.len()).filter(|site| sizes[*site] > least(*site)).collect();
        rich.sort_by_key(|site| std::cmp::Reverse(sizes[*site]));
        let found = rich.into_iter().find_map(|site| {
            let spare = sizes[site] - least(site);
            let smallest = shares[site].iter().map(|group| group.images.len()).min()?;
            let small: Vec<usize> =
                (0..shares[site].len()).filter(|at| shares[site][*at].images.len() == smallest).collect();
            (smallest <= spare).then(|| (site, small[rng.random_range(0..small.len())]))
        });
        let Some((donor, at)) = found else { return false };
        let group = shares[donor].swap_remove(at);
        sizes[donor] -= group.images.len();
        sizes[poor] += group.images.len();
        shares[poor].push(group);
    }
    true
}

/// One draw from a Dirichlet distribution, up to scale: the largest weight is 1.
///
/// Gamma variables of small shape underflow, so logarithms are drawn:
/// Gamma(a) has the distribution of Gamma(a + 1) · U^(1/a).
pub(super) fn dirichlet(concentrations: &[f64], rng: &mut SimulationRng) -> Vec<f64> {
    let logarithms: Vec<f64> = concentrations
        .iter()
        .map(|&a| {
            let a = a.max(f64::MIN_POSITIVE);
            let gamma = Gamma::new(a + 1.0, 1.0).map_or(1.0, |gamma| gamma.sample(rng));
            gamma.ln() + (1.0 - rng.random::<f64>()).ln() / a
        })
        .collect();
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logarithms.iter().map(|value| if *value == largest { 1.0 } else { (value - largest).exp() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::Seed;

    #[test]
    fn dirichlet_has_its_mean_and_variance_and_survives_tiny_concentrations() {
        let mut rng = Seed(1).generator("test", &[]);
        let (alpha, sites, draws) = (0.5, 3, 20_000);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..draws {
            let weights = dirichlet(&vec![alpha; sites], &mut rng);
            let first = weights[0] / weights.iter().sum::<f64>();
            sum += first;
            squares += first * first;
        }
        let mean = sum / f64::from(draws);
        // Mean 1/3, variance (1/3)(2/3)/(3·0.5+1) = 0.0889: 6 standard errors are 0.013.
        assert!((mean - 1.0 / 3.0).abs() < 0.013, "{mean}");
        let variance = squares / f64::from(draws) - mean * mean;
        assert!((variance - 0.0889).abs() < 0.006, "{variance}");
        let tiny = dirichlet(&[1e-300; 4], &mut rng);
        assert!(tiny.iter().all(|w| w.is_finite()) && tiny.contains(&1.0), "{tiny:?}");
    }
}
