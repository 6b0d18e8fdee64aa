//! `medfed`: parse, call, print. Data goes to stdout, everything else to stderr.

mod command;
mod evaluation;
mod failure;
mod output;
mod privacy_audit;
mod run;

use clap::Parser;
use std::process::ExitCode;

/// Private federated training of diagnostic imaging models: no image leaves its hospital.
#[derive(Debug, Parser)]
#[command(
    name = "medfed",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
Start here:
  medfed demo                                     a whole federation in under a minute
  medfed data inspect PATH                        what is in a data set
  medfed simulate --data PATH                     train on it
  medfed predict --model results/best_model.safetensors IMAGE

Exit codes: 0 done, 1 something for you to mend, 2 our fault, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: command::Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Help and version go to stdout, wrong usage to stderr; nobody is left to tell when that fails.
fn explain(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
