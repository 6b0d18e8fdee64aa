//! Small data sets of the kinds that `medfed simulate` reads.

use image::{GrayImage, Luma};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Rows and columns of every picture.
const SIDE: usize = 28;

/// A square picture of pixels that `seed` decides.
pub(crate) fn grey(side: u32, seed: u32) -> GrayImage {
    GrayImage::from_fn(side, side, |x, y| Luma([pixel(seed, x + side * y)]))
}

/// Noise around a brightness; pictures with different seeds differ.
fn pixel(seed: u32, place: u32) -> u8 {
    let mixed = (seed.wrapping_mul(0x9e37_79b9) ^ place.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
    (mixed >> 25) as u8 + (seed % 8 * 16) as u8
}

/// `dir/class_N/*.png`.
pub(crate) fn class_folders(dir: &Path, classes: u32, of_each: u32) {
    for class in 0..classes {
        let folder = dir.join(format!("class_{class}"));
        fs::create_dir_all(&folder).expect("the folder is ours");
        for number in 0..of_each {
            let picture = grey(SIDE as u32, number * classes + class);
            picture.save(folder.join(format!("{number}.png"))).expect("the folder is ours");
        }
    }
}

/// `dir/metadata.csv` with patients of `images` pictures each, who are ill or well, at two scanners.
pub(crate) fn manifest(dir: &Path, patients: u32, images: u32) {
    fs::create_dir_all(dir).expect("the folder is ours");
    let mut rows = "file,label,patient_id,scanner\n".to_owned();
    for patient in 0..patients {
        let label = if patient % 2 == 0 { "well" } else { "ill" };
        let scanner = if patient % 4 < 2 { "east" } else { "west" };
        for image in 0..images {
            let name = format!("{patient}_{image}.png");
            grey(SIDE as u32, patient * images + image).save(dir.join(&name)).expect("the folder is ours");
            // Writing to a string cannot fail.
            let _ = writeln!(rows, "{name},{label},p{patient},{scanner}");
        }
    }
    fs::write(dir.join("metadata.csv"), rows).expect("the folder is ours");
}

/// An archive in the layout of MedMNIST with colour pictures: `of_each` of every class to train on, a
/// quarter of that to validate and to test.
pub(crate) fn archive(path: &Path, classes: u32, of_each: u32) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).expect("the folder is ours"));
    let mut first = 0;
    for (split, of_each) in [("train", of_each), ("val", of_each / 4), ("test", of_each / 4)] {
        let count = classes * of_each;
        let size = (SIDE * SIDE * 3) as u32;
        let pixels = (first..first + count).flat_map(|seed| (0..size).map(move |place| pixel(seed, place)));
        let labels = (0..count).map(|image| (image % classes) as u8);
        first += count;
        let arrays = [
            ("images", format!("({count}, {SIDE}, {SIDE}, 3)"), pixels.collect::<Vec<u8>>()),
            ("labels", format!("({count}, 1)"), labels.collect()),
        ];
        for (name, shape, values) in arrays {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(format!("{split}_{name}.npy"), options).expect("the name is new");
            let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
            // Ten bytes stand before the header, a line feed ends it, and the values begin at 128.
            let header = format!("{header:<117}\n");
            let bytes = [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), &values].concat();
            zip.write_all(&bytes).expect("the folder is ours");
        }
    }
    zip.finish().expect("the folder is ours");
}
