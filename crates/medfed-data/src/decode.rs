//! One PNG or JPEG file to bytes of a given shape.
//!
//! Grey stays grey and colour stays colour while the image is stretched to the shape (bicubic with
//! antialiasing, as in the making of MedMNIST; the whole image is kept, its proportions are not), then
//! channels are converted: grey is repeated, colour becomes luma (ITU-R BT.601). 16-bit samples are
//! scaled from their full range to 8 bits, palettes are looked up, transparency is laid over black.
//! Orientation tags are not applied.
//!
//! A file's declared size is compared with its length before memory is taken, and a file without its
//! end marker is refused: a decoder would fill the missing part with grey.

use std::io::{Cursor, Read};
use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use medfed_types::ImageShape;

use crate::error::{DataError, ImageFault};

/// Bytes that one image file may have.
const MOST_FILE_BYTES: u64 = 256 << 20;
/// Rows or columns that one image file may have.
const MOST_PIXELS_A_SIDE: u32 = 16_384;
/// Bytes that the decoder may take for one image.
const MOST_DECODED_BYTES: u64 = 512 << 20;
/// DEFLATE packs at most 1032 bytes into one, and a progressive JPEG needs at least a bit per 64
/// pixels: no file holds more pixels than this per byte.
const MOST_PIXELS_PER_BYTE: u64 = 1032;
/// Largest difference between two channels of an image that is grey but saved as RGB.
const GREY_TOLERANCE: u8 = 8;

/// Reads the PNG or JPEG at `path` as `[channels, height, width]` of `shape`.
pub fn decode_image(path: &Path, shape: ImageShape) -> Result<Vec<u8>, DataError> {
    read_picture(path)
        .and_then(|picture| Ok(picture.resized(shape.height, shape.width)?.planes(shape.channels)))
        .map_err(|fault| DataError::Images { images: vec![(path.to_owned(), fault)], total: 1, of: 1 })
}

/// An image in its own channels, `[height, width, channel]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    /// 1 or 3.
    channels: usize,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// `pixels` are `[height, width, channel]` of one or three channels.
    pub(crate) fn new(channels: usize, height: usize, width: usize, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), channels * height * width);
        Self { channels, height, width, pixels }
    }

    /// The samples, `[height, width, channel]`.
    pub(crate) fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Whether any pixel has a colour; tells grey images saved as RGB from coloured ones.
    pub(crate) fn is_coloured(&self) -> bool {
        self.channels == 3
            && self.pixels.chunks_exact(3).any(|p| {
                let (low, high) = (p[0].min(p[1]).min(p[2]), p[0].max(p[1]).max(p[2]));
                high - low > GREY_TOLERANCE
            })
    }

    /// Brightest sample.
    pub(crate) fn brightest(&self) -> u8 {
        self.pixels.iter().copied().max().unwrap_or(0)
    }

    /// Stretched to `height` by `width`.
    pub(crate) fn resized(self, height: usize, width: usize) -> Result<Self, ImageFault> {
        if (self.height, self.width) == (height, width) {
            return Ok(self);
        }
        let size = ImageFault::Size {
            width: self.width as u32,
            height: self.height as u32,
            bytes: self.pixels.len() as u64,
        };
        let kind = if self.channels == 3 { PixelType::U8x3 } else { PixelType::U8 };
        let Ok(from) = ImageRef::new(self.width as u32, self.height as u32, &self.pixels, kind) else {
            return Err(size);
        };
        let mut to = Image::new(width as u32, height as u32, kind);
        let options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
        if Resizer::new().resize(&from, &mut to, &options).is_err() {
            return Err(size);
        }
        Ok(Self { height, width, pixels: to.into_vec(), ..self })
    }

    /// As planes, `[channel, height, width]`.
    pub(crate) fn planes(&self, channels: usize) -> Vec<u8> {
        match (self.channels, channels) {
            (1, 1) => self.pixels.clone(),
            (1, _) => self.pixels.repeat(channels),
            (_, 1) => self.pixels.chunks_exact(3).map(|p| luma(p[0], p[1], p[2])).collect(),
            _ => (0..3).flat_map(|c| self.pixels.iter().skip(c).step_by(3).copied()).collect(),
        }
    }
}

/// ITU-R BT.601 luma in 16-bit fixed point.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}

/// Reads and decodes a file.
pub(crate) fn read_picture(path: &Path) -> Result<Picture, ImageFault> {
    let file = std::fs::File::open(path).map_err(ImageFault::Read)?;
    let about = file.metadata().map_err(ImageFault::Read)?;
    if !about.is_file() {
        return Err(ImageFault::Format);
    }
    if about.len() > MOST_FILE_BYTES {
        return Err(ImageFault::FileSize { bytes: about.len(), limit: MOST_FILE_BYTES });
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.take(MOST_FILE_BYTES).read_to_end(&mut bytes).map_err(ImageFault::Read)?;
    decode(&bytes)
}

/// Decodes a PNG or JPEG.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, ImageFault> {
    let format = image::guess_format(bytes).map_err(|_| ImageFault::Format)?;
    let complete = match format {
        ImageFormat::Png => png_is_complete(bytes),
        ImageFormat::Jpeg => jpeg_is_complete(bytes),
        _ => return Err(ImageFault::Format),
    };
    let refused = |error| ImageFault::Decode(Box::new(error));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MOST_PIXELS_A_SIDE);
    limits.max_image_height = Some(MOST_PIXELS_A_SIDE);
    limits.max_alloc = Some(MOST_DECODED_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let length = bytes.len() as u64;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0
        || width.max(height) > MOST_PIXELS_A_SIDE
        || decoder.total_bytes() > MOST_DECODED_BYTES
        || pixels > length.saturating_mul(MOST_PIXELS_PER_BYTE)
    {
        return Err(ImageFault::Size { width, height, bytes: length });
    }
    if !complete {
        return Err(ImageFault::Truncated);
    }
    Ok(picture(DynamicImage::from_decoder(decoder).map_err(refused)?))
}

fn picture(image: DynamicImage) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(grey) => (1, grey.into_raw()),
        DynamicImage::ImageRgb8(rgb) => (3, rgb.into_raw()),
        DynamicImage::ImageLumaA8(grey) => (1, over_black::<2>(grey.as_raw())),
        DynamicImage::ImageRgba8(rgb) => (3, over_black::<4>(rgb.as_raw())),
        DynamicImage::ImageLuma16(grey) => (1, grey.as_raw().iter().map(|s| to_byte(*s)).collect()),
        DynamicImage::ImageRgb16(rgb) => (3, rgb.as_raw().iter().map(|s| to_byte(*s)).collect()),
        DynamicImage::ImageLumaA16(grey) => {
            let bytes: Vec<u8> = grey.as_raw().iter().map(|s| to_byte(*s)).collect();
            (1, over_black::<2>(&bytes))
        }
        other => (3, over_black::<4>(other.to_rgba8().as_raw())),
    };
    Picture::new(channels, height, width, pixels)
}

/// Full range of 16 bits to full range of 8, to the nearest.
fn to_byte(sample: u16) -> u8 {
    ((u32::from(sample) * 255 + 32_767) / 65_535) as u8
}

/// Lays samples whose last channel of `N` is opacity over black.
fn over_black<const N: usize>(samples: &[u8]) -> Vec<u8> {
    let laid = |sample: u8, opacity: u8| ((u32::from(sample) * u32::from(opacity) + 127) / 255) as u8;
    samples.chunks_exact(N).flat_map(|p| p[..N - 1].iter().map(move |s| laid(*s, p[N - 1]))).collect()
}

/// Whether the chunks of a PNG lead to its end chunk.
fn png_is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        // A chunk is its length, four letters, the data, four bytes of checksum.
        let Some(size) = (u32::from_be_bytes(*length) as usize).checked_add(8) else { return false };
        if after.len() < size {
            return false;
        }
        if after.starts_with(b"IEND") {
            return true;
        }
        rest = &after[size..];
    }
    false
}

/// Whether the segments of a JPEG lead to its end marker.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // Entropy-coded data up to the next marker: FF 00 is a stuffed byte, FF D0 to FF D7 restart.
        let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)) else {
            return false;
        };
        at += found + 1;
        match bytes.get(at) {
            Some(0xd9) => return true,
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(length) => at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn jpeg() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = ImageBuffer::from_fn(40, 24, |x, y| Luma([(x * 5 + y * 2) as u8]));
        DynamicImage::from(image).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_kind_of_png_becomes_bytes() {
        let grey = decode(&png(ImageBuffer::from_fn(3, 2, |x, y| Luma([(x + 10 * y) as u8])))).unwrap();
        assert_eq!(grey.planes(1), [0, 1, 2, 10, 11, 12]);
        assert_eq!(grey.planes(3), [0, 1, 2, 10, 11, 12].repeat(3));

        let deep =
            decode(&png(ImageBuffer::from_fn(3, 1, |x, _| Luma([[0u16, 257 * 7, 65_535][x as usize]]))));
        assert_eq!(deep.unwrap().planes(1), [0, 7, 255]);

        let clear = decode(&png(ImageBuffer::from_fn(2, 1, |x, _| LumaA([200u8, [255, 0][x as usize]]))));
        assert_eq!(clear.unwrap().planes(1), [200, 0]);

        let rgb = decode(&png(ImageBuffer::from_fn(2, 1, |x, _| Rgb([10 * x as u8, 20, 200])))).unwrap();
        assert!(rgb.is_coloured());
        assert_eq!(rgb.planes(3), [0, 10, 20, 20, 200, 200]);
        assert_eq!(rgb.planes(1), [luma(0, 20, 200), luma(10, 20, 200)]);

        let rgba =
            decode(&png(ImageBuffer::from_fn(1, 1, |_, _| Rgba([100u16 * 257, 0, 0, 65_535])))).unwrap();
        assert_eq!(rgba.planes(3), [100, 0, 0]);
        let faint = decode(&png(ImageBuffer::from_fn(1, 1, |_, _| Rgb([90u8, 95, 98])))).unwrap();
        assert!(!faint.is_coloured());
    }

    #[test]
    fn stretching_keeps_a_flat_image_flat() {
        let flat = Picture::new(3, 5, 9, [40, 90, 200].repeat(45)).resized(7, 4).unwrap();
        assert_eq!(flat.planes(3), [vec![40; 28], vec![90; 28], vec![200; 28]].concat());
    }

    #[test]
    fn every_truncation_is_refused() {
        for bytes in [jpeg(), png(ImageBuffer::from_fn(9, 9, |x, y| Luma([(x * y) as u8])))] {
            assert!(decode(&bytes).is_ok());
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn absurd_sizes_are_refused_before_memory_is_taken() {
        let mut bytes = png(ImageBuffer::from_fn(9, 9, |x, _| Luma([x as u8])));
        for (width, height) in [(65_535u32, 65_535u32), (16_000, 16_000), (0, 9), (u32::MAX, 1)] {
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            assert!(decode(&bytes).is_err(), "{width}x{height}");
        }
        let mut bytes = jpeg();
        let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0x3f, 0xff, 0x3f, 0xff]);
        assert!(matches!(decode(&bytes), Err(ImageFault::Size { width: 16_383, height: 16_383, .. })));
    }

    /// Every byte of a small file set to each of a few values: an error or an image, never a panic.
    #[test]
    fn mutated_files_never_panic() {
        let colour = png(ImageBuffer::from_fn(5, 5, |x, y| Rgba([x as u8, y as u8, 7, 200])));
        for original in [jpeg(), colour] {
            for at in 0..original.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut bytes = original.clone();
                    bytes[at] ^= change;
                    if let Ok(picture) = decode(&bytes) {
                        assert!(picture.resized(4, 4).unwrap().planes(3).len() == 48);
                    }
                }
            }
        }
        assert!(matches!(decode(b"BM not an image"), Err(ImageFault::Format)));
        assert!(matches!(decode(b""), Err(ImageFault::Format)));
    }
}
