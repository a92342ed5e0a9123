//! Bodies that nobody wants to read.
//!
//! A client sends its whole body before it looks for an answer. If the connection closes under it,
//! it sees a broken connection, which it repeats, instead of the refusal, which it must not.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::header;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{sync::oneshot, time::timeout};

/// Bytes that are read for nothing: twice what a request may carry.
const MAX_DRAINED: usize = 2 * relay_protocol::limit::MAX_REQUEST_BYTES;
/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(2);

/// What will be left of a body.
pub(super) struct Rest {
    left: Option<oneshot::Receiver<Body>>,
}

/// A body that is handed back if it is dropped before its end.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

/// Lends the body to whoever handles the request.
pub(super) fn lend(request: Request) -> (Request, Rest) {
    // A client that waits for "100 Continue" sends nothing until it is asked for.
    if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
        return (request, Rest { left: None });
    }
    let (back, left) = oneshot::channel();
    let lend = |body| Body::new(Lent { body, back: Some(back) });
    (request.map(lend), Rest { left: Some(left) })
}

impl Rest {
    /// Reads what the handler left, within bounds.
    pub(super) async fn drain(self) {
        let Some(mut body) = self.left.and_then(|mut left| left.try_recv().ok()) else { return };
        let draining = async {
            let mut drained = 0;
            while let Some(Ok(frame)) = body.frame().await {
                drained += frame.data_ref().map_or(0, Bytes::len);
                if drained > MAX_DRAINED {
                    return;
                }
            }
        };
        // Whoever is slower is cut off.
        timeout(MAX_TIME, draining).await.ok();
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        if !body.is_end_stream() {
            // Nobody takes it back once the answer is gone.
            self.back.take().map(|back| back.send(body).ok());
        }
    }
}
