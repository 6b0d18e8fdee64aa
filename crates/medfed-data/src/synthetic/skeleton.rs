//! Ribs, spine, clavicles and shoulders, as strokes.

use super::anatomy::Anatomy;
use super::canvas::{Layer, Point, Profile, View};
use super::thorax::{APEX_OUT, WIDEST};

/// Steps along a curved bone.
const STEPS: usize = 12;

/// All bones; a pixel's value is the share of full bone contrast.
pub(super) fn draw(a: &Anatomy, view: View) -> Layer {
    let mut layer = Layer::new(view);
    for side in [-1.0, 1.0] {
        for rib in 0..10 {
            posterior_rib(&mut layer, a, side, rib as f32);
        }
        for rib in 1..7 {
            anterior_rib(&mut layer, a, side, rib as f32);
        }
        shoulder(&mut layer, a, side);
    }
    spine(&mut layer, a);
    layer
}

/// The rib cage's half width at height `y`, along the outside of the lungs.
fn cage_at(a: &Anatomy, y: f32) -> f32 {
    let centre = APEX_OUT * a.cage;
    let v = ((WIDEST - y) / (WIDEST + 0.05 - a.apex)).clamp(0.0, 1.0);
    centre + (a.cage + 0.015 - centre) * (1.0 - v * v).sqrt()
}

fn posterior_rib(layer: &mut Layer, a: &Anatomy, side: f32, rib: f32) {
    let [spacing, drop] = a.ribs;
    let start = a.apex + 0.05 + spacing * rib;
    let drop = drop * (0.55 + 0.07 * rib);
    let outer = cage_at(a, start + drop);
    let points: Vec<Point> = (0..=STEPS)
        .map(|i| {
            let t = i as f32 / STEPS as f32;
            // Out along the back, rising a little at first, then round the side and down.
            let reach = 0.055 + (outer - 0.055) * (1.0 - (1.0 - t).powf(1.7));
            let y = start - 0.035 * (std::f32::consts::PI * t.min(0.6) / 0.6).sin() + drop * t * t * t.sqrt();
            [a.midline + side * reach, y]
        })
        .collect();
    layer.stroke(&points, [0.024, 0.021], [0.85, 1.0], Profile::Bone);
}

fn anterior_rib(layer: &mut Layer, a: &Anatomy, side: f32, rib: f32) {
    let [spacing, drop] = a.ribs;
    let start = a.apex + 0.05 + spacing * rib + drop * (0.55 + 0.07 * rib);
    let outer = cage_at(a, start);
    let inner = 0.26 + 0.012 * rib;
    let fall = 0.20 + 0.028 * rib;
    let points: Vec<Point> = (0..=STEPS)
        .map(|i| {
            let t = i as f32 / STEPS as f32;
            let reach = outer - (outer - inner) * t.powf(1.6);
            [a.midline + side * reach, start + fall * (1.0 - (1.0 - t).powf(1.7))]
        })
        .collect();
    // The front ends are cartilage and fade out.
    layer.stroke(&points, [0.021, 0.030], [0.75, 0.22], Profile::Bone);
}

fn shoulder(layer: &mut Layer, a: &Anatomy, side: f32) {
    let bow = |inner: Point, outer: Point, sag: f32| -> Vec<Point> {
        (0..=STEPS)
            .map(|i| {
                let t = i as f32 / STEPS as f32;
                let wave = sag * (2.0 * std::f32::consts::PI * t).sin();
                [side * (inner[0] + (outer[0] - inner[0]) * t), inner[1] + (outer[1] - inner[1]) * t + wave]
            })
            .collect()
    };
    let clavicle = bow([0.075, -0.55], [a.trunk - 0.06, a.clavicle], 0.022);
    layer.stroke(&clavicle, [0.030, 0.024], [1.0, 0.95], Profile::Bone);
    // Shoulder blade: outer border and spine, then the head of the humerus and its shaft.
    layer.stroke(
        &bow([a.cage - 0.06, 0.02], [a.trunk - 0.03, -0.42], 0.0),
        [0.012, 0.028],
        [0.35, 0.6],
        Profile::Bone,
    );
    layer.stroke(
        &bow([a.cage - 0.20, -0.52], [a.trunk, -0.60], 0.0),
        [0.014, 0.026],
        [0.25, 0.7],
        Profile::Bone,
    );
    let head = [side * (a.trunk + 0.04), -0.50];
    layer.stroke(&[head, [head[0] + side * 0.01, -0.46]], [0.085, 0.085], [0.8, 0.8], Profile::Tube);
    layer.stroke(&[head, [head[0] + side * 0.24, 1.1]], [0.050, 0.042], [0.8, 0.8], Profile::Bone);
}

fn spine(layer: &mut Layer, a: &Anatomy) {
    let spacing = a.ribs[0];
    let mut y = a.apex - 3.0 * spacing;
    while y < 1.1 {
        let (half, height) = (0.058 + 0.012 * (y + 0.7).max(0.0), 0.40 * spacing);
        let across = [[a.midline - half + height, y], [a.midline + half - height, y]];
        layer.stroke(&across, [height, height], [0.55, 0.55], Profile::Bone);
        // The pedicles and the spinous process make a face of each vertebra.
        for x in [-0.6 * half, 0.6 * half] {
            layer.stroke(
                &[[a.midline + x, y - 0.01], [a.midline + x, y + 0.01]],
                [0.012; 2],
                [0.75; 2],
                Profile::Tube,
            );
        }
        layer.stroke(&[[a.midline, y], [a.midline, y + 0.3 * spacing]], [0.010; 2], [0.8; 2], Profile::Tube);
        y += spacing;
    }
}
