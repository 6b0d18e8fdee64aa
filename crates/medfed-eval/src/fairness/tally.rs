//! Counts of right and wrong predictions by group: what a hospital computes and what leaves it.

use super::Partition;
use crate::{EvalError, Predictions};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Images of one group by prediction and truth, for one class against the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cells {
    /// Positive and predicted so.
    pub tp: u64,
    /// Negative and predicted positive.
    pub fp: u64,
    /// Negative and predicted so.
    pub tn: u64,
    /// Positive and predicted negative.
    #[serde(rename = "fn")]
    pub missed: u64,
}

impl Cells {
    fn count(&mut self, positive: bool, predicted: bool) {
        *match (positive, predicted) {
            (true, true) => &mut self.tp,
            (false, true) => &mut self.fp,
            (false, false) => &mut self.tn,
            (true, false) => &mut self.missed,
        } += 1;
    }

    fn add(&mut self, other: &Self) {
        self.tp = self.tp.saturating_add(other.tp);
        self.fp = self.fp.saturating_add(other.fp);
        self.tn = self.tn.saturating_add(other.tn);
        self.missed = self.missed.saturating_add(other.missed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.tp.saturating_add(self.fp).saturating_add(self.tn).saturating_add(self.missed)
    }
}

/// Predictions of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCounts {
    /// Patients; an image whose patient is not known counts as one.
    pub patients: u64,
    /// With two classes those of class 1; with more those of each class against the rest.
    pub cells: Vec<Cells>,
}

impl GroupCounts {
    /// No image yet, of a problem with `classes` classes.
    pub(crate) fn empty(classes: usize) -> Self {
        Self { patients: 0, cells: vec![Cells::default(); if classes == 2 { 1 } else { classes }] }
    }

    /// The counts behind `confusion[true class][predicted class]`.
    pub(crate) fn from_confusion(confusion: &[Vec<u64>], patients: u64) -> Self {
        let classes = confusion.len();
        let total: u64 = confusion.iter().flatten().sum();
        let against_rest = |class: usize| {
            let tp = confusion[class][class];
            let missed = confusion[class].iter().sum::<u64>() - tp;
            let fp = confusion.iter().map(|row| row[class]).sum::<u64>() - tp;
            Cells { tp, fp, tn: total - tp - missed - fp, missed }
        };
        let used = if classes == 2 { 1..2 } else { 0..classes };
        Self { patients, cells: used.map(against_rest).collect() }
    }

    /// Counts one image.
    pub(crate) fn count(&mut self, label: u32, predicted: u32) {
        if let [only] = &mut self.cells[..] {
            only.count(label == 1, predicted == 1);
        } else {
            for (class, cells) in self.cells.iter_mut().enumerate() {
                cells.count(label as usize == class, predicted as usize == class);
            }
        }
    }

    /// Images.
    pub fn images(&self) -> u64 {
        self.cells.first().map_or(0, Cells::total)
    }

    /// Images whose predicted class is the true one.
    pub fn correct(&self) -> u64 {
        match &self.cells[..] {
            [only] => only.tp.saturating_add(only.tn),
            each => each.iter().fold(0, |sum, cells| sum.saturating_add(cells.tp)),
        }
    }

    /// Whether the numbers can be those of one group: as many cells as `classes` asks for, all with the
    /// same total, and no more patients than images.
    fn is_sound(&self, classes: usize) -> bool {
        self.cells.len() == Self::empty(classes).cells.len()
            && self.cells.iter().all(|cells| cells.total() == self.images())
            && self.correct() <= self.images()
            && self.patients <= self.images()
    }

    fn add(&mut self, other: &Self) {
        self.patients = self.patients.saturating_add(other.patients);
        self.cells.iter_mut().zip(&other.cells).for_each(|(sum, cells)| sum.add(cells));
    }
}

/// Counts of every group of an attribute at one hospital. It stays there until
/// [`suppress`](Self::suppress) has taken out what would single people out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTally {
    attribute: String,
    groups: BTreeMap<String, GroupCounts>,
    /// Images whose value is not known.
    unknown: GroupCounts,
}

impl GroupTally {
    /// Counts `predictions` by the groups of `partition`; `patients[i]` is equal for images of one person.
    pub fn of(predictions: &Predictions, partition: &Partition, patients: &[u32]) -> Result<Self, EvalError> {
        let images = predictions.len();
        for (what, found) in [("groups", partition.member().len()), ("patients", patients.len())] {
            if found != images {
                return Err(EvalError::Lengths { what, expected: images, found });
            }
        }
        let empty = GroupCounts::empty(predictions.classes());
        let mut counts = vec![empty.clone(); partition.groups().len() + 1];
        let mut seen = HashSet::new();
        let rows = predictions.labels().iter().zip(predictions.predicted());
        for (((label, predicted), member), patient) in rows.zip(partition.member()).zip(patients) {
            let at = member.map_or(counts.len() - 1, usize::from);
            counts[at].count(*label, predicted);
            counts[at].patients += u64::from(seen.insert((at, *patient)));
        }
        let unknown = counts.pop().unwrap_or(empty);
        let names = partition.groups().iter().map(ToString::to_string);
        let groups = names.zip(counts).filter(|(_, counts)| counts.patients > 0).collect();
        Ok(Self { attribute: partition.attribute().to_owned(), groups, unknown })
    }

    /// Everything, for images that are nobody's secret (a common test set).
    pub(crate) fn into_sums(self) -> BTreeMap<String, SummedGroup> {
        let groups = self.groups.into_iter();
        groups.map(|(name, counts)| (name, SummedGroup { counts, withheld: 0 })).collect()
    }

    /// What may leave the hospital: groups of fewer than `least` patients are held back.
    ///
    /// The hospital's totals are known outside, so a single group that is held back would follow by
    /// subtraction. Complementary suppression: while what is held back (images of unknown group among it)
    /// is a single group or fewer than `least` patients together, the smallest remaining group is held
    /// back too.
    #[must_use]
    pub fn suppress(self, least: u64) -> ReportedTally {
        let mut held = self.unknown.patients;
        let mut parts = usize::from(held > 0);
        let mut withheld = HashSet::new();
        let mut by_size: Vec<_> = self.groups.iter().map(|(name, counts)| (counts.patients, name)).collect();
        by_size.sort();
        for (patients, name) in by_size {
            let too_few = held > 0 && held < least;
            let follows = parts == 1 && !withheld.is_empty();
            if patients < least || too_few || follows {
                held += patients;
                parts += 1;
                withheld.insert(name.clone());
            }
        }
        let groups = self.groups.into_iter().map(|(name, counts)| {
            let counts = (!withheld.contains(&name)).then_some(counts);
            (name, counts)
        });
        ReportedTally { attribute: self.attribute, groups: groups.collect() }
    }
}

/// What leaves a hospital about one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedTally {
    /// The attribute.
    pub attribute: String,
    /// The counts of each group; nothing where they were held back.
    pub groups: BTreeMap<String, Option<GroupCounts>>,
}

impl ReportedTally {
    /// Refuses counts that are not those of groups of a problem with `classes` classes.
    pub fn check(&self, classes: usize) -> Result<(), EvalError> {
        let unsound = |counts: &Option<GroupCounts>| counts.as_ref().is_some_and(|c| !c.is_sound(classes));
        match self.groups.iter().find(|(_, counts)| unsound(counts)) {
            Some((group, _)) => {
                Err(EvalError::Counts { attribute: self.attribute.clone(), group: group.clone() })
            }
            None => Ok(()),
        }
    }
}

/// The counts of one group over several hospitals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SummedGroup {
    pub(crate) counts: GroupCounts,
    /// Hospitals that held theirs back.
    pub(crate) withheld: u64,
}

/// Adds up what hospitals report about `attribute`, of a problem with `classes` classes.
pub(crate) fn sum<'a>(
    attribute: &str,
    classes: usize,
    tallies: impl IntoIterator<Item = &'a ReportedTally>,
) -> Result<BTreeMap<String, SummedGroup>, EvalError> {
    let mut groups: BTreeMap<String, SummedGroup> = BTreeMap::new();
    for tally in tallies.into_iter().filter(|tally| tally.attribute == attribute) {
        tally.check(classes)?;
        for (name, counts) in &tally.groups {
            let group = groups
                .entry(name.clone())
                .or_insert_with(|| SummedGroup { counts: GroupCounts::empty(classes), withheld: 0 });
            match counts {
                Some(counts) => group.counts.add(counts),
                None => group.withheld += 1,
            }
        }
    }
    Ok(groups)
}
