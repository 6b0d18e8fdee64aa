//! Many image files to the pixels of a [`Dataset`](crate::Dataset), in parallel.

use std::path::{Path, PathBuf};

use medfed_types::ImageShape;
use rayon::prelude::*;

use crate::decode::{Picture, read_picture};
use crate::error::{DataError, DataWarning, ImageFault};
use crate::load::{FOLDER_IMAGE_SIZE, LoadOptions, MOST_BYTES};

/// Faulty images that an error lists.
const MOST_LISTED: usize = 10;
/// An image whose brightest sample is below this is almost black.
const ALMOST_BLACK: u8 = 17;

/// Decoded images of one shape.
pub(crate) struct Pictures {
    pub(crate) shape: ImageShape,
    /// `[image, channel, height, width]`.
    pub(crate) pixels: Vec<u8>,
    pub(crate) warnings: Vec<DataWarning>,
}

/// One image, resized, and what must be known of it as it was.
struct Decoded {
    picture: Picture,
    coloured: bool,
    dark: bool,
}

impl Pictures {
    /// Reads the files, given relative to `root`. None may lie outside `root`, links followed.
    pub(crate) fn read(root: &Path, files: &[PathBuf], options: &LoadOptions) -> Result<Self, DataError> {
        let size = options.image_size.unwrap_or(FOLDER_IMAGE_SIZE);
        let needed = (files.len() as u64)
            .saturating_mul((size as u64).saturating_mul(size as u64))
            .saturating_mul(options.channels.unwrap_or(3) as u64);
        if needed > MOST_BYTES {
            return Err(DataError::TooLarge { needed, limit: MOST_BYTES });
        }
        let real_root =
            root.canonicalize().map_err(|source| DataError::Read { path: root.to_owned(), source })?;
        let decode = |file: &PathBuf| {
            let real = root.join(file).canonicalize().map_err(ImageFault::Read)?;
            if !real.starts_with(&real_root) {
                return Err(ImageFault::Outside);
            }
            let picture = read_picture(&real)?;
            let (coloured, dark) = (picture.is_coloured(), picture.brightest() < ALMOST_BLACK);
            Ok(Decoded { picture: picture.resized(size, size)?, coloured, dark })
        };
        let results: Vec<Result<Decoded, ImageFault>> = files.par_iter().map(decode).collect();

        let total = results.iter().filter(|result| result.is_err()).count();
        if total > 0 {
            let faults = results
                .into_iter()
                .zip(files)
                .filter_map(|(result, file)| Some((root.join(file), result.err()?)));
            return Err(DataError::Images {
                images: faults.take(MOST_LISTED).collect(),
                total,
                of: files.len(),
            });
        }
        let decoded: Vec<Decoded> = results.into_iter().flatten().collect();
        let coloured = decoded.iter().filter(|image| image.coloured).count();
        let channels = options.channels.unwrap_or(if 2 * coloured > decoded.len() { 3 } else { 1 });
        let mut warnings = Vec::new();
        if coloured > 0 && coloured < decoded.len() {
            let used = if channels == 3 { "colour" } else { "grey" };
            warnings.push(DataWarning::MixedColour { colour: coloured, images: decoded.len(), used });
        }
        if let Some(first) = decoded.iter().position(|image| image.dark) {
            warnings.push(DataWarning::AlmostBlack {
                count: decoded.iter().filter(|image| image.dark).count(),
                example: files[first].display().to_string(),
            });
        }
        let shape = ImageShape { channels, height: size, width: size };
        let mut pixels = Vec::with_capacity(decoded.len() * shape.len());
        for image in decoded {
            pixels.extend(image.picture.planes(channels));
        }
        Ok(Self { shape, pixels, warnings })
    }
}
