//! The subcommands, one file each.

pub(crate) mod config;
mod data;
mod runs;

use crate::failure::Failure;

/// What the user asks for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Checks a configuration, shows its effective values, or prints its schema.
    Config(config::ConfigCommand),
    /// Shows what is in a data set, in numbers or as a contact sheet.
    Data(data::DataCommand),
    /// Lists runs, or shows one.
    Runs(runs::RunsCommand),
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Config(command) => command.run(),
            Self::Data(command) => command.run(),
            Self::Runs(command) => command.run(),
        }
    }
}
