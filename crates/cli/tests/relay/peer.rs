//! An HTTP/1.1 peer that does what a test says, breaking connections included.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

/// More requests than any test makes.
const MAX_REQUESTS: usize = 64;

/// How one request is answered.
pub(crate) type Answer = Box<dyn Fn(&mut TcpStream) + Send>;

/// A request as it came: its first line and its headers, in lower case.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    headers: Vec<String>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.headers.iter().find_map(|header| header.strip_prefix(&prefix))
    }
}

/// A listening peer.
pub(crate) struct Peer {
    pub(crate) url: String,
    asked: Receiver<Asked>,
}

impl Peer {
    /// Answers the n-th request of the log with the n-th of `logs`, all others with `pod`. Each
    /// connection carries one request.
    pub(crate) fn start(pod: String, logs: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, asked) = sync_channel(MAX_REQUESTS);
        thread::spawn(move || {
            let mut logs = logs.into_iter();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let asked = read(&connection);
                let answer = asked.line.contains("/logs").then(|| logs.next());
                sender.send(asked).unwrap();
                let pod = pod.clone();
                thread::spawn(move || match answer {
                    Some(Some(answer)) => answer(&mut connection),
                    Some(None) => send(&mut connection, &problem(410, "the test is over")),
                    None => send(&mut connection, &pod),
                });
            }
        });
        Self { url, asked }
    }

    /// The requests since it was last asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }

    /// Those of the log.
    pub(crate) fn asked_for_logs(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.line.contains("/logs")).collect()
    }
}

fn read(connection: &TcpStream) -> Asked {
    let mut lines = BufReader::new(connection).lines().map(Result::unwrap);
    let line = lines.next().unwrap_or_default();
    let headers = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase());
    Asked { line, headers: headers.collect() }
}

pub(crate) fn send(connection: &mut TcpStream, text: &str) {
    // The program may have ended meanwhile.
    drop(connection.write_all(text.as_bytes()));
}

/// Begins an answer without a known length.
pub(crate) fn begin(connection: &mut TcpStream, status: &str) {
    send(
        connection,
        &format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"),
    );
}

pub(crate) fn chunk(connection: &mut TcpStream, text: &str) {
    send(connection, &format!("{:x}\r\n{text}\r\n", text.len()));
}

/// Ends it in order. Closing the connection instead breaks it.
pub(crate) fn end(connection: &mut TcpStream) {
    send(connection, "0\r\n\r\n");
}

/// A whole answer with a JSON body.
pub(crate) fn json(body: &str) -> String {
    answer("200 OK", "application/json", body)
}

/// A whole answer that refuses.
pub(crate) fn problem(status: u16, detail: &str) -> String {
    let body =
        format!(r#"{{"type":"/problems/x","title":"X","status":{status},"detail":"{detail}"}}"#);
    answer(&format!("{status} Problem"), "application/problem+json", &body)
}

fn answer(status: &str, media: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
