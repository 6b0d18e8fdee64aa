//! Batches of privacy units, and where their images come from.

use serde::{Deserialize, Serialize};

/// Shape of one image: `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// Elements of one image.
    pub fn len(self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether the image has no element.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A set of labelled images that can write any one of them, normalised, into a caller's buffer.
///
/// The executor pulls images micro-batch by micro-batch, so memory does not grow with the batch.
pub trait ImageSource: Sync {
    /// Shape of every image.
    fn shape(&self) -> ImageShape;
    /// Number of images.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Class of image `index`, counted from 0.
    fn label(&self, index: usize) -> u32;
    /// Writes image `index` as `[channels, height, width]`, normalised, into `out` of `shape().len()`.
    fn fill(&self, index: usize, out: &mut [f32]);
}

/// A batch that does not describe units of images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A privacy unit without images.
    #[error("privacy unit {unit} has no image")]
    EmptyUnit {
        /// Position of the unit in the batch.
        unit: usize,
    },
}

/// A list of privacy units, each one or more images given by their index in an [`ImageSource`].
/// A batch without units is an ordinary batch: Poisson sampling draws one now and then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    images: Vec<u32>,
    /// `starts[u]..starts[u + 1]` are the positions of unit `u` in `images`; one longer than the units.
    starts: Vec<u32>,
}

impl Batch {
    /// A batch of units, each a list of image indices.
    pub fn of_units<'a>(units: impl IntoIterator<Item = &'a [u32]>) -> Result<Self, BatchError> {
        let mut batch = Self { images: Vec::new(), starts: vec![0] };
        for (unit, images) in units.into_iter().enumerate() {
            if images.is_empty() {
                return Err(BatchError::EmptyUnit { unit });
            }
            batch.images.extend_from_slice(images);
            batch.starts.push(batch.images.len() as u32);
        }
        Ok(batch)
    }

    /// A batch in which every image is a unit of its own.
    pub fn of_images(images: Vec<u32>) -> Self {
        let starts = (0..=images.len() as u32).collect();
        Self { images, starts }
    }

    /// Number of privacy units.
    pub fn units(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The image indices of unit `unit`.
    pub fn unit(&self, unit: usize) -> &[u32] {
        &self.images[self.starts[unit] as usize..self.starts[unit + 1] as usize]
    }

    /// All image indices, unit after unit.
    pub fn images(&self) -> &[u32] {
        &self.images
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_keep_their_images() {
        let batch = Batch::of_units([&[3u32, 4][..], &[9][..]]).unwrap();
        assert_eq!(batch.units(), 2);
        assert_eq!(batch.unit(0), [3, 4]);
        assert_eq!(batch.unit(1), [9]);
        assert_eq!(Batch::of_units([&[][..]]), Err(BatchError::EmptyUnit { unit: 0 }));
        assert_eq!(Batch::default().units(), 0);
        assert_eq!(Batch::of_images(vec![]).units(), 0);
        assert_eq!(Batch::of_images(vec![5, 6]).unit(1), [6]);
    }
}
