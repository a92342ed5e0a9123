//! Floods of markers.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use relay_tests::program::is_long_run;
use serde_json::json;

use super::lab::{Lab, Stream};

/// Sends `count` markers on a few connections at once: the range of each is what `range` says.
fn flood(stream: &Stream, count: u64, range: impl Fn(u64) -> (u64, u64) + Sync) -> Duration {
    let begun = SystemTime::now();
    thread::scope(|scope| {
        for lane in 0..8 {
            let range = &range;
            scope.spawn(move || {
                let mut connection = stream.connect();
                for number in (lane..count).step_by(8) {
                    let (first, last) = range(number);
                    assert_eq!(stream.mark_on(&mut connection, first, last).status, 202);
                }
            });
        }
    });
    begun.elapsed().unwrap()
}

#[test]
fn a_flood_of_markers_costs_as_much_at_its_end_as_at_its_beginning() {
    let lab = Lab::new();
    let count = if is_long_run() { 25_000 } else { 400 };
    let other = lab.stream("other");
    let before = lab.memory("VmRSS");
    for (name, range) in [
        ("adjacent", (|n| (n * 10, n * 10 + 9)) as fn(u64) -> (u64, u64)),
        ("overlapping", |n| (n * 10, n * 10 + 99)),
        ("scattered, falling", |n| ((1 << 40) - n * 10, (1 << 40) - n * 10 + 4)),
        ("scattered", |n| ((n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 8, (1 << 57) + n)),
    ] {
        let stream = lab.stream(&format!("p-{}", name.len()));
        let first = flood(&stream, count, range);
        let again = flood(&stream, count, range);
        println!("{count} markers, {name}: {first:?}, repeated {again:?}");
        assert_eq!(other.patch(other.head().0, b"x"), 202);
        let (end, gaps) = stream.head();
        assert!(gaps.split(',').count() <= 16, "{end} {gaps}");
    }
    let more = lab.memory("VmRSS").saturating_sub(before);
    println!("{} KiB more", more >> 10);
    assert!(more < 64 << 20, "{more} bytes more");
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
