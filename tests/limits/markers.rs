//! Floods of markers.

use std::{
    io::{BufRead, BufReader},
    net::Shutdown,
    thread,
    time::{Duration, SystemTime},
};

use relay_tests::program::is_long_run;
use serde_json::{Value, json};

use super::lab::{Lab, Stream};

/// The first and the last byte of a marker, by its number.
type Range = fn(u64) -> (u64, u64);

const FLOODS: [(&str, Range); 4] = [
    ("adjacent", |n| (n * 10, n * 10 + 9)),
    ("overlapping", |n| (n * 10, n * 10 + 99)),
    ("falling", |n| ((1 << 40) - n * 10, (1 << 40) - n * 10 + 4)),
    ("nested", |n| ((n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 8, (1 << 57) + n)),
];

/// What a flood cost.
#[derive(Debug)]
#[expect(dead_code, reason = "shown to whoever runs the test")]
struct Cost {
    took: Duration,
    /// Processor time of the service.
    service: Duration,
}

/// Sends markers on a few connections at once.
fn flood(lab: &Lab, stream: &Stream, numbers: std::ops::Range<u64>, range: Range) -> Cost {
    let (begun, used) = (SystemTime::now(), lab.processor());
    thread::scope(|scope| {
        for lane in 0..8 {
            let numbers = numbers.clone();
            scope.spawn(move || {
                let mut connection = stream.connect();
                for number in numbers.skip(lane).step_by(8) {
                    let (first, last) = range(number);
                    assert_eq!(stream.mark_on(&mut connection, first, last).status, 202);
                }
            });
        }
    });
    Cost { took: begun.elapsed().unwrap(), service: lab.processor() - used }
}

#[test]
fn a_flood_of_markers_costs_as_much_at_its_end_as_at_its_beginning() {
    let lab = Lab::new();
    let half = if is_long_run() { 12_500 } else { 200 };
    let other = lab.stream("other");
    let before = lab.memory("VmRSS");
    for (name, range) in FLOODS {
        let stream = lab.stream(name);
        let [first, second] =
            [0..half, half..2 * half].map(|part| flood(&lab, &stream, part, range));
        let again = flood(&lab, &stream, 0..2 * half, range);
        println!("{half} markers, {name}: {first:?}, then {second:?}, all again {again:?}");
        assert_eq!(other.patch(other.head().0, b"x"), 202);
        let (end, gaps) = stream.head();
        assert!(gaps.split(',').count() <= 16, "{end} {gaps}");
    }
    let more = lab.memory("VmRSS").saturating_sub(before);
    println!("{} KiB more", more >> 10);
    assert!(more < 64 << 20, "{more} bytes more");
}

#[test]
fn readers_that_follow_a_flood_of_markers_see_each_byte_once() {
    let lab = Lab::new();
    let half = if is_long_run() { 12_500 } else { 200 };
    for (name, range) in FLOODS {
        let stream = lab.stream(name);
        let followers: Vec<_> = (0..4).map(|_| follow(&lab, name)).collect();
        let sockets: Vec<_> =
            followers.iter().map(|reader| reader.get_ref().try_clone().unwrap()).collect();
        let readers: Vec<_> =
            followers.into_iter().map(|reader| thread::spawn(|| shown(reader))).collect();
        let [first, second] =
            [0..half, half..2 * half].map(|part| flood(&lab, &stream, part, range));
        println!("{half} markers, {name}, followed: {first:?}, then {second:?}");
        let last = json!({ "length": stream.head().0, "reason": "eof" });
        drop((
            last,
            sockets.iter().map(|socket| socket.shutdown(Shutdown::Both)).collect::<Vec<_>>(),
        ));
        for reader in readers {
            println!("{:?}", reader.join().unwrap());
        }
    }
    println!("{} KiB at most", lab.peak() >> 10);
}

fn follow(lab: &Lab, pod: &str) -> BufReader<std::net::TcpStream> {
    let mut connection = lab.connect();
    let path = format!("/api/namespaces/local/pods/{pod}/logs?follow=true");
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: relay\r\naccept: application/x-ndjson\r\n\r\n");
    connection.send(head.as_bytes());
    BufReader::new(connection.stream)
}

/// Number of records, and the position after the last.
fn shown(reader: BufReader<std::net::TcpStream>) -> (usize, u64) {
    let (mut count, mut at) = (0, 0);
    for line in reader.lines().map_while(Result::ok) {
        let Ok(Value::Object(record)) = serde_json::from_str(&line) else { continue };
        assert_eq!(record["offset"], at, "{line}");
        at += record["length"].as_u64().unwrap();
        count += 1;
    }
    (count, at)
}

#[test]
fn one_request_marks_one_range() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let head = format!("POST {}/markers HTTP/1.1\r\ncontent-type: application/json", stream.path);
    let mark = |range: serde_json::Value, markers: Vec<&str>| {
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
