//! Times the noise of one step in both modes, on one thread and on all.
//!
//! ```sh
//! cargo bench -p medfed-dp --features measure --bench noise -- [PARAMETERS]
//! ```

use medfed_dp::measure::{Mode, add_noise};
use std::time::Instant;

/// Parameters of ResNet-18.
const PARAMETERS: usize = 11_000_000;
/// Rounds in which each way is timed once, after one that is not; the fastest counts.
const ROUNDS: usize = 7;

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() {
    // Cargo adds `--bench`.
    let given = std::env::args().skip(1).find(|text| !text.starts_with('-'));
    let parameters = given.map_or(PARAMETERS, |text| text.parse().expect("a number of parameters"));
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    let ways = [Mode::Fast, Mode::Secure].map(|mode| [1, all].map(|threads| (mode, threads, pool(threads))));
    let mut fastest = [[f64::INFINITY; 2]; 2];
    let mut values = vec![0.0; parameters];
    for round in 0..=ROUNDS {
        for (ways, fastest) in ways.iter().zip(&mut fastest) {
            for ((mode, _, pool), fastest) in ways.iter().zip(fastest) {
                let start = Instant::now();
                pool.install(|| add_noise(*mode, &mut values));
                if round > 0 {
                    *fastest = fastest.min(start.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    }
    println!("| noise on {parameters} parameters | threads | ms |\n|---|---|---|");
    for ((mode, threads, _), fastest) in ways.iter().flatten().zip(fastest.iter().flatten()) {
        println!("| {mode:?} | {threads} | {fastest:.1} |");
    }
}
