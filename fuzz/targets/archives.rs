//! An archive of images in the layout of MedMNIST: a data set, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medfed_data::{Dataset, LoadOptions};

fuzz_target!(|data: &[u8]| {
    let Ok(file) = tempfile::Builder::new().suffix(".npz").tempfile() else { return };
    if std::fs::write(file.path(), data).is_ok() {
        let _ = Dataset::load(file.path(), &LoadOptions::default());
    }
});
