//! `medfed site`: everything that a hospital does.

mod doctor;
mod enroll;
pub(crate) mod run;

use crate::failure::Failure;

/// Take part in a federation as a hospital; without a further command, as `medfed site run`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SiteCommand {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: Option<run::Args>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Enroll(enroll::Args),
    Doctor(doctor::Args),
    Run(run::Args),
}

impl SiteCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match (self.action, self.run) {
            (Some(Action::Enroll(args)), _) => enroll::run(&args),
            (Some(Action::Doctor(args)), _) => doctor::run(&args),
            (Some(Action::Run(args)), _) | (None, Some(args)) => run::run(&args),
            // clap asks for one of the two.
            (None, None) => Err(Failure::user(anyhow::anyhow!("nothing to do")).hint("medfed site --help")),
        }
    }
}
