//! Where tests let a process die: on both sides of every durable write. In release builds there is nothing.

/// The process dies at the point of this number, counted from 1.
#[cfg(debug_assertions)]
const VARIABLE: &str = "MEDFED_TEST_CRASH_POINT";

/// One side of a durable write.
#[cfg(debug_assertions)]
pub(crate) fn point() {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static CHOSEN: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var(VARIABLE).ok()?.parse().ok());
    static PASSED: AtomicU64 = AtomicU64::new(0);
    if let Some(chosen) = *CHOSEN
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == chosen
    {
        // Like SIGKILL: nothing is flushed, nothing is dropped.
        std::process::abort();
    }
}

/// One side of a durable write.
#[cfg(not(debug_assertions))]
pub(crate) fn point() {}
