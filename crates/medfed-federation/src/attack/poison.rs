//! Images as an attacker shows them to its own training.

use crate::error::FederationError;
use crate::site::Images;
use medfed_data::{Dataset, Units};
use medfed_nn::Executor;
use medfed_types::{ImageShape, ImageSource};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// The class that a backdoor makes of every image with the trigger.
pub const BACKDOOR_TARGET: u32 = 0;

/// Rows and columns of the trigger, as a part of the image's: 4 pixels of 28.
const TRIGGER_PART: usize = 7;

/// What is altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poison {
    /// Every label is that of the next class, the last class's that of the first.
    WrongLabels,
    /// Every second image has a white square in its lower right corner and the label
    /// [`BACKDOOR_TARGET`] (Gu et al. 2017).
    Trigger,
}

/// A data set some of whose images are altered. All others are as they were, so an attacker validates on
/// true images.
pub(super) struct PoisonedImages {
    source: Arc<Dataset>,
    poison: Poison,
    altered: HashSet<u32>,
    /// White in each channel.
    white: Vec<f32>,
}

impl PoisonedImages {
    /// Alters the training images of one hospital.
    pub(super) fn new(source: &Arc<Dataset>, poison: Poison, train: &Units) -> Self {
        let every = match poison {
            Poison::WrongLabels => 1,
            Poison::Trigger => 2,
        };
        Self::of(source, poison, train.images().iter().copied().step_by(every).collect())
    }

    /// Alters all of `images`.
    pub(super) fn everywhere(source: &Arc<Dataset>, poison: Poison, images: &[u32]) -> Self {
        Self::of(source, poison, images.iter().copied().collect())
    }

    fn of(source: &Arc<Dataset>, poison: Poison, altered: HashSet<u32>) -> Self {
        let normalisation = source.normalisation();
        let channels = normalisation.mean().iter().zip(normalisation.std());
        let white = channels.map(|(mean, std)| (1.0 - mean) / std).collect();
        Self { source: Arc::clone(source), poison, altered, white }
    }

    fn is_altered(&self, index: usize) -> bool {
        self.altered.contains(&(index as u32))
    }
}

impl ImageSource for PoisonedImages {
    fn shape(&self) -> ImageShape {
        self.source.shape()
    }

    fn len(&self) -> usize {
        self.source.len()
    }

    fn label(&self, index: usize) -> u32 {
        let label = self.source.label(index);
        match self.poison {
            _ if !self.is_altered(index) => label,
            Poison::WrongLabels => (label + 1) % self.source.classes().len() as u32,
            Poison::Trigger => BACKDOOR_TARGET,
        }
    }

    fn fill(&self, index: usize, out: &mut [f32]) {
        self.source.fill(index, out);
        if self.poison == Poison::Trigger && self.is_altered(index) {
            stamp(out, self.shape(), &self.white);
        }
    }
}

/// Draws the trigger into an image.
fn stamp(image: &mut [f32], ImageShape { height, width, .. }: ImageShape, white: &[f32]) {
    let side = (height.min(width) / TRIGGER_PART).max(1);
    for (channel, white) in image.chunks_mut(height * width).zip(white) {
        for row in channel.chunks_mut(width).rev().take(side) {
            row[width - side..].fill(*white);
        }
    }
}

/// How often a model reads images of other classes as the class that a backdoor wants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TriggerSuccess {
    /// Test images of other classes than [`BACKDOOR_TARGET`].
    pub images: u64,
    /// Part of them that is read as that class once the trigger is in them: the attack's success rate.
    pub with_trigger: f64,
    /// Part of them that is read as that class as they are.
    pub without_trigger: f64,
}

/// Measures it on the images `indices` of `plain`; `triggered` is the same set with the trigger. Nothing
/// without an image of another class.
pub(crate) fn trigger_success(
    executor: &Executor,
    parameters: &[f32],
    plain: &Images,
    triggered: &Images,
    indices: &[u32],
) -> Result<Option<TriggerSuccess>, FederationError> {
    let others: Vec<u32> =
        indices.iter().copied().filter(|index| plain.label(*index as usize) != BACKDOOR_TARGET).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let classes = executor.network().spec().classes;
    let part = |images: &Images| -> Result<f64, FederationError> {
        let logits = executor.logits(parameters, &**images, &others)?;
        let target = BACKDOOR_TARGET as usize;
        let hit = |logits: &&[f32]| logits.iter().all(|logit| *logit <= logits[target]);
        Ok(logits.chunks(classes).filter(hit).count() as f64 / others.len() as f64)
    };
    Ok(Some(TriggerSuccess {
        images: others.len() as u64,
        with_trigger: part(triggered)?,
        without_trigger: part(plain)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_data::{DatasetParts, Origin, Scan, UnitKind};

    fn dataset() -> Arc<Dataset> {
        let shape = ImageShape { channels: 1, height: 14, width: 14 };
        let parts = DatasetParts {
            name: "test".to_owned(),
            shape,
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            scans: (0..6).map(|at| Scan::new(at % 3, Origin::Drawn(at))).collect(),
            pixels: vec![0; 6 * shape.len()],
            attributes: Vec::new(),
            warnings: Vec::new(),
        };
        Arc::new(Dataset::new(parts).unwrap())
    }

    #[test]
    fn labels_are_wrong_in_training_and_right_elsewhere() {
        let dataset = dataset();
        let train = Units::new(&dataset, &[0, 2, 4], UnitKind::Image);
        let poisoned = PoisonedImages::new(&dataset, Poison::WrongLabels, &train);
        let labels: Vec<u32> = (0..6).map(|index| poisoned.label(index)).collect();
        assert_eq!(labels, [1, 1, 0, 0, 2, 2]);
        let mut image = vec![0.0; dataset.shape().len()];
        poisoned.fill(0, &mut image);
        assert!(image.iter().all(|value| *value == -1.0));
    }

    #[test]
    fn every_second_training_image_has_the_trigger_and_the_target() {
        let dataset = dataset();
        let train = Units::new(&dataset, &[1, 2, 4, 5], UnitKind::Image);
        let poisoned = PoisonedImages::new(&dataset, Poison::Trigger, &train);
        let white = |index: usize| {
            let mut image = vec![0.0; dataset.shape().len()];
            poisoned.fill(index, &mut image);
            let at: Vec<usize> = (0..image.len()).filter(|at| image[*at] == 1.0).collect();
            at
        };
        // Two pixels of 14, in the lower right corner.
        for index in [1, 4] {
            assert_eq!(white(index), [12 * 14 + 12, 12 * 14 + 13, 13 * 14 + 12, 13 * 14 + 13]);
            assert_eq!(poisoned.label(index), BACKDOOR_TARGET);
        }
        for index in [0, 2, 3, 5] {
            assert_eq!(white(index), [0usize; 0]);
            assert_eq!(poisoned.label(index), dataset.label(index));
        }
    }
}
