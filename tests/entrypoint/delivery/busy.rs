//! A service that takes markers and ends, and never has time for bytes.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use relay_protocol::write::{CreateStream, EndStream, MarkRange};

/// What it was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Requests with bytes.
    pub(super) refused: usize,
    pub(super) marks: Vec<MarkRange>,
    pub(super) ends: Vec<EndStream>,
}

/// It ends with the test's process.
pub(super) struct BusyService {
    address: String,
    told: Arc<Mutex<Told>>,
}

impl BusyService {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address").to_string();
        let told = Arc::<Mutex<Told>>::default();
        let shared = Arc::clone(&told);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let told = Arc::clone(&shared);
                thread::spawn(move || while answer(&client, &told).is_ok() {});
            }
        });
        Self { address, told }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn told<T>(&self, look: impl FnOnce(&Told) -> T) -> T {
        look(&self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers one request. The client sends none before it has the answer to the last.
fn answer(client: &TcpStream, told: &Mutex<Told>) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let (mut request, mut length) = (String::new(), 0);
    if reader.read_line(&mut request)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(text) = header.strip_prefix("content-length:") {
            length = text.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, text) = reply(&request, &body, told);
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", text.len());
    let mut client = client;
    client.write_all(&[head.into_bytes(), text.into_bytes()].concat())
}

fn reply(request: &str, body: &[u8], told: &Mutex<Told>) -> (u16, String) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if request.contains("/markers ") {
        told.marks.push(serde_json::from_slice(body).expect("a marker"));
    } else if request.contains("/end ") {
        told.ends.push(serde_json::from_slice(body).expect("an end"));
    } else if request.contains("/data ") {
        told.refused += 1;
        return (429, String::new());
    } else {
        let CreateStream { name, instance, .. } = serde_json::from_slice(body).expect("a stream");
        let created = serde_json::json!({
            "id": name, "name": name, "instance": instance, "expires": 0, "created": true,
        });
        return (200, created.to_string());
    }
    (202, r#"{"gaps":[]}"#.to_owned())
}
