//! `medfed demo`: three hospitals, synthetic radiographs, under a minute.

use crate::failure::Failure;
use crate::run::execute;
use medfed_config::{Config, Override};

/// What the demo runs, as `config/demo.yaml` ships it.
const CONFIG: &str = include_str!("../../../../config/demo.yaml");

/// Try everything on synthetic chest radiographs: three hospitals, five private rounds.
///
/// Needs no data, no configuration and no network, and takes under a minute on two cores. Results go
/// to results/, the log to logs/, as with `medfed simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed demo
  medfed demo --seed 7 --out demo-run
  medfed demo --json | jq .summary")]
pub(crate) struct Args {
    /// Seed of images, weights, splits, batches and noise: a repeatable demo
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    run: super::RunArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut overrides = args.run.overrides()?;
    if let Some(seed) = args.seed {
        overrides.push(Override::parse(&format!("experiment.seed={seed}")).map_err(Failure::internal)?);
    }
    let config = Config::from_yaml(CONFIG, "config/demo.yaml", &overrides).map_err(super::config::invalid)?;
    execute(&args.run.order("demo", config, args.seed.is_some()))
}
