//! The subcommands, one file each.

mod bench;
pub(crate) mod config;
mod data;
mod demo;
mod dp;
mod predict;
mod runs;
mod simulate;

use crate::failure::Failure;
use crate::run::Order;
use medfed_federation::report::RunStatus;
use std::path::PathBuf;

/// What the user asks for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Simulate(simulate::Args),
    /// Checks a configuration, shows its effective values, or prints its schema.
    Config(config::ConfigCommand),
    /// Shows what is in a data set, in numbers or as a contact sheet.
    Data(data::DataCommand),
    Predict(predict::PredictCommand),
    /// Accounts for differential privacy without training: epsilon of steps, noise for a budget.
    Dp(dp::DpCommand),
    /// Measures how fast this machine trains.
    Bench(bench::BenchCommand),
    /// Lists runs, or shows one.
    Runs(runs::RunsCommand),
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Demo(args) => demo::run(args),
            Self::Simulate(args) => simulate::run(args),
            Self::Config(command) => command.run(),
            Self::Data(command) => command.run(),
            Self::Predict(command) => command.run(),
            Self::Dp(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Runs(command) => command.run(),
        }
    }
}

/// What `demo` and `simulate` have in common.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Folder for results and logs [default: results/ and logs/, or as configured]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the newest unfinished run in the folder, to the same result as without interruption
    #[arg(long)]
    resume: bool,
    /// Print one JSON object, the same as results.json
    #[arg(long)]
    json: bool,
    /// Threads [default: one per core]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl RunArgs {
    /// The order without command and configuration.
    fn order(&self) -> Order {
        Order {
            command: "",
            config: None,
            out: self.out.clone(),
            resume: self.resume,
            json: self.json,
            threads: self.threads.map(usize::from),
        }
    }
}

/// A run that did not reach its end is a failure for whoever waits for it, but not one to report.
fn ended(status: RunStatus) -> Result<(), Failure> {
    match status {
        RunStatus::Completed | RunStatus::BudgetExhausted => Ok(()),
        RunStatus::Interrupted => Err(Failure::interrupted()),
        RunStatus::Aborted => Err(Failure::user(anyhow::anyhow!("the run was aborted"))
            .hint("the log says which hospitals' updates were unusable; a lower learning rate often helps")),
    }
}
