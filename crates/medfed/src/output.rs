//! Data on its way to stdout.

use crate::failure::Failure;
use std::io::{ErrorKind, Write as _};

/// Writes `text` to stdout. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written
            .map_err(|error| Failure::user(anyhow::Error::new(error).context("cannot write to stdout"))),
    }
}

/// A line for people, on stderr. Nobody there to read it is no failure.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
