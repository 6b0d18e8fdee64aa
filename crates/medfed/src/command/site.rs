//! `medfed site`: everything that a hospital does.

mod run;

use crate::failure::Failure;

/// Take part in a federation as a hospital.
#[derive(Debug, clap::Args)]
pub(crate) struct SiteCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Run(run::Args),
}

impl SiteCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Run(args) => run::run(&args),
        }
    }
}
