//! Floods of markers.

use std::{
    fmt,
    net::{Shutdown, TcpStream},
    ops::Range,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use relay_tests::program::is_long_run;
use serde_json::{Value, json};

use super::{
    http::{Answer, PATIENCE},
    lab::{Lab, Stream},
};

/// What the service may use at most.
const MOST: u64 = 256 << 20;
/// Readers that follow a flood.
const READERS: usize = 4;

/// The first and the last byte of a marker, by its number.
type Place = fn(u64) -> (u64, u64);

/// Those that leave no hole.
const DENSE: [(&str, Place); 2] =
    [("adjacent", |n| (n * 10, n * 10 + 9)), ("overlapping", |n| (n * 10, n * 10 + 99))];
/// Those that begin with one.
const SPARSE: [(&str, Place); 2] = [
    ("falling", |n| ((1 << 40) - n * 10, (1 << 40) - n * 10 + 4)),
    ("nested", |n| ((n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 8, (1 << 57) + n)),
];

/// What a flood cost.
struct Cost {
    took: Duration,
    /// Processor time of the service.
    service: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.1?} with {:.1?} of the service", self.took, self.service)
    }
}

/// Sends markers on a few connections at once.
fn flood(lab: &Lab, stream: &Stream, numbers: Range<u64>, place: Place) -> Cost {
    let (begun, used) = (SystemTime::now(), lab.processor());
    thread::scope(|scope| {
        for lane in 0..8 {
            let numbers = numbers.clone();
            scope.spawn(move || {
                let mut connection = stream.connect();
                for number in numbers.skip(lane).step_by(8) {
                    let (first, last) = place(number);
                    assert_eq!(stream.mark_on(&mut connection, first, last).status, 202);
                }
            });
        }
    });
    Cost { took: begun.elapsed().unwrap(), service: lab.processor().saturating_sub(used) }
}

/// Half of a flood.
fn half() -> u64 {
    if is_long_run() { 12_500 } else { 200 }
}

/// Sends both halves of a flood, of which the second costs no more; what they cost.
fn flood_evenly(lab: &Lab, stream: &Stream, name: &str, place: Place) -> String {
    let half = half();
    let [first, second] = [0..half, half..2 * half].map(|part| flood(lab, stream, part, place));
    let cost = format!("{half} markers, {name}: {first}; as many again: {second}");
    assert!(second.service < first.service * 3 + Duration::from_secs(3), "{cost}");
    cost
}

#[test]
fn a_flood_of_markers_costs_as_much_at_its_end_as_at_its_beginning() {
    let lab = Lab::new();
    let other = lab.stream("other");
    let before = lab.memory("VmRSS");
    for (name, place) in DENSE.into_iter().chain(SPARSE) {
        let stream = lab.stream(name);
        println!("{}", flood_evenly(&lab, &stream, name, place));
        println!("all of them repeated: {}", flood(&lab, &stream, 0..2 * half(), place));
        assert_eq!(other.patch(other.head().0, b"x"), 202);
        let (end, gaps) = stream.head();
        assert!(gaps.split(',').count() <= 16, "{end} {gaps}");
    }
    let more = lab.memory("VmRSS").saturating_sub(before);
    println!("{} KiB more", more >> 10);
    assert!(more < 64 << 20, "{more} bytes more");
    assert!(lab.peak() < MOST, "{} bytes", lab.peak());
}

/// A reader that follows: its socket, and what it is answered.
fn follow(lab: &Lab, pod: &str) -> (TcpStream, JoinHandle<Option<Answer>>) {
    let mut connection = lab.connect();
    let path = format!("/api/namespaces/local/pods/{pod}/logs?follow=true");
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: relay\r\naccept: application/x-ndjson\r\n\r\n");
    connection.send(head.as_bytes());
    let socket = connection.stream.try_clone().unwrap();
    socket.set_read_timeout(Some(PATIENCE * 10)).unwrap();
    (socket, thread::spawn(move || connection.answer()))
}

/// Position after the last record, of which each begins where the one before ends.
fn shown(answer: &Answer) -> u64 {
    let mut at = 0;
    for line in answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(record["offset"], at, "{record}");
        at += record["length"].as_u64().unwrap();
    }
    at
}

#[test]
fn readers_that_follow_a_flood_of_markers_see_each_byte_once() {
    let lab = Lab::new();
    for (name, place) in DENSE {
        let stream = lab.stream(name);
        let readers: Vec<_> = (0..READERS).map(|_| follow(&lab, name)).collect();
        println!("{}", flood_evenly(&lab, &stream, name, place));
        let length = stream.head().0;
        let end = json!({ "length": length, "crc32c": "00000000", "reason": "eof" }).to_string();
        let head = format!("POST {}/end HTTP/1.1\r\ncontent-type: application/json", stream.path);
        assert_eq!(stream.connect().request(&head, end.as_bytes()).status, 202);
        for (_socket, reader) in readers {
            assert_eq!(shown(&reader.join().unwrap().unwrap()), length, "{name}");
        }
        // What touches is shown as one to who comes later: a marker and the end.
        let later = lab.get(&format!("/api/namespaces/local/pods/{name}/logs?format=ndjson"));
        assert_eq!(later.body.split(|byte| *byte == b'\n').count(), 3, "{name}");
    }
    assert!(lab.peak() < MOST, "{} bytes", lab.peak());
}

#[test]
fn readers_that_wait_before_a_flood_of_markers_cost_little() {
    let lab = Lab::new();
    for (name, place) in SPARSE {
        let stream = lab.stream(name);
        let readers: Vec<_> = (0..READERS).map(|_| follow(&lab, name)).collect();
        println!("{}", flood_evenly(&lab, &stream, name, place));
        for (socket, reader) in readers {
            socket.shutdown(Shutdown::Both).unwrap();
            reader.join().unwrap();
        }
    }
    println!("{} KiB at most", lab.peak() >> 10);
    assert!(lab.peak() < MOST, "{} bytes", lab.peak());
}

#[test]
fn one_request_marks_one_range() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let head = format!("POST {}/markers HTTP/1.1\r\ncontent-type: application/json", stream.path);
    let mark = |range: Value, markers: Vec<&str>| {
        let body = json!({ "range": range, "markers": markers }).to_string();
        stream.connect().request(&head, body.as_bytes()).status
    };
    assert_eq!(mark(json!(["bytes 0-1/*", "bytes 4-5/*"]), vec!["dropped"]), 422);
    // However often a list repeats a marker, it is one.
    let objects = || lab.tree().iter().filter(|name| name.ends_with("-dropped")).count();
    assert_eq!(mark(json!("bytes 0-1/*"), vec!["dropped"; 5_000]), 202);
    assert_eq!(objects(), 1);
    assert_eq!(mark(json!("bytes 0-1/*"), vec!["dropped", "restarted"]), 202);
    assert_eq!(mark(json!("bytes 0-18446744073709551614/*"), vec!["dropped"]), 202);
    assert_eq!(stream.head().0, u64::MAX);
}
