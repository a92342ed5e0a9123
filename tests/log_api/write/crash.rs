//! A journal of what was acknowledged, against what is there after kill -9.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use relay_tests::{program::is_long_run, service::Service, wait::eventually};
use serde_json::json;
use tempfile::TempDir;

use crate::lab::{Writer, client, crc32c, range};

const CHUNK: usize = 3_000;
/// Threads that write one stream at the same time.
const WRITERS: usize = 2;
/// Of so many chunks one is marked as dropped instead of written.
const MARKED: usize = 5;

/// Services on one folder. Their key outlives them, and so do the ids of streams.
struct Fleet {
    services: Vec<Service>,
    _folders: [TempDir; 2],
}

/// A stream that is written by range, and the chunks that are known to be there.
struct Ranged {
    pod: String,
    /// One for each service.
    writers: Vec<Writer>,
    settled: usize,
}

/// A stream that is appended to: who appended which line, and where it is.
struct Appended {
    writers: Vec<Writer>,
    landed: BTreeMap<(usize, usize), String>,
}

impl Fleet {
    fn new(count: usize) -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let store = format!("file://{}", folders[0].path().display());
        std::fs::write(folders[1].path().join("1.key"), [1; 32]).unwrap();
        let keys = folders[1].path().display().to_string();
        let flags = ["--store", &store, "--key-dir", &keys];
        let services = (0..count).map(|_| Service::with(&flags)).collect();
        Self { services, _folders: folders }
    }

    fn writers(&self, pod: &str) -> Vec<Writer> {
        let body = json!({ "name": "stdout", "pod": pod, "instance": "i", "writer": "w" });
        self.services.iter().map(|service| Writer::at(service, &body).0).collect()
    }

    fn read(&self, at: usize, pod: &str, range: (usize, usize)) -> Vec<u8> {
        let (from, to) = range;
        if from == to {
            return Vec::new();
        }
        let url = self.services[at].url();
        let url = format!("{url}/api/namespaces/local/pods/{pod}/logs?format=raw");
        let request = client().get(url).header("range", format!("bytes={from}-{}", to - 1));
        let answer = request.send().unwrap();
        assert_eq!(answer.status(), 206, "{pod} {from}-{to}");
        answer.bytes().unwrap().to_vec()
    }
}

/// Byte of the log at each offset, without keeping the log.
fn content(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

fn is_marked(chunk: usize) -> bool {
    chunk % MARKED == MARKED - 2
}

/// Sends a chunk; `None` if the service is gone.
fn send(writer: &Writer, chunk: usize) -> Option<()> {
    let (start, length) = ((chunk * CHUNK) as u64, CHUNK as u64);
    let request = if is_marked(chunk) {
        let body = json!({ "range": range(start, length), "markers": ["dropped"] });
        writer.request("POST", "markers").body(body.to_string())
    } else {
        let request = writer.request("PATCH", "data").header("content-range", range(start, length));
        request.header("relay-flush", "now").body(content(chunk * CHUNK, CHUNK))
    };
    let answer = request.send().ok()?;
    assert_eq!(answer.status(), 202, "{}", answer.text().unwrap());
    Some(())
}

impl Ranged {
    /// Sends every second chunk until the service is gone. Returns those that were acknowledged.
    fn send_until_killed(&self, thread: usize, killed: &AtomicBool) -> Vec<usize> {
        let writer = &self.writers[thread % self.writers.len()];
        let mut acknowledged = Vec::new();
        let mut chunk = self.settled + thread;
        while !killed.load(Ordering::Acquire) && send(writer, chunk).is_some() {
            acknowledged.push(chunk);
            chunk += WRITERS;
        }
        acknowledged
    }

    /// Sends again only what was not acknowledged: the rest must be there, at every service.
    fn check(&mut self, fleet: &Fleet, acknowledged: &[usize], (kill, alive): (usize, usize)) {
        let last = acknowledged.iter().max().map_or(self.settled, |chunk| chunk + 1);
        for chunk in (self.settled..last).filter(|chunk| !acknowledged.contains(chunk)) {
            send(&self.writers[alive], chunk).unwrap();
        }
        for (at, writer) in self.writers.iter().enumerate() {
            let there = || writer.head().0 >= (last * CHUNK) as u64;
            let what = format!("{} is there after kill {kill}", self.pod);
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
                assert!(found == content(from, to - from), "{} after kill {kill}", self.pod);
            }
        }
        self.settled = last;
    }

    fn end(&self) {
        // What follows the last chunk that is settled may be there or not.
        let last = self.settled + 2 * WRITERS;
        (self.settled..last).for_each(|chunk| send(&self.writers[0], chunk).unwrap());
        let all: Vec<usize> = (0..last).filter(|chunk| !is_marked(*chunk)).collect();
        let all: Vec<u8> = all.iter().flat_map(|chunk| content(chunk * CHUNK, CHUNK)).collect();
        assert_eq!(self.writers[0].end(last * CHUNK, &crc32c(&all)).status, 202);
    }
}

/// Appends a line with a key, again while others are faster; `None` if the service is gone.
fn append(writer: &Writer, (thread, number): (usize, usize)) -> Option<String> {
    loop {
        let request = writer.request("POST", "data").header("relay-flush", "now");
        let request = request.header("idempotency-key", format!("{thread}-{number}"));
        let answer = request.body(line(thread, number)).send().ok()?;
        if answer.status() != 429 {
            assert_eq!(answer.status(), 202, "an append, perhaps again after kill");
            return Some(answer.headers()["content-range"].to_str().unwrap().to_owned());
        }
    }
}

fn line(thread: usize, number: usize) -> String {
    format!("line {number} of {thread}\n")
}

impl Appended {
    fn next(&self, thread: usize) -> usize {
        self.landed.range((thread, 0)..(thread + 1, 0)).next_back().map_or(0, |last| last.0.1 + 1)
    }

    /// Appends until the service is gone.
    fn append_until_killed(
        &self,
        thread: usize,
        killed: &AtomicBool,
    ) -> Vec<((usize, usize), String)> {
        let writer = &self.writers[thread % self.writers.len()];
        let mut landed = Vec::new();
        let mut next = (thread, self.next(thread));
        while !killed.load(Ordering::Acquire) {
            let Some(range) = append(writer, next) else { break };
            landed.push((next, range));
            next.1 += 1;
        }
        landed
    }

    /// Repeats the last append of each thread, which may have landed: no line is there twice, none
    /// is missing, and each is where the answer said.
    fn check(&mut self, fleet: &Fleet, (kill, alive): (usize, usize)) {
        for thread in 0..WRITERS {
            let next = (thread, self.next(thread));
            let range = append(&self.writers[alive], next).unwrap();
            self.landed.insert(next, range);
        }
        let length: usize = self.landed.keys().map(|key| line(key.0, key.1).len()).sum();
        let head = self.writers[alive].head();
        assert_eq!(head, (length as u64, String::new()), "appended, after kill {kill}");
        let all = fleet.read(alive, "appended", (0, length));
        for ((thread, number), range) in &self.landed {
            let (first, last) =
                range.trim_start_matches("bytes ").trim_end_matches("/*").split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(
                &all[first..=last],
                line(*thread, *number).as_bytes(),
                "{range} after kill {kill}"
            );
        }
    }
}

/// Kills one of the services again and again, while all of them are written to.
fn survive(kills: usize, replicas: usize) {
    let mut fleet = Fleet::new(replicas);
    let mut ranged: Vec<Ranged> = (0..2)
        .map(|number| {
            let pod = format!("ranged-{number}");
            Ranged { writers: fleet.writers(&pod), pod, settled: 0 }
        })
        .collect();
    let mut appended = Appended { writers: fleet.writers("appended"), landed: BTreeMap::new() };
    for kill in 0..kills {
        let killed = AtomicBool::new(false);
        let victim = kill % replicas;
        let (acknowledged, landed) = thread::scope(|scope| {
            let killed = &killed;
            let (ranged, appended) = (&ranged, &appended);
            let sending: Vec<Vec<_>> = ranged
                .iter()
                .map(|stream| {
                    let begin = |at| scope.spawn(move || stream.send_until_killed(at, killed));
                    (0..WRITERS).map(begin).collect()
                })
                .collect();
            let begin = |at| scope.spawn(move || appended.append_until_killed(at, killed));
            let appending: Vec<_> = (0..WRITERS).map(begin).collect();
            // Another moment each time: from before the first answer to some tens of them.
            let moment = u64::try_from(kill * 37 % 151).unwrap();
            thread::park_timeout(Duration::from_millis(moment));
            fleet.services[victim].kill_9();
            killed.store(true, Ordering::Release);
            let join = |all: Vec<thread::ScopedJoinHandle<'_, Vec<usize>>>| {
                all.into_iter().flat_map(|one| one.join().unwrap()).collect::<Vec<_>>()
            };
            let acknowledged: Vec<Vec<usize>> = sending.into_iter().map(join).collect();
            let landed = appending.into_iter().flat_map(|one| one.join().unwrap());
            (acknowledged, landed.collect::<Vec<_>>())
        });
        appended.landed.extend(landed);
        // With another service alive, writers go on there before this one is back.
        let alive = (victim + 1) % replicas;
        if replicas > 1 {
            appended.check(&fleet, (kill, alive));
        }
        fleet.services[victim].restart();
        for (stream, acknowledged) in ranged.iter_mut().zip(&acknowledged) {
            stream.check(&fleet, acknowledged, (kill, alive));
        }
        appended.check(&fleet, (kill, alive));
    }
    ranged.iter().for_each(Ranged::end);
}

#[test]
fn every_acknowledged_byte_is_there_after_each_of_many_kills() {
    survive(if is_long_run() { 700 } else { 70 }, 1);
}

#[test]
fn every_acknowledged_byte_is_there_after_one_of_two_replicas_is_killed_many_times() {
    survive(if is_long_run() { 300 } else { 30 }, 2);
}
