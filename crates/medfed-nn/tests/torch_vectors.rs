//! Logits, losses, unit norms and clipped sums of the three models against PyTorch's and Opacus' values in
//! `testdata/nn_*.json`. `testdata/generators/nn_vectors.py` says how parameters and images are made.
#![expect(clippy::unwrap_used, reason = "a test")]

use medfed_nn::{Architecture, Executor, ModelSpec, PerformanceOptions, Trainable};
use medfed_types::{Batch, ClipNorm, ImageShape, ImageSource, ParameterLayout};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

#[derive(Deserialize)]
struct File {
    architecture: Architecture,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    pixels: usize,
    channels: usize,
    classes: usize,
    images: Vec<usize>,
    units: Vec<Vec<u32>>,
    labels: Vec<u32>,
    logits: Vec<Vec<f64>>,
    loss_sum: f64,
    image_norms: Vec<f64>,
    unit_norms: Vec<f64>,
    head_unit_norms: Vec<f64>,
    clip: f64,
    sum_norm: f64,
    clipped_sum_norm: f64,
    parameters: BTreeMap<String, Parameter>,
    widths: Option<Vec<usize>>,
}

#[derive(Deserialize)]
struct Parameter {
    shape: Vec<usize>,
    first: f64,
    sum: [f64; 6],
    clipped: [f64; 6],
}

/// u(text, 0), u(text, 1), …
fn stream(text: &str) -> impl Iterator<Item = f32> + use<> {
    let key = text
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    (1u64..).map(move |i| {
        let mut z = key.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 * 2f32.powi(-23) - 1.0
    })
}

struct Images<'a>(&'a Case);

impl ImageSource for Images<'_> {
    fn shape(&self) -> ImageShape {
        ImageShape { channels: self.0.channels, height: self.0.pixels, width: self.0.pixels }
    }
    fn len(&self) -> usize {
        self.0.images.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.0.labels[index]
    }
    fn fill(&self, index: usize, out: &mut [f32]) {
        let scale = 3f64.sqrt() as f32;
        let values = stream(&format!("image/{}", self.0.images[index]));
        out.iter_mut().zip(values).for_each(|(out, u)| *out = scale * u);
    }
}

fn parameters(layout: &ParameterLayout) -> Vec<f32> {
    let mut out = Vec::with_capacity(layout.len());
    for view in layout.views() {
        let fan: usize = view.shape[1..].iter().product();
        let scale = (6.0 / fan as f64).sqrt() as f32;
        out.extend(stream(&view.name).take(view.len).map(|u| match view.shape.len() {
            1 if view.name.ends_with("weight") => 1.0 + 0.25 * u,
            1 => 0.1 * u,
            _ => scale * u,
        }));
    }
    out
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[track_caller]
fn close(what: &str, found: f64, expected: f64, scale: f64) {
    assert!(
        (found - expected).abs() <= 1e-4 * scale,
        "{what}: {found} instead of {expected} (scale {scale})"
    );
}

/// Compares a gradient with the values kept of it. A single parameter is compared on the scale of the
/// whole gradient, as the generator explains.
fn compare(layout: &ParameterLayout, found: &[f32], whole: f64, expected: impl Fn(&str) -> [f64; 6]) {
    close("norm", norm(found), whole, whole);
    for view in layout.views() {
        let g = &found[view.range()];
        let projection: f64 = stream(&format!("projection/{}", view.name))
            .zip(g)
            .map(|(u, g)| f64::from(u) * f64::from(*g))
            .sum();
        let at = |eighths: usize| f64::from(g[view.len * eighths / 8]);
        let values = [norm(g), projection, at(1), at(3), at(5), at(7)];
        // An error of length e projects to about ±e.
        let scales = [whole, 3.0 * whole, whole, whole, whole, whole];
        for ((value, expected), scale) in values.into_iter().zip(expected(&view.name)).zip(scales) {
            close(&view.name, value, expected, scale);
        }
    }
}

fn check(case: &Case, architecture: Architecture) {
    let images = Images(case);
    let channels = case.widths.clone();
    let spec =
        ModelSpec { architecture, input: images.shape(), classes: case.classes, dropout: 0.0, channels };
    let network = Arc::new(spec.build().unwrap());
    let layout = network.layout();
    let params = parameters(layout);
    assert_eq!(layout.views().len(), case.parameters.len());
    for view in layout.views() {
        let expected = &case.parameters[&view.name];
        assert_eq!(view.shape, expected.shape, "{}", view.name);
        close(&view.name, f64::from(params[view.offset]), expected.first, 1e-3);
    }
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    // Small enough that a batch takes several micro-batches, large enough for every unit.
    let options = PerformanceOptions { micro_batch: NonZeroUsize::new(4) };
    let executor = Executor::new(Arc::clone(&network), options);
    let logits = executor.logits(&params, &images, &indices).unwrap();
    let largest = case.logits.iter().flatten().fold(0f64, |m, z| m.max(z.abs()));
    for (found, expected) in logits.iter().zip(case.logits.iter().flatten()) {
        close("logit", f64::from(*found), *expected, largest);
    }

    let all = Trainable::all(&network);
    let units = Batch::of_units(case.units.iter().map(Vec::as_slice)).unwrap();
    let plain = executor.gradient_sum(&params, &images, &units, &all, None).unwrap();
    close("loss", plain.loss_sum(), case.loss_sum, case.loss_sum);
    compare(layout, plain.values(), case.sum_norm, |name| case.parameters[name].sum);

    let clip = ClipNorm::new(case.clip).unwrap();
    let clipped = executor.clipped_sum(&params, &images, &units, &all, clip, None).unwrap();
    for (found, expected) in clipped.unit_norms().iter().zip(&case.unit_norms) {
        close("unit norm", *found, *expected, *expected);
    }
    close("loss", clipped.loss_sum(), case.loss_sum, case.loss_sum);
    compare(layout, clipped.values(), case.clipped_sum_norm, |name| case.parameters[name].clipped);

    let single = Batch::of_images(indices);
    let clipped = executor.clipped_sum(&params, &images, &single, &all, clip, None).unwrap();
    for (found, expected) in clipped.unit_norms().iter().zip(&case.image_norms) {
        close("image norm", *found, *expected, *expected);
    }
    let head = Trainable::head_only(&network);
    let clipped = executor.clipped_sum(&params, &images, &units, &head, clip, None).unwrap();
    for (found, expected) in clipped.unit_norms().iter().zip(&case.head_unit_norms) {
        close("head norm", *found, *expected, *expected);
    }
}

fn check_file(name: &str) {
    let path = format!("{}/../../testdata/nn_{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file: File = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &file.cases {
        check(case, file.architecture);
    }
}

#[test]
fn simple_cnn_agrees_with_pytorch() {
    check_file("simple_cnn");
}

#[test]
fn resnet18_agrees_with_pytorch() {
    check_file("resnet18");
}

#[test]
fn densenet121_agrees_with_pytorch() {
    check_file("densenet121");
}
