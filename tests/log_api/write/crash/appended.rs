//! A stream whose writers leave it to the service where their bytes go.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{Fleet, Kill, WRITERS};
use crate::lab::{Writer, crc32c};

/// A thread, and the number of one of its lines.
type Line = (usize, usize);

pub(super) struct Appended {
    pod: String,
    /// One for each service.
    writers: Vec<Writer>,
    /// Where each line begins.
    landed: BTreeMap<Line, usize>,
}

fn text(line: Line) -> String {
    format!("line {} of {}\n", line.1, line.0)
}

/// Appends a line with a key, again while others are faster; `None` if the service is gone.
fn append(writer: &Writer, line: Line) -> Option<usize> {
    loop {
        let request = writer.request("POST", "data").header("relay-flush", "now");
        let request = request.header("idempotency-key", format!("{}-{}", line.0, line.1));
        let answer = request.body(text(line)).send().ok()?;
        if answer.status() != 429 {
            assert_eq!(answer.status(), 202, "an append, perhaps again after kill");
            let range = answer.headers()["content-range"].to_str().unwrap();
            let begin = range.trim_start_matches("bytes ").split('-').next().unwrap();
            let begin: usize = begin.parse().unwrap();
            assert_eq!(range, crate::lab::range(begin as u64, text(line).len() as u64));
            return Some(begin);
        }
    }
}

impl Appended {
    pub(super) fn new(fleet: &Fleet, pod: String) -> Self {
        Self { writers: fleet.writers(&pod), pod, landed: BTreeMap::new() }
    }

    pub(super) fn pod(&self) -> &str {
        &self.pod
    }

    /// What a reader is shown: the lines, in the order in which they landed.
    pub(super) fn text(&self) -> String {
        let ordered: BTreeMap<usize, Line> =
            self.landed.iter().map(|(line, at)| (*at, *line)).collect();
        ordered.values().map(|line| text(*line)).collect()
    }

    fn next(&self, thread: usize) -> Line {
        let last = self.landed.range((thread, 0)..(thread + 1, 0)).next_back();
        (thread, last.map_or(0, |(line, _)| line.1 + 1))
    }

    /// Appends until the service is gone. Returns what was acknowledged.
    pub(super) fn append_until_killed(
        &self,
        thread: usize,
        killed: &AtomicBool,
    ) -> Vec<(Line, usize)> {
        let writer = &self.writers[thread % self.writers.len()];
        let mut landed = Vec::new();
        let mut next = self.next(thread);
        while !killed.load(Ordering::Acquire) {
            let Some(begin) = append(writer, next) else { break };
            landed.push((next, begin));
            next.1 += 1;
        }
        landed
    }

    pub(super) fn learn(&mut self, landed: Vec<(Line, usize)>) {
        self.landed.extend(landed);
    }

    /// Repeats the last append of each thread, which may have landed: no line is there twice, none
    /// is missing, and each is where the answer said.
    pub(super) fn check(&mut self, fleet: &Fleet, kill: Kill) {
        for thread in 0..WRITERS {
            let next = self.next(thread);
            let begin = append(&self.writers[kill.alive], next).unwrap();
            self.landed.insert(next, begin);
        }
        let (pod, number) = (&self.pod, kill.number);
        let length: usize = self.landed.keys().map(|line| text(*line).len()).sum();
        let head = self.writers[kill.alive].head();
        assert_eq!(head, (length as u64, String::new()), "{pod}, after kill {number}");
        let all = fleet.read(kill.alive, pod, (0, length));
        for (line, begin) in &self.landed {
            let line = text(*line);
            let found = &all[*begin..begin + line.len()];
            assert_eq!(found, line.as_bytes(), "{pod} at {begin}, after kill {number}");
        }
    }

    pub(super) fn end(&self, alive: usize) {
        let all = self.text();
        assert_eq!(self.writers[alive].end(all.len(), &crc32c(all.as_bytes())).status, 202);
    }
}
