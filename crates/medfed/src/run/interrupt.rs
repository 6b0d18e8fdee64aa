//! Ctrl-C and SIGTERM: the first asks the run to stop after its step, the second ends it at once.

use crate::failure::{Failure, INTERRUPTED};
use medfed_types::Cancel;
use tokio_util::sync::CancellationToken;

/// Installs the handler, which tells people through `say` what is going on.
pub(crate) fn watch(say: impl Fn(&str) + Send + 'static) -> Result<Cancel, Failure> {
    let cancel = Cancel::default();
    let flag = cancel.clone();
    ctrlc::set_handler(move || {
        if flag.is_cancelled() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        flag.cancel();
        say("finishing the step, then saving; press Ctrl-C again to end at once");
    })
    .map_err(Failure::internal)?;
    Ok(cancel)
}

/// The same for what runs on a runtime: the first signal cancels `stop`.
pub(crate) fn watch_with(
    say: impl Fn(&str) + Send + 'static,
    stop: CancellationToken,
) -> Result<(), Failure> {
    ctrlc::set_handler(move || {
        if stop.is_cancelled() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        stop.cancel();
        say("saving; press Ctrl-C again to end at once");
    })
    .map_err(Failure::internal)
}
