//! Whom a model is attacked with: images that it was trained on and images that it was not.

use crate::failure::Failure;
use medfed_data::{Dataset, Sites, Split};
use medfed_federation::reference::Target;
use medfed_types::{Seed, SiteId};
use rand::seq::{IndexedRandom, SliceRandom};
use std::collections::HashSet;

/// Non-members that are wanted at least; with fewer, others than the first choice are taken too.
const ENOUGH: usize = 100;

/// Where images that the model was not trained on come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum NonMembers {
    /// Validation images and images that nobody used; with fewer than 100 of them, test images too.
    Auto,
    /// Validation images and images that nobody used.
    Validation,
    /// The common test images.
    Test,
    /// Validation images, test images and images that nobody used.
    All,
}

/// Images under attack, each with the truth.
#[derive(Debug)]
pub(crate) struct Targets {
    /// By their index in the data set: members, then the others.
    pub(super) images: Vec<u32>,
    pub(super) member: Vec<bool>,
    /// Whether attacks on it count. Members that would make a class more frequent than among the others do
    /// not: an attack would gain by telling classes apart.
    pub(super) counted: Vec<bool>,
    /// The hospital that holds it, or would; nothing where no hospital is known.
    pub(super) sites: Vec<Option<SiteId>>,
    /// Where the others come from, in words.
    pub(super) others_from: String,
    /// What makes the numbers less than they seem.
    pub(super) warnings: Vec<String>,
}

impl Targets {
    /// Those of a run. Test images belong to no hospital; models for comparison need one for each, so they
    /// are dealt out by `seed`.
    pub(crate) fn of_run(
        dataset: &Dataset,
        sites: &Sites,
        choice: NonMembers,
        seed: Seed,
    ) -> Result<Self, Failure> {
        let of = |list: fn(&medfed_data::SiteData) -> &Vec<u32>| -> Vec<(u32, Option<SiteId>)> {
            let each = sites.sites.iter().map(|site| (site, list(site)));
            each.flat_map(|(site, images)| images.iter().map(|image| (*image, Some(site.id.clone()))))
                .collect()
        };
        let members = of(|site| &site.train);
        let common = |images: &[u32]| images.iter().map(|image| (*image, None)).collect::<Vec<_>>();
        let pick = |choice: NonMembers| {
            let validation = || of(|site| &site.validation);
            let (mut others, from) = match choice {
                NonMembers::Test => (common(&sites.test), "test"),
                NonMembers::Auto | NonMembers::Validation => {
                    ([validation(), common(&sites.unused)].concat(), "validation and unused")
                }
                NonMembers::All => {
                    ([validation(), common(&sites.test), common(&sites.unused)].concat(), "held-out")
                }
            };
            let overlapping = drop_known_patients(dataset, &members, &mut others);
            (others, from, overlapping)
        };
        let mut picked = pick(choice);
        if choice == NonMembers::Auto && picked.0.len() < ENOUGH {
            picked = pick(NonMembers::All);
        }
        let (mut others, from, overlapping) = picked;
        let mut warnings = Vec::new();
        if overlapping > 0 {
            warnings.push(format!(
                "{overlapping} {from} images are left out: their patients were trained on with other images"
            ));
        }
        let mut rng = seed.generator("audit hospitals", &[]);
        for (_, site) in others.iter_mut().filter(|(_, site)| site.is_none()) {
            *site = sites.sites.choose(&mut rng).map(|site| site.id.clone());
        }
        Self::new(dataset, members, others, format!("the {from} images"), warnings, seed)
    }

    /// Two splits of a data set: what one would train and validate on.
    pub(crate) fn of_splits(dataset: &Dataset, members: Split, others: Split) -> Result<Self, Failure> {
        let of = |split: Split| -> Vec<(u32, Option<SiteId>)> {
            let scans = (0u32..).zip(dataset.scans());
            scans.filter(|(_, scan)| scan.split == Some(split)).map(|(index, _)| (index, None)).collect()
        };
        let (members, mut outsiders) = (of(members), of(others));
        let left_out = drop_known_patients(dataset, &members, &mut outsiders);
        let warnings = (left_out > 0)
            .then(|| format!("{left_out} images are left out: their patients are among the members"))
            .into_iter()
            .collect();
        Self::new(dataset, members, outsiders, format!("the {others} split"), warnings, Seed(0))
    }

    fn new(
        dataset: &Dataset,
        members: Vec<(u32, Option<SiteId>)>,
        others: Vec<(u32, Option<SiteId>)>,
        others_from: String,
        mut warnings: Vec<String>,
        seed: Seed,
    ) -> Result<Self, Failure> {
        for (found, what) in
            [(members.len(), "that the model was trained on"), (others.len(), "that it was not trained on")]
        {
            if found < 2 {
                return Err(Failure::user(anyhow::anyhow!("there are {found} images {what}, an attack needs 2 at least"))
                    .hint("--non-members all takes every held-out image; patients that were trained on are always left out"));
            }
        }
        if dataset.scans().iter().all(|scan| scan.patient.is_none()) {
            warnings.push(
                "the data name no patients: images of one patient on both sides make the attacks look weaker than they are"
                    .to_owned(),
            );
        }
        let member: Vec<bool> =
            (0..members.len() + others.len()).map(|index| index < members.len()).collect();
        let (images, sites): (Vec<u32>, _) = members.into_iter().chain(others).unzip();
        let label = |index: usize| dataset.scans()[images[index] as usize].label;
        let counted = class_matched(&member, label, dataset.classes().len(), seed);
        let found = member.iter().zip(&counted).filter(|(member, counted)| **member && **counted).count();
        if found < 2 {
            return Err(Failure::user(anyhow::anyhow!(
                "no class occurs often enough both among the images that the model was trained on and among the others"
            ))
            .hint("--non-members all takes every held-out image"));
        }
        Ok(Self { images, member, counted, sites, others_from, warnings })
    }

    /// As models for comparison are trained on them; nothing where no hospitals are known.
    pub(super) fn for_references(&self) -> Option<Vec<Target>> {
        let each = self.images.iter().zip(&self.sites);
        each.map(|(image, site)| site.clone().map(|site| Target { image: *image, site })).collect()
    }

    /// Positions of the images that count.
    pub(super) fn counted(&self) -> impl Iterator<Item = usize> {
        (0..self.images.len()).filter(|index| self.counted[*index])
    }
}

/// Which images count: all non-members of classes that have members, and of the members as many of each
/// class, drawn by `seed`, that every class is as frequent as among the non-members.
fn class_matched(member: &[bool], label: impl Fn(usize) -> u32, classes: usize, seed: Seed) -> Vec<bool> {
    let mut members = vec![Vec::new(); classes];
    let mut others = vec![0usize; classes];
    for (index, member) in member.iter().enumerate() {
        if *member {
            members[label(index) as usize].push(index);
        } else {
            others[label(index) as usize] += 1;
        }
    }
    let shared = |class: usize| !members[class].is_empty() && others[class] > 0;
    // Members per non-member, as the scarcest class has them.
    let ratio = (0..classes)
        .filter(|class| shared(*class))
        .map(|class| members[class].len() as f64 / others[class] as f64)
        .fold(f64::INFINITY, f64::min);
    let mut counted: Vec<bool> =
        member.iter().enumerate().map(|(index, member)| !member && shared(label(index) as usize)).collect();
    let mut rng = seed.generator("audit members", &[]);
    for class in (0..classes).filter(|class| shared(*class)) {
        let mut drawn = members[class].clone();
        drawn.shuffle(&mut rng);
        drawn.truncate((ratio * others[class] as f64).round() as usize);
        for index in drawn {
            counted[index] = true;
        }
    }
    counted
}

/// Takes out the images of patients who are among the members; gives their number.
fn drop_known_patients(
    dataset: &Dataset,
    members: &[(u32, Option<SiteId>)],
    others: &mut Vec<(u32, Option<SiteId>)>,
) -> usize {
    let patient = |image: u32| dataset.scans()[image as usize].patient.as_deref();
    let known: HashSet<&str> = members.iter().filter_map(|(image, _)| patient(*image)).collect();
    let before = others.len();
    others.retain(|(image, _)| patient(*image).is_none_or(|patient| !known.contains(patient)));
    before - others.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_as_frequent_among_members_as_among_others() {
        // 30 members of class 0, 10 of class 1, 5 of class 2; others 4, 5 and none of class 2, 3 of class 3.
        let labels: Vec<u32> = [(0, 30), (1, 10), (2, 5), (0, 4), (1, 5), (3, 3)]
            .iter()
            .flat_map(|(class, n)| std::iter::repeat_n(*class, *n))
            .collect();
        let member: Vec<bool> = (0..labels.len()).map(|index| index < 45).collect();
        let counted = class_matched(&member, |index| labels[index], 4, Seed(1));
        let count = |wanted: bool, class: u32| {
            (0..labels.len()).filter(|i| counted[*i] && member[*i] == wanted && labels[*i] == class).count()
        };
        assert_eq!([0, 1, 2, 3].map(|class| count(true, class)), [8, 10, 0, 0]);
        assert_eq!([0, 1, 2, 3].map(|class| count(false, class)), [4, 5, 0, 0]);
    }
}
