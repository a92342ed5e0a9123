//! A way to a server that a test can close.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Passes connections on to a server while it is open.
#[derive(Debug)]
pub struct Gate {
    address: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_closed: AtomicBool,
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

    /// Lets connections through again.
    pub fn open(&self) {
        self.state.is_closed.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn pass(&self, near: TcpStream, server: &str) -> io::Result<()> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let far = TcpStream::connect(server)?;
        streams.extend([near.try_clone()?, far.try_clone()?]);
        copy(near.try_clone()?, far.try_clone()?);
        copy(far, near);
        Ok(())
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    });
}
