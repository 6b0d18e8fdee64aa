//! Sessions of secure aggregation in units of the cipher that makes the masks.

use anyhow::{Context, ensure};

use crate::Verdict;
use crate::workspace::Workspace;

/// Measures whole sessions with all sites on this machine and prints Markdown tables.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionTimes {
    /// Numbers of sites, separated by commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_values = ["3", "10", "100"],
          value_parser = clap::value_parser!(u16).range(3..=100))]
    sites: Vec<u16>,
    /// Parameters of the model, separated by commas; 11 million are those of ResNet-18
    #[arg(long, value_name = "N", value_delimiter = ',', default_values = ["1500000", "11000000"],
          value_parser = clap::value_parser!(u32).range(1..))]
    parameters: Vec<u32>,
    /// Threads; all cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl SessionTimes {
    /// Measures, and prints the tables to stdout.
    pub(super) fn run(&self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        let list = |numbers: Vec<String>| numbers.join(",");
        let mut command = workspace.cargo();
        command.args(["bench", "--quiet", "--package", "medfed-secagg", "--bench", "rounds", "--"]);
        command.arg(list(self.sites.iter().map(u16::to_string).collect()));
        command.arg(list(self.parameters.iter().map(u32::to_string).collect()));
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        let status = command.status().context("cannot start cargo bench")?;
        ensure!(status.success(), "the benchmark of secure aggregation failed ({status})");
        Ok(Verdict::Holds)
    }
}
