//! Following the parts of a workflow.

use std::{
    io::Read,
    thread,
    time::{Duration, SystemTime},
};

use relay_tests::{on_every_store, on_shared_stores, store::Store};
use serde_json::{Value, json};

use super::{STEP, TRIGGER, body, get, part, step, trigger};
use crate::lab::{Lab, Writer, events, take};

on_every_store! {
    pods_that_come_later_join_a_running_follow,
    the_log_of_a_trigger_is_never_over,
    following_may_begin_before_the_first_byte,
    following_a_step_ends_when_its_streams_have_ended,
    what_is_asked_for_of_a_step_is_waited_for_beside_other_streams,
    the_last_lines_are_followed_by_what_comes_from_any_pod,
    no_line_that_comes_is_left_out_for_one_that_was_not_finished,
    whoever_comes_back_loses_and_repeats_nothing,
}

mod shared {
    use super::*;

    on_shared_stores! {
        pods_that_write_to_another_process_join,
    }

    fn pods_that_write_to_another_process_join(store: &Store) {
        let here = Lab::on(store);
        let there = here.replica();
        part(&here, "a", &trigger()).write(b"here\n");
        let mut answer = get(&here, TRIGGER, "follow=true", &[]);
        assert_eq!(take(&mut answer, 5), b"here\n");
        part(&there, "b", &trigger()).write(b"there\n");
        assert_eq!(take(&mut answer, 6), b"there\n");
    }
}

fn pods_that_come_later_join_a_running_follow(store: &Store) {
    let lab = Lab::on(store);
    let mut first = part(&lab, "a", &trigger());
    first.write(b"first\n");
    let mut answer = get(&lab, TRIGGER, "follow=true", &[]);
    assert_eq!(take(&mut answer, 6), b"first\n");
    for pod in ["b", "c", "d"] {
        let mut writer = part(&lab, pod, &trigger());
        writer.write(b"line\n");
        assert_eq!(take(&mut answer, 5), b"line\n");
        first.write(b"more\n");
        assert_eq!(take(&mut answer, 5), b"more\n");
    }
}

fn the_log_of_a_trigger_is_never_over(store: &Store) {
    let mut lab = Lab::on(store);
    let mut answer = get(&lab, TRIGGER, "follow=true&namespace=local", &[]);
    for pod in ["a", "b"] {
        let mut writer = part(&lab, pod, &trigger());
        writer.write(b"line\n");
        writer.finish();
        assert_eq!(take(&mut answer, 5), b"line\n");
    }
    // All of its streams have ended, and longer ago than followers of a step stay.
    part(&lab, "c", &step()).finish();
    assert_eq!(get(&lab, STEP, "follow=true", &[]).text().unwrap(), "");
    part(&lab, "d", &trigger()).write(b"more\n");
    assert_eq!(take(&mut answer, 5), b"more\n");
    lab.stop();
    answer.read_to_end(&mut Vec::new()).unwrap_err();
}

fn following_may_begin_before_the_first_byte(store: &Store) {
    let lab = Lab::on(store);
    let named = |format: &str| json!({ "workflow": format, "run": "1", "step": "s" });
    // They end some seconds after the streams: so all wait at the same time.
    let readers = ["text", "ndjson", "sse", "raw"].map(|format| {
        let path = format!("/api/workflows/{format}/runs/1/steps/s/logs");
        let query = format!("follow=true&namespace=local&format={format}");
        let url = format!("{}{path}?{query}", lab.service().url());
        let reader =
            thread::spawn(move || crate::lab::client().get(url).send().unwrap().text().unwrap());
        let mut writer = part(&lab, format, &named(format));
        writer.write(b"one\ntwo\n");
        writer.finish();
        reader
    });
    for text in readers.map(|reader| reader.join().unwrap()) {
        assert_eq!((text.matches("one").count(), text.matches("two").count()), (1, 1), "{text}");
    }
}

fn following_a_step_ends_when_its_streams_have_ended(store: &Store) {
    let lab = Lab::on(store);
    let mut writers: Vec<Writer> = ["a", "b"].map(|pod| part(&lab, pod, &step())).into();
    for writer in &mut writers {
        writer.write(b"line\n");
    }
    let mut answer = get(&lab, STEP, "follow=true", &[]);
    assert_eq!(take(&mut answer, 10), b"line\nline\n");
    writers[0].finish();
    writers[1].write(b"more\n");
    assert_eq!(take(&mut answer, 5), b"more\n");
    // A container that starts later joins.
    let mut other = body("a", &step());
    other["container"] = json!("other");
    let mut other = Writer::at(lab.service(), &other).0;
    writers[1].finish();
    other.write(b"late\n");
    assert_eq!(take(&mut answer, 5), b"late\n");
    let begun = SystemTime::now();
    other.finish();
    let mut rest = Vec::new();
    answer.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    // Another might have started: it would have been in time for as long as http-api.md says.
    let waited = begun.elapsed().unwrap();
    assert!(waited > Duration::from_millis(4_900), "{waited:?}");
    // What is over is read to its end at once.
    let again = get(&lab, STEP, "follow=true", &[]).text().unwrap();
    assert_eq!(again.lines().count(), 4, "{again}");
}

fn what_is_asked_for_of_a_step_is_waited_for_beside_other_streams(store: &Store) {
    let lab = Lab::on(store);
    part(&lab, "a", &step()).write(b"other\n");
    for (query, field, value) in [
        ("stream=stderr", "name", "stderr"),
        ("container=second", "container", "second"),
        ("instance=j", "instance", "j"),
    ] {
        let mut answer = get(&lab, STEP, &format!("follow=true&{query}"), &[]);
        let mut named = body("a", &step());
        named[field] = json!(value);
        Writer::at(lab.service(), &named).0.write(b"line\n");
        assert_eq!(take(&mut answer, 5), b"line\n", "{query}");
    }
}

fn the_last_lines_are_followed_by_what_comes_from_any_pod(store: &Store) {
    let lab = Lab::on(store);
    let mut old = part(&lab, "a", &trigger());
    old.write(b"old\n");
    let mut new = part(&lab, "b", &trigger());
    new.write(b"new\n");
    for (query, first) in [("tail=1", &b"new\n"[..]), ("tail=0", b"")] {
        let mut answer = get(&lab, TRIGGER, &format!("follow=true&{query}"), &[]);
        assert_eq!(take(&mut answer, first.len()), first);
        old.write(b"from a\n");
        assert_eq!(take(&mut answer, 7), b"from a\n");
        new.write(b"new\n");
        assert_eq!(take(&mut answer, 4), b"new\n");
    }
}

fn no_line_that_comes_is_left_out_for_one_that_was_not_finished(store: &Store) {
    let lab = Lab::on(store);
    let mut writers = ["a", "b"].map(|pod| part(&lab, pod, &trigger()));
    let time = format!("0={}", super::now());
    for writer in &mut writers {
        writer.write_timed(b"begun ", &time);
    }
    let mut answer = get(&lab, TRIGGER, "follow=true&tail=1", &[]);
    part(&lab, "c", &trigger()).write(b"whole\n");
    assert_eq!(take(&mut answer, 6), b"whole\n");
    for mut writer in writers {
        writer.write(b"ended\n");
        assert_eq!(take(&mut answer, 12), b"begun ended\n");
    }
}

fn whoever_comes_back_loses_and_repeats_nothing(store: &Store) {
    let lab = Lab::on(store);
    let pods = ["a", "b", "c"];
    let mut writers: Vec<Writer> = pods.map(|pod| part(&lab, pod, &step())).into();
    for round in 0..3 {
        for (pod, writer) in pods.iter().zip(&mut writers) {
            writer.write(format!("{pod}{round}\n").as_bytes());
        }
    }
    writers.iter().for_each(Writer::finish);
    let read = |query: &str, last: Option<&str>| {
        let headers: Vec<_> = last.map(|id| ("last-event-id", id)).into_iter().collect();
        events(get(&lab, STEP, &format!("format=sse&{query}"), &headers), usize::MAX)
    };
    let whole = read("", None);
    assert_eq!(whole.len(), 9 + 3, "lines and ends");
    let mut all: Vec<_> = whole.iter().map(|event| event.1.clone()).collect();
    all.sort_unstable();
    for seen in 1..whole.len() {
        for query in ["", "follow=true", "tail=1"] {
            let (id, _) = &whole[seen - 1];
            let rest = read(query, Some(id));
            // Each stream goes on in its order; which comes first may have changed.
            let seen = whole[..seen].iter().chain(&rest);
            let mut data: Vec<_> = seen.map(|event| event.1.clone()).collect();
            data.sort_unstable();
            assert_eq!(data, all, "{query}");
        }
    }
    // The records of a program that counts itself lead to the same place.
    let record: Value = serde_json::from_str(&whole[0].1).unwrap();
    assert!(whole[0].0.len() < 3 * 40, "{record}: a short name for each stream: {}", whole[0].0);
}
