//! A stream whose writers say where its bytes belong.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use relay_tests::wait::eventually;
use serde_json::json;

use super::{Fleet, Kill, WRITERS};
use crate::lab::{Writer, crc32c, range};

/// Bytes of a line, so that each says whose it is and where it belongs.
const LINE: usize = 50;
const LINES: usize = 60;
const CHUNK: usize = LINES * LINE;
/// Of so many chunks one is marked as dropped instead of written.
const MARKED: usize = 5;

pub(super) struct Ranged {
    pod: String,
    /// One for each service.
    writers: Vec<Writer>,
    /// Chunks that are known to be there.
    settled: usize,
}

fn is_marked(chunk: usize) -> bool {
    chunk % MARKED == MARKED - 2
}

impl Ranged {
    pub(super) fn new(fleet: &Fleet, pod: String) -> Self {
        Self { writers: fleet.writers(&pod), pod, settled: 0 }
    }

    pub(super) fn pod(&self) -> &str {
        &self.pod
    }

    fn content(&self, chunk: usize) -> String {
        let line = |at| format!("{:<20}{:029}\n", self.pod, chunk * LINES + at);
        (0..LINES).map(line).collect()
    }

    /// What a reader of all chunks up to the last that is settled is shown.
    pub(super) fn text(&self) -> String {
        let chunk = |at: usize| {
            let (first, last) = (at * CHUNK, (at + 1) * CHUNK - 1);
            let remark = || format!("[relay: {CHUNK} bytes dropped ({first}-{last})]\n");
            if is_marked(at) { remark() } else { self.content(at) }
        };
        (0..self.settled).map(chunk).collect()
    }

    /// Sends a chunk; `None` if the service is gone.
    fn send(&self, at: usize, chunk: usize) -> Option<()> {
        let writer = &self.writers[at];
        let range = range((chunk * CHUNK) as u64, CHUNK as u64);
        let request = if is_marked(chunk) {
            let body = json!({ "range": range, "markers": ["dropped"] });
            writer.request("POST", "markers").body(body.to_string())
        } else {
            let request = writer.request("PATCH", "data").header("content-range", range);
            request.header("relay-flush", "now").body(self.content(chunk))
        };
        let answer = request.send().ok()?;
        assert_eq!(answer.status(), 202, "{}", answer.text().unwrap());
        Some(())
    }

    /// Sends every second chunk until the service is gone. Returns those that were acknowledged.
    pub(super) fn send_until_killed(&self, thread: usize, killed: &AtomicBool) -> Vec<usize> {
        let at = thread % self.writers.len();
        let mut acknowledged = Vec::new();
        let mut chunk = self.settled + thread;
        while !killed.load(Ordering::Acquire) && self.send(at, chunk).is_some() {
            acknowledged.push(chunk);
            chunk += WRITERS;
        }
        acknowledged
    }

    /// Sends again only what was not acknowledged: the rest must be there, at every service.
    pub(super) fn check(&mut self, fleet: &Fleet, acknowledged: &[usize], kill: Kill) {
        let last = acknowledged.iter().max().map_or(self.settled, |chunk| chunk + 1);
        for chunk in (self.settled..last).filter(|chunk| !acknowledged.contains(chunk)) {
            self.send(kill.alive, chunk).unwrap();
        }
        for (at, writer) in self.writers.iter().enumerate() {
            let there = || writer.head().0 >= (last * CHUNK) as u64;
            let what = format!("{} is there after kill {}", self.pod, kill.number);
            if self.writers.len() == 1 {
                assert!(there(), "not all of {what}");
            } else {
                // What another process stored is looked for once a second.
                eventually(Duration::from_secs(30), &what, there);
            }
            let chunks: Vec<usize> = (self.settled..last).filter(|at| !is_marked(*at)).collect();
            for run in chunks.chunk_by(|one, next| one + 1 == *next) {
                let (from, to) = (run[0] * CHUNK, (run[run.len() - 1] + 1) * CHUNK);
                let found = fleet.read(at, &self.pod, (from, to));
                let expected: String = run.iter().map(|chunk| self.content(*chunk)).collect();
                assert!(found == expected.as_bytes(), "{} after kill {}", self.pod, kill.number);
            }
        }
        self.settled = last;
    }

    pub(super) fn end(&mut self, alive: usize) {
        // What follows the last chunk that is settled may be there or not.
        let last = self.settled + 2 * WRITERS;
        (self.settled..last).for_each(|chunk| self.send(alive, chunk).unwrap());
        self.settled = last;
        let all = (0..last).filter(|chunk| !is_marked(*chunk));
        let all: String = all.map(|chunk| self.content(chunk)).collect();
        assert_eq!(self.writers[alive].end(last * CHUNK, &crc32c(all.as_bytes())).status, 202);
    }
}
