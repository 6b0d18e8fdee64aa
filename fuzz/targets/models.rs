//! A model file, of this program or of PyTorch: parameters, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medfed_nn::checkpoint::{Checkpoint, read_weights};

fuzz_target!(|data: &[u8]| {
    let _ = Checkpoint::read(data);
    let Ok(file) = tempfile::NamedTempFile::new() else { return };
    if std::fs::write(file.path(), data).is_ok() {
        let _ = read_weights(file.path());
    }
});
