//! The tables of step times: medians, ratios with their targets, and where the time goes.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::record::Record;
use super::{MEMORY_BATCHES, MEMORY_MODELS, Run};

/// All records, as tables.
#[derive(Debug)]
pub(super) struct Tables<'a> {
    records: &'a [Record],
}

/// Parts of a step that the table shows together.
const GROUPS: [(&str, &[&str]); 7] = [
    ("forward", &["Convolve"]),
    ("input gradients", &["InputGradient"]),
    ("weight gradients", &["WeightGradient"]),
    ("ghost norms", &["GhostNorms"]),
    ("GroupNorm", &["Normalise", "NormaliseBack"]),
    ("pooling", &["Pool"]),
    ("the rest", &["Prepare", "Load", "Loss", "Clip", "Finish"]),
];

impl<'a> Tables<'a> {
    pub(super) fn of(records: &'a [Record]) -> Self {
        Self { records }
    }

    /// What the runs of a kind found in a cell.
    fn found(&self, cell: &str, run: Run) -> impl Iterator<Item = &'a Value> {
        let own = self.records.iter().filter(move |record| record.cell == cell && record.run == run.name());
        own.map(|record| &record.found)
    }

    /// Median of a cell's steps, in ms per sample.
    fn time(&self, cell: &str, run: Run) -> Option<f64> {
        let batch: f64 = cell.rsplit(':').next()?.parse().ok()?;
        let steps = self.found(cell, run).filter_map(|found| found["seconds"].as_array()).flatten();
        median(steps.filter_map(Value::as_f64).collect()).map(|seconds| 1e3 * seconds / batch)
    }

    fn peak(&self, cell: &str, run: Run) -> Option<f64> {
        self.found(cell, run).filter_map(|found| found["peak_rss_gb"].as_f64()).reduce(f64::max)
    }

    /// A number, "memory" where it did not suffice, or a dash.
    fn shown(&self, cell: &str, run: Run, value: Option<f64>) -> String {
        match value {
            Some(value) => format!("{value:.2}"),
            None if self.found(cell, run).any(|found| found["out_of_memory"] == true) => "memory".to_owned(),
            None => "–".to_owned(),
        }
    }

    fn times(&self, f: &mut fmt::Formatter<'_>, cells: &[&str]) -> fmt::Result {
        let runs = [Run::Plain, Run::Private, Run::TorchPlain, Run::OpacusHooks, Run::OpacusGhost];
        writeln!(
            f,
            "| model, pixels, batch | plain, ms/sample | private | PyTorch plain | Opacus hooks | Opacus ghost \
             | peak GB plain, private | peak GB PyTorch, hooks, ghost | steps |\n|{}",
            "---|".repeat(9)
        )?;
        for cell in cells {
            let times = runs.map(|run| self.shown(cell, run, self.time(cell, run)));
            let [plain, private, torch, hooks, ghost] =
                runs.map(|run| self.shown(cell, run, self.peak(cell, run)));
            let steps = runs.map(|run| {
                let lists = self.found(cell, run).filter_map(|found| found["seconds"].as_array());
                lists.map(Vec::len).sum::<usize>().to_string()
            });
            let (times, steps) = (times.join(" | "), steps.join(", "));
            let name = name(cell);
            writeln!(f, "| {name} | {times} | {plain}, {private} | {torch}, {hooks}, {ghost} | {steps} |")?;
        }
        writeln!(f)
    }

    fn verdicts(&self, f: &mut fmt::Formatter<'_>, cells: &[&str]) -> fmt::Result {
        writeln!(
            f,
            "| model, pixels, batch | 1: private / PyTorch plain | 2: best Opacus / private | 3: private / plain \
             | 4: convolutions, step, share of GEMM | 5: peak / hooks | 6: two threads, GEMM | 7: units of four \
             |\n|{}",
            "---|".repeat(8)
        )?;
        for cell in cells {
            writeln!(f, "| {} | {} |", name(cell), self.targets(cell).join(" | "))?;
        }
        writeln!(f)
    }

    fn targets(&self, cell: &str) -> [String; 7] {
        let simple = cell.starts_with("simple_cnn");
        let small = cell.contains(":64:");
        let faster = match cell.split(':').next() {
            Some("simple_cnn") => 3.0,
            _ if small => 8.0,
            Some("resnet18") => 5.0,
            _ => 2.5,
        };
        let time = |run| self.time(cell, run);
        let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a / b);
        let private = time(Run::Private);
        let opacus = [time(Run::OpacusHooks), time(Run::OpacusGhost)].into_iter().flatten().reduce(f64::min);
        let [two, one] = [Run::Parts, Run::PartsOne].map(|run| self.found(cell, run).next());
        let seconds = |found: Option<&Value>| found.and_then(|found| found["seconds"].as_f64());
        let gemm =
            |found: Option<&Value>| found.and_then(|found| found["gemm_operations_per_second"].as_f64());
        let speedup = ratio(seconds(one), seconds(two));
        let scales = ratio(gemm(two), gemm(one));
        let shares = two.and_then(shares);
        let share = shares.map_or_else(
            || "–".to_owned(),
            |[convolutions, step]| {
                let least = if cell.starts_with("simple_cnn:128:") { 0.45 } else { 0.0 };
                let met = mark(convolutions >= 0.6 && step >= least);
                format!("{:.0} %, {:.0} % {met}", 100.0 * convolutions, 100.0 * step)
            },
        );
        let threads = speedup.zip(scales).map_or_else(
            || "–".to_owned(),
            |(speedup, scales)| {
                let met = if scales >= 1.85 { mark(speedup >= 1.85) } else { "" };
                format!("{speedup:.2}×, {scales:.2}× {met}").trim_end().to_owned()
            },
        );
        [
            judged(ratio(private, time(Run::TorchPlain)), |r| r <= if simple { 0.5 } else { 0.8 }),
            judged(ratio(opacus, private), |r| r >= faster),
            judged(ratio(private, time(Run::Plain)), |r| r <= 1.15),
            share,
            judged(ratio(self.peak(cell, Run::Private), self.peak(cell, Run::OpacusHooks)), |r| r <= 0.25),
            threads,
            judged(ratio(time(Run::Units), private), |r| r <= 1.1),
        ]
    }

    fn parts(&self, f: &mut fmt::Formatter<'_>, cells: &[&str]) -> fmt::Result {
        let names = GROUPS.map(|(name, _)| name).join(" | ");
        writeln!(f, "| model, pixels, batch | {names} | GEMM, GFLOP/s |\n|{}", "---|".repeat(9))?;
        for cell in cells {
            let Some(found) = self.found(cell, Run::Parts).next() else { continue };
            let Some(whole) = found["seconds"].as_f64() else { continue };
            let groups = GROUPS.map(|(_, parts)| {
                let [seconds, operations] = sum(found, parts);
                let share = format!("{:.0} %", 100.0 * seconds / whole);
                let gemm = found["gemm_operations_per_second"].as_f64();
                match gemm.filter(|_| operations > 0.0 && seconds > 0.0) {
                    Some(gemm) => format!("{share} at {:.0} %", 100.0 * operations / seconds / gemm),
                    None => share,
                }
            });
            let gemm = found["gemm_operations_per_second"].as_f64().unwrap_or(0.0) / 1e9;
            writeln!(f, "| {} | {} | {gemm:.0} |", name(cell), groups.join(" | "))?;
        }
        writeln!(f)
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = MEMORY_BATCHES.map(|batch| batch.to_string()).join(" | ");
        writeln!(
            f,
            "| peak GB at 28 pixels, by batch | {batches} | largest / smallest |\n|{}",
            "---|".repeat(6)
        )?;
        for model in MEMORY_MODELS {
            let cells = MEMORY_BATCHES.map(|batch| format!("{model}:28:{batch}"));
            let peaks = cells.each_ref().map(|cell| self.peak(cell, Run::Memory));
            let shown: Vec<String> =
                peaks.iter().map(|peak| peak.map_or("–".to_owned(), |peak| format!("{peak:.3}"))).collect();
            let spread = peaks.iter().copied().collect::<Option<Vec<f64>>>().map(|peaks| {
                let [least, most] =
                    [f64::min, f64::max].map(|f| peaks.iter().copied().reduce(f).unwrap_or(0.0));
                most / least
            });
            // Within 5 % on either side of a value between them.
            let spread = judged(spread, |r| r <= 1.05 / 0.95);
            writeln!(f, "| {model} | {} | {spread} |", shown.join(" | "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen = BTreeSet::new();
        let measured = self.records.iter().filter(|record| record.run != Run::Memory.name());
        let cells: Vec<&str> =
            measured.map(|record| &record.cell[..]).filter(|cell| seen.insert(*cell)).collect();
        self.times(f, &cells)?;
        self.verdicts(f, &cells)?;
        self.parts(f, &cells)?;
        self.memory(f)
    }
}

/// Seconds and operations of some parts.
fn sum(found: &Value, parts: &[&str]) -> [f64; 2] {
    let own = found["parts"].as_array().into_iter().flatten();
    let own = own.filter(|part| part["part"].as_str().is_some_and(|name| parts.contains(&name)));
    own.fold([0.0; 2], |[seconds, operations], part| {
        let number = |key: &str| part[key].as_f64().unwrap_or(0.0);
        [seconds + number("seconds"), operations + number("operations")]
    })
}

/// Shares of the matrix product's speed that the convolutions and the whole step reach.
fn shares(found: &Value) -> Option<[f64; 2]> {
    let gemm = found["gemm_operations_per_second"].as_f64()?;
    let [seconds, operations] = sum(found, &["Convolve", "InputGradient", "WeightGradient", "GhostNorms"]);
    let whole = found["seconds"].as_f64()?;
    (seconds > 0.0 && whole > 0.0).then(|| [operations / seconds / gemm, operations / whole / gemm])
}

fn name(cell: &str) -> String {
    match cell.split(':').collect::<Vec<_>>()[..] {
        [model, pixels, batch] => format!("{model} {pixels}, {batch}"),
        _ => cell.to_owned(),
    }
}

fn mark(met: bool) -> &'static str {
    if met { "✓" } else { "✗" }
}

fn judged(ratio: Option<f64>, met: impl Fn(f64) -> bool) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}× {}", mark(met(ratio))))
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[half - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::*;
    use serde_json::json;

    #[test]
    fn medians() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn targets_are_judged_from_all_runs_of_a_cell() {
        let cell: Cell = "resnet18:28:64".parse().expect("the cell is well formed");
        let run = |run, lap, seconds: &[f64], gb: f64| {
            Record::new(&cell, run, lap, json!({ "seconds": seconds, "peak_rss_gb": gb }))
        };
        let parts = |run, seconds, gemm| {
            let part = json!({ "part": "Convolve", "seconds": 0.1, "operations": 7e9 });
            let found = json!({ "seconds": seconds, "gemm_operations_per_second": gemm, "parts": [part] });
            Record::new(&cell, run, 0, found)
        };
        let records = [
            run(Run::Plain, 0, &[0.1], 0.5),
            run(Run::Private, 1, &[0.10, 0.11], 0.5),
            run(Run::Private, 8, &[0.12], 0.6),
            run(Run::TorchPlain, 2, &[0.2], 1.0),
            run(Run::OpacusHooks, 3, &[0.44], 2.0),
            Record::new(&cell, Run::OpacusGhost, 4, json!({ "out_of_memory": true })),
            parts(Run::Parts, 0.2, 1e11),
            parts(Run::PartsOne, 0.4, 5e10),
        ];
        let tables = Tables::of(&records);
        assert_eq!(
            tables.targets("resnet18:28:64"),
            ["0.55× ✓", "4.00× ✗", "1.10× ✓", "70 %, 35 % ✓", "0.30× ✗", "2.00×, 2.00× ✓", "–"]
        );
        let text = tables.to_string();
        assert!(
            text.contains("| 1.56 | 1.72 | 3.12 | 6.88 | memory | 0.50, 0.60 | 1.00, 2.00, memory |"),
            "{text}"
        );
        assert!(text.contains("| 50 % at 70 % |"), "{text}");
    }
}
