//! Waiting for a condition instead of for a time.

use std::time::{Duration, SystemTime};

/// Returns as soon as `condition` holds.
///
/// # Panics
///
/// If it does not hold within `deadline`; the message names `what`.
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begun = SystemTime::now();
    while !condition() {
        let waited = begun.elapsed().unwrap_or_default();
        assert!(waited < deadline, "not within {deadline:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
