//! The vessels that branch from the hila, and the bronchi beside them.

use super::anatomy::Anatomy;
use super::canvas::{Layer, Point, Profile, View};
use medfed_types::SimulationRng;
use rand::RngExt;

/// The vessel tree of both lungs; a pixel's value is the share of full vessel contrast.
pub(super) fn draw(a: &Anatomy, view: View, rng: &mut SimulationRng) -> Layer {
    let mut layer = Layer::new(view);
    for side in [-1.0f32, 1.0] {
        let hilum = [a.midline + side * 0.13, -0.02 - 0.03 * side];
        // Directions from the upper to the lower lobe; lower vessels carry more blood and are wider.
        for angle in [-1.25f32, -0.85, -0.45, -0.05, 0.35, 0.70, 1.0, 1.25] {
            let width = 0.013 + 0.004 * (angle + 1.25) + rng.random_range(0.0..0.004);
            branch(&mut layer, hilum, angle + rng.random_range(-0.15..0.15), side, width, 5, rng);
        }
    }
    layer
}

/// One vessel: a few bent steps, then two daughters. `angle` is measured from the horizontal, down.
fn branch(
    layer: &mut Layer,
    from: Point,
    angle: f32,
    side: f32,
    width: f32,
    generations: u32,
    rng: &mut SimulationRng,
) {
    let mut points = vec![from];
    let (mut at, mut heading) = (from, angle);
    for _ in 0..3 {
        heading += rng.random_range(-0.22..0.22);
        let step = 0.014 + 1.6 * width;
        at = [at[0] + side * step * heading.cos(), at[1] + step * heading.sin()];
        points.push(at);
    }
    let strength = 0.35 + 25.0 * width;
    layer.stroke(&points, [width, 0.8 * width], [strength, 0.9 * strength], Profile::Tube);
    if generations > 0 && width > 0.0022 {
        let fork = rng.random_range(0.25..0.60);
        let share = rng.random_range(0.62..0.80);
        branch(layer, at, heading + fork, side, width * share, generations - 1, rng);
        branch(layer, at, heading - fork * 0.8, side, width * (1.42 - share), generations - 1, rng);
    }
}
