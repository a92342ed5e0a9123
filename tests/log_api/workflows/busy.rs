//! Following parts of a workflow in which much goes on at the same time.

use std::{
    io::{BufRead, BufReader},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use relay_tests::{gcs::lists, store::Store, wait::eventually};
use serde_json::json;

use super::{TRIGGER, get, now, part, trigger};
use crate::lab::Lab;

/// Of a stream that is written faster than it is read, there is always more to read.
#[test]
fn pods_join_a_follower_that_never_comes_to_the_end_of_another() {
    const LINES: usize = 10_000;
    const AHEAD: usize = 12;
    let store = Store::files();
    let lab = Lab::on(&store);
    let mut busy = part(&lab, "busy", &trigger());
    let (written, chunks) = sync_channel(AHEAD);
    let writer = thread::spawn(move || {
        let chunk = format!("{:099}\n", 0).repeat(LINES);
        loop {
            let time = format!("{}={}", busy.position(), now());
            busy.write_timed(chunk.as_bytes(), &time);
            if written.send(()).is_err() {
                return;
            }
        }
    });
    for _ in 0..AHEAD {
        chunks.recv().unwrap();
    }
    let answer = get(&lab, TRIGGER, "follow=true", &[]);
    let mut lines = BufReader::new(answer).lines();
    for number in 0.. {
        if number == LINES {
            let time = format!("0={}", now());
            part(&lab, "other", &trigger()).write_timed(b"from another\n", &time);
        }
        if lines.next().unwrap().unwrap() == "from another" {
            break;
        }
        // Before so many more are read, as many more are written: it stays behind.
        if number % LINES == 0 {
            chunks.recv().unwrap();
        }
        assert!(number < 400 * LINES, "the busy pod hides the other");
    }
    drop(chunks);
    writer.join().unwrap();
}

/// Their lines stand among the last or behind them: there is nothing in between.
#[test]
fn what_pods_write_while_the_last_lines_are_sought_is_shown() {
    const MANY: usize = 24;
    let store = Store::gcs();
    let lab = Lab::on(&store);
    let mut writers: Vec<_> = (0..MANY)
        .map(|pod| {
            let mut writer = part(&lab, &format!("p{pod}"), &trigger());
            writer.write_timed(b"old\n", "0=1000");
            writer
        })
        .collect();
    let last = "last\n".repeat(2 * MANY);
    part(&lab, "last", &trigger()).write_timed(last.as_bytes(), &format!("0={}", now()));
    // This one has nothing in memory.
    let there = lab.replica();
    let url = format!("{}{TRIGGER}?follow=true&tail={}", there.service().url(), 2 * MANY);
    let reader = thread::spawn(move || {
        let answer = crate::lab::client().get(url).send().unwrap();
        let lines = BufReader::new(answer).lines().map(Result::unwrap);
        lines.filter(|line| line.starts_with("new")).take(MANY).count()
    });
    for (number, writer) in writers.iter_mut().enumerate() {
        writer.write_timed(format!("new {number}\n").as_bytes(), &format!("4={}", now()));
    }
    assert_eq!(reader.join().unwrap(), MANY);
}

/// Also where none of the streams is asked for.
#[test]
fn a_follower_lists_only_what_is_new() {
    let store = Store::gcs();
    let lab = Lab::on(&store);
    part(&lab, "a", &json!({ "workflow": "deploy", "trigger": "listed" })).write(b"line\n");
    let path = "/api/workflows/deploy/triggers/listed/logs";
    let answer = get(&lab, path, "follow=true&container=other", &[]);
    let begins = |list: &String| Some(list.split_once("/triggers/listed/")?.1.parse::<u64>().ok());
    eventually(Duration::from_mins(1), "the store is asked for new streams only", || {
        lists().iter().filter_map(begins).any(|begin| begin > Some(0))
    });
    drop(answer);
}
