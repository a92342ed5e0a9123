//! What the service costs at rest, with a crowd of writers, and with a crowd of readers.

use std::{
    io::{BufReader, Read},
    net::TcpStream,
    thread,
    time::Duration,
};

use relay_tests::{program::is_long_run, wait::eventually};

use super::{
    http::{Connection, PATIENCE},
    lab::{Lab, Stream},
};

const IDLE: u64 = 64 << 20;
const BUSY: u64 = 256 << 20;

/// Lines as programs write them.
fn lines(length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 100);
    let mut number = 1_u32;
    while text.len() < length {
        number = number.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let line = format!(
            "2026-01-01T00:00:00.{number:010} INFO worker {} did {number:08x}\n",
            number % 97
        );
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(length);
    text
}

/// Writes until it is taken; whoever is told to come again does.
pub(super) fn write(stream: &Stream, connection: &mut Connection, at: u64, bytes: &[u8]) {
    let range = format!("bytes {at}-{}/*", at + bytes.len() as u64 - 1);
    let head = stream.patch_head(&range, "");
    let mut status = 0;
    eventually(Duration::from_mins(5), "the bytes are taken", || {
        let text = format!(
            "{}\r\nhost: relay\r\ncontent-length: {}\r\n\r\n",
            head.trim_end(),
            bytes.len()
        );
        connection.send(&[text.as_bytes(), bytes].concat());
        status = connection.answer().map_or(0, |answer| answer.status);
        match status {
            0 => *connection = stream.connect(),
            // As long as `Retry-After` says.
            429 => thread::park_timeout(Duration::from_secs(1)),
            _ => {}
        }
        status == 202
    });
}

/// Reads this many bytes of an answer, or to its end.
fn read(stream: TcpStream, most: usize) -> usize {
    let mut reader = BufReader::new(stream);
    let (mut bytes, mut all) = (vec![0; 64 << 10], 0);
    while all < most {
        match reader.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(read) => all += read,
        }
    }
    all
}

pub(super) fn ask(lab: &Lab, path: &str, accept: &str) -> TcpStream {
    let mut connection = lab.connect();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\naccept: {accept}\r\n\r\n"
    );
    connection.send(head.as_bytes());
    connection.stream
}

fn comes_to_rest(lab: &Lab) {
    eventually(PATIENCE, "it gives its memory back", || lab.memory("VmRSS") <= IDLE);
}

#[test]
fn a_crowd_of_writers_and_followers_stays_within_256_mib_and_leaves_64() {
    let lab = Lab::new();
    assert!(lab.memory("VmRSS") <= IDLE);
    let (streams, watched, each) =
        if is_long_run() { (1_000, 100, 1 << 20) } else { (100, 10, 512 << 10) };
    let text = lines(each + 4096);
    thread::scope(|scope| {
        for number in 0..watched {
            let path = format!("/api/namespaces/local/pods/p{number}/logs?follow=true");
            let follower = ask(&lab, &path, "text/plain");
            // The last line has no end yet.
            scope.spawn(move || assert!(read(follower, each - 200) >= each - 200));
        }
        for number in 0..streams {
            let (lab, text) = (&lab, &text);
            let write_all = move || {
                let stream = lab.stream(&format!("p{number}"));
                let mut connection = stream.connect();
                for at in (0..each).step_by(256 << 10) {
                    let from = at + number % 4096;
                    write(
                        &stream,
                        &mut connection,
                        at as u64,
                        &text[from..][..(256 << 10).min(each - at)],
                    );
                }
            };
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, write_all).unwrap();
        }
    });
    println!("{streams} writers, {watched} followers: {} KiB at most", lab.peak() >> 10);
    assert!(lab.peak() <= BUSY, "{} bytes", lab.peak());
    comes_to_rest(&lab);
    println!("and {} KiB at rest", lab.memory("VmRSS") >> 10);
}

#[test]
fn a_crowd_of_readers_stays_within_256_mib_and_leaves_64() {
    let lab = Lab::new();
    let (mebibytes, readers) = if is_long_run() { (1024, 50) } else { (48, 24) };
    let stream = lab.stream("big");
    let text = lines(1 << 20);
    let mut connection = stream.connect();
    for number in 0..mebibytes {
        write(&stream, &mut connection, number << 20, &text);
    }
    println!("{mebibytes} MiB written: {} KiB at most", lab.peak() >> 10);
    let logs = "/api/namespaces/local/pods/big/logs";
    for accept in ["text/plain", "application/octet-stream", "application/x-ndjson"] {
        lab.forget_peak();
        thread::scope(|scope| {
            for number in 0..readers {
                let path = format!("{logs}?tail={}", number * 10_000 + 10_000);
                let path = if accept == "application/octet-stream" { logs } else { &path };
                let reader = ask(&lab, path, accept);
                scope.spawn(move || assert!(read(reader, 32 << 20) > 100_000));
            }
        });
        println!("{readers} readers of {accept}: {} KiB at most", lab.peak() >> 10);
        assert!(lab.peak() <= BUSY, "{accept}: {} bytes", lab.peak());
    }
    comes_to_rest(&lab);
    println!("and {} KiB at rest", lab.memory("VmRSS") >> 10);
}

#[test]
fn readers_that_take_nothing_cost_little() {
    let lab = Lab::new();
    let readers = if is_long_run() { 500 } else { 60 };
    let mebibytes = readers + 20;
    let stream = lab.stream("big");
    let text = lines(1 << 20);
    let mut connection = stream.connect();
    for number in 0..mebibytes {
        write(&stream, &mut connection, number << 20, &text);
    }
    for accept in ["application/octet-stream", "text/plain"] {
        let before = lab.forget_peak();
        let stalled: Vec<TcpStream> = (0..readers)
            .map(|number| {
                // Each at another place, so that no two hold the same segment.
                let first = number << 20;
                let mut connection = lab.connect();
                let head = format!(
                    "GET /api/namespaces/local/pods/big/logs HTTP/1.1\r\nhost: relay\r\naccept: {accept}\r\n\
                     range: bytes={first}-\r\nlast-event-id: main/stdout@i:{first}\r\n\r\n"
                );
                connection.send(head.as_bytes());
                connection.stream
            })
            .collect();
        // All have been answered once the peak rises no more.
        let mut last = 0;
        eventually(PATIENCE, "all stall", || {
            thread::park_timeout(Duration::from_secs(1));
            let peak = lab.peak();
            std::mem::replace(&mut last, peak) == peak
        });
        let more = lab.peak().saturating_sub(before);
        println!("{readers} stalled readers of {accept}: {} KiB more", more >> 10);
        // Beside what each costs: 16 reads at once, of 3 MiB each, and the cache of 32 MiB.
        assert!(more < (readers << 20) + (80 << 20), "{more} bytes more");
        drop(stalled);
    }
    comes_to_rest(&lab);
}
