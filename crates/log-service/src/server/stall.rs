//! Whether the other side takes what it is sent.
//!
//! A connection stalls while something waits to be sent on it and none of it moves, whatever holds
//! it up: the window of an HTTP/2 stream or of the connection, or the socket.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// What waits to be sent on one connection.
#[derive(Debug)]
pub(super) struct Unsent(Mutex<Parts>);

#[derive(Debug)]
struct Parts {
    count: usize,
    /// When one of them became shorter, or the first one came.
    moved: Instant,
}

/// Something that waits to be sent, until it is dropped.
#[derive(Debug)]
pub(super) struct Part(Arc<Unsent>);

/// Bytes of an answer, until they are sent.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    part: Part,
}

/// A connection that says when its socket takes nothing.
pub(super) struct Watched<S> {
    stream: S,
    unsent: Arc<Unsent>,
    /// There while the socket takes nothing.
    refused: Option<Part>,
}

impl Unsent {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Parts { count: 0, moved: Instant::now() })))
    }

    /// Adds something.
    pub(super) fn part(self: &Arc<Self>) -> Part {
        let mut parts = self.lock();
        if parts.count == 0 {
            parts.moved = Instant::now();
        }
        parts.count += 1;
        Part(Arc::clone(self))
    }

    /// Since when nothing of it has moved; `None` if nothing waits.
    pub(super) fn since(&self) -> Option<Instant> {
        let parts = self.lock();
        (parts.count > 0).then_some(parts.moved)
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().expect("no code panics while it is locked")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut parts = self.0.lock();
        parts.count -= 1;
        parts.moved = Instant::now();
    }
}

impl Piece {
    pub(super) fn new(bytes: Bytes, unsent: &Arc<Unsent>) -> Self {
        Self { bytes, part: unsent.part() }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if count > 0 {
            self.part.0.lock().moved = Instant::now();
        }
    }
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, unsent: Arc<Unsent>) -> Self {
        Self { stream, unsent, refused: None }
    }

    fn after<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.refused = None;
        } else if self.refused.is_none() {
            self.refused = Some(self.unsent.part());
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.after(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.after(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.after(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.after(shut)
    }
}
