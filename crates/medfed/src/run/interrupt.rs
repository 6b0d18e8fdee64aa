//! Ctrl-C and SIGTERM: the first asks the run to stop after its step, the second ends it at once.

use crate::failure::Failure;
use medfed_types::Cancel;

/// Exit code of a process that a signal ended, by the shells' convention (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// Installs the handler.
pub(super) fn watch() -> Result<Cancel, Failure> {
    let cancel = Cancel::default();
    let flag = cancel.clone();
    ctrlc::set_handler(move || {
        if flag.is_cancelled() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        flag.cancel();
        // The progress display owns the terminal's lines; a line of our own in between is harmless.
        let message = "\nfinishing the step, then saving; press Ctrl-C again to end at once\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
    })
    .map_err(Failure::internal)?;
    Ok(cancel)
}
