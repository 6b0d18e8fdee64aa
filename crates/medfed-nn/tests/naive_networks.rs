//! The executor against a slow, plain implementation, and that one against finite differences.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "naive/network.rs"]
mod network;

use medfed_nn::{
    Architecture, DropoutStream, Executor, ModelSpec, Network, NnError, PerformanceOptions, Trainable,
};
use medfed_types::{Batch, ClipNorm, ImageShape, ImageSource, Seed};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::Rng;
use std::num::NonZeroUsize;
use std::sync::Arc;

struct Images {
    shape: ImageShape,
    classes: u32,
    pixels: Vec<Vec<f32>>,
}

impl Images {
    fn random(shape: ImageShape, classes: usize, count: usize, seed: u64) -> Self {
        let mut rng = Seed(seed).generator("images", &[]);
        let mut image = || (0..shape.len()).map(|_| uniform(&mut rng)).collect();
        Self { shape, classes: classes as u32, pixels: (0..count).map(|_| image()).collect() }
    }
}

impl ImageSource for Images {
    fn shape(&self) -> ImageShape {
        self.shape
    }
    fn len(&self) -> usize {
        self.pixels.len()
    }
    fn label(&self, index: usize) -> u32 {
        index as u32 % self.classes
    }
    fn fill(&self, index: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.pixels[index]);
    }
}

/// Between -2 and 2.
fn uniform(rng: &mut impl Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / 2f32.powi(22) - 2.0
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Fresh parameters with GroupNorm and biases moved off their initial values.
fn parameters(network: &Network, seed: u64) -> Vec<f32> {
    let mut rng = Seed(seed).generator("parameters", &[]);
    let mut params = network.initial_parameters(&mut rng);
    for view in network.layout().views().iter().filter(|view| view.shape.len() == 1) {
        params[view.range()].iter_mut().for_each(|p| *p += 0.1 * uniform(&mut rng));
    }
    params
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let difference: Vec<f64> = found.iter().zip(expected).map(|(f, e)| f64::from(*f) - e).collect();
    let (error, scale) = (norm(&difference), norm(expected));
    assert!(error <= tolerance * scale + 1e-7, "error {error} of {scale}");
}

/// A batch on a network, and all that the executor is asked for.
struct Trial {
    network: Arc<Network>,
    params: Vec<f32>,
    images: Images,
    units: Vec<Vec<u32>>,
    head_only: bool,
    dropout: Option<DropoutStream>,
    micro_batch: Option<NonZeroUsize>,
    tolerance: f64,
}

impl Trial {
    /// The factors that the documented stream gives the image at a position of the batch.
    fn factors(&self, position: usize) -> Vec<f64> {
        let nodes = self.network.nodes();
        let features = nodes[nodes.len() - 2].shape.len();
        let p = self.network.spec().dropout;
        if self.dropout.is_none() || p == 0.0 {
            return vec![1.0; features];
        }
        let mut rng = Seed(5).generator("trial dropout", &[3, position as u64]);
        let mut drop = || f64::from(rng.next_u32()) < (f64::from(p) * 2f64.powi(32)).floor();
        (0..features).map(|_| if drop() { 0.0 } else { 1.0 / (1.0 - f64::from(p)) }).collect()
    }

    fn check(&self) {
        let Self { network, params, images, units, tolerance, .. } = self;
        let wide = widen(params);
        let trainable = if self.head_only { Trainable::head_only(network) } else { Trainable::all(network) };
        let options = PerformanceOptions { micro_batch: self.micro_batch };
        let executor = Executor::new(Arc::clone(network), options);

        let indices: Vec<u32> = (0..images.len() as u32).collect();
        let ones = vec![1.0; self.factors(0).len()];
        let mut logits = Vec::new();
        for image in &images.pixels {
            logits.extend(network::logits(network, &wide, &widen(image), &ones));
        }
        assert_close(&executor.logits(params, images, &indices).unwrap(), &logits, *tolerance);

        let mut position = 0;
        let mut loss_sum = 0.0;
        let mut unit_gradients = Vec::new();
        for unit in units {
            let mut sum = vec![0.0; params.len()];
            for image in unit {
                let (pixels, label) = (&images.pixels[*image as usize], images.label(*image as usize));
                let factors = self.factors(position);
                let found = network::gradient(network, &wide, &widen(pixels), label as usize, &factors);
                position += 1;
                loss_sum += found.loss;
                for range in trainable.ranges() {
                    range.clone().for_each(|i| sum[i] += found.values[i]);
                }
            }
            unit_gradients.push(sum);
        }
        let batch = Batch::of_units(units.iter().map(Vec::as_slice)).unwrap();
        let weighted = |factors: &[f64]| -> Vec<f64> {
            let column = |i: usize| unit_gradients.iter().zip(factors).map(|(g, f)| g[i] * f).sum();
            (0..params.len()).map(column).collect()
        };
        let plain = executor.gradient_sum(params, images, &batch, &trainable, self.dropout.clone()).unwrap();
        assert_close(plain.values(), &weighted(&vec![1.0; units.len()]), *tolerance);
        assert!((plain.loss_sum() - loss_sum).abs() <= tolerance * loss_sum.abs());

        let norms: Vec<f64> = unit_gradients.iter().map(|g| norm(g)).collect();
        let mut sorted = norms.clone();
        sorted.sort_by(f64::total_cmp);
        // Between two units' norms, so that some are clipped and some are not.
        let clip = sorted[units.len() / 2] * 0.9 + 1e-3;
        let factors: Vec<f64> = norms.iter().map(|n| (clip / n).min(1.0)).collect();
        let clip = ClipNorm::new(clip).unwrap();
        let clipped =
            executor.clipped_sum(params, images, &batch, &trainable, clip, self.dropout.clone()).unwrap();
        let found: Vec<f32> = clipped.unit_norms().iter().map(|n| *n as f32).collect();
        assert_close(&found, &norms, *tolerance);
        assert_close(clipped.values(), &weighted(&factors), *tolerance);
        assert!((clipped.loss_sum() - loss_sum).abs() <= tolerance * loss_sum.abs());
        assert_eq!((clipped.units(), clipped.images()), (units.len(), position));
        assert_eq!(clipped.non_finite_units(), 0);
    }
}

fn spec(architecture: Architecture, input: ImageShape) -> ModelSpec {
    ModelSpec { architecture, input, classes: 2, dropout: 0.0, channels: None }
}

/// Divides images among units of the given sizes, starting over when they run out.
fn units(sizes: &[usize], images: u32) -> Vec<Vec<u32>> {
    let mut next = (0..images).cycle();
    sizes.iter().map(|size| next.by_ref().take(*size).collect()).collect()
}

proptest! {
    // Always the same cases: about one in some thousand meets a ReLU that switches.
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(9),
        ..ProptestConfig::default()
    })]

    #[test]
    fn small_networks_agree_with_the_plain_ones(
        widths in prop::collection::vec(1usize..40, 1..4),
        (height, width) in (8usize..20, 8usize..20),
        grey in any::<bool>(),
        classes in 2usize..5,
        dropout in prop_oneof![Just(0.0f32), Just(0.3)],
        sizes in prop::collection::vec(prop_oneof![3 => Just(1usize), 1 => 2usize..7], 1..6),
        head_only in prop::bool::weighted(0.2),
        micro_batch in 0usize..6,
        seed in 0u64..1000,
    ) {
        let input = ImageShape { channels: if grey { 1 } else { 3 }, height, width };
        let base = spec(Architecture::SimpleCnn, input);
        let network = Arc::new(ModelSpec { classes, dropout, channels: Some(widths), ..base }.build().unwrap());
        Trial {
            params: parameters(&network, seed),
            images: Images::random(input, classes, 5, seed),
            units: units(&sizes, 5),
            head_only,
            dropout: Some(DropoutStream::new(Seed(5), "trial dropout", &[3])),
            micro_batch: NonZeroUsize::new(micro_batch),
            // A ReLU may switch where the two differ in rounding.
            tolerance: 2e-4,
            network,
        }
        .check();
    }
}

#[test]
fn resnet_and_densenet_agree_with_the_plain_ones() {
    for (architecture, height, width) in [
        (Architecture::ResNet18, 9, 14),
        (Architecture::ResNet18, 64, 65),
        (Architecture::DenseNet121, 10, 8),
        (Architecture::DenseNet121, 66, 64),
    ] {
        let input = ImageShape { channels: 1, height, width };
        let network = Arc::new(ModelSpec { classes: 3, ..spec(architecture, input) }.build().unwrap());
        Trial {
            params: parameters(&network, 1),
            images: Images::random(input, 3, if height > 60 { 1 } else { 2 }, 2),
            units: units(if height > 60 { &[1] } else { &[1, 2] }, if height > 60 { 1 } else { 2 }),
            head_only: false,
            dropout: None,
            micro_batch: None,
            tolerance: 1e-4,
            network,
        }
        .check();
    }
}

/// Central differences of the plain implementation, one parameter of every few views: each kind of layer
/// in each of its uses.
#[test]
fn plain_gradients_agree_with_finite_differences() {
    for (architecture, every) in
        [(Architecture::SimpleCnn, 1), (Architecture::ResNet18, 5), (Architecture::DenseNet121, 29)]
    {
        let input = ImageShape { channels: 3, height: 8, width: 9 };
        let mut model = spec(architecture, input);
        if architecture == Architecture::SimpleCnn {
            model.channels = Some(vec![6, 8]);
        }
        let network = model.build().unwrap();
        let mut params = widen(&parameters(&network, 3));
        let image = widen(&Images::random(input, 2, 1, 4).pixels[0]);
        let nodes = network.nodes();
        let ones = vec![1.0; nodes[nodes.len() - 2].shape.len()];
        let found = network::gradient(&network, &params, &image, 1, &ones).values;
        for view in network.layout().views().iter().step_by(every) {
            let at = view.offset + view.len / 2;
            let (value, step) = (params[at], 1e-6);
            let mut loss = |p: f64| {
                params[at] = p;
                network::loss(&network, &params, &image, 1, &ones)
            };
            let difference = (loss(value + step) - loss(value - step)) / (2.0 * step);
            params[at] = value;
            let error = (found[at] - difference).abs();
            assert!(error <= 1e-5 * difference.abs() + 1e-7, "{}: {} and {difference}", view.name, found[at]);
        }
    }
}

fn small() -> (Arc<Network>, Vec<f32>, Images) {
    let input = ImageShape { channels: 3, height: 12, width: 12 };
    let model = spec(Architecture::SimpleCnn, input);
    let network = Arc::new(ModelSpec { channels: Some(vec![8, 24]), dropout: 0.2, ..model }.build().unwrap());
    let params = parameters(&network, 7);
    (network, params, Images::random(input, 2, 12, 8))
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let input = ImageShape { channels: 1, height: 28, width: 28 };
    for architecture in [Architecture::SimpleCnn, Architecture::ResNet18] {
        let network = Arc::new(ModelSpec { dropout: 0.1, ..spec(architecture, input) }.build().unwrap());
        let params = parameters(&network, 7);
        let images = Images::random(input, 2, 7, 8);
        let batch = Batch::of_units([&[0u32, 1][..], &[2][..], &[3, 4, 5][..], &[6][..]]).unwrap();
        let all = Trainable::all(&network);
        let stream = || Some(DropoutStream::new(Seed(1), "threads", &[]));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let executor = Executor::new(Arc::clone(&network), PerformanceOptions::default());
                let clip = ClipNorm::new(0.5).unwrap();
                let plain = executor.gradient_sum(&params, &images, &batch, &all, stream()).unwrap();
                let clipped = executor.clipped_sum(&params, &images, &batch, &all, clip, stream()).unwrap();
                // The second time in the memory of the first.
                let again = executor.clipped_sum(&params, &images, &batch, &all, clip, stream()).unwrap();
                assert!(clipped == again);
                (plain, clipped)
            })
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert!(run(threads) == one, "{architecture}, {threads} threads");
        }
    }
}

#[test]
fn a_clipped_unit_never_passes_the_norm() {
    let (network, params, images) = small();
    let executor = Executor::new(Arc::clone(&network), PerformanceOptions::default());
    let all = Trainable::all(&network);
    for unit in 0..12u32 {
        for clip in [1e-6, 1e-3, 0.1, 1.0] {
            let batch = Batch::of_units([&[unit, (unit + 1) % 12][..]]).unwrap();
            let norm_c = ClipNorm::new(clip).unwrap();
            let sum = executor.clipped_sum(&params, &images, &batch, &all, norm_c, None).unwrap();
            let found = norm(&widen(sum.values()));
            assert!(found <= clip, "{found} above {clip}");
            assert!(found >= 0.999 * clip || sum.clipped_units() == 0);
        }
    }
}

#[test]
fn units_that_are_not_finite_contribute_nothing() {
    let (network, params, mut images) = small();
    let all = Trainable::all(&network);
    let clip = ClipNorm::new(0.3).unwrap();
    let good = Batch::of_units([&[0u32][..], &[2, 3][..], &[5][..]]).unwrap();
    let mixed = Batch::of_units([&[0u32][..], &[1, 4][..], &[2, 3][..], &[6][..], &[5][..]]).unwrap();
    for poison in [f32::NAN, f32::INFINITY, f32::MAX] {
        images.pixels[4][17] = poison;
        images.pixels[6].fill(poison);
        for micro_batch in [1, 2, 64] {
            let options = PerformanceOptions { micro_batch: NonZeroUsize::new(micro_batch) };
            let executor = Executor::new(Arc::clone(&network), options);
            let expected = executor.clipped_sum(&params, &images, &good, &all, clip, None).unwrap();
            let found = executor.clipped_sum(&params, &images, &mixed, &all, clip, None).unwrap();
            assert_eq!((found.units(), found.non_finite_units()), (5, 2));
            assert_close(found.values(), &widen(expected.values()), 1e-5);
            assert!((found.loss_sum() - expected.loss_sum()).abs() < 1e-6);
        }
    }
}

#[test]
fn an_empty_batch_gives_zeros() {
    let (network, params, images) = small();
    let executor = Executor::new(Arc::clone(&network), PerformanceOptions::default());
    let all = Trainable::all(&network);
    let clip = ClipNorm::new(1.0).unwrap();
    let sum = executor.clipped_sum(&params, &images, &Batch::default(), &all, clip, None).unwrap();
    assert_eq!((sum.units(), sum.images(), sum.loss_sum()), (0, 0, 0.0));
    assert!(sum.values().len() == params.len() && sum.values().iter().all(|v| *v == 0.0));
    let sum = executor.gradient_sum(&params, &images, &Batch::default(), &all, None).unwrap();
    assert!(sum.images() == 0 && sum.values().iter().all(|v| *v == 0.0));
    assert!(executor.logits(&params, &images, &[]).unwrap().is_empty());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (network, params, images) = small();
    let executor = Executor::new(Arc::clone(&network), PerformanceOptions::default());
    let all = Trainable::all(&network);
    let batch = Batch::of_images(vec![0, 1]);
    let sum = |params: &[f32], images: &Images, batch: &Batch, trainable: &Trainable| {
        executor.gradient_sum(params, images, batch, trainable, None).map(|_| ())
    };
    let short = sum(&params[1..], &images, &batch, &all);
    assert_eq!(short, Err(NnError::Parameters { expected: params.len(), found: params.len() - 1 }));
    let other = ImageShape { channels: 1, height: 12, width: 12 };
    let grey = Images::random(other, 2, 2, 1);
    assert_eq!(
        sum(&params, &grey, &batch, &all),
        Err(NnError::ImageShape { expected: images.shape, found: other })
    );
    let beyond = Batch::of_images(vec![3, 12]);
    assert_eq!(sum(&params, &images, &beyond, &all), Err(NnError::ImageIndex { index: 12, len: 12 }));
    let labels = Images { classes: 3, pixels: images.pixels.clone(), ..images };
    let wrong = sum(&params, &labels, &Batch::of_images(vec![2]), &all);
    assert_eq!(wrong, Err(NnError::Label { image: 2, label: 2, classes: 2 }));
    let foreign = spec(Architecture::ResNet18, other).build().unwrap();
    assert_eq!(sum(&params, &labels, &batch, &Trainable::all(&foreign)), Err(NnError::Trainable));
}
