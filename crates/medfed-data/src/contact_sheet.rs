//! A contact sheet: some images of every class, to look at.
//!
//! One band per class with its name and number of images, in the order of the classes. The images
//! themselves are as the model sees them, after resizing, enlarged or reduced to the sheet's cells.

mod font;

use std::io::Write;
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use medfed_types::{ImageSource, Seed};
use rand::seq::SliceRandom;

use self::font::{GLYPH_HEIGHT, GLYPH_PITCH, glyph};
use crate::dataset::Dataset;
use crate::decode::Picture;
use crate::error::DataError;

/// Rows of an image on the sheet.
const CELL: usize = 144;
/// Columns of an image on the sheet, at most; wide images are squeezed.
const WIDEST: usize = 288;
/// Pixels between cells.
const GAP: usize = 8;
/// Pixels of the sheet per pixel of a letter.
const LETTER: usize = 2;
/// Rows of a caption.
const CAPTION: usize = GLYPH_HEIGHT * LETTER + 10;
/// Classes that are shown.
const MOST_CLASSES: usize = 24;
/// Images of a class that are shown.
pub const MOST_IMAGES: usize = 64;

const PAPER: [u8; 3] = [24, 26, 30];
const INK: [u8; 3] = [232, 234, 238];

/// A sheet of images, `[row, column, red green blue]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactSheet {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl ContactSheet {
    /// Draws up to `count` images of every class (at most [`MOST_IMAGES`] of the first 24 classes),
    /// chosen by `seed`.
    pub fn draw(dataset: &Dataset, count: usize, seed: Seed) -> Result<Self, DataError> {
        if !(1..=MOST_IMAGES).contains(&count) {
            return Err(DataError::Plan {
                what: "the images of a class on a sheet",
                expected: "1 to 64",
                found: count.to_string(),
            });
        }
        let shape = dataset.shape();
        let cell_width = (CELL * shape.width / shape.height).clamp(1, WIDEST);
        let classes = dataset.classes().len().min(MOST_CLASSES);
        let chosen: Vec<Vec<usize>> = (0..classes)
            .map(|class| {
                let mut all: Vec<usize> =
                    (0..dataset.len()).filter(|index| dataset.label(*index) as usize == class).collect();
                all.shuffle(&mut seed.generator("contact sheet", &[class as u64]));
                all.truncate(count);
                all
            })
            .collect();
        let columns = chosen.iter().map(Vec::len).max().unwrap_or(0).clamp(1, 8);
        let rows: usize = chosen.iter().map(|images| images.len().div_ceil(columns)).sum();
        let width = GAP + columns.max(3) * (cell_width + GAP);
        let height = GAP + classes * (CAPTION + GAP) + rows * (CELL + GAP);
        let mut sheet = Self { width, height, pixels: PAPER.repeat(width * height) };
        let mut y = GAP;
        for (class, images) in chosen.iter().enumerate() {
            let total = dataset.scans().iter().filter(|scan| scan.label as usize == class).count();
            sheet.write(GAP, y + 4, &format!("{} ({total})", dataset.classes()[class]));
            y += CAPTION + GAP;
            for row in images.chunks(columns) {
                for (column, index) in row.iter().enumerate() {
                    let picture = picture(dataset, *index, cell_width)?;
                    sheet.paste(GAP + column * (cell_width + GAP), y, cell_width, &picture);
                }
                y += CELL + GAP;
            }
        }
        Ok(sheet)
    }

    /// Columns and rows in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Writes the sheet as a PNG. The file appears whole or not at all.
    pub fn write_png(&self, path: &Path) -> Result<(), DataError> {
        let refused = |source| DataError::Write { path: path.to_owned(), source };
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.pixels, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(|error| refused(std::io::Error::other(error)))?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(refused(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let partial = folder.join(name);
        let written = std::fs::File::create(&partial)
            .and_then(|mut file| file.write_all(&png).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&partial, path));
        written.map_err(|source| {
            // What is left of a failed attempt is of no use; that it cannot be removed is no news.
            let _ = std::fs::remove_file(&partial);
            refused(source)
        })
    }

    fn paste(&mut self, left: usize, top: usize, width: usize, rgb: &[u8]) {
        for (row, line) in rgb.chunks_exact(3 * width).enumerate() {
            let start = 3 * ((top + row) * self.width + left);
            self.pixels[start..start + line.len()].copy_from_slice(line);
        }
    }

    /// Writes one line of text; what does not fit is cut off.
    fn write(&mut self, left: usize, top: usize, text: &str) {
        for (at, letter) in text.chars().enumerate() {
            let x = left + at * GLYPH_PITCH * LETTER;
            if x + GLYPH_PITCH * LETTER > self.width {
                return;
            }
            for (row, bits) in glyph(letter).into_iter().enumerate() {
                for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                    self.dot(x + column * LETTER, top + row * LETTER);
                }
            }
        }
    }

    fn dot(&mut self, left: usize, top: usize) {
        for y in top..top + LETTER {
            let start = 3 * (y * self.width + left);
            self.pixels[start..start + 3 * LETTER].copy_from_slice(&INK.repeat(LETTER));
        }
    }
}

/// An image in the size of a cell, `[row, column, red green blue]`.
fn picture(dataset: &Dataset, index: usize, width: usize) -> Result<Vec<u8>, DataError> {
    let shape = dataset.shape();
    let planes = dataset.pixels(index);
    let plane = shape.height * shape.width;
    let colour = |at: usize| (0..3).map(move |c| planes[at + plane * (c % shape.channels)]);
    let interleaved = (0..plane).flat_map(colour).collect();
    Picture::new(3, shape.height, shape.width, interleaved)
        .resized(CELL, width)
        .map(Picture::into_pixels)
        .map_err(|fault| DataError::Images {
            images: vec![(dataset.scans()[index].origin.to_string().into(), fault)],
            total: 1,
            of: 1,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatasetParts, Origin, Scan};
    use medfed_types::ImageShape;

    fn dataset(shape: ImageShape) -> Dataset {
        let scans: Vec<Scan> = (0..7).map(|at| Scan::new(u32::from(at == 6), Origin::Drawn(at))).collect();
        let pixels = (0..7u8).flat_map(|image| vec![30 * image + 20; shape.len()]).collect();
        let classes = vec!["Healthy".to_owned(), "Ügly".to_owned()];
        let (name, attributes, warnings) = ("test".to_owned(), Vec::new(), Vec::new());
        Dataset::new(DatasetParts { name, shape, classes, scans, pixels, attributes, warnings }).unwrap()
    }

    #[test]
    fn the_sheet_shows_every_class_and_repeats_with_its_seed() {
        let dataset = dataset(ImageShape { channels: 1, height: 8, width: 8 });
        let sheet = ContactSheet::draw(&dataset, 4, Seed(3)).unwrap();
        assert_eq!(sheet, ContactSheet::draw(&dataset, 4, Seed(3)).unwrap());
        let (width, height) = sheet.size();
        assert_eq!(sheet.pixels.len(), 3 * width * height);
        // The only image of the second class is there whatever the seed.
        assert!(sheet.pixels.chunks_exact(3).filter(|p| *p == [200; 3]).count() >= CELL * CELL);
        assert!(sheet.pixels.chunks_exact(3).any(|p| p == INK));
        assert!(ContactSheet::draw(&dataset, 0, Seed(3)).is_err());
        let wide = self::dataset(ImageShape { channels: 3, height: 2, width: 900 });
        assert!(ContactSheet::draw(&wide, 64, Seed(3)).is_ok());
    }

    #[test]
    fn writing_is_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let sheet = ContactSheet::draw(&dataset(ImageShape { channels: 1, height: 4, width: 4 }), 2, Seed(1))
            .unwrap();
        let path = folder.path().join("sheet.png");
        sheet.write_png(&path).unwrap();
        let read = image::open(&path).unwrap().to_rgb8();
        assert_eq!(read.as_raw(), &sheet.pixels);
        assert!(matches!(sheet.write_png(&folder.path().join("no/sheet.png")), Err(DataError::Write { .. })));
        assert!(sheet.write_png(folder.path()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
