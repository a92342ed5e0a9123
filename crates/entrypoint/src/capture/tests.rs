use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use relay_masking::{Masker, Patterns};
use relay_protocol::time::UnixMillis;
use rustix::{fs::OFlags, pipe::PipeFlags};
use tokio::{runtime, sync::watch, time::Instant};

use super::{Capture, MAX_READ_BYTES, Sink};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Sink for Kept {
    async fn write(&mut self, bytes: &[u8], _captured: UnixMillis) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

impl Kept {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until these bytes have been written.
    async fn holds(&self, bytes: &[u8]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.bytes() != bytes {
            assert!(Instant::now() < deadline, "{:?}", self.bytes());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Nothing(u64);

impl Sink for Nothing {
    async fn write(&mut self, bytes: &[u8], _captured: UnixMillis) {
        self.0 += bytes.len() as u64;
    }
}

fn pipe() -> (OwnedFd, File) {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).unwrap();
    (read, write.into())
}

fn masker(secrets: &[&str]) -> Masker {
    let values = secrets.iter().map(|secret| secret.as_bytes().to_vec());
    Masker::new(Arc::new(Patterns::new(values).0))
}

fn block_on<F: Future>(future: F) -> F::Output {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Bytes without structure: a fixed linear congruence.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn every_byte_comes_out_as_it_went_in_and_the_pipe_grows() {
    let (read, mut write) = pipe();
    let bytes = noise(3_000_000);
    let expected = bytes.clone();
    let writer = std::thread::spawn(move || write.write_all(&bytes).unwrap());
    let kept = Kept::default();
    let (_exited, seen) = watch::channel(None);
    block_on(async {
        Capture::new(read, masker(&[]), kept.clone(), seen).unwrap().run().await;
    });
    writer.join().unwrap();
    assert!(kept.bytes() == expected);
}

#[test]
fn a_full_pipe_grows_to_the_limit_and_no_further() {
    let (read, mut write) = pipe();
    let watched = write.try_clone().unwrap();
    let writer = std::thread::spawn(move || write.write_all(&noise(8 << 20)).unwrap());
    let (exited, seen) = watch::channel(None);
    block_on(async {
        let capture = Capture::new(read, masker(&[]), Nothing(0), seen).unwrap();
        let capture = tokio::spawn(async move { capture.run().await.0 });
        while !writer.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(rustix::pipe::fcntl_getpipe_size(&watched), Ok(MAX_READ_BYTES));
        exited.send_replace(Some(Instant::now()));
        assert_eq!(capture.await.unwrap(), 8 << 20);
    });
}

#[test]
fn a_secret_is_masked_although_it_comes_in_two_writes() {
    let (read, mut write) = pipe();
    let kept = Kept::default();
    let (_exited, seen) = watch::channel(None);
    block_on(async {
        let capture = Capture::new(read, masker(&["hunter2hunter2"]), kept.clone(), seen).unwrap();
        let capture = tokio::spawn(async move { capture.run().await });
        write.write_all(b"a hunter2").unwrap();
        kept.holds(b"a ").await;
        write.write_all(b"hunter2 b").unwrap();
        kept.holds(b"a *** b").await;
        write.write_all(b" hun").unwrap();
        kept.holds(b"a *** b hun").await; // let go after a pause
        drop(write);
        capture.await.unwrap();
    });
}

#[test]
fn who_keeps_the_pipe_after_the_end_does_not_keep_the_capture() {
    let (read, mut write) = pipe();
    let kept = Kept::default();
    let (exited, seen) = watch::channel(None);
    block_on(async {
        write.write_all(b"last words").unwrap();
        exited.send_replace(Some(Instant::now()));
        let started = Instant::now();
        Capture::new(read, masker(&[]), kept.clone(), seen).unwrap().run().await;
        let taken = started.elapsed();
        assert!(
            taken >= Duration::from_millis(200) && taken < Duration::from_secs(20),
            "{taken:?}"
        );
        assert_eq!(kept.bytes(), b"last words");
    });
}

#[test]
fn who_writes_on_after_the_end_is_heard_for_two_seconds_at_most() {
    let (read, mut write) = pipe();
    let (exited, seen) = watch::channel(None);
    let writer = std::thread::spawn(move || while write.write_all(b"more").is_ok() {});
    block_on(async {
        let started = Instant::now();
        exited.send_replace(Some(started));
        let heard = Capture::new(read, masker(&[]), Nothing(0), seen).unwrap().run().await;
        assert!(heard.0 > 0);
        let taken = started.elapsed();
        assert!(taken >= Duration::from_secs(2) && taken < Duration::from_secs(30), "{taken:?}");
    });
    writer.join().unwrap();
}
