//! The aggregation rules in units of one reading of the updates.

use anyhow::{Context, ensure};

use crate::Verdict;
use crate::workspace::Workspace;

/// Measures one round of every aggregation rule and prints a Markdown table.
#[derive(Debug, clap::Args)]
pub(crate) struct RuleTimes {
    /// Hospitals, each with an update
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(7..))]
    hospitals: u16,
    /// Parameters of the model; the default is that of ResNet-18
    #[arg(long, value_name = "N", default_value_t = 11_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    parameters: u32,
    /// How often each rule is measured; the table shows the fastest run
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Threads for the rules and for the reading; all cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl RuleTimes {
    /// Measures, and prints the table to stdout.
    pub(super) fn run(&self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        let mut command = workspace.cargo();
        command.args(["bench", "--quiet", "--package", "medfed-aggregate", "--bench", "rules", "--"]);
        command.args([self.hospitals.to_string(), self.parameters.to_string(), self.repeats.to_string()]);
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        let status = command.status().context("cannot start cargo bench")?;
        ensure!(status.success(), "the benchmark of the rules failed ({status})");
        Ok(Verdict::Holds)
    }
}
