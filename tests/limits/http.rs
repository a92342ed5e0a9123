//! HTTP/1.1 by hand, so that nothing is too wrong to be sent.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// How long an answer may take, on a machine that does much else.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The detail of a problem, whose form is checked.
    pub(super) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Connection {
    pub(super) fn open(address: &str) -> Self {
        Self::with(TcpStream::connect(address).unwrap())
    }

    pub(super) fn with(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends bytes; a peer that has closed is no failure, for its answer may be there.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a request with a body, and returns its answer.
    pub(super) fn request(&mut self, head: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = head.trim_end();
        let text = format!("{head}\r\nhost: relay\r\ncontent-length: {length}\r\n\r\n");
        self.send(&[text.as_bytes(), body].concat());
        self.answer().expect("an answer")
    }

    /// The next answer; `None` if the connection ends without one, in its middle or after
    /// [`PATIENCE`].
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").parse().ok();
        if answer.header("transfer-encoding") == "chunked" {
            while self.chunk(&mut answer.body)? > 0 {}
        } else if let Some(length) = length.filter(|_| ![204, 304].contains(&status)) {
            answer.body.resize(length, 0);
            self.stream.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    fn chunk(&mut self, body: &mut Vec<u8>) -> Option<usize> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        let length = usize::from_str_radix(String::from_utf8(line).ok()?.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..length]);
        Some(length)
    }

    /// Whether the peer has closed, within [`PATIENCE`]; what it sends before is thrown away.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut thrown = [0; 4096];
        loop {
            match self.stream.read(&mut thrown) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}
