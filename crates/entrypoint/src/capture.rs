//! Reads what the command writes: bytes, never lines.

mod pipe;

use std::{future::Future, io, os::fd::OwnedFd, time::Duration, time::SystemTime};

use relay_masking::Masker;
use relay_protocol::time::UnixMillis;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use tokio::{io::unix::AsyncFd, sync::watch, time::Instant};

use crate::sys::descriptor::readable;

pub(crate) use pipe::{Pipes, release_output, release_stdin};

/// Bytes of one read, and the size to which a pipe grows. Pipe memory is limited for each user
/// over the whole node: larger pipes starve it at some tens of containers.
const MAX_READ_BYTES: usize = 256 << 10;
/// Silence after which the masker may let go of a short beginning of a secret, such as a prompt.
const PAUSE: Duration = Duration::from_millis(100);
/// After the command's end: silence that ends the capture although somebody has the pipe still.
const IDLE: Duration = Duration::from_millis(200);
/// After the command's end: time that ends the capture although somebody writes still.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Takes captured and masked bytes.
pub(crate) trait Sink {
    /// Takes the next bytes; may wait.
    fn write(&mut self, bytes: &[u8], captured: UnixMillis) -> impl Future<Output = ()> + Send;
}

/// When the command ended; nothing before that.
pub(crate) type Exited = watch::Receiver<Option<Instant>>;

/// Captures one stream.
#[derive(Debug)]
pub(crate) struct Capture<S> {
    pipe: AsyncFd<OwnedFd>,
    pipe_bytes: usize,
    buffer: Box<[u8]>,
    masker: Masker,
    masked: Vec<u8>,
    since_bytes: SinceBytes,
    sink: S,
    exited: Exited,
}

/// What has happened since the last bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SinceBytes {
    Nothing,
    /// The masker has been told of the silence: it is told once, so that nothing ticks.
    Silence,
}

/// What happened next.
enum Event {
    Bytes(usize),
    Silence,
    CommandEnded,
    End,
}

impl<S: Sink> Capture<S> {
    /// Prepares to read a pipe; needs a runtime.
    pub(crate) fn new(pipe: OwnedFd, masker: Masker, sink: S, exited: Exited) -> io::Result<Self> {
        Ok(Self {
            pipe_bytes: fcntl_getpipe_size(&pipe).unwrap_or(MAX_READ_BYTES),
            pipe: readable(pipe)?,
            // Untouched pages cost nothing: an idle stream keeps no buffer.
            buffer: vec![0; MAX_READ_BYTES].into_boxed_slice(),
            masker,
            masked: Vec::new(),
            since_bytes: SinceBytes::Nothing,
            sink,
            exited,
        })
    }

    /// Reads until the end of the pipe; after the command's end only what is there already.
    pub(crate) async fn run(mut self) -> S {
        loop {
            match self.next_event().await {
                Event::Bytes(count) => self.take(count).await,
                Event::Silence => self.pause().await,
                Event::CommandEnded => {}
                Event::End => break,
            }
        }
        self.masker.finish(&mut self.masked);
        self.flush().await;
        self.sink
    }

    async fn next_event(&mut self) -> Event {
        let ended = *self.exited.borrow_and_update();
        let holds = self.masker.held() > 0 && self.since_bytes == SinceBytes::Nothing;
        let now = Instant::now();
        let last = ended.map(|ended| ended + DRAIN_MAX);
        if last.is_some_and(|last| last <= now) {
            return Event::End;
        }
        let silence = if holds { Some(PAUSE) } else { ended.map(|_| IDLE) };
        let limit =
            silence.map(|silence| last.map_or(now + silence, |last| last.min(now + silence)));
        tokio::select! {
            biased;
            count = read(&self.pipe, &mut self.buffer) => match count {
                Ok(count @ 1..) => Event::Bytes(count),
                Ok(0) | Err(_) => Event::End,
            },
            changed = self.exited.changed(), if ended.is_none() => match changed {
                Ok(()) => Event::CommandEnded,
                Err(_) => Event::End,
            },
            () = sleep_until(limit) => if holds { Event::Silence } else { Event::End },
        }
    }

    async fn take(&mut self, count: usize) {
        let captured = now();
        self.since_bytes = SinceBytes::Nothing;
        if count >= self.pipe_bytes {
            self.grow();
        }
        let bytes = self.buffer.get(..count).unwrap_or_default();
        if self.masker.is_transparent() {
            return self.sink.write(bytes, captured).await;
        }
        self.masker.push(bytes, &mut self.masked);
        self.flush().await;
    }

    async fn pause(&mut self) {
        self.since_bytes = SinceBytes::Silence;
        self.masker.pause(&mut self.masked);
        self.flush().await;
    }

    async fn flush(&mut self) {
        if !self.masked.is_empty() {
            self.sink.write(&self.masked, now()).await;
            self.masked.clear();
        }
    }

    /// Doubles a pipe that was found full. If the user has no pipe memory left, it stays.
    fn grow(&mut self) {
        let wanted = self.pipe_bytes * 2;
        if wanted <= MAX_READ_BYTES {
            let grown = fcntl_setpipe_size(self.pipe.get_ref(), wanted);
            self.pipe_bytes = grown.unwrap_or(MAX_READ_BYTES);
        }
    }
}

/// Reads what is there, or waits for it. Safe to cancel.
async fn read(pipe: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = pipe.readable().await?;
        match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut *buffer)?)) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(result) => return result,
            Err(_) => {}
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
