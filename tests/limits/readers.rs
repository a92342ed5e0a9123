//! What one reader of very many streams costs.

use std::{
    io::Read,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use relay_tests::program::is_long_run;

use super::{
    http::Connection,
    lab::{Lab, Stream},
    memory::{ask, write},
};

const LOG: &str = "/api/workflows/deploy/triggers/push/logs";

/// Streams of one trigger, each written to on a connection of its own.
fn write_all(lab: &Lab, count: u64, write: impl Fn(u64, &Stream, &mut Connection) + Sync) {
    let next = AtomicU64::new(0);
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let stream = lab.stream_of_trigger(&format!("p{number}"));
        write(number, &stream, &mut stream.connect());
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(work);
        }
    });
}

#[test]
fn a_reader_of_a_thousand_streams_that_takes_nothing_costs_little() {
    let lab = Lab::new();
    let count = if is_long_run() { 5_000 } else { 1_000 };
    // Of a line without an end as much is read as may be held.
    let text = vec![b'x'; 256 << 10];
    write_all(&lab, count, |_, stream, connection| write(stream, connection, 0, &text));
    lab.settle();
    let before = lab.forget_peak();
    let mut reader = ask(&lab, &format!("{LOG}?follow=true"), "application/x-ndjson");
    // The answer begins when the first line of each is known.
    reader.read_exact(&mut [0]).unwrap();
    let more = lab.peak().saturating_sub(before);
    println!("a reader of {count} streams: {} KiB more", more >> 10);
    // Beside what the streams share: the cache of 32 MiB, and 4 KiB for each.
    assert!(more < (64 << 20) + (count << 12), "{more} bytes more");
}

/// Pods of which each writes two lines, all of them after one another's.
#[test]
fn more_streams_than_one_reader_has_open_are_read_in_order_and_followed_by_nobody() {
    const MOST: u64 = 4096;
    const COUNT: u64 = MOST + 100;
    let lab = Lab::in_memory();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    // However long it takes to create all, none is late.
    let now = u64::try_from(now).unwrap() + 600_000;
    write_all(&lab, COUNT, |number, stream, connection| {
        // The second lines come in another order than the first.
        let (first, second) = (now + number, now + COUNT + number * 7919 % COUNT);
        let head = stream.patch_head("bytes 0-27/*", "relay-flush: now");
        let head = format!("{}\r\nrelay-times: 0={first},14={second}", head.trim_end());
        let text = format!("{first:013}\n{second:013}\n");
        assert_eq!(connection.request(&head, text.as_bytes()).status, 202);
    });
    let all: Vec<String> = (0..2 * COUNT).map(|at| format!("{:013}\n", now + at)).collect();
    let answer = lab.get(LOG);
    assert_eq!(answer.status, 200);
    assert!(
        String::from_utf8(answer.body).unwrap() == all.concat(),
        "each line once, in their order"
    );
    let refused = lab.get(&format!("{LOG}?follow=true&tail=1"));
    let detail = refused.problem();
    assert_eq!(refused.status, 400);
    assert!(detail.contains("4096 streams that have not ended"), "{detail}");
    assert!(detail.contains("container=, stream= or instance="), "{detail}");
}
