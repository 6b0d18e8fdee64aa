//! `medfed data inspect` and `medfed data preview`.

#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

/// Exit code, standard output and standard error of `medfed data ARGUMENTS`.
fn data(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let output = command.current_dir(directory).env("NO_COLOR", "1").arg("data").args(arguments).output();
    let output = output.expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The path below the shared data folder, unless this machine has none.
fn shared(name: &str) -> Option<String> {
    let path = here().join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path.display().to_string())
}

#[test]
fn inspect_counts_and_warns() {
    let Some(path) = shared("medmnist/pneumoniamnist.npz") else { return };
    let (code, out, err) = data(&here(), &["inspect", &path]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @"
    pneumoniamnist: 5856 images, 28 x 28 pixels, grey, 2 classes

                       images   normal  pneumonia  patients
    all                  5856     1583       4273      3225
    split train          4708     1214       3494      2682
    split validation      524      135        389       468
    split test            624      234        390       364

    patients: 3225 known, at most 30 images each; 67 images without a patient

    note: patients are taken from pneumoniamnist_patients.csv; 67 of 5856 images have no known patient
    warning: 289 of 468 patients in validation also occur in train
    warning: 29 images repeat the pixels of an earlier one, 8 of them in another split, such as train_images[579] and val_images[61]
    ");

    let (code, out, _) = data(&here(), &["inspect", &path, "--json"]);
    let json: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(code, 0);
    assert_eq!(json["splits"][0]["images_per_class"], serde_json::json!([1214, 3494]));
    let crossing = json["warnings"].as_array().expect("a list");
    let crossing = crossing.iter().find(|warning| warning["kind"] == "patients_cross_splits").expect("there");
    assert_eq!(crossing["patients"], 289);
    assert_eq!(crossing["message"], "289 of 468 patients in validation also occur in train");
}

#[test]
fn inspect_reads_manifests() {
    let Some(path) = shared("cxr-nih") else { return };
    let (code, out, _) = data(&here(), &["inspect", &path, "--image-size", "16", "--json"]);
    let json: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(code, 0);
    assert_eq!(json["images"], 1000);
    assert_eq!(json["patients"]["known"], 682);
    assert_eq!(json["shape"]["height"], 16);
}

#[test]
fn preview_writes_a_sheet_of_synthetic_radiographs() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let arguments = ["preview", "synthetic", "--out", "sheet.png", "--count", "3", "--image-size", "28"];
    let (code, out, err) = data(folder.path(), &arguments);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "sheet.png (464x376 pixels)\n", ""));
    let bytes = std::fs::read(folder.path().join("sheet.png")).expect("written");
    assert!(bytes.starts_with(b"\x89PNG"));
    let (_, _, _) = data(folder.path(), &arguments);
    assert_eq!(std::fs::read(folder.path().join("sheet.png")).expect("replaced"), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn faults_are_explained() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let refuse = |arguments: &[&str], words: &[&str]| {
        let (code, out, err) = data(folder.path(), arguments);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(words.iter().all(|words| err.contains(words)), "{words:?} in {err}");
    };
    refuse(&["inspect", "none.npz"], &["error: cannot read none.npz", "caused by: No such file"]);
    refuse(
        &["preview", "synthetic", "--out", "no/sheet.png"],
        &["cannot write no/sheet.png", "hint: the folder"],
    );
    refuse(&["preview", "synthetic", "--out", "x.png", "--count", "0"], &["must be 1 to 64, not 0"]);
    refuse(&["inspect", ".", "--column", "label"], &["not of the form NAME=COLUMN", "hint: for example"]);
    refuse(&["inspect", ".", "--column", "lable=x"], &["not one of file, label"]);
    refuse(&["inspect", "."], &["has no image", "hint: images are PNG or JPEG"]);
    std::fs::write(folder.path().join("metadata.csv"), "image,label\na.png,0\n").expect("written");
    refuse(
        &["inspect", "."],
        &["metadata.csv, line 1: no column \"file\"", "image, label", "hint: name the columns"],
    );
    refuse(
        &["inspect", ".", "--column", "file=image"],
        &["1 of 1 images cannot be used", "a.png cannot be read", "hint: replace these files"],
    );
}
