//! `medfed site`: everything that a hospital does.

mod doctor;
mod enroll;
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
    Enroll(enroll::Args),
    Doctor(doctor::Args),
    Run(run::Args),
}

impl SiteCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Enroll(args) => enroll::run(&args),
            Action::Doctor(args) => doctor::run(&args),
            Action::Run(args) => run::run(&args),
        }
    }
}
