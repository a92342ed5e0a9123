//! Copies masked output to the container's own.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait to be written. With pieces of at most 256 KiB this is 1 MiB a stream.
const QUEUED_PIECES: usize = 4;
/// The thread calls two functions and allocates nothing.
const STACK_BYTES: usize = 64 << 10;

/// Copies to one descriptor, on a thread of its own, since such a write may block.
///
/// A reader that is slow slows the command, as it would without Relay. An error, such as a reader
/// that has gone, ends the copy and nothing else.
#[derive(Debug)]
pub(crate) struct Tee {
    pieces: mpsc::Sender<Box<[u8]>>,
    written: oneshot::Receiver<()>,
}

/// Tells when all of a [`Tee`] has been written.
#[derive(Debug)]
pub(crate) struct TeeEnd {
    written: oneshot::Receiver<()>,
}

impl Tee {
    /// Begins to copy.
    pub(crate) fn start(to: OwnedFd) -> io::Result<Self> {
        let (pieces, mut queue) = mpsc::channel::<Box<[u8]>>(QUEUED_PIECES);
        let (done, written) = oneshot::channel();
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            while let Some(piece) = queue.blocking_recv() {
                if write_all(&to, &piece).is_err() {
                    break;
                }
            }
            drop(queue);
            drop(done);
        })?;
        Ok(Self { pieces, written })
    }

    /// Takes the next bytes; waits while the queue is full.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        if !self.pieces.is_closed() {
            drop(self.pieces.send(bytes.into()).await);
        }
    }

    /// No more bytes will come.
    pub(crate) fn close(self) -> TeeEnd {
        TeeEnd { written: self.written }
    }
}

impl TeeEnd {
    /// Waits until everything is written, or the copy has failed.
    pub(crate) async fn wait(self) {
        drop(self.written.await);
    }
}

/// The descriptor may be non-blocking: whoever shares it decides that.
fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Tee;
    use rustix::{fs::OFlags, pipe::PipeFlags};
    use std::{fs::File, io::Read};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn a_reader_that_is_slow_or_does_not_block_gets_every_byte() {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK).unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let expected = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut read_bytes = Vec::new();
            File::from(read).read_to_end(&mut read_bytes).unwrap();
            read_bytes
        });
        runtime().block_on(async {
            let mut tee = Tee::start(write).unwrap();
            for piece in bytes.chunks(100_000) {
                tee.write(piece).await;
            }
            tee.close().wait().await;
        });
        assert_eq!(reader.join().unwrap(), expected);
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_copy_only() {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(read);
        runtime().block_on(async {
            let mut tee = Tee::start(write).unwrap();
            for _ in 0..100 {
                tee.write(b"x").await;
            }
            tee.close().wait().await;
        });
    }
}
