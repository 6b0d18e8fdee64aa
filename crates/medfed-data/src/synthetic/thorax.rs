//! Soft tissue, lungs, heart and mediastinum: how much matter the beam meets at each point.
//!
//! Attenuation is in units of the standard adult's trunk. Organs are bodies with a round back, so their
//! thickness falls towards the edge like a circle's; edges met tangentially by the beam stay sharp.

use super::anatomy::Anatomy;
use super::canvas::Point;

/// Height at which the rib cage is widest.
pub(super) const WIDEST: f32 = 0.34;
/// How far out the lungs' apices lie, as a share of the cage's half width.
pub(super) const APEX_OUT: f32 = 0.44;

/// What the beam meets at a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tissue {
    /// Soft tissue, as if the lungs were filled.
    pub(super) solid: f32,
    /// Air in the lungs, 0 outside them, to be taken off `solid`.
    pub(super) air: f32,
    /// Share of the point inside the body, 0 to 1.
    pub(super) body: f32,
}

/// The heart in one radiograph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heart {
    /// Its borders on the image's left and right, and its height range.
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
}

impl Heart {
    /// A heart whose width is `ratio` (the cardiothoracic ratio) of the cage's inner width.
    pub(super) fn new(anatomy: &Anatomy, ratio: f32, top: f32) -> Self {
        let width = 2.0 * anatomy.cage * ratio;
        Self {
            left: anatomy.midline - 0.34 * width,
            right: anatomy.midline + 0.66 * width,
            top,
            bottom: anatomy.domes[1] + 0.12,
        }
    }

    /// Distance inside the heart's outline (negative outside), and the local half width.
    fn depth(&self, [x, y]: Point) -> (f32, f32) {
        let t = (y - self.top) / (self.bottom - self.top);
        if !(0.0..=1.05).contains(&t) {
            return (-1.0, 1.0);
        }
        // The left ventricle bulges low and turns in sharply at the apex, the right atrium bulges evenly.
        let ventricle = if t < 0.76 {
            let u = t / 0.76;
            // Level at both ends, so that the border leaves the aorta and meets the apex without a corner.
            u * u * (3.0 - 2.0 * u)
        } else {
            (1.0 - ((t - 0.76) / 0.36).powi(2)).max(0.0).sqrt()
        };
        let atrium = (1.0 - ((t - 0.66) / 0.66).powi(2)).max(0.0).powf(0.7);
        let right = 0.085 + (self.right - 0.085) * ventricle;
        let left = -0.07 + (self.left + 0.07) * atrium;
        // The borders slope; dividing by the slope's length would need derivatives that the eye misses.
        ((right - x).min(x - left) * 0.8, (right - left) / 2.0)
    }
}

/// Share of a pixel of width `pixel` covered at signed distance `d` from an edge.
pub(super) fn cover(d: f32, pixel: f32) -> f32 {
    (d / pixel + 0.5).clamp(0.0, 1.0)
}

/// Thickness, 0 to 1, at distance `d` inside the edge of a body that is full at `depth`.
fn round_back(d: f32, depth: f32) -> f32 {
    let t = 1.0 - (d / depth).clamp(0.0, 1.0);
    (1.0 - t * t).sqrt()
}

/// Distance inside an ellipse, roughly; negative outside.
fn ellipse(p: Point, centre: Point, radii: Point) -> f32 {
    let (u, v) = ((p[0] - centre[0]) / radii[0], (p[1] - centre[1]) / radii[1]);
    (1.0 - (u * u + v * v).sqrt()) * radii[0].min(radii[1])
}

/// Distance inside the lung of the point's side, negative outside; and below the diaphragm's dome.
pub(super) fn lung_depth(a: &Anatomy, [x, y]: Point) -> (f32, f32) {
    let from_middle = x - a.midline;
    let side = Anatomy::side(from_middle);
    let s = from_middle.abs();
    let centre = APEX_OUT * a.cage;
    let outer = a.cage - centre;
    let (u, v) = (
        (s - centre).abs() / if s > centre { outer } else { 0.98 * centre },
        (y - WIDEST).abs() / if y < WIDEST { WIDEST - a.apex } else { 1.5 },
    );
    let cage = (1.0 - (u * u + v * v).sqrt()) * outer;
    let from_crest = (s.min(a.cage) - 0.44 * a.cage) / a.cage;
    let fall = if from_crest > 0.0 { 0.72 } else { 0.25 };
    let dome = a.domes[side] + fall * from_crest * from_crest - y;
    let medial = s - 0.075;
    (cage.min(medial).min(dome), -dome)
}

/// Distance inside the body's outline.
fn body_depth(a: &Anatomy, [x, y]: Point) -> f32 {
    let s = x.abs();
    let beyond_neck = s - 0.19;
    let flare = 0.55 * (-beyond_neck.max(0.0) / 0.055).exp();
    let slope = beyond_neck.max(0.0);
    let shoulder = -0.86 + 0.10 * slope + 0.25 * slope * slope - flare;
    let neck = if beyond_neck < 0.0 { 0.23 - s } else { -1.0 };
    let waist = a.trunk - 0.05 * (y - 0.3).max(0.0);
    let trunk = (waist - s).min((y - shoulder) * 0.9);
    let joint = ellipse([s, y], [a.trunk - 0.02, -0.50], [0.21, 0.24]);
    // The upper arm: a capsule from the shoulder downwards and away.
    let (ax, ay) = (a.trunk + 0.03, -0.45);
    let t = ((y - ay) / 1.6).clamp(0.0, 1.0);
    let (mx, my) = (ax + 0.24 * t, ay + 1.6 * t);
    let arm = 0.13 - ((s - mx).powi(2) + (y - my).powi(2)).sqrt();
    trunk.max(neck).max(joint).max(arm)
}

/// What the beam meets at `p`; `pixel` is a pixel's width.
pub(super) fn tissue(a: &Anatomy, heart: &Heart, p: Point, pixel: f32, realistic: bool) -> Tissue {
    let [x, y] = p;
    let outline = body_depth(a, p);
    let body = cover(outline, pixel);
    if body <= 0.0 {
        return Tissue { solid: 0.0, air: 0.0, body };
    }
    let middle = [x - a.midline, y];
    let (depth, below) = lung_depth(a, p);
    let mut solid = a.thickness * (0.30 + 0.52 * round_back(outline, 0.34));

    // Abdomen: liver and spleen fill the space under the domes, in front of or behind the heart.
    let under = cover(below, 2.0 * pixel);
    let within = cover(a.trunk - x.abs(), 0.08) * round_back(outline, 0.20);
    let abdomen = under * within * (0.14 + 0.22 * (below / 0.25).clamp(0.0, 1.0));

    // Lungs, with the posterior recess that lies behind the domes.
    let inside = cover(depth, pixel);
    let mut air = inside * (0.17 + 0.29 * round_back(depth, 0.30));
    if inside < 1.0 && below > 0.0 {
        air += (1.0 - inside) * 0.07 * (1.0 - below / 0.22).max(0.0) * cover(depth + 0.2, 0.2);
    }

    // Mediastinum: vessels of the upper chest, aortic knob, pulmonary trunk, hila.
    let width = 0.105 + 0.05 * ((-0.45 - y) / 0.4).clamp(0.0, 1.0);
    let mut dense = 0.75 * cover(width - middle[0].abs(), 0.05);
    let knob = ellipse(
        middle,
        [0.065 + 0.03 * a.aorta, -0.31 - 0.05 * a.aorta],
        [0.090 + 0.03 * a.aorta, 0.10 + 0.03 * a.aorta],
    );
    let trunk = ellipse(middle, [0.075, -0.10], [0.095, 0.17]);
    let cava = ellipse(middle, [-0.09, -0.16 - 0.03 * a.aorta], [0.06 + 0.02 * a.aorta, 0.26]);
    for (d, full) in [(knob, 0.06), (trunk, 0.06), (cava, 0.05)] {
        if d > -pixel {
            dense = dense.max(0.88 * cover(d, 1.5 * pixel) * (0.35 + 0.65 * round_back(d, full)));
        }
    }
    // The descending aorta, a faint edge left of the spine that bends out with age.
    let bend = 0.125 + 0.05 * a.aorta * (3.1 * (y + 0.3)).sin().max(0.0);
    if y > -0.3 {
        dense = dense.max(0.38 * cover(bend - middle[0], 1.5 * pixel) * cover(middle[0], 0.02));
    }

    let mut chest = 0.13 * dense;
    let (into, half) = heart.depth(p);
    if into > -pixel {
        let edge = cover(into, 1.3 * pixel);
        dense = dense.max(edge * (0.50 + 0.48 * round_back(into, 0.6 * half)));
        // The heart rises out of the great vessels without an edge.
        let rise = ((y - heart.top) / 0.25).clamp(0.0, 1.0);
        chest = 0.13 * dense + 0.12 * edge * rise * round_back(into, half);
    }
    solid += chest.max(abdomen);
    air *= 1.0 - dense;

    if realistic {
        for side in [-1.0, 1.0] {
            let d = [(middle[0] - side * 0.165) / 0.075, (y + 0.02 + 0.03 * side) / 0.13];
            let r2 = d[0] * d[0] + d[1] * d[1];
            if r2 < 6.0 {
                solid += 0.13 * (-r2).exp();
            }
        }
        // Windpipe and stomach gas.
        let sway = 0.012 + 0.015 * a.aorta * (1.0 - ((y + 0.35) / 0.3).abs()).max(0.0);
        let windpipe = 0.040 - (middle[0] + sway).abs();
        solid -= 0.15 * round_back(windpipe, 0.035) * cover(-0.24 - y, 0.06);
        let (centre, radius) = a.stomach;
        if radius > 0.0 {
            solid -= 0.30 * round_back(ellipse(p, centre, [1.5 * radius, radius]), radius) * under;
        }
        if a.breast > 0.0 {
            let s = x.abs();
            let d = ellipse([s, y], [0.60 * a.cage, 0.62 - a.breast], [1.08 * a.breast, a.breast]);
            // Fullest below the centre; the lower edge is the one that is seen.
            let low = ((y - 0.62 + 1.7 * a.breast) / a.breast).clamp(0.0, 1.0);
            solid += 0.20 * low * round_back(d, 0.5 * a.breast) * (1.0 - 0.75 * under);
        }
    }
    Tissue { solid: solid * body, air: air * body, body }
}
