//! Times the parts of one training step, and beside them the product of two matrices by the `gemm` crate: the
//! machine's ceiling. Prints one JSON object, of which `cargo xtask bench step` makes a table.
//!
//! ```sh
//! cargo bench -p medfed-nn --features measure --bench parts -- MODEL PIXELS BATCH plain|private [THREADS]
//! ```

use medfed_nn::measure::{Begun, Convolved, Part, observe, product};
use medfed_nn::{Architecture, Executor, ModelSpec, PerformanceOptions, Trainable};
use medfed_types::{Batch, ClipNorm, ImageShape, ImageSource, Seed};
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Steps that are timed after one that is not.
const STEPS: usize = 5;
/// Rows and columns of the matrices; the faster size is the ceiling.
const SIDES: [usize; 2] = [1024, 2048];

/// Seconds and operations of one step, by part and convolution.
type Times = BTreeMap<(Part, Option<Convolved>), [f64; 2]>;

#[expect(clippy::print_stdout, reason = "the object is what this program is for")]
fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
    let [model, pixels, batch, mode, rest @ ..] = &arguments[..] else {
        panic!("expected MODEL PIXELS BATCH plain|private [THREADS]");
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let threads = rest.first().map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |threads| threads.parse().expect("a number of threads"),
    );
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    let private = mode == "private";
    let printed = pool.install(|| {
        let step = Step::new(model.parse().expect("a model"), number(pixels), number(batch), private);
        // The clock of a shared machine drifts: the ceiling is measured on both sides.
        let before = ceiling(threads);
        let steps: Vec<(f64, Times)> = (0..=STEPS).map(|_| step.time()).skip(1).collect();
        let after = ceiling(threads);
        describe(&steps, before.max(after))
    });
    println!("{printed}");
}

/// Floating-point operations in a second, the fastest of five products of either size.
fn ceiling(threads: usize) -> f64 {
    let rate = |n: usize| {
        let values = |seed: f32| (0..n * n).map(|i| (i as f32 * seed).sin()).collect::<Vec<f32>>();
        let (a, b, mut c) = (values(0.37), values(0.73), vec![0f32; n * n]);
        let fastest = (0..5).map(|_| {
            let start = Instant::now();
            product(n, &a, &b, &mut c, threads);
            start.elapsed().as_secs_f64()
        });
        2.0 * (n as f64).powi(3) / fastest.fold(f64::INFINITY, f64::min)
    };
    SIDES.into_iter().map(rate).fold(0.0, f64::max)
}

/// The step that `medfed bench step` takes.
struct Step {
    executor: Executor,
    params: Vec<f32>,
    trainable: Trainable,
    batch: Batch,
    images: Waves,
    private: bool,
}

impl Step {
    fn new(architecture: Architecture, pixels: usize, batch: usize, private: bool) -> Self {
        let input = ImageShape { channels: 3, height: pixels, width: pixels };
        let spec = ModelSpec { architecture, input, classes: 2, dropout: 0.0, channels: None };
        let network = Arc::new(spec.build().expect("a model of these sizes"));
        Self {
            params: network.initial_parameters(&mut Seed(0).generator("bench parameters", &[])),
            trainable: Trainable::all(&network),
            executor: Executor::new(network, PerformanceOptions::default()),
            batch: Batch::of_images((0..batch as u32).collect()),
            images: Waves(input, batch),
            private,
        }
    }

    /// Seconds of the whole, and of each part.
    fn time(&self) -> (f64, Times) {
        let clock = Rc::new(RefCell::new(Clock { last: Instant::now(), open: None, times: Times::new() }));
        let own = Rc::clone(&clock);
        let start = Instant::now();
        observe(move |begun| own.borrow_mut().turn(Some(begun)), || self.take());
        clock.borrow_mut().turn(None);
        let whole = start.elapsed().as_secs_f64();
        (whole, std::mem::take(&mut clock.borrow_mut().times))
    }

    fn take(&self) {
        let Self { params, images, batch, trainable, .. } = self;
        if self.private {
            let clip = ClipNorm::new(1.0).expect("1 is a clipping norm");
            let sum = self.executor.clipped_sum(params, images, batch, trainable, clip, None);
            std::hint::black_box(sum.expect("a step"));
        } else {
            let sum = self.executor.gradient_sum(params, images, batch, trainable, None);
            std::hint::black_box(sum.expect("a step"));
        }
    }
}

struct Clock {
    last: Instant,
    open: Option<Begun>,
    times: Times,
}

impl Clock {
    /// Ends the open part and begins the next.
    fn turn(&mut self, next: Option<Begun>) {
        let now = Instant::now();
        if let Some(open) = self.open.take() {
            let [seconds, operations] = self.times.entry((open.part, open.convolution)).or_default();
            *seconds += (now - self.last).as_secs_f64();
            *operations += open.operations;
        }
        self.last = now;
        self.open = next;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn describe(steps: &[(f64, Times)], ceiling: f64) -> serde_json::Value {
    let (_, first) = &steps[0];
    let parts: Vec<_> = first
        .iter()
        .map(|(key @ (part, convolution), [_, operations])| {
            let seconds = median(steps.iter().map(|(_, times)| times[key][0]).collect());
            let of = convolution.map(|of| {
                let Convolved { map: [rows, columns], kernel: [high, wide], inputs, outputs } = of;
                format!("{high}x{wide}, {inputs} to {outputs}, {rows}x{columns}")
            });
            json!({ "part": format!("{part:?}"), "convolution": of, "seconds": seconds, "operations": operations })
        })
        .collect();
    let whole = median(steps.iter().map(|(whole, _)| *whole).collect());
    json!({ "seconds": whole, "gemm_operations_per_second": ceiling, "parts": parts })
}

/// Images of waves, with alternating labels.
struct Waves(ImageShape, usize);

impl ImageSource for Waves {
    fn shape(&self) -> ImageShape {
        self.0
    }
    fn len(&self) -> usize {
        self.1
    }
    fn label(&self, index: usize) -> u32 {
        index as u32 % 2
    }
    fn fill(&self, index: usize, out: &mut [f32]) {
        // A cheap pattern with the variance of a normalised image: reading is not what is measured.
        let mut state = index as u32 ^ 0x9e37_79b9;
        for value in out {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = (state >> 8) as f32 * (12f32.sqrt() / (1 << 24) as f32) - 3f32.sqrt();
        }
    }
}
