//! Who the patient is: the measures that stay the same in all of the patient's radiographs.

use super::canvas::{Point, Texture};
use medfed_types::SimulationRng;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

/// A patient's build, in patient coordinates (see [`Point`]): half the detector's side is 1.
#[derive(Debug, Clone)]
pub(super) struct Anatomy {
    /// Half the inner width of the rib cage.
    pub(super) cage: f32,
    /// Height of the lung apices.
    pub(super) apex: f32,
    /// Top of the diaphragm's domes: patient's right (image left), patient's left.
    pub(super) domes: [f32; 2],
    /// Half the width of the trunk's soft tissue.
    pub(super) trunk: f32,
    /// How much soft tissue the beam meets, 1 for the standard adult.
    pub(super) thickness: f32,
    /// Where the midline lies between the lungs.
    pub(super) midline: f32,
    /// 0 for a straight young aorta, about 1 for a long, curled one.
    pub(super) aorta: f32,
    /// Contrast of bone, 1 in a young adult; lower with osteopenia.
    pub(super) bone: f32,
    /// Distance between ribs, and how far they drop from the spine to the side.
    pub(super) ribs: [f32; 2],
    /// Radius of the breast shadows; 0 without.
    pub(super) breast: f32,
    /// Centre of the gas in the stomach and its radius; a radius of 0 without.
    pub(super) stomach: (Point, f32),
    /// Pattern of the vessels and of the tissue.
    pub(super) pattern: Texture,
    /// Height of the clavicles at their outer ends.
    pub(super) clavicle: f32,
}

/// A standard normal value.
pub(super) fn normal(rng: &mut SimulationRng) -> f32 {
    StandardNormal.sample(rng)
}

impl Anatomy {
    /// Draws a patient of that sex and age (years).
    pub(super) fn draw(female: bool, age: f32, rng: &mut SimulationRng) -> Self {
        let old = ((age - 45.0) / 40.0).clamp(0.0, 1.2);
        let size = if female { 0.95 } else { 1.0 } + 0.03 * normal(rng);
        let thickness = 1.0 + 0.09 * normal(rng).clamp(-2.0, 2.5);
        let cage = 0.635 * size * (1.0 + 0.03 * normal(rng));
        let dome = 0.42 + 0.05 * normal(rng);
        let left_lower = 0.05 + 0.015 * normal(rng);
        Self {
            cage,
            apex: -0.74 * size + 0.02 * normal(rng),
            domes: [dome, dome + left_lower],
            trunk: cage + 0.15 + 0.14 * (thickness - 1.0).max(-0.1) + 0.02 * normal(rng).abs(),
            thickness,
            midline: 0.012 * normal(rng),
            aorta: (old + 0.2 * normal(rng)).clamp(0.0, 1.3),
            bone: ((1.0 + 0.1 * normal(rng)) * (1.0 - 0.3 * old)).clamp(0.4, 1.3),
            ribs: [0.118 * size * (1.0 + 0.03 * normal(rng)), 0.17 + 0.03 * normal(rng) + 0.03 * old],
            breast: if female { (0.29 + 0.04 * normal(rng)).clamp(0.18, 0.38) } else { 0.0 },
            stomach: (
                [0.30 + 0.05 * normal(rng), dome + left_lower + 0.17 + 0.03 * normal(rng)],
                if rng.random_bool(0.6) { rng.random_range(0.05..0.12) } else { 0.0 },
            ),
            pattern: Texture(rng.random()),
            clavicle: -0.66 * size + 0.03 * normal(rng),
        }
    }

    /// 1 on the image's right (the patient's left), 0 on its left.
    pub(super) fn side(x: f32) -> usize {
        usize::from(x > 0.0)
    }
}
