//! Labelled images of one shape, in memory as bytes.

use std::sync::Arc;

use medfed_types::{ImageShape, ImageSource};
use serde::{Deserialize, Serialize};

use crate::error::{DataError, DataWarning};
use crate::scan::Scan;

/// The most classes that are supported.
pub const MOST_CLASSES: usize = 1000;

/// How bytes become numbers: `(byte / 255 - mean) / std`, per channel.
///
/// The constants are public. They are never measured on the images, because a mean over a hospital's
/// patients is a release that no privacy budget has paid for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedNormalisation")]
pub struct Normalisation {
    mean: Vec<f32>,
    std: Vec<f32>,
}

#[derive(Deserialize)]
struct UncheckedNormalisation {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl TryFrom<UncheckedNormalisation> for Normalisation {
    type Error = DataError;
    fn try_from(parts: UncheckedNormalisation) -> Result<Self, DataError> {
        Self::new(parts.mean, parts.std)
    }
}

impl Normalisation {
    /// One mean and one standard deviation per channel, 1 or 3 of each.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self, DataError> {
        let sound = matches!(mean.len(), 1 | 3)
            && mean.len() == std.len()
            && mean.iter().all(|m| m.is_finite())
            && std.iter().all(|s| s.is_finite() && *s > 0.0);
        if sound {
            Ok(Self { mean, std })
        } else {
            Err(DataError::Plan {
                what: "a normalisation",
                expected: "finite means and positive deviations, one per channel",
                found: format!("{mean:?} and {std:?}"),
            })
        }
    }

    /// Mean and deviation 0.5 for each of `channels`, so that bytes become -1 to 1.
    pub fn centred(channels: usize) -> Self {
        Self { mean: vec![0.5; channels], std: vec![0.5; channels] }
    }

    /// Mean per channel, in units of full scale.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Standard deviation per channel, in units of full scale.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// Writes `pixels`, `[channel, height, width]`, normalised into `out` of the same length.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn apply(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!(pixels.len(), out.len(), "one number per byte");
        let plane = (pixels.len() / self.mean.len()).max(1);
        let channels = self.mean.iter().zip(&self.std);
        for ((out, pixels), (mean, std)) in out.chunks_mut(plane).zip(pixels.chunks(plane)).zip(channels) {
            let (scale, shift) = (1.0 / (255.0 * std), -mean / std);
            for (out, pixel) in out.iter_mut().zip(pixels) {
                *out = f32::from(*pixel).mul_add(scale, shift);
            }
        }
    }
}

/// A further column of a manifest: text per scan, `None` where blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The column's name.
    pub name: String,
    /// One value per scan.
    pub values: Vec<Option<Arc<str>>>,
}

/// What a [`Dataset`] is made from.
#[derive(Debug, Clone)]
pub struct DatasetParts {
    /// For messages and reports.
    pub name: String,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Names of the classes, in the order of the labels.
    pub classes: Vec<String>,
    /// One per image.
    pub scans: Vec<Scan>,
    /// `[image, channel, height, width]`.
    pub pixels: Vec<u8>,
    /// Further columns.
    pub attributes: Vec<Attribute>,
    /// What the reader noticed.
    pub warnings: Vec<DataWarning>,
}

/// Labelled images of one shape, `[image, channel, height, width]`, as bytes.
#[derive(Debug, Clone)]
pub struct Dataset {
    parts: DatasetParts,
    normalisation: Normalisation,
}

impl Dataset {
    /// Checks that the parts belong together and that every class has an image to train on.
    /// Normalised to -1 to 1.
    pub fn new(parts: DatasetParts) -> Result<Self, DataError> {
        let inconsistent =
            |what, expected: String, found: String| Err(DataError::Inconsistent { what, expected, found });
        let ImageShape { channels, height, width } = parts.shape;
        if !matches!(channels, 1 | 3) || height == 0 || width == 0 {
            return inconsistent(
                "images of shape",
                "[1 or 3, height, width]".to_owned(),
                format!("[{channels}, {height}, {width}]"),
            );
        }
        let bytes = parts.scans.len().checked_mul(parts.shape.len());
        if bytes != Some(parts.pixels.len()) || u32::try_from(parts.scans.len()).is_err() {
            return inconsistent(
                "bytes of pixels numbering",
                format!("{} images of {}", parts.scans.len(), parts.shape.len()),
                parts.pixels.len().to_string(),
            );
        }
        if let Some(attribute) = parts.attributes.iter().find(|a| a.values.len() != parts.scans.len()) {
            return inconsistent(
                "attribute values numbering",
                parts.scans.len().to_string(),
                attribute.values.len().to_string(),
            );
        }
        if !(2..=MOST_CLASSES).contains(&parts.classes.len()) {
            return Err(DataError::ClassCount { found: parts.classes.len(), most: MOST_CLASSES });
        }
        if let Some(scan) = parts.scans.iter().find(|scan| scan.label as usize >= parts.classes.len()) {
            return inconsistent("a label", format!("below {}", parts.classes.len()), scan.label.to_string());
        }
        let split = parts.scans.iter().any(|scan| scan.split.is_some());
        let mut trained = vec![false; parts.classes.len()];
        for scan in &parts.scans {
            let trains = scan.split.is_none_or(|split| split == crate::Split::Train);
            trained[scan.label as usize] |= trains;
        }
        if let Some(class) = trained.iter().position(|seen| !seen) {
            return Err(DataError::EmptyClass {
                class: parts.classes[class].clone(),
                within: split.then_some(crate::Split::Train),
            });
        }
        Ok(Self { normalisation: Normalisation::centred(channels), parts })
    }

    /// The same images with other normalisation constants, one per channel.
    pub fn with_normalisation(self, normalisation: Normalisation) -> Result<Self, DataError> {
        if normalisation.mean.len() == self.parts.shape.channels {
            Ok(Self { normalisation, ..self })
        } else {
            Err(DataError::Inconsistent {
                what: "normalisation channels numbering",
                expected: self.parts.shape.channels.to_string(),
                found: normalisation.mean.len().to_string(),
            })
        }
    }

    /// For messages and reports.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Names of the classes, in the order of the labels.
    pub fn classes(&self) -> &[String] {
        &self.parts.classes
    }

    /// What is known about each image.
    pub fn scans(&self) -> &[Scan] {
        &self.parts.scans
    }

    /// The bytes of image `index`, `[channel, height, width]`.
    ///
    /// # Panics
    ///
    /// If there is no such image.
    pub fn pixels(&self, index: usize) -> &[u8] {
        let len = self.parts.shape.len();
        &self.parts.pixels[index * len..][..len]
    }

    /// Further columns of the manifest.
    pub fn attributes(&self) -> &[Attribute] {
        &self.parts.attributes
    }

    /// What the reader noticed.
    pub fn warnings(&self) -> &[DataWarning] {
        &self.parts.warnings
    }

    /// How bytes become numbers.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }
}

impl ImageSource for Dataset {
    fn shape(&self) -> ImageShape {
        self.parts.shape
    }

    fn len(&self) -> usize {
        self.parts.scans.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.parts.scans[index].label
    }

    fn fill(&self, index: usize, out: &mut [f32]) {
        self.normalisation.apply(self.pixels(index), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, Split};

    fn parts() -> DatasetParts {
        DatasetParts {
            name: "test".to_owned(),
            shape: ImageShape { channels: 3, height: 1, width: 2 },
            classes: vec!["a".to_owned(), "b".to_owned()],
            scans: vec![Scan::new(0, Origin::Drawn(0)), Scan::new(1, Origin::Drawn(1))],
            pixels: vec![0, 255, 51, 102, 0, 0, 1, 2, 3, 4, 5, 6],
            attributes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn bytes_become_normalised_numbers_per_channel() {
        let dataset = Dataset::new(parts()).unwrap();
        let mut out = [0.0; 6];
        dataset.fill(0, &mut out);
        for (value, expected) in out.iter().zip([-1.0, 1.0, -0.6, -0.2, -1.0, -1.0]) {
            assert!((value - expected).abs() < 1e-6, "{out:?}");
        }
        let other = Normalisation::new(vec![0.0, 0.2, 0.0], vec![1.0, 0.5, 2.0]).unwrap();
        let dataset = dataset.with_normalisation(other.clone()).unwrap();
        dataset.fill(0, &mut out);
        for (value, expected) in out.iter().zip([0.0, 1.0, 0.0, 0.4, 0.0, 0.0]) {
            assert!((value - expected).abs() < 1e-6, "{out:?}");
        }
        let json = serde_json::to_string(&other).unwrap();
        assert_eq!(serde_json::from_str::<Normalisation>(&json).unwrap(), other);
        assert!(serde_json::from_str::<Normalisation>(r#"{"mean":[0.5],"std":[0.0]}"#).is_err());
        assert!(dataset.with_normalisation(Normalisation::centred(1)).is_err());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let refuse = |change: &dyn Fn(&mut DatasetParts)| {
            let mut parts = parts();
            change(&mut parts);
            Dataset::new(parts).unwrap_err()
        };
        assert!(matches!(refuse(&|p| p.shape.channels = 2), DataError::Inconsistent { .. }));
        assert!(matches!(refuse(&|p| p.pixels.truncate(11)), DataError::Inconsistent { .. }));
        assert!(matches!(refuse(&|p| p.scans[0].label = 2), DataError::Inconsistent { .. }));
        assert!(matches!(refuse(&|p| p.classes.truncate(1)), DataError::ClassCount { found: 1, .. }));
        let values = vec![None; 3];
        let short = |p: &mut DatasetParts| {
            p.attributes.push(Attribute { name: "x".to_owned(), values: values.clone() });
        };
        assert!(matches!(refuse(&short), DataError::Inconsistent { .. }));
        let only_tested = |p: &mut DatasetParts| {
            p.scans[0].split = Some(Split::Train);
            p.scans[1].split = Some(Split::Test);
        };
        let error = refuse(&only_tested).to_string();
        assert_eq!(error, "class \"b\" has no train image; every class needs one");
    }
}
