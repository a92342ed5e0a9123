//! Numbers that both sides of the wire must agree on.

use std::time::Duration;

/// Decoded bytes that one request may carry; more is 413.
pub const MAX_REQUEST_BYTES: usize = 4 << 20;
/// Bytes of one chunk that the entrypoint sends: two of them make one segment.
pub const MAX_CHUNK_BYTES: usize = 512 << 10;
/// Raw bytes of one segment in the store.
pub const MAX_SEGMENT_BYTES: usize = 1 << 20;
/// Requests that one writer keeps in flight.
pub const MAX_IN_FLIGHT: usize = 16;
/// Ranges that a `Relay-Gaps` header lists.
pub const MAX_GAPS: usize = 16;
/// Entries of a `Relay-Times` header.
pub const MAX_TIMES: usize = 64;
/// Life of a stream id. A writer renews it at 80 %.
pub const STREAM_ID_LIFE: Duration = Duration::from_hours(24);
/// How long holes may be filled after a stream has ended.
pub const LATE_FILL: Duration = Duration::from_mins(10);
