//! A journal of what was acknowledged, against what is there after kill -9.

mod appended;
mod ranged;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use relay_tests::{program::is_long_run, service::Service};
use serde_json::json;
use tempfile::TempDir;

use self::{appended::Appended, ranged::Ranged};
use crate::lab::{Writer, client};

/// Threads that write one stream at the same time.
const WRITERS: usize = 2;
/// Kills that a stream lives through before it ends and a new one takes its place. After each kill a
/// service opens it as a whole, so the cost of one stream grows with the square of its kills.
const LIFE: usize = 10;

/// Services on one folder. Their key outlives them, and so do the ids of streams.
struct Fleet {
    services: Vec<Service>,
    _folders: [TempDir; 2],
}

/// Which kill it is, and the service that takes what comes behind it.
#[derive(Clone, Copy)]
struct Kill {
    number: usize,
    victim: usize,
    alive: usize,
}

/// The streams that are written at the same time, and all that is known of them.
struct Streams {
    ranged: Vec<Ranged>,
    appended: Appended,
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

    /// The exact bytes of a range.
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

    /// The whole log of a pod is this text, markers and all.
    fn check_whole(&self, at: usize, pod: &str, expected: &str, when: &str) {
        let url = format!("{}/api/namespaces/local/pods/{pod}/logs", self.services[at].url());
        let text = client().get(url).send().unwrap().text().unwrap();
        let differs = || text.lines().zip(expected.lines()).find(|(one, other)| one != other);
        assert!(text == expected, "{pod} as a whole {when}, beginning with {:?}", differs());
    }
}

impl Streams {
    fn new(fleet: &Fleet, number: usize) -> Self {
        let ranged = (0..2).map(|at| Ranged::new(fleet, format!("ranged-{at}-{number}")));
        Self {
            ranged: ranged.collect(),
            appended: Appended::new(fleet, format!("appended-{number}")),
        }
    }

    /// Writes until `kill` has killed a service. Returns the chunks of each ranged stream that were
    /// acknowledged; the appended one remembers its own.
    fn write_until(&mut self, kill: impl FnOnce()) -> Vec<Vec<usize>> {
        let killed = AtomicBool::new(false);
        let (acknowledged, landed) = thread::scope(|scope| {
            let killed = &killed;
            let (ranged, appended) = (&self.ranged, &self.appended);
            let sending: Vec<Vec<_>> = ranged
                .iter()
                .map(|stream| {
                    let begin = |at| scope.spawn(move || stream.send_until_killed(at, killed));
                    (0..WRITERS).map(begin).collect()
                })
                .collect();
            let begin = |at| scope.spawn(move || appended.append_until_killed(at, killed));
            let appending: Vec<_> = (0..WRITERS).map(begin).collect();
            kill();
            killed.store(true, Ordering::Release);
            let join = |all: Vec<thread::ScopedJoinHandle<'_, Vec<usize>>>| {
                all.into_iter().flat_map(|one| one.join().unwrap()).collect::<Vec<_>>()
            };
            let acknowledged: Vec<Vec<usize>> = sending.into_iter().map(join).collect();
            let landed = appending.into_iter().flat_map(|one| one.join().unwrap());
            (acknowledged, landed.collect::<Vec<_>>())
        });
        self.appended.learn(landed);
        acknowledged
    }

    /// Ends each, which compares its checksum, and reads it.
    fn end(&mut self, fleet: &Fleet, alive: usize) {
        self.ranged.iter_mut().for_each(|stream| stream.end(alive));
        self.appended.end(alive);
        self.check_whole(fleet, alive, "at its end");
    }

    fn check_whole(&self, fleet: &Fleet, at: usize, when: &str) {
        for stream in &self.ranged {
            fleet.check_whole(at, stream.pod(), &stream.text(), when);
        }
        fleet.check_whole(at, self.appended.pod(), &self.appended.text(), when);
    }
}

/// Kills one of the services again and again, while all of them are written to.
fn survive(kills: usize, replicas: usize) {
    let mut fleet = Fleet::new(replicas);
    let mut journal: Vec<Streams> = Vec::new();
    for number in 0..kills {
        if number % LIFE == 0 {
            journal.push(Streams::new(&fleet, number));
        }
        let streams = journal.last_mut().unwrap();
        let victim = number % replicas;
        let kill = Kill { number, victim, alive: (victim + 1) % replicas };
        let acknowledged = streams.write_until(|| {
            // Another moment each time: from before the first answer to some tens of them.
            let moment = u64::try_from(number * 37 % 151).unwrap();
            thread::park_timeout(Duration::from_millis(moment));
            fleet.services[victim].kill_9();
        });
        // With another service alive, writers go on there before this one is back.
        if replicas > 1 {
            streams.appended.check(&fleet, kill);
        }
        fleet.services[kill.victim].restart();
        for (stream, acknowledged) in streams.ranged.iter_mut().zip(&acknowledged) {
            stream.check(&fleet, acknowledged, kill);
        }
        streams.appended.check(&fleet, kill);
        if (number + 1) % LIFE == 0 || number + 1 == kills {
            streams.end(&fleet, kill.alive);
        }
    }
    // Later kills took nothing from the streams that had ended before them.
    fleet.services.iter_mut().for_each(Service::kill_9);
    fleet.services.iter_mut().for_each(Service::restart);
    for at in 0..replicas {
        for streams in &journal {
            streams.check_whole(&fleet, at, "after all kills");
        }
    }
}

#[test]
fn every_acknowledged_byte_is_there_after_each_of_many_kills() {
    survive(if is_long_run() { 700 } else { 70 }, 1);
}

#[test]
fn every_acknowledged_byte_is_there_after_one_of_two_replicas_is_killed_many_times() {
    survive(if is_long_run() { 300 } else { 30 }, 2);
}
