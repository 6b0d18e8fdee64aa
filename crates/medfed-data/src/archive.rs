//! MedMNIST archives: numpy's `.npz` with `{train,val,test}_{images,labels}`.
//!
//! Images are `[n, height, width]` (grey) or `[n, height, width, 3]` (RGB) unsigned bytes, labels `[n]`
//! or `[n, 1]` integers; `val` and `test` may be absent. Images are read one by one, so memory follows
//! the bytes that come out of the archive and not the shape it declares.
//!
//! A table `NAME_patients.csv` beside `NAME.npz`, with the columns `mnist_split`, `mnist_index` and
//! `group_id`, gives each image its patient; a blank `group_id` leaves the patient unknown.

mod npy_header;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use medfed_types::ImageShape;
use zip::ZipArchive;

use self::npy_header::NpyHeader;
use crate::dataset::{Dataset, DatasetParts, MOST_CLASSES};
use crate::decode::Picture;
use crate::error::{ArrayFault, DataError, DataWarning};
use crate::load::{LoadOptions, MOST_BYTES};
use crate::scan::{Origin, Scan, Split};
use crate::table::Table;

/// Rows or columns that an image of an archive may have.
const MOST_PIXELS_A_SIDE: u64 = 4096;
/// DEFLATE packs at most this many bytes into one.
const MOST_INFLATION: u64 = 1032;

/// Names of the classes of the single-label MedMNIST sets, by their file's stem.
const KNOWN_CLASSES: &[(&str, &[&str])] = &[
    (
        "bloodmnist",
        &[
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocyte",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ],
    ),
    ("breastmnist", &["malignant", "normal or benign"]),
    (
        "dermamnist",
        &[
            "actinic keratosis",
            "basal cell carcinoma",
            "benign keratosis",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevus",
            "vascular lesion",
        ],
    ),
    ("octmnist", &["neovascularisation", "macular oedema", "drusen", "normal"]),
    ("organamnist", ORGANS),
    ("organcmnist", ORGANS),
    ("organsmnist", ORGANS),
    (
        "pathmnist",
        &[
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal mucosa",
            "cancer stroma",
            "adenocarcinoma",
        ],
    ),
    ("pneumoniamnist", &["normal", "pneumonia"]),
];

const ORGANS: &[&str] = &[
    "bladder",
    "left femur",
    "right femur",
    "heart",
    "left kidney",
    "right kidney",
    "liver",
    "left lung",
    "right lung",
    "pancreas",
    "spleen",
];

/// Reads the archive at `path`.
pub(crate) fn load(path: &Path, options: &LoadOptions) -> Result<Dataset, DataError> {
    let file = File::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let length = file.metadata().map_err(|source| DataError::Read { path: path.to_owned(), source })?.len();
    let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| DataError::Format {
        path: path.to_owned(),
        expected: "a .npz archive as numpy.savez writes it",
        found: format!("not an archive ({error})"),
    })?;
    let mut archive = Archive { path, zip, length };
    let mut images = Images { shape: None, pixels: Vec::new() };
    let mut scans: Vec<Scan> = Vec::new();
    for (split, key) in [(Split::Train, "train"), (Split::Validation, "val"), (Split::Test, "test")] {
        let (images_name, labels_name) = (format!("{key}_images"), format!("{key}_labels"));
        if split != Split::Train && !archive.has(&images_name) && !archive.has(&labels_name) {
            continue;
        }
        let count = archive.read_images(&images_name, options, &mut images)?;
        for (index, label) in archive.read_labels(&labels_name, count)?.into_iter().enumerate() {
            let mut scan = Scan::new(label, Origin::Element { split, index: index as u32 });
            scan.split = Some(split);
            scans.push(scan);
        }
    }
    let Some(shape) = images.shape.filter(|_| !scans.is_empty()) else {
        return Err(DataError::Empty { path: path.to_owned(), skipped: 0 });
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let warnings = patients(path, &stem, &mut scans)?.into_iter().collect();
    Dataset::new(DatasetParts {
        classes: class_names(&stem, &scans),
        name: stem,
        shape,
        scans,
        pixels: images.pixels,
        attributes: Vec::new(),
        warnings,
    })
}

fn class_names(stem: &str, scans: &[Scan]) -> Vec<String> {
    let count = scans.iter().map(|scan| scan.label as usize + 1).max().unwrap_or(0);
    let set = stem.split('_').next().unwrap_or(stem).to_ascii_lowercase();
    match KNOWN_CLASSES.iter().find(|(name, classes)| *name == set && classes.len() == count) {
        Some((_, classes)) => classes.iter().map(|class| (*class).to_owned()).collect(),
        None => (0..count).map(|class| class.to_string()).collect(),
    }
}

/// Takes the patients from the table beside the archive, if there is one.
fn patients(path: &Path, stem: &str, scans: &mut [Scan]) -> Result<Option<DataWarning>, DataError> {
    let name = format!("{stem}_patients.csv");
    let table_path = path.with_file_name(&name);
    if !table_path.is_file() {
        return Ok(None);
    }
    let mut positions: HashMap<(Split, u32), usize> = HashMap::new();
    for (at, scan) in scans.iter().enumerate() {
        if let Origin::Element { split, index } = scan.origin {
            positions.insert((split, index), at);
        }
    }
    let mut table = Table::open(&table_path)?;
    let split_column = table.required("mnist_split")?;
    let index_column = table.required("mnist_index")?;
    let group_column = table.required("group_id")?;
    let label_column = table.find("label");
    let mut known: HashMap<String, Arc<str>> = HashMap::new();
    while let Some(row) = table.next_row()? {
        let split = Split::parse(row.text(split_column));
        let split = split.ok_or_else(|| row.fault(split_column, "train, val or test"))?;
        let at = row.text(index_column).parse().ok().and_then(|index| positions.get(&(split, index)));
        let scan =
            &mut scans[*at.ok_or_else(|| row.fault(index_column, "the index of an image in its split"))?];
        if let Some(label) = label_column
            && row.text(label).parse() != Ok(scan.label)
        {
            return Err(row.fault(label, "the label that the archive gives this image"));
        }
        let group = row.text(group_column);
        if !group.is_empty() {
            let patient = known.entry(group.to_owned()).or_insert_with(|| group.into());
            scan.patient = Some(Arc::clone(patient));
        }
    }
    let unknown = scans.iter().filter(|scan| scan.patient.is_none()).count();
    Ok(Some(DataWarning::PatientTable { file: name, unknown, images: scans.len() }))
}

/// The images read so far, `[image, channel, height, width]`.
struct Images {
    shape: Option<ImageShape>,
    pixels: Vec<u8>,
}

struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<BufReader<File>>,
    /// Bytes of the whole file.
    length: u64,
}

impl Archive<'_> {
    fn has(&self, array: &str) -> bool {
        self.zip.index_for_name(&format!("{array}.npy")).is_some()
    }

    fn fault(&self, array: &str, problem: ArrayFault) -> DataError {
        DataError::Array { path: self.path.to_owned(), array: array.to_owned(), problem }
    }

    /// Opens an array, hands its header and elements to `read`, and checks that nothing is left over
    /// and that the checksum is right.
    fn with_array<T>(
        &mut self,
        array: &str,
        read: impl FnOnce(&NpyHeader, &mut dyn Read, u64) -> Result<T, ArrayFault>,
    ) -> Result<T, DataError> {
        if !self.has(array) {
            let names = self.zip.file_names().flatten().map(|name| name.trim_end_matches(".npy").to_owned());
            let mut found: Vec<String> = names.take(20).collect();
            found.sort();
            return Err(DataError::MissingArray {
                path: self.path.to_owned(),
                missing: array.to_owned(),
                found,
            });
        }
        let result =
            self.zip.by_name(&format!("{array}.npy")).map_err(ArrayFault::Entry).and_then(|mut entry| {
                let unpacked = entry.size();
                let header = NpyHeader::read(&mut entry)?;
                let value = read(&header, &mut entry, unpacked.saturating_sub(header.header_bytes))?;
                // Reading to the end checks the checksum.
                match entry.read(&mut [0]).map_err(ArrayFault::Damaged)? {
                    0 => Ok(value),
                    _ => Err(ArrayFault::Header("elements follow its last one")),
                }
            });
        result.map_err(|problem| self.fault(array, problem))
    }

    /// Appends the images of `array`; gives their number.
    fn read_images(
        &mut self,
        array: &str,
        options: &LoadOptions,
        images: &mut Images,
    ) -> Result<usize, DataError> {
        let length = self.length;
        let layout = self.with_array(array, |header, reader, unpacked| {
            let layout = ImageLayout::of(header)?;
            let bytes = (layout.count as u128) * (layout.len() as u128);
            let expected = u64::try_from(bytes).unwrap_or(u64::MAX);
            if expected != unpacked {
                return Err(ArrayFault::Size { expected, found: unpacked });
            }
            let shape = ImageShape {
                channels: options.channels.unwrap_or(layout.channels),
                height: options.image_size.unwrap_or(layout.height),
                width: options.image_size.unwrap_or(layout.width),
            };
            let before = *images.shape.get_or_insert(shape);
            if before != shape {
                let expected =
                    format!("images of the training split's size, {}x{}", before.height, before.width);
                return Err(ArrayFault::Shape { expected, found: header.shape.clone() });
            }
            // What can really be there, whatever the header says.
            let possible =
                (length.saturating_mul(MOST_INFLATION) / layout.len() as u64).min(layout.count as u64);
            let room = possible.saturating_mul(shape.len() as u64);
            if (images.pixels.len() as u64).saturating_add(room) > MOST_BYTES {
                return Ok(Err(room));
            }
            images.pixels.reserve(room as usize);
            layout.read(reader, |picture| {
                let fitted = picture.resized(shape.height, shape.width);
                let fitted = fitted.map_err(|_| ArrayFault::Header("an image cannot be resized"))?;
                images.pixels.extend(fitted.planes(shape.channels));
                Ok(())
            })?;
            Ok(Ok(layout.count))
        })?;
        layout.map_err(|needed| DataError::TooLarge { needed, limit: MOST_BYTES })
    }

    fn read_labels(&mut self, array: &str, count: usize) -> Result<Vec<u32>, DataError> {
        self.with_array(array, |header, reader, _| {
            match header.shape[..] {
                [n] | [n, 1] if n == count as u64 => {}
                [_, columns] if columns > 1 => return Err(ArrayFault::MultiLabel { columns }),
                _ => {
                    let expected = format!("[{count}, 1]: one label per image");
                    return Err(ArrayFault::Shape { expected, found: header.shape.clone() });
                }
            }
            let kind = IntegerType::parse(&header.descr).ok_or_else(|| ArrayFault::Type {
                expected: "integers of 1, 2, 4 or 8 bytes",
                found: shortened(&header.descr),
            })?;
            let expected = (count * kind.bytes) as u64;
            let mut raw = Vec::new();
            reader.take(expected).read_to_end(&mut raw).map_err(ArrayFault::Damaged)?;
            if raw.len() as u64 != expected {
                return Err(ArrayFault::Size { expected, found: raw.len() as u64 });
            }
            let most = MOST_CLASSES as u32 - 1;
            let labels = raw.chunks_exact(kind.bytes).enumerate().map(|(index, bytes)| {
                let found = kind.read(bytes);
                u32::try_from(found).ok().filter(|label| *label <= most).ok_or(ArrayFault::Label {
                    index,
                    found,
                    most,
                })
            });
            labels.collect()
        })
    }
}

/// How the images of an array lie in it.
struct ImageLayout {
    count: usize,
    height: usize,
    width: usize,
    channels: usize,
    fortran_order: bool,
}

impl ImageLayout {
    fn of(header: &NpyHeader) -> Result<Self, ArrayFault> {
        if !matches!(header.descr.as_str(), "|u1" | "<u1" | ">u1" | "=u1" | "u1") {
            let found = shortened(&header.descr);
            return Err(ArrayFault::Type { expected: "unsigned bytes (|u1)", found });
        }
        let side = 1..=MOST_PIXELS_A_SIDE;
        let (count, height, width, channels) = match header.shape[..] {
            [n, h, w] if side.contains(&h) && side.contains(&w) => (n, h, w, 1),
            [n, h, w, c @ (1 | 3)] if side.contains(&h) && side.contains(&w) => (n, h, w, c),
            _ => {
                let expected = format!(
                    "[n, height, width] or [n, height, width, 3] up to {MOST_PIXELS_A_SIDE} pixels a side"
                );
                return Err(ArrayFault::Shape { expected, found: header.shape.clone() });
            }
        };
        let count = u32::try_from(count).map_err(|_| ArrayFault::Shape {
            expected: format!("at most {} images", u32::MAX),
            found: header.shape.clone(),
        })?;
        Ok(Self {
            count: count as usize,
            height: height as usize,
            width: width as usize,
            channels: channels as usize,
            fortran_order: header.fortran_order,
        })
    }

    /// Bytes of one image.
    fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Reads the images one by one.
    fn read(
        &self,
        reader: &mut dyn Read,
        mut each: impl FnMut(Picture) -> Result<(), ArrayFault>,
    ) -> Result<(), ArrayFault> {
        let total = (self.count as u64).saturating_mul(self.len() as u64);
        if self.fortran_order {
            // The first index runs fastest, so no image is whole before all of them are there.
            let mut all = Vec::new();
            reader.take(total).read_to_end(&mut all).map_err(ArrayFault::Damaged)?;
            if all.len() as u64 != total {
                return Err(ArrayFault::Size { expected: total, found: all.len() as u64 });
            }
            for image in 0..self.count {
                let mut pixels = Vec::with_capacity(self.len());
                for y in 0..self.height {
                    for x in 0..self.width {
                        for c in 0..self.channels {
                            pixels.push(all[image + self.count * (y + self.height * (x + self.width * c))]);
                        }
                    }
                }
                each(Picture::new(self.channels, self.height, self.width, pixels))?;
            }
            return Ok(());
        }
        for image in 0..self.count {
            let mut pixels = Vec::new();
            reader.take(self.len() as u64).read_to_end(&mut pixels).map_err(ArrayFault::Damaged)?;
            if pixels.len() < self.len() {
                let found = (image * self.len() + pixels.len()) as u64;
                return Err(ArrayFault::Size { expected: total, found });
            }
            each(Picture::new(self.channels, self.height, self.width, pixels))?;
        }
        Ok(())
    }
}

/// An integer type of numpy.
struct IntegerType {
    bytes: usize,
    signed: bool,
    big_endian: bool,
}

impl IntegerType {
    /// `|u1`, `<i8`, `>i4`, `|b1` and so on.
    fn parse(descr: &str) -> Option<Self> {
        let mut letters = descr.chars();
        let big_endian = match letters.next()? {
            '<' | '|' | '=' => false,
            '>' => true,
            _ => return None,
        };
        let (signed, bytes) = match letters.as_str() {
            "i1" => (true, 1),
            "i2" => (true, 2),
            "i4" => (true, 4),
            "i8" => (true, 8),
            "u1" | "b1" => (false, 1),
            "u2" => (false, 2),
            "u4" => (false, 4),
            "u8" => (false, 8),
            _ => return None,
        };
        Some(Self { bytes, signed, big_endian })
    }

    fn read(&self, bytes: &[u8]) -> i128 {
        let mut wide = [0; 8];
        for (at, byte) in bytes.iter().enumerate() {
            wide[if self.big_endian { bytes.len() - 1 - at } else { at }] = *byte;
        }
        let value = u64::from_le_bytes(wide);
        let unused = 64 - 8 * self.bytes as u32;
        if self.signed { i128::from((value << unused).cast_signed() >> unused) } else { i128::from(value) }
    }
}

/// At most 40 characters, for messages.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_kind() {
        let read = |descr: &str, bytes: &[u8]| IntegerType::parse(descr).unwrap().read(bytes);
        assert_eq!(read("<i8", &[1, 0, 0, 0, 0, 0, 0, 0]), 1);
        assert_eq!(read(">i2", &[1, 2]), 258);
        assert_eq!(read("|i1", &[0xff]), -1);
        assert_eq!(read("|u1", &[0xff]), 255);
        assert_eq!(read("<i4", &[0xfe, 0xff, 0xff, 0xff]), -2);
        assert_eq!(read(">u8", &[0xff; 8]), i128::from(u64::MAX));
        for descr in ["<f4", "|O", "", "é", "<i3", "|S7"] {
            assert!(IntegerType::parse(descr).is_none(), "{descr}");
        }
    }
}
