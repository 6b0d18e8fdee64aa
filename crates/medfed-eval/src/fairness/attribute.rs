//! One attribute: the rates of its groups and how far they are apart.

use super::Partition;
use super::gap::{Gap, MEASURES, Measure, Rate, Spread, interval_from_counts, spreads};
use super::tally::{GroupCounts, GroupTally, ReportedTally, SummedGroup, sum};
use crate::auroc::mean_auroc;
use crate::bootstrap::{Clusters, Resampling, percentile_interval, quantile};
use crate::interval::{effective_wilson, wilson};
use crate::{EvalError, Interval, Predictions, auroc};
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The rates of one group. With more than two classes only the accuracy is a single number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupRates {
    /// Share of images whose predicted class is the true one.
    pub accuracy: Interval,
    /// Share of images predicted positive. Null, like the other rates, where it would be a share of fewer
    /// images than a group needs patients.
    pub selection_rate: Option<Interval>,
    /// Share of the positives that are found; one minus the underdiagnosis rate.
    pub true_positive_rate: Option<Interval>,
    /// Share of the negatives that are predicted positive.
    pub false_positive_rate: Option<Interval>,
    /// Area under the receiver operating characteristic within the group. Null also where only counts are
    /// known.
    pub auc: Option<Interval>,
}

/// One group of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupFairness {
    /// The group.
    pub group: String,
    /// Patients counted.
    pub patients: u64,
    /// Images counted.
    pub images: u64,
    /// Hospitals that held their counts of this group back because they had too few patients.
    pub withheld_by: u64,
    /// Its rates; null where it has too few patients to be compared.
    pub rates: Option<GroupRates>,
}

/// How the groups of one attribute fare.
///
/// The measures compare the groups that have rates; null where fewer than two have the rate that is
/// compared. [The module](super) defines them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributeFairness {
    /// The attribute.
    pub attribute: String,
    /// Its groups, in the order of their names.
    pub groups: Vec<GroupFairness>,
    /// The group with the most patients, to which disparate impact compares.
    pub reference: Option<String>,
    /// Accuracy parity.
    pub accuracy_difference: Option<Gap>,
    /// Demographic parity, as a difference.
    pub demographic_parity_difference: Option<Gap>,
    /// Demographic parity, as a ratio.
    pub demographic_parity_ratio: Option<Gap>,
    /// Spread of the true positive rates (equal opportunity).
    pub true_positive_rate_difference: Option<Gap>,
    /// Spread of the false positive rates.
    pub false_positive_rate_difference: Option<Gap>,
    /// Equalised odds.
    pub equalized_odds_difference: Option<Gap>,
    /// Disparate impact against the largest group.
    pub disparate_impact: Option<Gap>,
}

impl AttributeFairness {
    /// From what hospitals report. Groups of fewer than `least` patients in all are not compared, nor are
    /// rates of fewer images (the true positive rate of two positives says nothing). Intervals take images as independent.
    pub fn from_tallies<'a>(
        attribute: &str,
        classes: usize,
        tallies: impl IntoIterator<Item = &'a ReportedTally>,
        least: u64,
    ) -> Result<Self, EvalError> {
        Ok(Self::from_counts(attribute, sum(attribute, classes, tallies)?, least))
    }

    pub(crate) fn from_counts(attribute: &str, groups: BTreeMap<String, SummedGroup>, least: u64) -> Self {
        let compared = Compared::new(attribute, groups, least);
        let rates = |group: usize, rate: Rate| {
            let (part, whole) = rate.fraction(&compared.counts[group], 0);
            (whole >= least.max(1)).then(|| wilson(part, whole))
        };
        compared.finish(
            rates,
            |_| None,
            |measure, spread| (interval_from_counts(measure, spread, &compared.counts), None),
        )
    }

    /// From predictions, with intervals by resampling patients; `patients[i]` is equal for images of one
    /// person. Groups of fewer than `least` patients are not compared, nor are rates of fewer images.
    pub fn from_predictions(
        predictions: &Predictions,
        partition: &Partition,
        patients: &[u32],
        least: u64,
        resampling: Resampling,
    ) -> Result<Self, EvalError> {
        let attribute = partition.attribute();
        let tally = GroupTally::of(predictions, partition, patients)?;
        let compared = Compared::new(attribute, tally.into_sums(), least);
        let sample = Sample::new(predictions, partition, patients, &compared);
        let chance = sample.by_chance(&compared, resampling);
        let intervals = sample.intervals(&compared, resampling);
        Ok(compared.finish(
            |group, rate| sample.rate(&compared, group, rate),
            |group| sample.auc(predictions, group, least),
            |measure, spread| {
                // Rates of 0 or 1 stay what they are in every replicate; their counts know better.
                let resampled = intervals[measure as usize].filter(|[lower, upper]| lower < upper);
                let interval = resampled.or_else(|| interval_from_counts(measure, spread, &compared.counts));
                (interval, chance[measure as usize])
            },
        ))
    }

    /// Whether every group that is compared is predicted to be of one class throughout, and all of the same.
    pub(crate) fn is_constant(&self) -> bool {
        let rates = self.groups.iter().filter_map(|group| group.rates.as_ref()?.selection_rate);
        let mut values = rates.map(|rate| rate.estimate);
        values.next().is_some_and(|first| [0.0, 1.0].contains(&first) && values.all(|rate| rate == first))
    }

    /// Every measure with the name of its field.
    pub fn measures(&self) -> [(&'static str, Option<&Gap>); MEASURES] {
        [
            ("accuracy_difference", self.accuracy_difference.as_ref()),
            ("demographic_parity_difference", self.demographic_parity_difference.as_ref()),
            ("demographic_parity_ratio", self.demographic_parity_ratio.as_ref()),
            ("true_positive_rate_difference", self.true_positive_rate_difference.as_ref()),
            ("false_positive_rate_difference", self.false_positive_rate_difference.as_ref()),
            ("equalized_odds_difference", self.equalized_odds_difference.as_ref()),
            ("disparate_impact", self.disparate_impact.as_ref()),
        ]
    }
}

/// The groups that are large enough, and all others.
struct Compared<'a> {
    attribute: &'a str,
    all: BTreeMap<String, SummedGroup>,
    names: Vec<String>,
    counts: Vec<GroupCounts>,
    reference: usize,
    /// Patients of a group, and images of a rate, that it takes to be compared.
    least: u64,
    found: [Option<Spread>; MEASURES],
}

impl<'a> Compared<'a> {
    fn new(attribute: &'a str, all: BTreeMap<String, SummedGroup>, least: u64) -> Self {
        let large = all.iter().filter(|(_, g)| g.counts.patients >= least.max(1) && g.counts.images() > 0);
        let (names, counts): (Vec<String>, Vec<GroupCounts>) =
            large.map(|(name, group)| (name.clone(), group.counts.clone())).unzip();
        let most = counts.iter().map(|group| group.patients).max();
        let reference = counts.iter().position(|group| Some(group.patients) == most).unwrap_or(0);
        let found = spreads(&counts, reference, least);
        Self { attribute, all, names, counts, reference, least, found }
    }

    fn finish(
        &self,
        rate: impl Fn(usize, Rate) -> Option<Interval>,
        auc: impl Fn(usize) -> Option<Interval>,
        uncertainty: impl Fn(Measure, &Spread) -> (Option<[f64; 2]>, Option<f64>),
    ) -> AttributeFairness {
        let binary = self.counts.first().is_some_and(|group| group.cells.len() == 1);
        let groups = self.all.iter().map(|(name, group)| GroupFairness {
            group: name.clone(),
            patients: group.counts.patients,
            images: group.counts.images(),
            withheld_by: group.withheld,
            rates: self.names.iter().position(|compared| compared == name).and_then(|at| {
                let of_class = |wanted| rate(at, wanted).filter(|_| binary);
                Some(GroupRates {
                    accuracy: rate(at, Rate::Accuracy)?,
                    selection_rate: of_class(Rate::Selection),
                    true_positive_rate: of_class(Rate::TruePositive),
                    false_positive_rate: of_class(Rate::FalsePositive),
                    auc: auc(at),
                })
            }),
        });
        let gap = |measure: Measure| {
            let spread = self.found[measure as usize]?;
            let (interval, chance) = uncertainty(measure, &spread);
            Some(Gap {
                value: spread.value,
                interval,
                chance,
                high: self.names[spread.high].clone(),
                low: self.names[spread.low].clone(),
                rate: spread.rate,
                class: if binary { 1 } else { spread.at as u32 },
            })
        };
        AttributeFairness {
            attribute: self.attribute.to_owned(),
            groups: groups.collect(),
            reference: self.names.get(self.reference).cloned(),
            accuracy_difference: gap(Measure::AccuracyDifference),
            demographic_parity_difference: gap(Measure::DemographicParityDifference),
            demographic_parity_ratio: gap(Measure::DemographicParityRatio),
            true_positive_rate_difference: gap(Measure::TruePositiveDifference),
            false_positive_rate_difference: gap(Measure::FalsePositiveDifference),
            equalized_odds_difference: gap(Measure::EqualizedOddsDifference),
            disparate_impact: gap(Measure::DisparateImpact),
        }
    }
}

/// The images of the compared groups, for resampling.
struct Sample<'a> {
    labels: &'a [u32],
    predicted: Vec<u32>,
    classes: usize,
    /// The compared group of each image.
    member: Vec<Option<usize>>,
    patients: &'a [u32],
}

impl<'a> Sample<'a> {
    fn new(
        predictions: &'a Predictions,
        partition: &Partition,
        patients: &'a [u32],
        compared: &Compared<'_>,
    ) -> Self {
        let position = |name: &str| compared.names.iter().position(|compared| compared == name);
        let positions: Vec<Option<usize>> = partition.groups().iter().map(|name| position(name)).collect();
        Self {
            labels: predictions.labels(),
            predicted: predictions.predicted().collect(),
            classes: predictions.classes(),
            member: partition.member().iter().map(|group| positions[usize::from((*group)?)]).collect(),
            patients,
        }
    }

    /// Intervals of the differences between the groups found furthest apart.
    fn intervals(&self, compared: &Compared<'_>, resampling: Resampling) -> [Option<[f64; 2]>; MEASURES] {
        let clusters = Clusters::new(self.patients, |image| self.member[image]);
        let mut values: [Vec<f64>; MEASURES] = Default::default();
        let purpose = format!("fairness bootstrap {}", compared.attribute);
        for mut rng in resampling.generators(&purpose) {
            let mut counts = vec![GroupCounts::empty(self.classes); compared.names.len()];
            clusters.draw(&mut rng, |image| self.count(&mut counts, self.member[image], image));
            for (measure, values) in Measure::ALL.into_iter().zip(&mut values) {
                let again = compared.found[measure as usize].and_then(|s| s.again(measure, &counts));
                values.extend(again);
            }
        }
        values.map(|values| percentile_interval(values, resampling.replicates))
    }

    /// What random groups of the same sizes exceed once in 20 times: patients change groups, all their
    /// images with them; for measures that condition on the truth only within the class of their first
    /// image.
    fn by_chance(&self, compared: &Compared<'_>, resampling: Resampling) -> [Option<f64>; MEASURES] {
        let within = |conditional: bool| {
            Clusters::new(self.patients, |image| {
                self.member[image].map(|_| if conditional { self.labels[image] as usize } else { 0 })
            })
        };
        let mut values: [Vec<f64>; MEASURES] = Default::default();
        for conditional in [false, true] {
            let clusters = within(conditional);
            let purpose = format!("fairness permutation {} {conditional}", compared.attribute);
            for mut rng in resampling.generators(&purpose) {
                let mut counts = vec![GroupCounts::empty(self.classes); compared.names.len()];
                for stratum in clusters.strata() {
                    let group = |images: &Vec<u32>| images.iter().find_map(|i| self.member[*i as usize]);
                    let mut groups: Vec<Option<usize>> = stratum.iter().map(group).collect();
                    groups.shuffle(&mut rng);
                    for (images, group) in stratum.iter().zip(groups) {
                        let compared = images.iter().filter(|i| self.member[**i as usize].is_some());
                        compared.for_each(|image| self.count(&mut counts, group, *image as usize));
                    }
                }
                let found = spreads(&counts, compared.reference, compared.least);
                for (measure, values) in Measure::ALL.into_iter().zip(&mut values) {
                    if measure.is_conditional() == conditional {
                        values.extend(found[measure as usize].map(|s| measure.distance(s.value)));
                    }
                }
            }
        }
        Measure::ALL.map(|measure| {
            let observed = compared.found[measure as usize]?;
            let mut values = std::mem::take(&mut values[measure as usize]);
            values.sort_unstable_by(f64::total_cmp);
            let distance = quantile(&values, 0.95)?;
            let value = match (measure.is_ratio(), observed.value > 1.0) {
                (false, _) => distance,
                (true, false) => (-distance).exp(),
                (true, true) => distance.exp(),
            };
            Some(value).filter(|value| value.is_finite())
        })
    }

    fn count(&self, counts: &mut [GroupCounts], group: Option<usize>, image: usize) {
        if let Some(group) = group {
            counts[group].count(self.labels[image], self.predicted[image]);
        }
    }

    /// A group's rate with Wilson's interval at the effective number of images: several images of one
    /// patient tell less than as many patients (Korn & Graubard 1998).
    fn rate(&self, compared: &Compared<'_>, group: usize, rate: Rate) -> Option<Interval> {
        let (part, whole) = rate.fraction(&compared.counts[group], 0);
        let mut by_patient: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for image in (0..self.labels.len()).filter(|image| self.member[*image] == Some(group)) {
            let mut one = GroupCounts::empty(self.classes);
            one.count(self.labels[image], self.predicted[image]);
            let (hits, images) = rate.fraction(&one, 0);
            let sum = by_patient.entry(self.patients[image]).or_default();
            *sum = (sum.0 + hits, sum.1 + images);
        }
        let clusters: Vec<(u64, u64)> = by_patient.into_values().filter(|(_, images)| *images > 0).collect();
        (whole >= compared.least.max(1)).then(|| effective_wilson(part, whole, &clusters))
    }

    /// The area within a group that has at least `least` images of each class.
    fn auc(&self, predictions: &Predictions, group: usize, least: u64) -> Option<Interval> {
        let images: Vec<usize> =
            (0..self.labels.len()).filter(|image| self.member[*image] == Some(group)).collect();
        let labels: Vec<u32> = images.iter().map(|image| self.labels[*image]).collect();
        let of = |class: usize| labels.iter().filter(|label| **label as usize == class).count() as u64;
        if (0..self.classes).any(|class| of(class) < least) {
            return None;
        }
        let column = |class: usize| -> Vec<f64> {
            let scores = predictions.column(class);
            images.iter().map(|image| scores[*image]).collect()
        };
        if self.classes == 2 {
            auroc(&column(1), &labels.iter().map(|label| *label == 1).collect::<Vec<_>>())
        } else {
            mean_auroc(&(0..self.classes).map(column).collect::<Vec<_>>(), &labels)
        }
    }
}
