//! How long each rule takes, in units of the time to read the updates once from memory; see
//! `cargo xtask bench aggregate`.
//!
//! Arguments: hospitals, parameters, repeats, and part of the name of a rule for that rule alone. Rules and readings alternate, so that a machine that others use
//! slows both. `RAYON_NUM_THREADS` sets the threads of either.
#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever started it")]

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, ensure};
use medfed_aggregate::{Aggregator, PreStep, Rule, SiteUpdate, TrimRatio};
use medfed_types::{RoundId, SiteId};
use rayon::prelude::*;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (numbers, names) = arguments.split_at(arguments.len().min(3));
    let numbers: Vec<usize> = numbers
        .iter()
        .map(|argument| argument.parse().with_context(|| format!("{argument} is no number")))
        .collect::<Result<_, _>>()?;
    let [hospitals, parameters, repeats] = numbers[..] else {
        // `cargo test --all-targets` starts benchmarks without arguments.
        println!("usage: rules HOSPITALS PARAMETERS REPEATS [RULE]");
        return Ok(());
    };
    ensure!(
        hospitals >= 7 && parameters > 0 && repeats > 0,
        "at least 7 hospitals, 1 parameter and 1 repeat"
    );
    let updates: Vec<SiteUpdate> =
        (0..hospitals).map(|i| update(i, parameters)).collect::<Result<_, anyhow::Error>>()?;
    let mut rules = rules(hospitals)?;
    rules.retain(|(rule, _, _)| names.iter().all(|name| rule.contains(name.as_str())));
    let mut read: Vec<f64> = Vec::new();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rules.len()];
    // As in a run, a round's step takes the memory of the one before.
    let mut step = vec![1f32; parameters];
    for _ in 0..repeats {
        for ((_, _, aggregator), times) in rules.iter_mut().zip(&mut times) {
            read.push(milliseconds(|| read_once(&updates)));
            let mut outcome = Ok(());
            let memory = std::mem::take(&mut step);
            times.push(milliseconds(|| {
                outcome = aggregator
                    .aggregate_into(memory, &updates, RoundId(1), parameters)
                    .map(|found| step = black_box(found.step));
            }));
            outcome.with_context(|| aggregator.rule().to_string())?;
        }
    }
    let read = fastest(&read);
    let gigabytes = (hospitals * parameters * size_of::<f32>()) as f64 / 1e9;
    println!("| rule | ms | × reading | target |");
    println!("|---|---|---|---|");
    println!("| reading the updates once | {read:.1} | 1.00 | |");
    for ((name, target, _), times) in rules.iter().zip(&times) {
        let time = fastest(times);
        let target = target.map_or(String::new(), |target| format!("≤ {target}"));
        println!("| {name} | {time:.1} | {:.2} | {target} |", time / read);
    }
    println!(
        "\n{hospitals} hospitals, {parameters} parameters, {gigabytes:.2} GB read at {:.1} GB/s, {} threads, the fastest of {repeats} \
         interleaved runs.",
        gigabytes / read * 1e3,
        rayon::current_num_threads()
    );
    Ok(())
}

/// The rules by name, with the most readings that they may take.
fn rules(hospitals: usize) -> anyhow::Result<Vec<(String, Option<u32>, Aggregator)>> {
    let (krum, bulyan) = ((hospitals - 3) / 2, (hospitals - 3) / 4);
    let f = krum.min(2);
    let ratio = TrimRatio::new(0.2)?;
    let mix = PreStep::NearestNeighbourMixing { byzantine: f };
    let clipping = Rule::CenteredClipping { radius: None, iterations: 3 };
    [
        (Rule::FedAvg, PreStep::None, None),
        (Rule::Median, PreStep::None, Some(3)),
        (Rule::TrimmedMean { ratio }, PreStep::None, Some(3)),
        (Rule::Krum { byzantine: f }, PreStep::None, None),
        (Rule::MultiKrum { byzantine: f, selected: hospitals - f - 2 }, PreStep::None, Some(4)),
        (Rule::Bulyan { byzantine: bulyan }, PreStep::None, None),
        (Rule::FoolsGold, PreStep::None, None),
        (Rule::GeometricMedian, PreStep::None, None),
        (clipping, PreStep::None, None),
        (Rule::Median, mix, None),
        (Rule::MultiKrum { byzantine: f, selected: hospitals - f - 2 }, mix, None),
    ]
    .into_iter()
    .map(|(rule, pre, target)| {
        let name = if pre == PreStep::None { rule.to_string() } else { format!("{pre}, then {rule}") };
        Ok((name, target, Aggregator::new(rule, pre)?))
    })
    .collect()
}

/// An update that looks like noise around a common direction.
fn update(i: usize, parameters: usize) -> anyhow::Result<SiteUpdate> {
    let word = |seed: u64| {
        // The finaliser of SplitMix64.
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let value = |c: usize| word(c as u64) + word((i * parameters + c) as u64 ^ 0x5555_0000_0000);
    let delta: Vec<f32> = (0..parameters).into_par_iter().map(value).collect();
    Ok(SiteUpdate::new(SiteId::try_from(format!("site {i:03}"))?, RoundId(1), delta, 100.0)?)
}

/// Reads every value and keeps next to nothing of it.
fn read_once(updates: &[SiteUpdate]) {
    let all: u32 = updates
        .par_iter()
        .flat_map(|update| update.delta().par_chunks(1 << 16))
        .map(|chunk| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    let mut mix = [0u32; 128];
                    for values in chunk.as_chunks::<128>().0 {
                        for (mix, value) in mix.iter_mut().zip(values) {
                            *mix ^= value.to_bits();
                        }
                    }
                    mix.iter().fold(0, |a, b| a ^ b)
                },
            )
        })
        .reduce(|| 0, |a, b| a ^ b);
    black_box(all);
}

fn milliseconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// Whatever else the machine does only adds time.
fn fastest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
