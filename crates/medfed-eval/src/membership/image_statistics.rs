//! Simple statistics of an image, for an attack that never sees the model.

use medfed_types::ImageShape;

/// Cells along each side of the grid of mean brightness.
const GRID: usize = 4;
/// Numbers that [`image_statistics`] gives.
pub const STATISTICS: usize = 7 + GRID * GRID;

/// Brightness (mean, deviation, skewness), share of black and white pixels, roughness along both axes, and
/// the mean brightness of 4 × 4 cells. `pixels` are `[channel, height, width]`, 0 to 255.
///
/// What tells members from non-members by these, tells them apart without the model: other scanners,
/// other cropping, another mix of findings.
///
/// # Panics
///
/// If there are not as many pixels as the shape has.
pub fn image_statistics(pixels: &[u8], shape: ImageShape) -> [f64; STATISTICS] {
    assert_eq!(pixels.len(), shape.len(), "one byte per element of the shape");
    let mut out = [0.0; STATISTICS];
    let n = pixels.len().max(1) as f64;
    let mean = pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / n;
    let moment = |power: i32| pixels.iter().map(|p| (f64::from(*p) - mean).powi(power)).sum::<f64>() / n;
    let deviation = moment(2).sqrt();
    let share = |of: fn(&u8) -> bool| pixels.iter().filter(|p| of(p)).count() as f64 / n;
    out[0] = mean;
    out[1] = deviation;
    out[2] = if deviation > 1e-9 { moment(3) / deviation.powi(3) } else { 0.0 };
    out[3] = share(|p| *p <= 8);
    out[4] = share(|p| *p >= 247);
    let step = |a: u8, b: u8| f64::from(a.abs_diff(b));
    let (mut cells, mut counts) = ([0.0; GRID * GRID], [0u32; GRID * GRID]);
    for plane in pixels.chunks_exact((shape.height * shape.width).max(1)) {
        for (y, row) in plane.chunks_exact(shape.width).enumerate() {
            out[5] += row.windows(2).map(|pair| step(pair[0], pair[1])).sum::<f64>() / n;
            for (x, pixel) in row.iter().enumerate() {
                if y > 0 {
                    out[6] += step(*pixel, plane[(y - 1) * shape.width + x]) / n;
                }
                let cell = y * GRID / shape.height * GRID + x * GRID / shape.width;
                cells[cell] += f64::from(*pixel);
                counts[cell] += 1;
            }
        }
    }
    for ((out, sum), count) in out[7..].iter_mut().zip(cells).zip(counts) {
        *out = sum / f64::from(count.max(1));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_the_pixels() {
        let shape = ImageShape { channels: 1, height: 4, width: 4 };
        let pixels: Vec<u8> = (0..16).map(|i| if i % 2 == 0 { 0 } else { 255 }).collect();
        let found = image_statistics(&pixels, shape);
        assert_eq!(found[..5], [127.5, 127.5, 0.0, 0.5, 0.5]);
        assert_eq!(found[5], 255.0 * 12.0 / 16.0);
        assert_eq!(found[6], 0.0);
        assert_eq!(found[7..9], [0.0, 255.0]);
        // Smaller than the grid, in colour, and constant.
        let tiny = image_statistics(&[7; 3], ImageShape { channels: 3, height: 1, width: 1 });
        assert!(tiny.iter().all(|value| value.is_finite()) && tiny[7] == 7.0);
    }
}
