//! A way to a server that a test can close, or make endlessly slow.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Bytes that are passed on at once.
const BUFFER: usize = 16 << 10;

/// Passes connections on to a server while it is open.
#[derive(Debug)]
pub struct Gate {
    address: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_closed: AtomicBool,
    is_held: Mutex<bool>,
    released: Condvar,
    streams: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// An open gate to a server.
    ///
    /// # Panics
    ///
    /// If no port is free.
    #[must_use]
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address").to_string();
        let state = Arc::new(State::default());
        let (server, shared) = (server.to_owned(), Arc::clone(&state));
        // Lives as long as the process: a test's.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever comes to a closed gate finds the connection closed at once.
                drop(shared.pass(stream, &server));
            }
        });
        Self { address, state }
    }

    /// Host and port of the gate.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends all connections, and lets none through from now on.
    pub fn close(&self) {
        self.state.is_closed.store(true, Ordering::SeqCst);
        let mut streams = self.state.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Keeps what is on its way from now on: to both sides the other seems slow.
    pub fn hold(&self) {
        *self.state.is_held.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Lets through what was kept, and what comes after it.
    pub fn release(&self) {
        *self.state.is_held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.state.released.notify_all();
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.state.is_closed.store(false, Ordering::SeqCst);
    }
}

impl State {
    /// Returns once nothing is kept.
    fn wait(&self) {
        let is_held = self.is_held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.released.wait_while(is_held, |is_held| *is_held));
    }

    fn pass(self: &Arc<Self>, near: TcpStream, server: &str) -> io::Result<()> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let far = TcpStream::connect(server)?;
        streams.extend([near.try_clone()?, far.try_clone()?]);
        copy(Arc::clone(self), near.try_clone()?, far.try_clone()?);
        copy(Arc::clone(self), far, near);
        Ok(())
    }
}

fn copy(state: Arc<State>, mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            state.wait();
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Write));
    });
}
