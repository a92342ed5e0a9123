//! Reading what other processes of the service stored in the same place.

use std::time::Duration;

use relay_tests::{on_shared_stores, store::Store, wait::eventually};

use crate::lab::{Lab, take};

on_shared_stores! {
    a_follower_gets_what_another_process_stores,
    of_two_versions_the_one_that_begins_first_is_shown_and_the_conflict_is_told,
    a_long_conflict_is_told_once_and_cuts_no_line_before_its_end,
    a_list_says_what_another_process_stored_and_ended,
    a_follower_whose_service_is_killed_goes_on_elsewhere_where_it_was,
}

fn a_follower_gets_what_another_process_stores(store: &Store) {
    let here = Lab::on(store);
    let there = here.replica();
    let mut answer = here.get("p", "follow=true", &[]);
    let mut writer = there.writer("p", "a", "stdout");
    for line in [&b"one\n"[..], b"two\n", b"three\n"] {
        writer.write(line);
        assert_eq!(take(&mut answer, line.len()), line);
    }
    writer.finish();
    assert_eq!(answer.text().unwrap(), "");
}

fn of_two_versions_the_one_that_begins_first_is_shown_and_the_conflict_is_told(store: &Store) {
    let mut here = Lab::on(store);
    let there = here.replica();
    let (one, other) = (here.writer("p", "a", "stdout"), there.writer("p", "a", "stdout"));
    other.put(9, b"!\n", "");
    one.put(0, b"abcdef", "");
    other.put(3, b"XYZghi", "");
    drop(there);
    here.restart();
    let text = String::from_utf8(here.read("p", "")).unwrap();
    let expected = "abcdef\n[relay: 3 bytes written twice, and differently (3-5)]\nghi!\n";
    assert_eq!(text, expected);
}

fn a_long_conflict_is_told_once_and_cuts_no_line_before_its_end(store: &Store) {
    const MEBIBYTE: usize = 1 << 20;
    let mut here = Lab::on(store);
    let there = here.replica();
    let (one, other) = (here.writer("p", "a", "stdout"), there.writer("p", "a", "stdout"));
    // No line ends where parts of a segment do.
    let lines = (0..MEBIBYTE / 96).map(|line| format!("{line:098}\n"));
    let mut shown = lines.collect::<Vec<_>>().concat();
    shown.truncate(MEBIBYTE - 1);
    shown.push('\n');
    other.put(MEBIBYTE as u64 + 30, b"!\n", "");
    one.put(0, shown.as_bytes(), "");
    other.put(30, "x".repeat(MEBIBYTE).as_bytes(), "");
    drop(there);
    here.restart();
    let remark = "[relay: 1048546 bytes written twice, and differently (30-1048575)]\n";
    let expected = format!("{shown}{remark}{}!\n", "x".repeat(30));
    let text = String::from_utf8(here.read("p", "")).unwrap();
    let remarks = text.matches("[relay:").count();
    assert!(text == expected, "{remarks} remarks, {} bytes: {remark}", text.len());
    // Whoever comes back in its middle is told of the rest, and no more.
    let cursor = "main/stdout@a:500000";
    let rest = here.get("p", "", &[("last-event-id", cursor)]).text().unwrap();
    let (_, expected) = expected.split_at(500_000);
    let expected = expected.replace("1048546", "548576").replace("(30-", "(500000-");
    assert!(rest == expected, "{} bytes: {}", rest.len(), expected.len());
}

fn a_list_says_what_another_process_stored_and_ended(store: &Store) {
    let here = Lab::on(store);
    let there = here.replica();
    let mut writer = there.writer("p", "a", "stdout");
    writer.write(b"one\n");
    let stream = || here.json("/api/namespaces/local/pods/p")["streams"][0].clone();
    assert_eq!(stream()["length"], 4);
    writer.write(b"two\n");
    assert_eq!(stream()["length"], 8);
    writer.finish();
    // The end is found by listing, which is done once a second.
    eventually(Duration::from_secs(30), "the end is listed", || stream()["end"] == "eof");
}

fn a_follower_whose_service_is_killed_goes_on_elsewhere_where_it_was(store: &Store) {
    let here = Lab::on(store);
    let mut there = here.replica();
    let mut writer = there.writer("p", "a", "stdout");
    let line = b"a line of some bytes\n";
    let mut seen = 0;
    for round in 0..4 {
        let lab = if round % 2 == 0 { &there } else { &here };
        let range = format!("bytes={seen}-");
        let mut answer = lab.get("p", "follow=true&format=raw", &[("range", &range)]);
        for _ in 0..5 {
            writer.write(line);
        }
        // It breaks off in the middle of a line.
        let part = line.len() * 5 - 7 - usize::try_from(round).unwrap();
        let left = usize::try_from(writer.position() - seen).unwrap();
        let expected: Vec<u8> = line.repeat(50);
        let from = usize::try_from(seen).unwrap();
        assert_eq!(take(&mut answer, part.min(left)), expected[from..from + part.min(left)]);
        seen += part.min(left) as u64;
        if round % 2 == 0 {
            there.kill();
            there.restart();
            writer = there.continued(writer, ("p", "a", "stdout"));
        }
    }
    writer.finish();
    let range = format!("bytes={seen}-");
    let rest = here.get("p", "follow=true&format=raw", &[("range", &range)]).bytes().unwrap();
    assert_eq!(rest, line.repeat(20)[usize::try_from(seen).unwrap()..]);
}
