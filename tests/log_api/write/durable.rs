use std::{fs, thread};

use relay_tests::{
    on_shared_stores,
    service::{Service, files},
    store::Store,
};
use serde_json::json;

use crate::lab::{Writer, crc32c, metric, named};

on_shared_stores! {
    acknowledged_bytes_survive_a_kill_and_the_rest_can_be_sent_again,
    a_hole_may_be_filled_after_the_end_by_a_service_that_was_restarted,
}

fn acknowledged_bytes_survive_a_kill_and_the_rest_can_be_sent_again(store: &Store) {
    let body = named("i");
    let content: Vec<u8> = (0..2_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    let chunk = 50_000;
    let sent = |at: usize| format!("bytes {}-{}/*", at, at + chunk - 1);
    let service = store.service();
    let (writer, _) = Writer::at(&service, &body);
    let half = content.len() / 2;
    thread::scope(|scope| {
        for at in (0..half).step_by(chunk) {
            let (writer, content) = (&writer, &content);
            scope.spawn(move || {
                assert_eq!(writer.patch(&sent(at), &content[at..at + chunk]).status, 202);
            });
        }
    });
    service.kill();
    let service = store.service();
    let (writer, created) = Writer::at(&service, &body);
    assert!(!created);
    assert_eq!(writer.head(), (half as u64, String::new()));
    for at in (half - 3 * chunk..content.len()).step_by(chunk) {
        assert_eq!(writer.patch(&sent(at), &content[at..at + chunk]).status, 202);
    }
    assert_eq!(writer.end(content.len(), &crc32c(&content)).status, 202);
}

fn a_hole_may_be_filled_after_the_end_by_a_service_that_was_restarted(store: &Store) {
    let body = named("i");
    let content = b"hello world";
    let service = store.service();
    let (writer, _) = Writer::at(&service, &body);
    writer.patch("bytes 0-4/*", b"hello");
    assert_eq!(writer.end(11, &crc32c(content)).header("relay-gaps"), "5-10");
    drop(service);
    let service = store.service();
    let (writer, created) = Writer::at(&service, &body);
    assert!(!created);
    assert_eq!(writer.head(), (5, "5-10".to_owned()));
    assert_eq!(writer.end(12, &crc32c(content)).status, 409);
    assert_eq!(writer.patch("bytes 8-11/*", b"rld!").status, 409, "past the end");
    assert_eq!(writer.patch("bytes 5-10/*", b" world").status, 202);
    assert_eq!(writer.patch("bytes 5-10/*", b" world").status, 202, "repeated");
    assert_eq!(writer.end(11, &crc32c(content)).status, 202);
    assert_eq!(writer.head(), (11, String::new()));
    assert_eq!(metric(&service, "checksum_mismatches_total"), 0);
}

#[test]
fn a_stop_stores_what_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::on_folder(folder.path());
    let writer = Writer::new(&service);
    assert_eq!(writer.patch("bytes 0-0/*", b"a").status, 202);
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            let request = writer.request("PATCH", "data").header("content-range", "bytes 1-1/*");
            request.body("b").send().unwrap().status().as_u16()
        });
        relay_tests::wait::eventually(std::time::Duration::from_secs(10), "b is held", || {
            let metrics = crate::lab::client().get(format!("{}/metrics", service.url()));
            let text = metrics.send().unwrap().text().unwrap();
            !text.contains("held_bytes 0\n")
        });
        let log = service.stop();
        assert!(log.contains("stopped"), "{log}");
        assert_eq!(held.join().unwrap(), 202);
    });
    assert_eq!(files(folder.path(), "/d/").len(), 2);
}

#[test]
fn a_corrupt_segment_is_never_taken_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let body = named("i");
    let service = Service::on_folder(folder.path());
    let (writer, _) = Writer::at(&service, &body);
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 202);
    service.kill();
    let segment = files(folder.path(), "/d/").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();
    let service = Service::on_folder(folder.path());
    let (writer, _) = Writer::at(&service, &body);
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 503);
    assert!(service.log().contains("a segment is corrupt"));
}

#[test]
fn zstd_reads_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::on_folder(folder.path());
    let content = b"a line\n".repeat(100_000);
    let writer = Writer::new(&service);
    let range = format!("bytes 0-{}/*", content.len() - 1);
    assert_eq!(writer.patch(&range, &content).status, 202);
    let segment = files(folder.path(), "/d/").pop().unwrap();
    let output = std::process::Command::new("zstd").args(["-dcq"]).arg(segment).output();
    assert_eq!(output.expect("the program zstd is installed").stdout, content);
}

#[test]
fn readers_are_told_of_a_segment_whose_header_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let body = named("i");
    let service = Service::on_folder(folder.path());
    let (writer, _) = Writer::at(&service, &body);
    for (range, line) in [("bytes 0-2/*", "ab\n"), ("bytes 3-5/*", "cd\n"), ("bytes 6-8/*", "ef\n")]
    {
        assert_eq!(writer.patch(range, line.as_bytes()).status, 202);
    }
    drop(service);
    let segment = files(folder.path(), "/d/0000000000000003").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[20] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let service = Service::on_folder(folder.path());
    let url = format!("{}/api/namespaces/local/pods/p/logs?format=ndjson", service.url());
    let text = crate::lab::client().get(url).send().unwrap().text().unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<serde_json::Value> = records.collect();
    let shown = |at: usize| (&records[at]["offset"], &records[at]["length"], &records[at]["text"]);
    assert_eq!(shown(0), (&json!(0), &json!(3), &json!("ab\n")), "{text}");
    assert_eq!(shown(1), (&json!(3), &json!(3), &json!(null)), "{text}");
    assert_eq!(records[1]["marker"]["kind"], "corrupt");
    assert_eq!(shown(2), (&json!(6), &json!(3), &json!("ef\n")), "{text}");
    // Nobody can tell any more whether the checksum is right.
    let (writer, _) = Writer::at(&service, &body);
    assert_eq!(writer.end(9, &crc32c(b"ab\ncd\nef\n")).status, 202);
    assert_ne!(writer.patch("bytes 3-5/*", b"cd\n").status, 202, "it cannot be compared");
}

#[test]
fn a_stream_completed_after_its_end_is_checked_late() {
    let service = Service::in_memory();
    for (crc, mismatches) in [(crc32c(b"hello!"), 0), (crc32c(b"jello!"), 1)] {
        let writer = Writer::new(&service);
        writer.patch("bytes 0-1/*", b"he");
        assert_eq!(writer.end(6, &crc).header("relay-gaps"), "2-5");
        assert_eq!(writer.patch("bytes 2-2/*", b"l").status, 202);
        assert_eq!(writer.patch("bytes 3-5/*", b"lo!").status, 202);
        relay_tests::wait::eventually(std::time::Duration::from_secs(5), "it is checked", || {
            metric(&service, "checksum_mismatches_total") == mismatches
        });
        assert_eq!(service.log().matches("differs from its checksum").count() as u64, mismatches);
    }
}
