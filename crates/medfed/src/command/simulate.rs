//! `medfed simulate`: the main job.

use super::config::{invalid, overrides, read_config};
use crate::failure::Failure;
use crate::run::execute;
use clap::builder::{PossibleValue, PossibleValuesParser};
use medfed_config::section::SimulatedAttack;
use medfed_config::{Config, Override};
use std::path::PathBuf;

/// Where the configuration is looked for.
pub(crate) const DEFAULT_CONFIG: &str = "config/config.yaml";

/// Train one model at several hospitals, in one process, on real or synthetic images.
///
/// Reads a MedMNIST .npz file, a folder with a metadata.csv, or a folder with one folder of images per
/// class; without --data the configuration decides (synthetic radiographs by default). Results go to
/// results/ (results.json, best_model.safetensors, medfed.sqlite), the log to logs/.
///
/// With --attack the last hospitals by name misbehave on purpose, to see whether the aggregation rule and
/// the detector withstand them; docs/robustness.md compares all rules under all attacks.
///
/// Ctrl-C finishes the step, saves, and says how to resume.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed simulate
  medfed simulate --data pneumoniamnist.npz --rounds 20
  medfed simulate --data chest/metadata.csv --set data.split_by_site=true
  medfed simulate --set privacy.noise_multiplier=auto --set privacy.epsilon_budget=3
  medfed simulate --attack sign_flip --attackers 2 --set federated.num_clients=10 \\
    --set robust_aggregation.enabled=true --set robust_aggregation.method=median
  medfed simulate --resume")]
pub(crate) struct Args {
    /// Configuration file [default: config/config.yaml where there is one, otherwise the built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Images: an .npz file, or a folder with metadata.csv or with one folder per class
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Number of rounds
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Set one key of the configuration; repeatable
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Seed of weights, splits, batches and noise: a repeatable run. Whoever knows the seed can remove
    /// the noise, so leave it out where privacy matters
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Let hospitals attack: for experiments, the model is of no other use
    #[arg(long, value_name = "NAME", value_parser = attack_names())]
    attack: Option<String>,
    /// Number of hospitals that attack, the last ones by name [default: 1]
    #[arg(long, value_name = "K", requires = "attack", value_parser = clap::value_parser!(u32).range(1..=999))]
    attackers: Option<u32>,
    #[command(flatten)]
    run: super::RunArgs,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let changes = args.config.is_some()
        || args.data.is_some()
        || args.rounds.is_some()
        || args.seed.is_some()
        || args.attack.is_some()
        || !args.set.is_empty();
    execute(&args.run.order("simulate", configuration(args)?, changes))
}

/// The attacks with a line each, for the help.
fn attack_names() -> PossibleValuesParser {
    PossibleValuesParser::new(SimulatedAttack::ALL.map(|attack| {
        PossibleValue::new(attack.as_str()).help(format!("attackers send {}", attack.description()))
    }))
}

fn configuration(args: &Args) -> Result<Config, Failure> {
    let mut all = args.run.overrides()?;
    if let Some(data) = &args.data {
        if !data.exists() {
            return Err(Failure::user(anyhow::anyhow!("{} does not exist", data.display())).hint(
                "--data takes an .npz file, a folder with metadata.csv, or a folder of class folders",
            ));
        }
        all.push(Override::text("data.dataset", "files").map_err(Failure::internal)?);
        all.push(super::set_path("data.data_dir", data)?);
    }
    let number = |key: &str, value: Option<u64>| value.map(|value| format!("{key}={value}"));
    let mut set: Vec<String> =
        number("federated.num_rounds", args.rounds.map(u64::from)).into_iter().collect();
    set.extend(number("experiment.seed", args.seed));
    set.extend(args.attack.as_ref().map(|attack| format!("simulation.attack={attack}")));
    set.extend(number("simulation.attackers", args.attackers.map(u64::from)));
    set.extend(args.set.iter().cloned());
    all.extend(overrides(&set)?);
    let file =
        args.config.clone().or_else(|| Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.is_file()));
    match file {
        Some(path) => read_config(&path, &all),
        None => Config::from_yaml("{}", "the command line", &all).map_err(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_default_configuration_is_the_shipped_one() {
        assert!(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(DEFAULT_CONFIG).is_file());
    }
}
