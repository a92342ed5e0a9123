//! Bodies as they come, and how long they may take.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use http::Version;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::api::error::ApiError;

/// How long a body may take: 512 KiB at 9 KiB a second.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a body may take before it has to come at [`BODY_RATE`]. With the 2 s for its rest, a
/// connection whose body says nothing is closed within 10.
const BODY_START: Duration = Duration::from_secs(6);
/// Encoded bytes that a body has to bring a second, on the average: a tenth of what a chunk of the
/// entrypoint needs to arrive in time.
const BODY_RATE: u64 = 1 << 10;

/// The body of a request.
#[derive(Debug)]
pub(in crate::api) struct Incoming {
    body: Body,
    version: Version,
}

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    incoming: Incoming,
    begun: Instant,
    /// Encoded bytes that came.
    pub(super) length: usize,
}

impl<S: Sync> FromRequest<S> for Incoming {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self { version: request.version(), body: request.into_body() })
    }
}

impl Incoming {
    /// Begins to read; from now on its time runs.
    pub(super) fn read(self) -> Reading {
        Reading { incoming: self, begun: Instant::now(), length: 0 }
    }
}

impl Reading {
    /// The next bytes; `None` behind the last.
    ///
    /// # Errors
    ///
    /// 400 if the body is cut short, 408 if it comes too slowly.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = timeout_at(self.begun + self.patience(), self.incoming.body.frame());
            let Some(frame) = frame.await.map_err(|_| ApiError::Timeout)? else { return Ok(None) };
            let cut = |_| ApiError::BadRequest("the body was cut short".to_owned());
            if let Ok(bytes) = frame.map_err(cut)?.into_data() {
                self.length += bytes.len();
                return Ok(Some(bytes));
            }
        }
    }

    /// How long after its beginning more has to come.
    ///
    /// A body of HTTP/2 shares its connection, and may have to wait for others: it has no rate.
    fn patience(&self) -> Duration {
        if self.incoming.version >= Version::HTTP_2 {
            return BODY_TIMEOUT;
        }
        let earned = Duration::from_secs(self.length as u64 / BODY_RATE);
        BODY_TIMEOUT.min(BODY_START + earned)
    }
}

#[cfg(test)]
mod tests {
    use super::Incoming;
    use crate::api::error::ApiError;
    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use http::Version;
    use std::{convert::Infallible, time::Duration};
    use tokio::time::{Instant, sleep};

    /// Brings `piece` after each of these milliseconds, and then nothing more; how many seconds it
    /// is listened to, and how many bytes came.
    async fn refused(version: Version, pauses: &[u64], piece: &'static [u8]) -> (u64, usize) {
        let pieces = stream::iter(pauses.to_vec()).then(move |pause| async move {
            sleep(Duration::from_millis(pause)).await;
            Ok::<_, Infallible>(Bytes::from_static(piece))
        });
        let body = Body::from_stream(pieces.chain(stream::pending()));
        let begun = Instant::now();
        let mut reading = Incoming { body, version }.read();
        let error = loop {
            match reading.next().await {
                Ok(bytes) => assert!(bytes.is_some(), "the body has no end"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ApiError::Timeout), "{error:?}");
        (begun.elapsed().as_secs(), reading.length)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_with_a_connection_of_its_own_is_refused_in_time_to_close_it() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(refused(version, &[], b"").await, (6, 0), "it says nothing");
            assert_eq!(refused(version, &[1_100; 60], b"x").await, (6, 5), "it trickles");
            assert_eq!(refused(version, &[1_100; 3], &[b'x'; 2048]).await, (12, 6144), "it stops");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_at_its_rate_has_a_minute() {
        assert_eq!(refused(Version::HTTP_11, &[1_100; 90], &[b'x'; 1200]).await, (60, 54 * 1200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_shares_its_connection_may_wait_for_others() {
        assert_eq!(refused(Version::HTTP_2, &[50_000, 5_000, 90_000], b"x").await, (60, 2));
    }
}
