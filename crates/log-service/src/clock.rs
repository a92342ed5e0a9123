//! Wall-clock time, for what is kept or signed. Waiting uses tokio's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use relay_protocol::time::UnixMillis;

/// Now, in milliseconds since the Unix epoch; 0 if the clock stands before it.
#[must_use]
pub fn unix_millis() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now, in seconds since the Unix epoch; 0 if the clock stands before it.
#[must_use]
pub fn unix_seconds() -> u64 {
    unix_millis().0 / 1_000
}
