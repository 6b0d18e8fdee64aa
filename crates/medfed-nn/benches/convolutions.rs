//! Times every 3×3 convolution with stride 1 of the three models by its definition and by Winograd's tiles,
//! and says what the planner chooses. The constants of `src/executor/cost.rs` follow from this table.
//!
//! ```sh
//! cargo bench -p medfed-nn --features measure --bench convolutions -- [MODEL [PIXELS [THREADS]]]
//! ```

use medfed_nn::measure::{Case, Trial, Way};
use medfed_nn::{Architecture, ModelSpec};
use medfed_types::ImageShape;
use std::collections::BTreeSet;
use std::time::Instant;

const MODELS: [Architecture; 3] =
    [Architecture::SimpleCnn, Architecture::ResNet18, Architecture::DenseNet121];
const PIXELS: [usize; 4] = [28, 64, 128, 224];
const WAYS: [Way; 3] = [Way::Direct, Way::Two, Way::Four];
/// Rounds in which each way is timed once; the fastest counts.
const ROUNDS: usize = 7;

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
    let number = |at: usize| arguments.get(at).map(|text| text.parse::<usize>().expect("a number"));
    let threads = number(2).unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut cases = BTreeSet::new();
    for architecture in MODELS.into_iter().filter(|m| arguments.first().is_none_or(|t| *t == m.to_string())) {
        for pixels in PIXELS.into_iter().filter(|p| number(1).is_none_or(|wanted| wanted == *p)) {
            let input = ImageShape { channels: 3, height: pixels, width: pixels };
            let spec = ModelSpec { architecture, input, classes: 2, dropout: 0.0, channels: None };
            cases.extend(Case::of(&spec.build().expect("a model of these sizes")));
        }
    }
    println!(
        "work map inputs outputs images | direct two four (ms, {threads} threads) | two four (× direct) | chosen"
    );
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    pool.install(|| cases.into_iter().for_each(time));
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn time(case: Case) {
    let mut trial = Trial::new(case);
    let mut fastest = [f64::INFINITY; 3];
    for round in 0..=ROUNDS {
        for (way, fastest) in WAYS.into_iter().zip(&mut fastest) {
            let start = Instant::now();
            trial.run(way);
            // The first round warms the memory up.
            if round > 0 {
                *fastest = fastest.min(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let Case { work, map: [rows, columns], inputs, outputs, images } = case;
    let [direct, two, four] = fastest;
    let [by_two, by_four] = [two, four].map(|time| time / direct);
    println!(
        "{work:?} {rows}x{columns} {inputs} {outputs} {images} | {direct:.3} {two:.3} {four:.3} | {by_two:.2} {by_four:.2} | {:?}",
        case.chosen()
    );
}
