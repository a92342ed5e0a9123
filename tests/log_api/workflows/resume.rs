//! Going on where a reader of events broke off, in the log of several pods.

use std::{
    fs,
    path::{Path, PathBuf},
};

use relay_tests::{on_every_store, service::files, store::Store};
use serde_json::{Value, json};

use super::{STEP, TRIGGER, body, get, now, part, step, trigger};
use crate::lab::{Lab, Writer, events, status};

on_every_store! {
    whoever_comes_back_after_any_of_the_last_lines_loses_and_repeats_nothing,
    whoever_comes_back_after_an_end_between_the_last_lines_loses_and_repeats_nothing,
    the_last_lines_of_what_is_over_are_over_for_whoever_comes_back,
}

/// Reads at most `count` events: their ids and their data.
fn read(lab: &Lab<'_>, path: &str, query: &str, last: &str, count: usize) -> Vec<(String, String)> {
    let headers: Vec<_> =
        Some(("last-event-id", last)).filter(|_| !last.is_empty()).into_iter().collect();
    events(get(lab, path, &format!("format=sse&{query}"), &headers), count)
}

fn data(events: &[(String, String)]) -> Vec<&str> {
    events.iter().map(|event| event.1.as_str()).collect()
}

/// A writer of a stream of a pod of the step.
fn stream(lab: &Lab<'_>, pod: &str, name: &str) -> Writer {
    let mut body = body(pod, &step());
    body["name"] = json!(name);
    Writer::at(lab.service(), &body).0
}

fn whoever_comes_back_after_any_of_the_last_lines_loses_and_repeats_nothing(store: &Store) {
    come_back(store, now() - 5_000);
}

fn whoever_comes_back_after_an_end_between_the_last_lines_loses_and_repeats_nothing(store: &Store) {
    // The clocks of nodes go ahead, so that each stream ends before the next line of another.
    come_back(store, now() + 60_000);
}

/// With lines that were captured from this moment on.
fn come_back(store: &Store, begin: u64) {
    let lab = Lab::on(store);
    let mut writers: Vec<Writer> = ["a", "b", "c", "d"].map(|pod| part(&lab, pod, &step())).into();
    // The last lines of the first pod are newer than those of the second, which has older ones too.
    for (writer, times) in writers.iter_mut().zip([[1, 20], [2, 10], [3, 5], [30, 40]]) {
        for time in times {
            let at = format!("{}={}", writer.position(), begin + time);
            writer.write_timed(format!("at {time}\n").as_bytes(), &at);
        }
    }
    writers[2].finish();
    writers[3].finish();
    for tail in 1..=8 {
        let whole = read(&lab, STEP, &format!("tail={tail}"), "", usize::MAX);
        for seen in 1..whole.len() {
            let rest = read(&lab, STEP, "tail=1", &whole[seen - 1].0, usize::MAX);
            assert_eq!(data(&rest), data(&whole[seen..]), "{seen} of the last {tail}: {whole:?}");
        }
    }
    // What is written meanwhile comes as well, also of a pod that had none of the last lines.
    let last = read(&lab, STEP, "tail=1", "", usize::MAX).pop().unwrap().0;
    writers[0].write(b"new\n");
    let rest = read(&lab, STEP, "", &last, usize::MAX);
    assert!(rest.len() == 1 && rest[0].1.contains("new"), "{rest:?}");
}

fn the_last_lines_of_what_is_over_are_over_for_whoever_comes_back(store: &Store) {
    let lab = Lab::on(store);
    let (mut stdout, mut stderr) = (stream(&lab, "a", "stdout"), stream(&lab, "a", "stderr"));
    stderr.write(b"passed over\n");
    stderr.finish();
    stdout.write(b"old\nlast\n");
    stdout.finish();
    for query in ["tail=1", "tail=1&follow=true"] {
        let whole = read(&lab, STEP, query, "", usize::MAX);
        assert_eq!(whole.len(), 2, "a line and the end: {whole:?}");
        let last = &whole[1].0;
        let answer = get(&lab, STEP, &format!("format=sse&{query}"), &[("last-event-id", last)]);
        assert_eq!(status(answer), (204, String::new()), "an EventSource must not come back");
    }
}

/// A browser keeps the last id that it got.
#[test]
fn an_id_never_outgrows_what_is_taken_back() {
    let lab = Lab::on(&Store::Memory);
    let write = |pods: std::ops::Range<u32>| {
        for pod in pods {
            part(&lab, &format!("p{pod}"), &trigger()).write(b"line\n");
        }
    };
    write(0..400);
    let whole = read(&lab, TRIGGER, "", "", usize::MAX);
    let (last, _) = whole.last().unwrap();
    assert!(whole.len() == 400 && (7_000..8 << 10).contains(&last.len()), "{last}");
    write(400..800);
    for _ in 0..2 {
        let rest = read(&lab, TRIGGER, "", last, usize::MAX);
        assert_eq!(rest.len(), 400);
        let longest = rest.iter().map(|(id, _)| id.len()).max().unwrap();
        assert!(longest <= 8 << 10, "{longest}");
    }
}

/// The entry of a pod's stream in the index of its step.
fn entry(folder: &Path, pod: &str) -> PathBuf {
    let named = format!(r#""pod":"{pod}""#);
    let entries = files(&folder.join("i/local/workflows"), "");
    let is_of = |entry: &PathBuf| fs::read_to_string(entry).unwrap().contains(&named);
    entries.into_iter().find(is_of).unwrap()
}

/// Makes a stream one that was created so many milliseconds earlier.
fn backdate(folder: &Path, pod: &str, millis: u64) {
    let old = entry(folder, pod);
    let mut meta: Value = serde_json::from_slice(&fs::read(&old).unwrap()).unwrap();
    let created = meta["created"].as_u64().unwrap() - millis;
    meta["created"] = json!(created);
    let name = old.file_name().unwrap().to_str().unwrap();
    let (_, rest) = name.split_once('-').unwrap();
    fs::write(old.with_file_name(format!("{created:013}-{rest}")), meta.to_string()).unwrap();
    fs::remove_file(old).unwrap();
}

#[test]
fn a_stream_that_was_created_long_before_the_others_is_not_taken_for_read() {
    let store = Store::files();
    let lab = Lab::on(&store);
    let now = now();
    let (mut early, mut late) = (part(&lab, "early", &step()), part(&lab, "late", &step()));
    late.write_timed(b"first\n", &format!("0={now}"));
    early.write_timed(b"second\n", &format!("0={}", now + 10));
    backdate(store.folder().unwrap(), "early", 60_000);
    let whole = read(&lab, STEP, "tail=2", "", usize::MAX);
    assert_eq!(whole.len(), 2);
    let rest = read(&lab, STEP, "", &whole[0].0, usize::MAX);
    assert_eq!(data(&rest), data(&whole[1..]));
}

#[test]
fn a_stream_that_shows_late_in_the_index_is_new_to_whoever_comes_back() {
    let store = Store::files();
    let (lab, folder) = (Lab::on(&store), store.folder().unwrap());
    part(&lab, "hidden", &step()).write(b"late\n");
    backdate(folder, "hidden", 60_000);
    let (shown, hidden) = (entry(folder, "hidden"), folder.join("hidden"));
    fs::rename(&shown, &hidden).unwrap();
    let mut writer = part(&lab, "a", &step());
    writer.write(b"line\n");
    writer.finish();
    let whole = read(&lab, STEP, "", "", usize::MAX);
    assert_eq!(whole.len(), 2, "a line and the end");
    fs::rename(&hidden, &shown).unwrap();
    let rest = read(&lab, STEP, "", &whole[1].0, usize::MAX);
    assert!(rest.len() == 1 && rest[0].1.contains("late"), "{rest:?}");
}

/// Its entry cannot be read, or leads nowhere.
#[test]
fn an_entry_without_its_stream_holds_nobody_up() {
    let store = Store::files();
    let (lab, folder) = (Lab::on(&store), store.folder().unwrap());
    for pod in ["a", "b"] {
        let mut writer = part(&lab, pod, &step());
        writer.write(b"line\n");
        writer.finish();
    }
    fs::write(entry(folder, "b"), "{").unwrap();
    let whole = read(&lab, STEP, "follow=true", "", usize::MAX);
    assert_eq!(whole.len(), 2, "a line and the end, some seconds after it");
    let told = lab.service().log().matches("an index entry is malformed").count();
    assert!((1..100).contains(&told), "{told} times");
}
