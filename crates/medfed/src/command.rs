//! The subcommands, one file each.

use crate::failure::Failure;

/// What the user asks for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {}

impl Command {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {}
    }
}
