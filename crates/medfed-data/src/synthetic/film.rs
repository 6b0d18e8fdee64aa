//! From attenuation to grey: exposure, contrast, blur, noise, and what is written on the film.

use super::DomainShift;
use super::anatomy::normal;
use super::canvas::{Layer, Profile, View, blur};
use medfed_types::SimulationRng;

/// Exposure of one radiograph, beside its hospital's [`DomainShift`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Exposure {
    /// Added to the hospital's exposure.
    pub(super) shift: f32,
    /// Multiplies the hospital's contrast.
    pub(super) contrast: f32,
    /// Brightness lost from one side of the detector to the other (heel effect).
    pub(super) tilt: f32,
    /// Where the collimator's blades end, as shares of the side; 0 where they are out of sight.
    pub(super) blades: [f32; 4],
    /// Whether the side is marked with a lead letter.
    pub(super) marker: bool,
}

/// Develops attenuation `[size, size]` into 8-bit grey values: denser is brighter, as radiologists
/// read it.
pub(super) fn develop(
    mut attenuation: Vec<f32>,
    size: usize,
    shift: &DomainShift,
    exposure: Exposure,
    rng: &mut SimulationRng,
) -> Vec<u8> {
    blur(&mut attenuation, size, 0.0022 * size as f32 + shift.blur as f32 * size as f32);
    let slope = 4.4 * shift.contrast as f32 * exposure.contrast;
    let centre = 0.66 + 0.2 * (shift.exposure as f32 + exposure.shift);
    let marker = exposure.marker.then(|| marker(size));
    let mut pixels = Vec::with_capacity(size * size);
    for (index, dense) in attenuation.iter().enumerate() {
        let (column, row) = ((index % size) as f32 / size as f32, (index / size) as f32 / size as f32);
        let dense = dense + exposure.tilt * (row - 0.5);
        // The characteristic curve of film: a toe, a straight part, a shoulder.
        let mut grey = 1.0 / (1.0 + (-(dense - centre) * slope).exp());
        if let Some(marker) = &marker {
            grey = grey.max(0.97 * marker.values[index]);
        }
        let [left, top, right, bottom] = exposure.blades;
        if column < left || row < top || column >= 1.0 - right || row >= 1.0 - bottom {
            grey = 0.02;
        }
        // Fewer quanta pass where the body is dense, so noise grows with attenuation.
        let grain = (0.012 + 0.1 * shift.noise as f32) * (0.6 + 0.5 * dense);
        grey += grain * normal(rng);
        pixels.push((grey * 255.0 + 0.5).clamp(0.0, 255.0) as u8);
    }
    pixels
}

/// A lead letter L in the corner at the patient's left, the image's right.
fn marker(size: usize) -> Layer {
    let mut layer = Layer::new(View::new(size, 1.0, 0.0, [0.0, 0.0]));
    let (x, y) = (0.84, -0.90);
    layer.stroke(&[[x, y], [x, y + 0.10], [x + 0.055, y + 0.10]], [0.011; 2], [1.6; 2], Profile::Tube);
    layer
}
