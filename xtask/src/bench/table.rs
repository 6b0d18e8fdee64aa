//! The table of step times: medians, their ratios, and peak memory.

use std::fmt;

use super::{Measurement, Mode, Row};

const COLUMNS: [&str; 11] = [
    "model, pixels, batch",
    "plain, ms/sample",
    "private",
    "PyTorch plain",
    "Opacus hooks",
    "Opacus ghost",
    "private / plain",
    "private / PyTorch plain",
    "best Opacus / private",
    "peak GB plain, private",
    "peak GB PyTorch, hooks, ghost",
];

/// Rows of finished cells.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<[String; COLUMNS.len()]>,
}

impl Table {
    /// Adds the row of one model; a mode without runs leaves its cells at a dash.
    pub(super) fn push(&mut self, row: &Row, runs: &[(Mode, Measurement)]) {
        let of = |mode, value: fn(&Measurement) -> f64| {
            median(runs.iter().filter(|(it, _)| *it == mode).map(|(_, run)| value(run)).collect())
        };
        let time = |mode| of(mode, |run| run.ms_per_sample);
        let memory = |modes: &[Mode]| {
            let peaks: Vec<String> =
                modes.iter().map(|&mode| cell(of(mode, |run| run.peak_rss_gb), 2, "")).collect();
            peaks.join(", ")
        };
        let [plain, private, torch, hooks, ghost] = Mode::ALL.map(time);
        let opacus = [hooks, ghost].into_iter().flatten().reduce(f64::min);
        let ratio = |over: Option<f64>, under: Option<f64>| cell(over.zip(under).map(|(a, b)| a / b), 2, "×");
        self.rows.push([
            format!("{} {}, {}", row.model, row.pixels, row.batch),
            cell(plain, 2, ""),
            cell(private, 2, ""),
            cell(torch, 2, ""),
            cell(hooks, 2, ""),
            cell(ghost, 2, ""),
            ratio(private, plain),
            ratio(private, torch),
            ratio(opacus, private),
            memory(&[Mode::Plain, Mode::Private]),
            memory(&[Mode::TorchPlain, Mode::OpacusHooks, Mode::OpacusGhost]),
        ]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", COLUMNS.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(COLUMNS.len()))?;
        self.rows.iter().try_for_each(|cells| writeln!(f, "| {} |", cells.join(" | ")))
    }
}

fn cell(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}{unit}"))
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
    use super::*;

    fn run(ms_per_sample: f64) -> Measurement {
        Measurement { ms_per_sample, peak_rss_gb: ms_per_sample / 10.0 }
    }

    #[test]
    fn medians() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_full_row_has_every_ratio() {
        let row: Row = "resnet18:28:64".parse().expect("the row is well formed");
        let mut table = Table::default();
        let times = [4.0, 5.0, 8.0, 40.0, 20.0];
        table.push(&row, &Mode::ALL.into_iter().zip(times.map(run)).collect::<Vec<_>>());
        assert_eq!(
            table.to_string().lines().nth(2),
            Some(
                "| resnet18 28, 64 | 4.00 | 5.00 | 8.00 | 40.00 | 20.00 | 1.25× | 0.62× | 4.00× | 0.40, 0.50 | \
                 0.80, 4.00, 2.00 |"
            )
        );
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let row: Row = "resnet18:28:64".parse().expect("the row is well formed");
        let mut table = Table::default();
        table.push(&row, &[(Mode::Plain, run(4.0)), (Mode::Private, run(6.0))]);
        let text = table.to_string();
        assert!(
            text.contains("| 4.00 | 6.00 | – | – | – | 1.50× | – | – | 0.40, 0.60 | –, –, – |"),
            "{text}"
        );
    }
}
