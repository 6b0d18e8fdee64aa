//! Archives, folders and manifests as files, sound and hostile.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use medfed_data::inspect::Summary;
use medfed_data::{ColumnNames, DataError, DataWarning, Dataset, LoadOptions, Split};
use medfed_types::{ImageShape, ImageSource};
use proptest::prelude::*;

fn load(path: &Path) -> Result<Dataset, DataError> {
    Dataset::load(path, &LoadOptions::default())
}

/// An array file: numpy's header, then the elements.
fn npy(descr: &str, order: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(elements);
    bytes
}

fn archive(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in arrays {
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Named array files.
type Arrays = Vec<(&'static str, Vec<u8>)>;

fn small_arrays() -> Arrays {
    vec![
        ("train_images", npy("|u1", "False", "(4, 2, 3)", &(0..24).collect::<Vec<u8>>())),
        ("train_labels", npy("<i8", "False", "(4, 1)", &[0u64, 1, 0, 1].map(u64::to_le_bytes).concat())),
        ("test_images", npy("|u1", "False", "(2, 2, 3)", &[9; 12])),
        ("test_labels", npy("|u1", "False", "(2,)", &[1, 0])),
    ]
}

fn saved(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn png(width: u32, height: u32, grey: u8) -> Vec<u8> {
    let image =
        image::GrayImage::from_fn(width, height, |x, y| image::Luma([grey.wrapping_add((3 * x + y) as u8)]));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn a_small_archive_is_read_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = load(&saved(folder.path(), "set.npz", &archive(&small_arrays()))).unwrap();
    assert_eq!(dataset.shape(), ImageShape { channels: 1, height: 2, width: 3 });
    assert_eq!(dataset.len(), 6);
    assert_eq!(dataset.classes(), ["0", "1"]);
    assert_eq!(dataset.pixels(1), [6, 7, 8, 9, 10, 11]);
    assert_eq!(dataset.label(4), 1);
    assert_eq!(dataset.scans()[5].split, Some(Split::Test));
    assert_eq!(dataset.scans()[5].origin.to_string(), "test_images[1]");
    assert!(dataset.warnings().is_empty());
}

#[test]
fn colour_and_fortran_order_give_the_same_planes() {
    let folder = tempfile::tempdir().unwrap();
    let labels = npy("|u1", "False", "(2, 1)", &[0, 1]);
    let (count, height, width) = (2usize, 2usize, 2usize);
    let value = |n: usize, y: usize, x: usize, c: usize| (100 * n + 40 * y + 10 * x + c) as u8;
    let mut rows = Vec::new();
    let mut columns = Vec::new();
    for n in 0..count {
        for y in 0..height {
            for x in 0..width {
                rows.extend((0..3).map(|c| value(n, y, x, c)));
            }
        }
    }
    for c in 0..3 {
        for x in 0..width {
            for y in 0..height {
                columns.extend((0..count).map(|n| value(n, y, x, c)));
            }
        }
    }
    let read = |order: &str, elements: &[u8]| {
        let images = npy("|u1", order, "(2, 2, 2, 3)", elements);
        let bytes = archive(&[("train_images", images), ("train_labels", labels.clone())]);
        load(&saved(folder.path(), "set.npz", &bytes)).unwrap()
    };
    let (plain, fortran) = (read("False", &rows), read("True", &columns));
    assert_eq!(plain.shape().channels, 3);
    assert_eq!(plain.pixels(1), [100, 110, 140, 150, 101, 111, 141, 151, 102, 112, 142, 152]);
    assert!((0..2).all(|index| plain.pixels(index) == fortran.pixels(index)));

    let options = LoadOptions { image_size: Some(5), channels: Some(1), ..LoadOptions::default() };
    let grey = Dataset::load(&folder.path().join("set.npz"), &options).unwrap();
    assert_eq!(grey.shape(), ImageShape { channels: 1, height: 5, width: 5 });
}

/// Archives that must be refused, each with the words that tell why.
#[test]
fn unusable_archives_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |change: &dyn Fn(&mut Arrays), words: &str| {
        let mut arrays = small_arrays();
        change(&mut arrays);
        let path = saved(folder.path(), "bad.npz", &archive(&arrays));
        let text = chain(&load(&path).unwrap_err());
        assert!(text.contains("bad.npz") || text.contains("class"), "{text}");
        assert!(text.contains(words), "expected {words:?} in: {text}");
    };
    let with = |descr: &'static str, shape: &'static str, elements: &'static [u8]| {
        npy(descr, "False", shape, elements)
    };
    refuse(
        &|a| drop(a.remove(1)),
        "no array \"train_labels\"; it has test_images, test_labels, train_images",
    );
    refuse(&|a| a[1].1 = with("<i8", "(4, 14)", &[0; 448]), "14 labels per image; multi-label");
    refuse(&|a| a[1].1 = with("|u1", "(3, 1)", &[0, 1, 0]), "has the shape [3, 1], expected [4, 1]");
    refuse(&|a| a[1].1 = with("<f4", "(4, 1)", &[0; 16]), "type \"<f4\", expected integers");
    refuse(&|a| a[1].1 = with("|i1", "(4, 1)", &[0, 255, 0, 1]), "the label -1 at index 1");
    refuse(
        &|a| a[1].1 = with("<u2", "(4, 1)", &[0, 0, 1, 0, 0, 0, 0xff, 0xff]),
        "the label 65535 at index 3",
    );
    refuse(&|a| a[1].1 = with("|u1", "(4, 1)", &[0, 2, 0, 2]), "class \"1\" has no train image");
    refuse(&|a| a[1].1 = with("|u1", "(4, 1)", &[0, 0, 0, 0]), "class \"1\" has no train image");
    refuse(&|a| a[0].1 = with("<f4", "(1, 2, 3)", &[0; 24]), "type \"<f4\", expected unsigned bytes");
    refuse(&|a| a[0].1 = with("|u1", "(4, 2, 3, 3, 3)", &[0; 216]), "has the shape [4, 2, 3, 3, 3]");
    refuse(&|a| a[0].1 = with("|u1", "(4, 2, 4)", &[0; 24]), "declares 32 bytes of elements and has 24");
    refuse(&|a| a[0].1 = with("|u1", "(4, 2, 2)", &[0; 24]), "declares 16 bytes of elements and has more");
    refuse(
        &|a| a[0].1 = with("|u1", "(1152921504606846976, 28, 28)", &[0; 24]),
        "expected at most 4294967295 images",
    );
    refuse(
        &|a| a[0].1 = with("|u1", "(4294967295, 4096, 4096)", &[0; 24]),
        "declares 72057594021150720 bytes",
    );
    refuse(&|a| a[2].1 = with("|u1", "(2, 3, 3)", &[0; 18]), "the training split's size, 2x3");
    refuse(&|a| a[0].1 = b"PK\x03\x04 no numpy array".to_vec(), "numpy's signature");
    refuse(&|a| a[0].1.truncate(20), "is damaged");
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

/// More elements than the header declares are never unpacked, even where the archive's directory lies
/// about them too.
#[test]
fn a_bomb_takes_no_more_memory_than_its_header_admits() {
    let folder = tempfile::tempdir().unwrap();
    let mut arrays = small_arrays();
    arrays[0].1 = npy("|u1", "False", "(4, 2, 3)", &vec![0; 50_000_000]);
    let mut bytes = archive(&arrays);
    let error = load(&saved(folder.path(), "bomb.npz", &bytes)).unwrap_err();
    assert!(error.to_string().contains("declares 24 bytes of elements and has more"), "{error}");

    let honest = npy("|u1", "False", "(4, 2, 3)", &[0; 24]).len() as u32;
    let entry = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&honest.to_le_bytes());
    assert!(matches!(load(&saved(folder.path(), "bomb.npz", &bytes)), Err(DataError::Array { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_archives_never_panic(at in 0usize..1400, byte: u8, cut in prop::option::of(0usize..1400)) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = archive(&small_arrays());
        let at = at % bytes.len();
        let changed = bytes[at] != byte;
        bytes[at] = byte;
        let whole = bytes.len();
        bytes.truncate(cut.unwrap_or(whole));
        let result = load(&saved(folder.path(), "set.npz", &bytes));
        if let Ok(dataset) = result {
            prop_assert!(dataset.len() >= 4 || changed);
        }
    }

    #[test]
    fn damaged_manifests_never_panic(at in 0usize..200, byte: u8) {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path(), "a.png", &png(3, 3, 1));
        saved(folder.path(), "b.png", &png(3, 3, 9));
        let mut text = b"file,label,age,sex,split\na.png,0,034Y,F,train\n\"b.png\",1,5,M,train\n".to_vec();
        let at = at % text.len();
        text[at] = byte;
        drop(load(&saved(folder.path(), "metadata.csv", &text)));
    }
}

#[test]
fn folders_with_and_without_splits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("chest");
    for (name, grey) in
        [("train/NORMAL/a.png", 10), ("train/PNEUMONIA/deep/b.PNG", 50), ("test/NORMAL/c.jpeg", 90)]
    {
        saved(&root, name, &png(8, 6, grey));
    }
    for name in ["train/NORMAL/.DS_Store", "train/NORMAL/notes.txt", "__MACOSX/train/x.png", "readme.md"] {
        saved(&root, name, b"?");
    }
    fs::create_dir(root.join("extra")).unwrap();
    let dataset = load(&root).unwrap();
    assert_eq!(dataset.name(), "chest");
    assert_eq!(dataset.classes(), ["NORMAL", "PNEUMONIA"]);
    assert_eq!(dataset.shape(), ImageShape { channels: 1, height: 64, width: 64 });
    let origins: Vec<String> = dataset.scans().iter().map(|scan| scan.origin.to_string()).collect();
    assert_eq!(origins, ["test/NORMAL/c.jpeg", "train/NORMAL/a.png", "train/PNEUMONIA/deep/b.PNG"]);
    assert_eq!(dataset.scans()[0].split, Some(Split::Test));
    assert!(dataset.warnings().contains(&DataWarning::SkippedFiles { count: 4 }), "{:?}", dataset.warnings());
    assert!(dataset.warnings().contains(&DataWarning::IgnoredFolders { names: vec!["extra".to_owned()] }));

    let plain = load(&root.join("train")).unwrap();
    assert_eq!(plain.classes(), ["NORMAL", "PNEUMONIA"]);
    assert!(plain.scans().iter().all(|scan| scan.split.is_none()));
}

#[test]
fn broken_folders_name_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert!(matches!(load(root), Err(DataError::Empty { skipped: 0, .. })));
    saved(root, "a/scan.dcm", b"DICM");
    let error = load(root).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "has no image; 1 files there are hidden, outside a class folder, or neither PNG nor JPEG"
        ),
        "{error}"
    );
    saved(root, "a/1.png", &png(4, 4, 0));
    assert!(matches!(load(root), Err(DataError::ClassCount { found: 1, .. })));
    fs::create_dir(root.join("b")).unwrap();
    let error = load(root).unwrap_err().to_string();
    assert_eq!(error, "class \"b\" has no image; every class needs one");
    let sound = png(4, 4, 0);
    for at in 0..12 {
        saved(root, &format!("b/{at:02}.png"), &sound[..sound.len() - 20]);
    }
    saved(root, "b/wrong.png", b"GIF89a");
    let error = load(root).unwrap_err().to_string();
    assert!(error.starts_with("13 of 14 images cannot be used\n"), "{error}");
    assert!(error.contains("b/00.png is truncated") && error.ends_with("and 3 more"), "{error}");
}

#[test]
fn colour_is_decided_by_most_images() {
    let folder = tempfile::tempdir().unwrap();
    let colour = image::RgbImage::from_pixel(4, 4, image::Rgb([200, 30, 30]));
    for (at, class) in ["a", "b", "b"].into_iter().enumerate() {
        fs::create_dir_all(folder.path().join(class)).unwrap();
        colour.save(folder.path().join(format!("{class}/{at}.png"))).unwrap();
    }
    assert_eq!(load(folder.path()).unwrap().shape().channels, 3);
    saved(folder.path(), "a/grey.png", &png(4, 4, 7));
    let dataset = load(folder.path()).unwrap();
    assert_eq!(dataset.shape().channels, 3);
    let mixed = DataWarning::MixedColour { colour: 3, images: 4, used: "colour" };
    assert!(dataset.warnings().contains(&mixed), "{:?}", dataset.warnings());
    let options = LoadOptions { channels: Some(1), image_size: Some(4), ..LoadOptions::default() };
    let grey = Dataset::load(folder.path(), &options).unwrap();
    assert_eq!(grey.pixels(0), [81; 16]);
}

fn manifest(root: &Path, text: &str) -> Result<Dataset, DataError> {
    for (name, grey) in [("a.png", 10), ("b.png", 60), ("c.png", 110), ("sub/d.png", 160)] {
        saved(root, name, &png(5, 5, grey));
    }
    saved(root, "metadata.csv", text.as_bytes());
    load(root)
}

#[test]
fn manifests_keep_what_they_know() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}file;label;patient_id;age;sex;split;scanner\n\
                a.png;sick;7;058Y;F;train;X1\n\n\
                b.png;healthy;7;61;m;train;\n\
                ./sub/../c.png;sick;;;;val;X2\n\
                sub/d.png;healthy;9;3;u;test;X1\n\
                a.png;sick;7;58;F;train;X1\n";
    let dataset = manifest(folder.path(), text).unwrap();
    assert_eq!(dataset.classes(), ["healthy", "sick"]);
    let scans = dataset.scans();
    assert_eq!(scans.len(), 4);
    assert_eq!((scans[0].label, scans[0].age, scans[0].patient.as_deref()), (1, Some(58.0), Some("7")));
    assert_eq!((scans[2].patient.as_deref(), scans[2].age, scans[2].sex), (None, None, None));
    assert_eq!(scans[2].split, Some(Split::Validation));
    assert_eq!(scans[3].origin.to_string(), "sub/d.png");
    let scanner = &dataset.attributes()[0];
    assert_eq!(scanner.name, "scanner");
    let values: Vec<Option<&str>> = scanner.values.iter().map(Option::as_deref).collect();
    assert_eq!(values, [Some("X1"), None, Some("X2"), Some("X1")]);
    assert!(
        dataset.warnings().contains(&DataWarning::RepeatedFiles { count: 1, line: 7 }),
        "{:?}",
        dataset.warnings()
    );
}

#[test]
fn columns_are_mapped_and_numbers_named() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "path,target,class_name,hospital\na.png,1.0,ill,North\nb.png,0.0,well,South\nc.png,1.0,ill,North\n";
    let columns = ColumnNames {
        file: Some("path".to_owned()),
        label: Some("target".to_owned()),
        site: Some("hospital".to_owned()),
        ..ColumnNames::default()
    };
    assert!(manifest(folder.path(), text).is_err());
    let options = LoadOptions { columns, ..LoadOptions::default() };
    let dataset = Dataset::load(folder.path(), &options).unwrap();
    assert_eq!(dataset.classes(), ["well", "ill"]);
    assert_eq!(dataset.scans()[1].site.as_deref(), Some("South"));
}

/// Manifests that must be refused, each with the words that tell where and why.
#[test]
fn unusable_manifests_are_refused_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |text: &str, words: &str| {
        let text = chain(&manifest(folder.path(), text).unwrap_err());
        assert!(text.contains(words), "expected {words:?} in: {text}");
    };
    refuse(
        "file,labels\na.png,0\n",
        "line 1: no column \"label\" (nearest: \"labels\"); the columns are file, labels",
    );
    refuse("file,label\na.png,\n", "line 2, column \"label\": expected a class, found \"\"");
    refuse("file,label\na.png,0\nb.png\n", "line: 3");
    refuse(
        "file,label,age\na.png,0,old\n",
        "line 2, column \"age\": expected an age in years, 0 or more, found \"old\"",
    );
    refuse("file,label,age\na.png,0,-4\n", "found \"-4\"");
    refuse("file,label,sex\na.png,0,Q\n", "line 2, column \"sex\"");
    refuse("file,label,split\na.png,0,\n", "line 2, column \"split\": expected train, val or test");
    refuse("file,label\n../a.png,0\n", "expected a file inside the manifest's folder, found \"../a.png\"");
    refuse("file,label\n/etc/passwd,0\n", "expected a file inside the manifest's folder");
    refuse(
        "file,label\na.png,0\na.png,1\n",
        "line 3: \"a.png\" was labelled \"0\" on line 2 and is labelled \"1\" here",
    );
    refuse("file,label\na.png,0\nb.png,2\n", "class \"1\" has no image");
    refuse("file,label\na.png,0\nb.png,99999999999\n", "found 100000000000 classes, expected 2 to 1000");
    refuse("file,label\na.png,x\n", "found 1 classes");
    refuse("file,label\na.png,0\nnone.png,1\n", "none.png cannot be read");
    refuse("file,label\n", "has no image");
    refuse("", "no column \"file\"");
}

#[cfg(unix)]
#[test]
fn links_may_not_lead_out() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let secret = saved(outside.path(), "secret.png", &png(4, 4, 0));
    std::os::unix::fs::symlink(&secret, folder.path().join("out.png")).unwrap();
    std::os::unix::fs::symlink("sub/d.png", folder.path().join("in.png")).unwrap();
    assert!(manifest(folder.path(), "file,label\na.png,0\nin.png,1\n").is_ok());
    let error = manifest(folder.path(), "file,label\na.png,0\nout.png,1\n").unwrap_err().to_string();
    assert!(error.contains("out.png lies outside the data set's folder"), "{error}");
}

#[test]
fn patients_come_from_the_table_beside_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), "set.npz", &archive(&small_arrays()));
    let table = |text: &str| {
        saved(folder.path(), "set_patients.csv", text.as_bytes());
        load(&path)
    };
    let dataset =
        table("mnist_split,mnist_index,label,group_id\ntrain,2,0,p1\ntest,0,1,p1\ntrain,0,0,\n").unwrap();
    assert_eq!(dataset.scans()[2].patient, dataset.scans()[4].patient);
    assert_eq!(dataset.scans()[0].patient, None);
    let notice = DataWarning::PatientTable { file: "set_patients.csv".to_owned(), unknown: 4, images: 6 };
    assert_eq!(dataset.warnings(), [notice]);
    let crossing =
        DataWarning::PatientsCrossSplits { first: Split::Train, second: Split::Test, patients: 1, of: 1 };
    assert!(Summary::of(&dataset).warnings.contains(&crossing));

    for (text, words) in [
        ("mnist_split,mnist_index\ntrain,0\n", "no column \"group_id\""),
        ("mnist_split,mnist_index,group_id\ntrain,4,x\n", "line 2, column \"mnist_index\""),
        ("mnist_split,mnist_index,group_id\nholdout,0,x\n", "expected train, val or test"),
        (
            "mnist_split,mnist_index,group_id,label\ntrain,0,x,1\n",
            "the label that the archive gives this image",
        ),
    ] {
        let error = table(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn wrong_paths_and_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(load(&folder.path().join("none")), Err(DataError::Read { .. })));
    let text = load(&saved(folder.path(), "x.h5", b"?")).unwrap_err().to_string();
    assert!(
        text.ends_with("x.h5 is a .h5 file; expected a .npz archive, a .csv manifest, or a folder of images"),
        "{text}"
    );
    assert!(matches!(load(&saved(folder.path(), "x.npz", b"?")), Err(DataError::Format { .. })));
    for (image_size, channels) in [(Some(0), None), (Some(5000), None), (None, Some(2))] {
        let options = LoadOptions { image_size, channels, ..LoadOptions::default() };
        assert!(matches!(Dataset::load(folder.path(), &options), Err(DataError::Plan { .. })));
    }
}

#[test]
fn repeated_pixels_and_odd_ages_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), "copy.png", &png(5, 5, 10));
    let text =
        "file,label,split,age\na.png,0,train,411\nb.png,1,train,30\ncopy.png,1,test,5\nc.png,0,train,6\n";
    let summary = Summary::of(&manifest(folder.path(), text).unwrap());
    let text: Vec<String> = summary.warnings.iter().map(ToString::to_string).collect();
    for words in [
        "1 images have an age above 120 years, such as a.png",
        "the test split has only class \"1\"",
        "1 images repeat the pixels of an earlier one, 1 of them in another split, such as a.png and copy.png",
        "under another label, such as a.png and copy.png",
    ] {
        assert!(text.iter().any(|warning| warning.contains(words)), "{words} in {text:#?}");
    }
}
