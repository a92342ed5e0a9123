//! Following.

use std::{io::Read, thread};

use relay_tests::{on_every_store, store::Store};

use crate::lab::{Lab, take};

on_every_store! {
    following_may_begin_before_the_first_byte_and_ends_with_the_log,
    each_line_comes_when_it_is_durable_and_both_streams_are_followed,
    no_line_that_comes_is_left_out_for_one_that_was_not_finished,
    a_new_run_of_the_container_joins,
    a_hole_that_is_filled_in_time_is_never_seen,
    a_slow_follower_loses_nothing_and_holds_up_nobody,
    a_service_that_stops_breaks_its_followers_off_at_once_and_never_ends_their_log,
}

fn following_may_begin_before_the_first_byte_and_ends_with_the_log(store: &Store) {
    let lab = Lab::on(store);
    for query in ["follow=true", "follow=true&format=ndjson", "follow=true&format=sse"] {
        let pod = format!("p{}", query.len());
        let answer = lab.get(&pod, query, &[]);
        assert_eq!(answer.status(), 200, "the answer begins at once");
        let reader = thread::spawn(move || answer.text().unwrap());
        let mut writer = lab.writer(&pod, "a", "stdout");
        for line in ["one\n", "two\n", "three\n"] {
            writer.write(line.as_bytes());
        }
        writer.finish();
        let text = reader.join().unwrap();
        for line in ["one", "two", "three"] {
            assert_eq!(text.matches(line).count(), 1, "{text}");
        }
    }
}

fn each_line_comes_when_it_is_durable_and_both_streams_are_followed(store: &Store) {
    let lab = Lab::on(store);
    let mut stdout = lab.writer("p", "a", "stdout");
    let mut stderr = lab.writer("p", "a", "stderr");
    stdout.write(b"begun\n");
    let mut answer = lab.get("p", "follow=true&tail=1", &[]);
    assert_eq!(take(&mut answer, 6), b"begun\n");
    for _ in 0..5 {
        stdout.write(b"out\n");
        assert_eq!(take(&mut answer, 4), b"out\n");
        stderr.write(b"err\n");
        assert_eq!(take(&mut answer, 4), b"err\n");
    }
    stdout.finish();
    stderr.finish();
    let mut rest = Vec::new();
    answer.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

fn no_line_that_comes_is_left_out_for_one_that_was_not_finished(store: &Store) {
    let lab = Lab::on(store);
    let mut writers = ["stdout", "stderr"].map(|name| lab.writer("p", "a", name));
    for writer in &mut writers {
        writer.write(b"begun ");
    }
    let mut answer = lab.get("p", "follow=true&tail=1", &[]);
    for mut writer in writers {
        writer.write(b"ended\n");
        writer.finish();
    }
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "begun ended\nbegun ended\n");
}

fn a_new_run_of_the_container_joins(store: &Store) {
    let lab = Lab::on(store);
    let mut first = lab.writer("p", "r1", "stdout");
    first.write(b"first\n");
    let mut answer = lab.get("p", "follow=true", &[]);
    assert_eq!(take(&mut answer, 6), b"first\n");
    let mut second = lab.writer("p", "r2", "stdout");
    second.write(b"second\n");
    assert_eq!(take(&mut answer, 7), b"second\n");
    second.finish();
    let mut rest = Vec::new();
    answer.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "the first run has no end, and was silent since the second began");
}

fn a_hole_that_is_filled_in_time_is_never_seen(store: &Store) {
    let lab = Lab::on(store);
    let mut writer = lab.writer("p", "a", "stdout");
    writer.write(b"one\n");
    writer.skip(4);
    writer.write(b"three\n");
    for query in ["follow=true", "follow=true&format=raw"] {
        let mut answer = lab.get("p", query, &[]);
        assert_eq!(take(&mut answer, 4), b"one\n");
        if query.ends_with("raw") {
            assert_eq!(take(&mut answer, 10), b"two\nthree\n");
        } else {
            writer.put(4, b"two\n", "");
            assert_eq!(take(&mut answer, 10), b"two\nthree\n");
        }
    }
}

fn a_slow_follower_loses_nothing_and_holds_up_nobody(store: &Store) {
    let lab = Lab::on(store);
    let mut writer = lab.writer("p", "a", "stdout");
    let mut answer = lab.get("p", "follow=true", &[]);
    let line = b"a line that nobody reads yet, of a length that is not a power of two\n";
    let chunk = line.repeat(10_000);
    // Far more than the sockets hold, while nothing is read.
    for _ in 0..20 {
        writer.write(&chunk);
    }
    let written = usize::try_from(writer.position()).unwrap();
    let taken = take(&mut answer, written);
    assert!(taken.chunks(line.len()).all(|one| one == line));
    drop(answer);
}

fn a_service_that_stops_breaks_its_followers_off_at_once_and_never_ends_their_log(store: &Store) {
    let mut lab = Lab::on(store);
    let mut writer = lab.writer("p", "a", "stdout");
    writer.write(b"begun\n");
    let forms = ["", "&format=raw", "&format=ndjson", "&format=sse"];
    let mut answers: Vec<_> =
        forms.map(|form| lab.get("p", &format!("follow=true{form}"), &[])).into();
    assert_eq!(take(&mut answers[0], 6), b"begun\n");
    let early = lab.get("nobody", "follow=true", &[]);
    let log = lab.stop();
    // It waits 10 s for requests that do not end by themselves, and says so.
    assert!(!log.contains("did not end in time"), "{log}");
    for mut answer in answers.into_iter().chain([early]) {
        answer.read_to_end(&mut Vec::new()).unwrap_err();
    }
}
