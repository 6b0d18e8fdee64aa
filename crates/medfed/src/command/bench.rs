//! `medfed bench`: how fast this machine trains, and what the aggregation rules withstand.

mod robustness;

use crate::failure::Failure;
use medfed_nn::{Architecture, Executor, ModelSpec, NnError, PerformanceOptions, Trainable};
use medfed_types::{Batch, ClipNorm, ImageShape, ImageSource, Seed};
use rand::Rng;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

/// Different images; a batch of more shows them again, so that what memory grows by is the engine's.
const DIFFERENT: usize = 64;

/// Measures speed and memory, and what the aggregation rules withstand.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Times one training step on random images (3 channels, 2 classes).
    Step(StepArgs),
    Robustness(robustness::Args),
}

#[derive(Debug, clap::Args)]
struct StepArgs {
    /// simple_cnn, resnet18 or densenet121
    #[arg(long)]
    model: Architecture,
    /// Rows and columns of the images (8 to 512)
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=512))]
    pixels: u32,
    /// Images in the batch; a multiple of --unit-images
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// A step without privacy, or one with per-image clipping
    #[arg(long, value_enum)]
    mode: Mode,
    /// Images of each privacy unit: 1 for units that are images, more for units that are patients
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    unit_images: u32,
    /// Steps that are timed, after one that is not
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// Threads; one per core if absent
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Plain,
    Private,
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
struct Measured {
    model: Architecture,
    pixels: u32,
    batch: u32,
    unit_images: u32,
    mode: Mode,
    threads: usize,
    /// Of each step.
    seconds: Vec<f64>,
    /// The median of them.
    seconds_per_step: f64,
    ms_per_sample: f64,
    /// Absent where the operating system does not say.
    peak_rss_gb: Option<f64>,
}

impl BenchCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let args = match self.what {
            What::Step(args) => args,
            What::Robustness(args) => return robustness::run(&args),
        };
        let mut pool = rayon::ThreadPoolBuilder::new();
        if let Some(threads) = args.threads {
            pool = pool.num_threads(usize::from(threads));
        }
        if !args.batch.is_multiple_of(args.unit_images) {
            let (batch, unit) = (args.batch, args.unit_images);
            return Err(Failure::user(UnevenUnits { batch, unit }));
        }
        let pool = pool.build().map_err(Failure::internal)?;
        let measured = pool.install(|| args.measure()).map_err(Failure::internal)?;
        let mut out = std::io::stdout().lock();
        let written = if args.json {
            serde_json::to_writer(&mut out, &measured).map_err(Failure::internal)?;
            writeln!(out)
        } else {
            measured.describe(&mut out)
        };
        written.map_err(Failure::user)
    }
}

/// A batch that is not made of whole units.
#[derive(Debug, thiserror::Error)]
#[error("a batch of {batch} images is not made of units of {unit}; make --batch a multiple of --unit-images")]
struct UnevenUnits {
    batch: u32,
    unit: u32,
}

impl StepArgs {
    fn measure(&self) -> Result<Measured, NnError> {
        let pixels = self.pixels as usize;
        let input = ImageShape { channels: 3, height: pixels, width: pixels };
        let spec = ModelSpec { architecture: self.model, input, classes: 2, dropout: 0.0, channels: None };
        let network = Arc::new(spec.build()?);
        let mut params = network.initial_parameters(&mut Seed(0).generator("bench parameters", &[]));
        let images = RandomImages::new(input, self.batch as usize);
        let indices: Vec<u32> = (0..self.batch).collect();
        let step = Step {
            executor: Executor::new(Arc::clone(&network), PerformanceOptions::default()),
            trainable: Trainable::all(&network),
            batch: Batch::of_units(indices.chunks(self.unit_images as usize)).expect("chunks have images"),
            mode: self.mode,
        };
        step.run(&mut params, &images)?;
        let mut seconds = Vec::with_capacity(self.steps as usize);
        for _ in 0..self.steps {
            let start = Instant::now();
            step.run(&mut params, &images)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        let median = median(&seconds);
        Ok(Measured {
            model: self.model,
            pixels: self.pixels,
            batch: self.batch,
            unit_images: self.unit_images,
            mode: self.mode,
            threads: rayon::current_num_threads(),
            seconds,
            seconds_per_step: median,
            ms_per_sample: median / f64::from(self.batch) * 1e3,
            peak_rss_gb: peak_memory().map(|bytes| bytes / 1e9),
        })
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// A training step without its noise: the sum of the gradients and a move of the parameters.
struct Step {
    executor: Executor,
    trainable: Trainable,
    batch: Batch,
    mode: Mode,
}

impl Step {
    fn run(&self, params: &mut [f32], images: &RandomImages) -> Result<(), NnError> {
        let gradient = match self.mode {
            Mode::Plain => {
                self.executor.gradient_sum(params, images, &self.batch, &self.trainable, None)?.into_values()
            }
            Mode::Private => {
                let clip = ClipNorm::new(1.0).expect("1 is a clipping norm");
                let (batch, trainable) = (&self.batch, &self.trainable);
                self.executor.clipped_sum(params, images, batch, trainable, clip, None)?.into_values()
            }
        };
        let rate = 0.01 / self.batch.units() as f32;
        params.iter_mut().zip(&gradient).for_each(|(p, g)| *p -= rate * g);
        Ok(())
    }
}

impl Measured {
    fn describe(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mode = match self.mode {
            Mode::Plain => "plain",
            Mode::Private => "private",
        };
        let memory = self.peak_rss_gb.map_or_else(String::new, |gb| format!(", peak memory {gb:.3} GB"));
        writeln!(
            out,
            "{} {}x{}, batch {}, {mode}, {} threads: {:.3} ms per sample{memory}",
            self.model, self.pixels, self.pixels, self.batch, self.threads, self.ms_per_sample
        )
    }
}

/// Images of noise, uniform with variance 1, and alternating labels.
struct RandomImages {
    shape: ImageShape,
    count: usize,
    values: Vec<f32>,
}

impl RandomImages {
    fn new(shape: ImageShape, count: usize) -> Self {
        let mut rng = Seed(0).generator("bench images", &[]);
        let scale = 12f32.sqrt() / u32::MAX as f32;
        let value = |_| (rng.next_u32() as f32 - u32::MAX as f32 / 2.0) * scale;
        Self { shape, count, values: (0..count.min(DIFFERENT) * shape.len()).map(value).collect() }
    }
}

impl ImageSource for RandomImages {
    fn shape(&self) -> ImageShape {
        self.shape
    }
    fn len(&self) -> usize {
        self.count
    }
    fn label(&self, index: usize) -> u32 {
        index as u32 % 2
    }
    fn fill(&self, index: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.values[index % DIFFERENT * self.shape.len()..][..self.shape.len()]);
    }
}

/// The largest resident size of this process so far, in bytes, where `/proc` tells it.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_are_timed() {
        for mode in [Mode::Plain, Mode::Private] {
            let args = StepArgs {
                model: Architecture::SimpleCnn,
                pixels: 8,
                batch: 4,
                unit_images: 2,
                steps: 3,
                mode,
                threads: None,
                json: false,
            };
            let measured = args.measure().unwrap();
            assert!((measured.ms_per_sample - measured.seconds_per_step / 4.0 * 1e3).abs() < 1e-9);
            assert_eq!(measured.seconds.len(), 3);
            let mut text = Vec::new();
            measured.describe(&mut text).unwrap();
            assert!(String::from_utf8(text).unwrap().starts_with("simple_cnn 8x8, batch 4, p"));
        }
    }

    #[test]
    fn a_batch_repeats_its_images() {
        let shape = ImageShape { channels: 1, height: 2, width: 2 };
        let images = RandomImages::new(shape, DIFFERENT + 2);
        assert_eq!((images.len(), images.values.len()), (DIFFERENT + 2, DIFFERENT * 4));
        let (mut first, mut again) = ([0.0; 4], [0.0; 4]);
        images.fill(1, &mut first);
        images.fill(DIFFERENT + 1, &mut again);
        assert_eq!(first, again);
    }
}
