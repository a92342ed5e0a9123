//! A connection that breaks at the worst moment.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Answers that are swallowed: enough to meet creations, bytes and ends.
const LOST: usize = 8;

/// Stands before a service and closes connections when the service has answered.
pub(super) struct Proxy {
    address: String,
    lost: Arc<AtomicUsize>,
}

impl Proxy {
    /// Begins to stand before the service at this URL. It ends with the test's process.
    pub(super) fn start(url: &str) -> Self {
        let service = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address").to_string();
        let lost = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&lost);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (service, lost) = (service.clone(), Arc::clone(&counter));
                thread::spawn(move || drop(carry(&client, &service, &lost)));
            }
        });
        Self { address, lost }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many answers did not arrive.
    pub(super) fn lost_answers(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

/// Carries bytes both ways; the second answer of a connection is lost.
fn carry(client: &TcpStream, service: &str, lost: &AtomicUsize) -> io::Result<()> {
    let service = TcpStream::connect(service)?;
    let (mut from, mut to) = (client.try_clone()?, service.try_clone()?);
    let requests = thread::spawn(move || {
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    });
    let mut answer = vec![0; 64 << 10];
    for number in 1.. {
        let length = (&service).read(&mut answer)?;
        if length == 0 {
            break;
        }
        if number > 1 && lost.fetch_add(1, Ordering::SeqCst) < LOST {
            break;
        }
        let mut client = client;
        client.write_all(&answer[..length])?;
    }
    client.shutdown(Shutdown::Both).ok();
    service.shutdown(Shutdown::Both).ok();
    drop(requests.join());
    Ok(())
}
