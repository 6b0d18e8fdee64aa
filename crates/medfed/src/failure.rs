//! How a command fails: whose fault, what happened, and what to do about it.
//!
//! Exit codes: 1 the user's to mend, 2 ours, 130 interrupted.

use std::process::ExitCode;

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

    /// The user interrupted it, and everything has been said.
    pub(crate) fn interrupted() -> Self {
        Self { code: crate::run::INTERRUPTED, error: anyhow::anyhow!("interrupted"), hint: None }
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

    /// Prints the chain of causes and the hint to stderr.
    #[expect(clippy::print_stderr, reason = "this is where a failure reaches the user")]
    pub(crate) fn report(self) -> ExitCode {
        let mut shown = String::new();
        for (depth, cause) in self.error.chain().enumerate() {
            let text = cause.to_string();
            // Wrapping errors often repeat their cause; print each sentence once.
            if !shown.contains(&text) {
                eprintln!("{}{text}", if depth == 0 { "error: " } else { "  caused by: " });
            }
            shown.push_str(&text);
        }
        if let Some(hint) = self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}
