//! A journal of what was acknowledged, against what is there after kill -9.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use relay_tests::{program::is_long_run, service::Service};
use serde_json::json;

use crate::lab::{Writer, client, crc32c};

const CHUNK: usize = 3_000;
const WRITERS: usize = 4;

/// Byte of the log at each offset, without keeping the log.
fn content(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

/// Sends chunk after chunk until the service is gone. Returns the first bytes of those acknowledged.
fn send_until_killed(writer: &Writer, from: usize, killed: &AtomicBool) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    let mut at = from;
    while !killed.load(Ordering::Acquire) {
        let range = format!("bytes {at}-{}/*", at + CHUNK - 1);
        let request = writer.request("PATCH", "data").header("content-range", range);
        let sent = request.header("relay-flush", "now").body(content(at, CHUNK)).send();
        let Ok(answer) = sent else { break };
        assert_eq!(answer.status(), 202);
        acknowledged.push(at);
        at += WRITERS * CHUNK;
    }
    acknowledged
}

fn read(service: &Service, from: usize, to: usize) -> Vec<u8> {
    if from == to {
        return Vec::new();
    }
    let url = format!("{}/api/namespaces/local/pods/p/logs?format=raw", service.url());
    let range = format!("bytes={from}-{}", to - 1);
    client().get(url).header("range", range).send().unwrap().bytes().unwrap().to_vec()
}

#[test]
fn every_acknowledged_byte_is_there_after_each_of_many_kills() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().display());
    let keys = tempfile::tempdir().unwrap();
    std::fs::write(keys.path().join("1.key"), [1; 32]).unwrap();
    let keys = keys.path().display().to_string();
    let mut service = Service::with(&["--store", &store, "--key-dir", &keys]);
    let body = json!({ "name": "stdout", "pod": "p", "instance": "i", "writer": "w" });
    // The key outlives the process, so the id does too.
    let (writer, _) = Writer::at(&service, &body);
    let mut end = 0;
    for kill in 0..if is_long_run() { 200 } else { 20 } {
        let killed = AtomicBool::new(false);
        let acknowledged: Vec<usize> = thread::scope(|scope| {
            let begin = |at| {
                let (writer, killed) = (&writer, &killed);
                scope.spawn(move || send_until_killed(writer, end + at * CHUNK, killed))
            };
            let sending: Vec<_> = (0..WRITERS).map(begin).collect();
            // Another moment each time: from before the first answer to some tens of them.
            thread::park_timeout(Duration::from_millis(kill * 37 % 151));
            service.kill_9();
            killed.store(true, Ordering::Release);
            sending.into_iter().flat_map(|one| one.join().unwrap()).collect()
        });
        service.restart();
        let last = acknowledged.iter().max().map_or(end, |at| at + CHUNK);
        // Only what was not acknowledged is sent again: the rest must be there.
        for at in (end..last).step_by(CHUNK).filter(|at| !acknowledged.contains(at)) {
            let range = format!("bytes {at}-{}/*", at + CHUNK - 1);
            assert_eq!(writer.patch(&range, &content(at, CHUNK)).status, 202);
        }
        assert!(writer.head().0 >= last as u64);
        assert!(read(&service, end, last) == content(end, last - end), "after kill {kill}");
        end = last;
    }
    // Chunks after the last acknowledged one may be there or not.
    let length = usize::try_from(writer.head().0).unwrap().max(end + WRITERS * CHUNK);
    for at in (end..length).step_by(CHUNK) {
        let range = format!("bytes {at}-{}/*", at + CHUNK - 1);
        assert_eq!(writer.patch(&range, &content(at, CHUNK)).status, 202);
    }
    assert_eq!(writer.end(length, &crc32c(&content(0, length))).status, 202);
}
