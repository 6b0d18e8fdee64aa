//! Development tasks: `cargo xtask test`, `ci`, `tidy`, `bench` and `fuzz`.
//!
//! Exit codes: 0 everything holds, 1 a check failed, 2 a check could not be run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool reports on both streams")]

mod bench;
mod fuzz;
mod screenshots;
mod steps;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::workspace::Workspace;

/// Development tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Checks format, tidiness, lints and documentation, and runs every test
    Test,
    /// Runs what continuous integration runs: `test`, then the licences and sources of the dependencies
    Ci,
    /// Checks the rules of this repository that no compiler knows
    Tidy,
    /// Makes the pictures of the dashboard in `docs/images`, from a real run in Chromium
    Screenshots,
    /// Measures against PyTorch and Opacus, or against the speed of memory, on this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Fuzzes every decoder with libFuzzer; needs a C++ compiler
    Fuzz(fuzz::Fuzz),
}

/// Whether what was checked holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Holds,
    Fails,
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    match Workspace::locate().and_then(|workspace| run(task, &workspace)) {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Fails) => ExitCode::from(1),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(task: Task, workspace: &Workspace) -> anyhow::Result<Verdict> {
    match task {
        Task::Test => steps::test(workspace),
        Task::Ci => steps::ci(workspace),
        Task::Tidy => tidy::run(workspace),
        Task::Screenshots => screenshots::run(workspace),
        Task::Bench(bench) => bench.run(workspace),
        Task::Fuzz(fuzz) => fuzz.run(workspace),
    }
}
