//! Names of the HTTP headers and media types that Relay adds or depends on.

/// Contiguous durable end of a stream, in bytes. From the IETF draft on resumable uploads.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// At most 16 missing ranges of a stream, as `a-b,c-d` with inclusive ends.
pub const RELAY_GAPS: &str = "relay-gaps";
/// `now` asks the service to store without waiting for more.
pub const RELAY_FLUSH: &str = "relay-flush";
/// Capture times of the bytes of a request: see [`crate::time::CaptureTimes`].
pub const RELAY_TIMES: &str = "relay-times";
/// Makes an append without a range safe to retry.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Last position that a reader of server-sent events saw: see [`crate::read::Cursor`].
pub const LAST_EVENT_ID: &str = "last-event-id";

/// Exact bytes of one stream.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// Interleaved lines for people.
pub const TEXT: &str = "text/plain";
/// One [`crate::read::Record`] per line.
pub const NDJSON: &str = "application/x-ndjson";
/// One [`crate::read::Record`] per event.
pub const EVENT_STREAM: &str = "text/event-stream";
/// Error answers (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
