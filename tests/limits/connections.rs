//! Crowds of connections that want nothing, or want it slowly.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{Barrier, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use relay_tests::{
    certificate::self_signed, program::is_long_run, service::Service, wait::eventually,
};
use reqwest::{Version, blocking::Client as Http};
use tempfile::TempDir;

use super::{
    http::{Connection, PATIENCE},
    lab::{Lab, Stream},
};

/// What a slow client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Silent,
    Head,
    Body,
    Reader,
}

const KINDS: [Slow; 4] = [Slow::Silent, Slow::Head, Slow::Body, Slow::Reader];

/// One slow client.
struct Client {
    kind: Slow,
    stream: TcpStream,
    opened: SystemTime,
    closed: Option<Duration>,
}

impl Client {
    fn open(kind: Slow, stream: &Stream, address: &str) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        let path = &stream.path;
        let begin = match kind {
            Slow::Silent => String::new(),
            Slow::Head => "GET /livez HTTP/1.1\r\nhost: relay\r\nx: ".to_owned(),
            Slow::Body => format!(
                "PATCH {path}/data HTTP/1.1\r\nhost: relay\r\ncontent-length: 100000\r\n\
                 content-range: bytes 0-99999/*\r\n\r\n"
            ),
            Slow::Reader => "GET /api/namespaces/local/pods/big/logs HTTP/1.1\r\nhost: relay\r\n\
                             accept: application/octet-stream\r\n\r\n"
                .to_owned(),
        };
        // Whoever is over the limit may be closed already.
        drop(socket.write_all(begin.as_bytes()));
        socket.set_nonblocking(true).unwrap();
        Self { kind, stream: socket, opened: SystemTime::now(), closed: None }
    }

    /// A byte of what it has to say, and a look whether anybody listens.
    fn tick(&mut self) {
        if self.closed.is_some() {
            return;
        }
        if matches!(self.kind, Slow::Head | Slow::Body) {
            drop(self.stream.write(b"x"));
        }
        // Answers of a refusal come before the end; a slow reader takes one byte.
        let mut bytes = [0; 1024];
        let most = if self.kind == Slow::Reader { 1 } else { bytes.len() };
        let over = loop {
            match self.stream.read(&mut bytes[..most]) {
                Ok(0) => break true,
                Ok(_) if self.kind == Slow::Reader => break false,
                Ok(_) => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        if over {
            self.closed = self.opened.elapsed().ok();
        }
    }
}

/// A connection that has a place, not a spare one, and the end of the stream.
fn seated(stream: &Stream) -> (Connection, u64) {
    let head = format!("HEAD {}/data HTTP/1.1\r\nhost: relay\r\n\r\n", stream.path);
    let mut seated = None;
    eventually(PATIENCE, "a place is free", || {
        let mut connection = stream.connect();
        connection.send(head.as_bytes());
        let answer = connection.answer().filter(|answer| answer.status == 200);
        seated = answer.map(|answer| (connection, answer.header("upload-offset").parse().unwrap()));
        seated.is_some()
    });
    seated.unwrap()
}

/// Time of each of `count` small durable writes, sorted.
fn writes(stream: &Stream, count: usize) -> Vec<Duration> {
    let (mut connection, mut at) = seated(stream);
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let begun = SystemTime::now();
            assert_eq!(stream.patch_on(&mut connection, at, b"healthy\n"), 202);
            at += 8;
            begun.elapsed().unwrap()
        })
        .collect();
    times.sort();
    times
}

/// The value that this percentage of the sorted values does not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// As many files as the machine allows, for this process and what it starts.
fn many_files() {
    let process = std::process::id().to_string();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most = line.split_whitespace().nth(4).unwrap();
    let limit = format!("--nofile={most}:{most}");
    assert!(Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap().success());
}

fn fill(lab: &Lab, pod: &str, mebibytes: u64) {
    let stream = lab.stream(pod);
    let mut connection = stream.connect();
    let bytes: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    for number in 0..mebibytes {
        assert_eq!(stream.patch_on(&mut connection, number << 20, &bytes), 202);
    }
}

#[test]
fn slow_clients_are_closed_and_slow_down_nobody() {
    many_files();
    let lab = Lab::new();
    fill(&lab, "big", 16);
    let (slow, healthy) = (lab.stream("slow"), lab.stream("healthy"));
    let (crowd, samples) = if is_long_run() { (10_000, 1_000) } else { (1_000, 100) };
    writes(&healthy, 20);
    let before = writes(&healthy, samples);
    // Looked at all the while: a connection may have to wait seconds for the next to be opened.
    let (clients, all_are_open) = (Mutex::new(Vec::new()), Barrier::new(2));
    let during = thread::scope(|scope| {
        scope.spawn(|| {
            for kind in KINDS.iter().cycle().take(crowd) {
                let client = Client::open(*kind, &slow, lab.address());
                clients.lock().unwrap().push(client);
            }
            all_are_open.wait();
        });
        let measuring = scope.spawn(|| {
            all_are_open.wait();
            writes(&healthy, samples)
        });
        let impatient = |client: &Client| client.kind != Slow::Reader && client.closed.is_none();
        eventually(Duration::from_secs(90), "the slow ones are closed", || {
            thread::park_timeout(Duration::from_millis(250));
            let mut clients = clients.lock().unwrap();
            clients.iter_mut().for_each(Client::tick);
            clients.len() == crowd && !clients.iter().any(impatient)
        });
        measuring.join().unwrap()
    });
    let clients = clients.into_inner().unwrap();
    for kind in KINDS {
        let closed = clients.iter().filter(|client| client.kind == kind);
        let last = closed.clone().filter_map(|client| client.closed).max();
        let open = closed.filter(|client| client.closed.is_none()).count();
        println!("{kind:?}: {open} still open, the last closed after {last:?}");
    }
    let (p99, p99_during) = (percentile(&before, 99), percentile(&during, 99));
    println!("p50 {:?} -> {:?}", percentile(&before, 50), percentile(&during, 50));
    println!("p99 {p99:?} -> {p99_during:?}, {} KiB at most", lab.peak() >> 10);
    // The full run states its figure; here only what no busy machine explains.
    assert!(p99_during < Duration::from_secs(30).max(p99 * 20));
    assert_eq!(slow.head(), (0, String::new()), "of no body a part was stored");
    assert_eq!(lab.get("/readyz").status, 200);
}

/// A service with 64 places: as many files as it may open, less what it needs itself.
fn small() -> Lab {
    small_on(tempfile::tempdir().unwrap(), &[])
}

fn small_on(folder: TempDir, more: &[&str]) -> Lab {
    let store = format!("file://{}", folder.path().join("store").display());
    let flags = [&["--store", &store], more].concat();
    let service = Service::under(&["prlimit", "--nofile=320:320"], &flags);
    Lab { service, folder }
}

const PLACES: usize = 64;

fn follow(lab: &Lab, pod: &str) -> Connection {
    let mut connection = lab.connect();
    let path = format!("/api/namespaces/local/pods/{pod}/logs?follow=true");
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes());
    let mut begin = [0; 15];
    connection.stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    connection
}

/// Sends `head` until its answer has this status.
fn until(lab: &Lab, head: &str, status: u16) {
    eventually(PATIENCE, &format!("{head} is answered {status}"), || {
        let mut connection = lab.connect();
        connection.send(format!("{head} HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes());
        connection.answer().is_some_and(|answer| answer.status == status)
    });
}

#[test]
fn where_all_places_are_needed_probes_are_answered_and_others_told_to_come_again() {
    let lab = small();
    let mut followers: Vec<Connection> = (0..PLACES).map(|_| follow(&lab, "nobody")).collect();
    until(&lab, "GET /nothing", 503);
    let refused = lab.get("/api/namespaces/local/pods");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.problem(), "too many connections are open: try again");
    // Those who take the places of probes and ask for nothing leave them to whoever comes: 5 s for
    // each of them would be too long.
    let begun = SystemTime::now();
    let _silent: Vec<Connection> = (0..400).map(|_| lab.connect()).collect();
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = lab.get(path);
        assert_eq!((answer.status, answer.header("connection")), (200, "close"), "{path}");
    }
    assert!(begun.elapsed().unwrap() < PATIENCE);
    drop(followers.split_off(PLACES / 2));
    until(&lab, "GET /api/namespaces/local/pods", 200);
}

#[test]
fn who_asks_for_nothing_makes_room_at_once() {
    let lab = small();
    let mut followers: Vec<Connection> = (0..PLACES / 2).map(|_| follow(&lab, "p")).collect();
    let mut kept = lab.connect();
    let stream = lab.stream("p");
    let mut silent = vec![lab.connect()];
    for at in 0..2 * PLACES as u64 {
        // Whoever has just been answered is the last to leave.
        silent.push(lab.connect());
        assert_eq!(stream.patch_on(&mut kept, at * 2, b"x\n"), 202);
    }
    assert!(silent[0].is_closed());
    assert_eq!(lab.get("/api/namespaces/local/pods/p").status, 200);
    for follower in &mut followers {
        let mut byte = [0];
        follower.stream.read_exact(&mut byte).unwrap();
    }
}

#[test]
fn readers_that_take_nothing_make_room_for_others() {
    let lab = small();
    fill(&lab, "big", 16);
    let readers: Vec<Connection> = (0..PLACES)
        .map(|_| {
            let mut connection = lab.connect();
            let head = "GET /api/namespaces/local/pods/big/logs HTTP/1.1\r\nhost: relay\r\n\
                        accept: application/octet-stream\r\n\r\n";
            connection.send(head.as_bytes());
            connection
        })
        .collect();
    until(&lab, "GET /nothing", 404);
    drop(readers);
}

/// A certificate for 127.0.0.1 and its key, as flags.
fn tls(folder: &Path) -> [String; 4] {
    let (cert, key) = self_signed(folder);
    ["--tls-cert-file".to_owned(), cert, "--tls-key-file".to_owned(), key]
}

/// A client of its own, with one connection of HTTP/2 whose streams take 64 KiB before they are read.
fn http2(cert: &[u8]) -> Http {
    drop(rustls::crypto::ring::default_provider().install_default());
    let trusted = reqwest::Certificate::from_pem(cert).unwrap();
    let builder = Http::builder().tls_certs_only([trusted]).timeout(PATIENCE * 4);
    builder.http2_initial_stream_window_size(65_535).build().unwrap()
}

#[test]
fn http2_readers_that_open_no_window_make_room_for_others() {
    let Lab { service, folder } = {
        let lab = Lab::new();
        fill(&lab, "big", 4);
        lab
    };
    drop(service.stop());
    let flags = tls(folder.path());
    let lab = small_on(folder, &flags.each_ref().map(String::as_str));
    let cert = std::fs::read(&flags[1]).unwrap();
    let get = |client: &Http, path: &str| client.get(format!("{}{path}", lab.service.url())).send();
    // They answer the service's pings, and their sockets take whatever is sent.
    let readers: Vec<_> = (0..PLACES)
        .map(|_| {
            let client = http2(&cert);
            let path = "/api/namespaces/local/pods/big/logs?format=raw";
            let answer = get(&client, path).unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
            (client, answer)
        })
        .collect();
    eventually(PATIENCE, "a reader makes room", || {
        get(&http2(&cert), "/nothing").is_ok_and(|answer| answer.status() == 404)
    });
    drop(readers);
}
