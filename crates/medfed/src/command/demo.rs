//! `medfed demo`: three hospitals, synthetic radiographs, under a minute.

use crate::failure::{Failure, INTERRUPTED};
use crate::run::execute;
use medfed_config::{Config, Override};
use medfed_dashboard::Options;
use std::net::SocketAddr;
use std::process::Command;

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
  medfed demo --dashboard           watch it in a browser
  medfed demo --seed 7 --out demo-run
  medfed demo --json | jq .summary")]
pub(crate) struct Args {
    /// Seed of images, weights, splits, batches and noise: a repeatable demo
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Serve the web pages meanwhile, and afterwards until Ctrl-C
    #[arg(long)]
    dashboard: bool,
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
    if args.dashboard {
        return with_pages(args, &config);
    }
    execute(&args.run.order("demo", config, args.seed.is_some()))
}

/// The same demo as a process of its own, and the pages beside it until Ctrl-C, which ends both.
fn with_pages(args: &Args, config: &Config) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::internal)?;
    let options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], config.dashboard.port)),
        results: args.run.out.clone().unwrap_or_else(|| config.output.results_dir.clone()),
        config: super::simulate::DEFAULT_CONFIG.into(),
        program: program.clone(),
    };
    let mut training = None;
    super::dashboard::serve(options, |address| {
        crate::output::note(&format!("dashboard: http://{address}/ (Ctrl-C ends it)"));
        let same = std::env::args_os().skip(1).filter(|argument| argument != "--dashboard");
        training = Some(Command::new(program).args(same).spawn());
    })?;
    let Some(training) = training else { return Ok(()) };
    let ended = training.and_then(|mut training| training.wait()).map_err(Failure::internal)?;
    match ended.code() {
        Some(0) => Ok(()),
        // It has said why.
        Some(code) if code == i32::from(INTERRUPTED) => {
            Err(Failure::interrupted(anyhow::anyhow!("the demo was interrupted")))
        }
        _ => Err(Failure::user(anyhow::anyhow!("the demo's run failed"))),
    }
}
