//! A client that costs little: one connection, one request at a time.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    answers: BufReader<TcpStream>,
    host: String,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// Method and path.
    pub(crate) line: &'a str,
    /// Headers, each with its line's end.
    pub(crate) headers: &'a str,
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").context("only plain HTTP")?.to_owned();
        let stream = TcpStream::connect(&host).with_context(|| format!("failed to reach {url}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { answers: BufReader::new(stream), host })
    }

    /// Sends a request and does not wait.
    pub(crate) fn send(&mut self, request: Request<'_>) -> Result<()> {
        let Request { line, headers, body } = request;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.host,
            body.len()
        );
        let stream = self.answers.get_mut();
        stream.write_all(head.as_bytes())?;
        Ok(stream.write_all(body)?)
    }

    /// Reads the head of an answer: status and length of the body, if it is told.
    pub(crate) fn head(&mut self) -> Result<(u16, Option<usize>)> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("no answer")?.parse()?;
        let mut length = None;
        loop {
            line.clear();
            self.answers.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                None => return Ok((status, length)),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.trim().parse()?);
                }
                Some(_) => {}
            }
        }
    }

    /// Sends a request and returns the body of its answer, which must be a success.
    pub(crate) fn ask(&mut self, request: Request<'_>) -> Result<Vec<u8>> {
        self.send(request)?;
        let (status, length) = self.head()?;
        let mut body = vec![0; length.unwrap_or(0)];
        self.answers.read_exact(&mut body)?;
        let text = || String::from_utf8_lossy(&body).into_owned();
        ensure!((200..300).contains(&status), "{}: {status} {}", request.line, text());
        Ok(body)
    }

    /// What comes behind the head, as it is.
    pub(crate) fn raw(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.answers
    }
}

/// Creates the stream `stdout` of a pod and returns its id.
pub(crate) fn create(connection: &mut Connection, pod: &str) -> Result<String> {
    let body = format!(r#"{{"name":"stdout","pod":"{pod}","instance":"bench","writer":"bench"}}"#);
    let headers = "Content-Type: application/json\r\n";
    let answer = connection.ask(Request { line: "POST /logs", headers, body: body.as_bytes() })?;
    let answer: Value = serde_json::from_slice(&answer)?;
    Ok(answer["id"].as_str().context("no id")?.to_owned())
}

/// Writes bytes at an offset and returns when they are durable. `more` are further headers.
pub(crate) fn patch(
    connection: &mut Connection,
    id: &str,
    at: (u64, u64),
    (body, more): (&[u8], &str),
) -> Result<()> {
    let (start, length) = at;
    let line = format!("PATCH /logs/{id}/data");
    let headers = format!(
        "Content-Type: application/octet-stream\r\nContent-Range: bytes {start}-{}/*\r\n{more}",
        start + length - 1
    );
    connection.ask(Request { line: &line, headers: &headers, body }).map(drop)
}
