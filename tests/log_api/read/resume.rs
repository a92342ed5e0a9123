//! Going on where a reader of events broke off.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails by a panic")]

use relay_tests::{on_every_store, store::Store};

use crate::lab::{Lab, events, status};

on_every_store! {
    whoever_comes_back_after_any_event_loses_and_repeats_nothing,
    a_follower_that_comes_back_gets_what_was_written_meanwhile,
}

/// Reads at most `count` events after one: their ids and their data.
fn events_after(
    lab: &Lab<'_>,
    query: &str,
    last: Option<&str>,
    count: usize,
) -> Vec<(String, String)> {
    let headers: Vec<(&str, &str)> = last.map(|id| ("last-event-id", id)).into_iter().collect();
    let answer = lab.get("p", &format!("format=sse&{query}"), &headers);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    events(answer, count)
}

fn whoever_comes_back_after_any_event_loses_and_repeats_nothing(store: &Store) {
    let lab = Lab::on(store);
    let mut stdout = lab.writer("p", "a", "stdout");
    let mut stderr = lab.writer("p", "a", "stderr");
    stdout.write_timed(b"1\n3\n5\n", "0=1000,2=3000,4=5000");
    stderr.write_timed(b"2\n4\n", "0=2000,2=4000");
    stdout.drop_bytes(3);
    stdout.write_timed(b"6", "9=6000");
    stdout.finish();
    stderr.finish();
    let whole = events_after(&lab, "", None, usize::MAX);
    assert_eq!(whole.len(), 6 + 1 + 2, "lines, a marker and two ends");
    for read in 1..whole.len() {
        for query in ["", "follow=true", "tail=1"] {
            let rest = events_after(&lab, query, Some(&whole[read - 1].0), usize::MAX);
            let data = |events: &[(String, String)]| -> Vec<String> {
                events.iter().map(|event| event.1.clone()).collect()
            };
            assert_eq!(data(&rest), data(&whole[read..]), "after {read} events, {query}");
        }
    }
    let (last, _) = whole.last().unwrap();
    for query in ["format=sse", "format=sse&follow=true"] {
        let (code, body) = status(lab.get("p", query, &[("last-event-id", last)]));
        assert_eq!((code, body.as_str()), (204, ""), "an EventSource must not come back");
    }
}

fn a_follower_that_comes_back_gets_what_was_written_meanwhile(store: &Store) {
    let lab = Lab::on(store);
    let mut writer = lab.writer("p", "a", "stdout");
    writer.write(b"one\ntwo\n");
    let seen = events_after(&lab, "follow=true", None, 2);
    writer.write(b"three\n");
    let mut other = lab.writer("p", "a", "stderr");
    other.write(b"new\n");
    let more = events_after(&lab, "follow=true", Some(&seen[1].0), 2);
    let mut texts: Vec<&str> = more.iter().map(|event| event.1.as_str()).collect();
    texts.sort_unstable_by_key(|text| text.contains("three"));
    assert!(texts[0].contains(r#""text":"new\n""#), "{texts:?}");
    assert!(texts[1].contains(r#""text":"three\n""#), "{texts:?}");
}
