//! The time that the coordinator's deadlines are measured in: milliseconds during which it was up.

use std::time::Instant;

/// Goes on from the time of the last logged event when the process starts, and stands still while it is
/// down: no deadline passes while nobody could have been heard, and a system clock that jumps moves nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpTime {
    before: u64,
    started: Instant,
}

impl UpTime {
    /// A clock that shows `before` now.
    pub(super) fn after(before: u64) -> Self {
        Self { before, started: Instant::now() }
    }

    /// The time, in milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.before.saturating_add(self.started.elapsed().as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_where_it_was() {
        let clock = UpTime::after(5_000);
        assert!((5_000..6_000).contains(&clock.now_ms()));
        assert_eq!(UpTime::after(u64::MAX).now_ms(), u64::MAX);
    }
}
