//! How a command fails: whose fault, what happened, and what to do about it.
//!
//! Exit codes: 1 the user's to mend, 2 ours, 130 interrupted.

use std::process::ExitCode;

/// Exit code of a process that a signal ended, by the shells' convention (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// A failed command. Exit code 1 is the user's to mend, 2 is ours.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// The input, the configuration or the environment has to change.
    pub(crate) fn user(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 1, error: error.into(), hint: None }
    }

    /// The program is at fault.
    pub(crate) fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into(), hint: None }
    }

    /// The user stopped it.
    pub(crate) fn interrupted(error: impl Into<anyhow::Error>) -> Self {
        Self { code: INTERRUPTED, error: error.into(), hint: None }
    }

    /// Adds the sentence that says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error alone, for whoever wraps it.
    pub(crate) fn into_error(self) -> Box<dyn std::error::Error + Send + Sync> {
        self.error.into()
    }

    /// The chain of causes, each sentence once: wrapping errors often repeat their cause.
    fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if !causes.iter().any(|said| said.contains(&cause)) {
                causes.push(cause);
            }
        }
        causes
    }

    /// Writes it to the run's log.
    pub(crate) fn log(&self) {
        let hint = self.hint.as_deref().map_or(String::new(), |hint| format!("; {hint}"));
        let text = self.causes().join(": ") + &hint;
        if self.code == INTERRUPTED { tracing::info!("{text}") } else { tracing::error!("{text}") }
    }

    /// Prints the chain of causes and the hint to stderr.
    #[expect(clippy::print_stderr, reason = "this is where a failure reaches the user")]
    pub(crate) fn report(self) -> ExitCode {
        for (depth, cause) in self.causes().iter().enumerate() {
            let word = match (depth, self.code) {
                (0, INTERRUPTED) => "",
                (0, _) => "error: ",
                _ => "  caused by: ",
            };
            eprintln!("{word}{cause}");
        }
        if let Some(hint) = self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}
