//! `medfed`: parse, call, print. Data goes to stdout, everything else to stderr.

mod command;
mod failure;
mod run;

use clap::Parser;

/// Private federated training of diagnostic imaging models: no image leaves its hospital.
#[derive(Debug, Parser)]
#[command(name = "medfed", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: command::Command,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
