//! An image file: an image of the wanted shape, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medfed_data::decode_image;
use medfed_types::ImageShape;

fuzz_target!(|data: &[u8]| {
    let shape = ImageShape { channels: 1, height: 8, width: 8 };
    let Ok(file) = tempfile::NamedTempFile::new() else { return };
    if std::fs::write(file.path(), data).is_ok()
        && let Ok(pixels) = decode_image(file.path(), shape)
    {
        assert_eq!(pixels.len(), 64);
    }
});
