//! What is wrong: consolidation of part of a lung, and an enlarged heart.
//!
//! Each has a severity z in standard deviations, positive in patients who have it and negative in those
//! who do not ([`Severity`]); the picture follows from z alone, so the overlap of the classes is the
//! overlap of two normal distributions.

use super::Finding;
use super::anatomy::{Anatomy, normal};
use super::canvas::{Layer, Point, Profile, Texture, View};
use super::thorax::lung_depth;
use medfed_types::SimulationRng;
use rand::RngExt;

/// Severities of the two findings in one radiograph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Severity {
    pub(super) pneumonia: f32,
    pub(super) cardiomegaly: f32,
}

impl Severity {
    /// Draws severities around ±`separation`/2 (standard deviation 1): `+` for the finding that is there.
    pub(super) fn draw(diagnosis: Option<Finding>, separation: f32, rng: &mut SimulationRng) -> Self {
        let mut z = |finding| {
            let sign = if diagnosis == Some(finding) { 0.5 } else { -0.5 };
            sign * separation + normal(rng)
        };
        Self { pneumonia: z(Finding::Pneumonia), cardiomegaly: z(Finding::Cardiomegaly) }
    }

    /// The cardiothoracic ratio: 0.53 at z = 0, 0.045 more for each standard deviation.
    pub(super) fn cardiothoracic_ratio(self) -> f32 {
        (0.53 + 0.045 * self.cardiomegaly).clamp(0.36, 0.76)
    }

    /// Share of the air that the consolidation replaces where it is densest.
    fn opacity(self) -> f32 {
        0.95 / (1.0 + (-(self.pneumonia - 0.4) * 2.0).exp())
    }
}

/// A patch of consolidated lung.
#[derive(Debug)]
pub(super) struct Consolidation {
    centre: Point,
    radii: Point,
    opacity: f32,
    /// Height of the fissure that bounds it below, where it fills an upper lobe.
    fissure: Option<f32>,
    patches: Texture,
    /// Bronchi that still hold air.
    bronchi: Option<Layer>,
}

impl Consolidation {
    /// Draws patches somewhere in the lungs: none where they would be too faint to see, up to three, on
    /// both sides, in severe disease.
    pub(super) fn draw(a: &Anatomy, severity: Severity, view: View, rng: &mut SimulationRng) -> Vec<Self> {
        if severity.opacity() < 0.02 {
            return Vec::new();
        }
        let first = if rng.random_bool(0.55) { -1.0 } else { 1.0 };
        let count = 1 + usize::from(severity.pneumonia > 0.7) + usize::from(severity.pneumonia > 1.7);
        [first, -first, first][..count]
            .iter()
            .map(|side| Self::patch(a, severity, *side, view, rng))
            .collect()
    }

    fn patch(a: &Anatomy, severity: Severity, side: f32, view: View, rng: &mut SimulationRng) -> Self {
        let lower = rng.random_bool(0.65);
        let fissured = !lower && rng.random_bool(0.4);
        let centre = [
            a.midline + side * a.cage * rng.random_range(0.38..0.68),
            if lower { rng.random_range(0.08..0.34) } else { rng.random_range(-0.45..-0.15) },
        ];
        let size = 0.20 + 0.04 * severity.pneumonia.clamp(-1.0, 3.0);
        let radii = [size * rng.random_range(0.8..1.3), size * rng.random_range(0.8..1.3)];
        let patches = Texture(rng.random());
        let tilt = rng.random_range(-0.3..0.3);
        let opacity = severity.opacity();
        let bronchi = (opacity > 0.25).then(|| {
            let mut layer = Layer::new(view);
            for spread in [-0.5, -0.15, 0.2, 0.55] {
                let end = [centre[0] + side * radii[0] * 0.7, centre[1] + radii[1] * (spread + tilt)];
                let start = [a.midline + side * 0.16, 0.4 * centre[1] + 0.1 * spread];
                layer.stroke(&[start, end], [0.011, 0.004], [0.9, 0.5], Profile::Tube);
            }
            layer
        });
        let fissure = fissured.then_some(centre[1] + 0.35 * radii[1]);
        Self { centre, radii, opacity, fissure, patches, bronchi }
    }

    /// Share of the air replaced at `p`, which is pixel `index`.
    pub(super) fn at(&self, a: &Anatomy, p: Point, index: usize) -> f32 {
        let (u, v) = ((p[0] - self.centre[0]) / self.radii[0], (p[1] - self.centre[1]) / self.radii[1]);
        let r2 = u * u + v * v;
        if r2 > 7.0 || lung_depth(a, p).0 < -0.05 {
            return 0.0;
        }
        let cloud = 0.8 + 0.9 * self.patches.at(p, 12.0, 3);
        let mut share = self.opacity * (1.35 * (-0.6 * r2).exp() * cloud).clamp(0.0, 1.0);
        if let Some(fissure) = self.fissure {
            share *= ((fissure - p[1]) / 0.02 + 0.5).clamp(0.15, 1.0);
        }
        if let Some(bronchi) = &self.bronchi {
            share *= 1.0 - 0.55 * bronchi.values[index];
        }
        share
    }
}
