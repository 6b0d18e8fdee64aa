//! `medfed dp plan`: what a configuration would spend, round by round and hospital by hospital.

use crate::command::config::{invalid, overrides, read_config};
use crate::command::set_path;
use crate::command::simulate::DEFAULT_CONFIG;
use crate::failure::Failure;
use crate::run::{divide, load};
use medfed_config::{Config, Override};
use medfed_federation::{Forecast, ForecastRound, Setup};
use medfed_types::Seed;
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// Prints what a configuration would spend: noise and epsilon of every round at every hospital.
///
/// Reads the images to count units and divides them as a run would, trains nothing and writes nothing.
/// Every hospital is taken to train in every round; a run that draws only some of them spends less. Without
/// a seed each run divides the images anew, so the hospitals of a run may be a little larger or smaller.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
        medfed dp plan --config config/config.yaml\n  \
        medfed dp plan --data pneumoniamnist.npz --set privacy.epsilon_budget=3 --set orchestrator.enabled=true\n  \
        medfed dp plan --set orchestrator={enabled: true, strategy: step} --json")]
pub(super) struct PlanArgs {
    /// Configuration file [default: config/config.yaml where there is one, otherwise the built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Images: an .npz file, or a folder with metadata.csv or with one folder per class
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Set one key of the configuration; repeatable
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Print one JSON object, epsilon unrounded
    #[arg(long)]
    json: bool,
}

impl PlanArgs {
    pub(super) fn answer(&self) -> Result<String, Failure> {
        let config = self.configuration()?;
        let privacy = &config.privacy;
        if !privacy.enabled {
            return Err(Failure::user(anyhow::anyhow!("privacy is off: there is no budget to plan"))
                .hint("--set privacy.enabled=true"));
        }
        // Without a seed each run divides the images anew; sizes differ little.
        let seed = Seed(config.experiment.seed.unwrap_or(0));
        let dataset = Arc::new(load(&config, seed)?);
        let sites = divide(&config, &dataset, seed)?;
        let forecasts = Setup::new(&config, &dataset, &sites, seed, [0; 32])?.forecast()?;
        let strategy = config.orchestrator.enabled.then(|| config.orchestrator.strategy.as_str());
        if self.json {
            let object = json!({
                "strategy": strategy,
                "epsilon_budget": privacy.epsilon_budget,
                "delta": privacy.delta,
                "accountant": privacy.accountant.as_str(),
                "rounds_planned": config.federated.num_rounds,
                "hospitals": forecasts,
            });
            return Ok(format!("{object:#}"));
        }
        let mut text = format!(
            "budget epsilon {} at delta {:e} by {}, {} rounds, {}\n",
            privacy.epsilon_budget,
            privacy.delta.get(),
            privacy.accountant.as_str().to_uppercase(),
            config.federated.num_rounds,
            match strategy {
                Some(strategy) => format!("noise by the strategy {strategy}"),
                None => "constant noise (the orchestrator is off)".to_owned(),
            }
        );
        for group in alike(&forecasts) {
            text += "\n";
            text += &table(&group, privacy.epsilon_budget.get(), config.federated.num_rounds);
        }
        Ok(text.trim_end().to_owned())
    }

    fn configuration(&self) -> Result<Config, Failure> {
        let mut all = Vec::new();
        if let Some(data) = &self.data {
            all.push(Override::text("data.dataset", "files").map_err(Failure::internal)?);
            all.push(set_path("data.data_dir", data)?);
        }
        all.extend(overrides(&self.set)?);
        let shipped = || Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.is_file());
        match self.config.clone().or_else(shipped) {
            Some(path) => read_config(&path, &all),
            None => Config::from_yaml("{}", "the command line", &all).map_err(invalid),
        }
    }
}

/// Hospitals of one size have one forecast: it is shown once.
fn alike(forecasts: &[Forecast]) -> Vec<Vec<&Forecast>> {
    let mut groups: Vec<Vec<&Forecast>> = Vec::new();
    for forecast in forecasts {
        let same = |group: &&mut Vec<&Forecast>| {
            let first = group[0];
            (first.units, first.steps_per_round, &first.rounds)
                == (forecast.units, forecast.steps_per_round, &forecast.rounds)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(forecast),
            None => groups.push(vec![forecast]),
        }
    }
    groups
}

/// The rounds of one hospital, or of several that are alike.
fn table(group: &[&Forecast], budget: f64, planned: u32) -> String {
    let first = group[0];
    let names: Vec<&str> = group.iter().map(|forecast| forecast.hospital.as_str()).collect();
    let mut text = format!(
        "{}: {} units, rate {:.4}, {} steps a round, noise {:.4} at the least\n",
        names.join(", "),
        first.units,
        first.sampling_rate.get(),
        first.steps_per_round,
        first.noise_multiplier.get()
    );
    // Writing to a string cannot fail.
    let _ =
        writeln!(text, "  {:>5}  {:>8}  {:>5}  {:>8}  {:>7}", "round", "noise", "steps", "epsilon", "budget");
    for round in &first.rounds {
        let ForecastRound { round: number, noise_multiplier, steps, epsilon, decision } = round;
        let share = (epsilon.get() / budget * 1000.0).ceil() / 10.0;
        let noise = noise_multiplier.get();
        let _ = write!(
            text,
            "  {number:>5}  {noise:>8.4}  {steps:>5}  {:>8.3}  {share:>5.1} %",
            epsilon.rounded_up(3)
        );
        let reasons: Vec<String> =
            decision.iter().flat_map(|decision| &decision.reasons).map(ToString::to_string).collect();
        if !reasons.is_empty() {
            let _ = write!(text, "  {}", reasons.join("; "));
        }
        text.push('\n');
    }
    if let Some(round) = first.leaves_before {
        let _ = writeln!(
            text,
            "  leaves before round {round} of {planned}: the budget pays for no further round"
        );
    }
    text
}
