//! Reading: what comes back of what was written, in every form.

mod follow;
mod raw;
mod replicas;
mod resume;
mod rights;

use relay_tests::{on_every_store, store::Store};

use crate::lab::{Lab, metric, status};

on_every_store! {
    lines_of_two_streams_are_interleaved_by_their_capture_times,
    tail_and_since_cut_the_interleaved_lines,
    records_hold_the_same_lines_their_places_and_the_end_of_each_stream,
    all_runs_come_in_order_and_previous_is_the_one_before_the_last,
    lost_bytes_are_shown_as_what_they_are,
    several_containers_ask_for_one_of_them,
    lists_say_what_is_kept,
}

fn two_streams(lab: &Lab<'_>, pod: &str) {
    let mut stdout = lab.writer(pod, "a1", "stdout");
    let mut stderr = lab.writer(pod, "a1", "stderr");
    stdout.write_timed(b"one\nthree\n", "0=1000,4=3000");
    stderr.write_timed(b"two\n\xff\xfe\nfour", "0=2000,4=3500,7=4000");
    stdout.finish();
    stderr.finish();
}

fn lines_of_two_streams_are_interleaved_by_their_capture_times(store: &Store) {
    let lab = Lab::on(store);
    two_streams(&lab, "p");
    assert_eq!(lab.read("p", ""), b"one\ntwo\nthree\n\xff\xfe\nfour");
    let stamped = lab.read("p", "stream=stdout&timestamps=true");
    assert_eq!(stamped, b"1970-01-01T00:00:01.000Z one\n1970-01-01T00:00:03.000Z three\n");
}

fn tail_and_since_cut_the_interleaved_lines(store: &Store) {
    let lab = Lab::on(store);
    two_streams(&lab, "p");
    for (query, expected) in [
        ("tail=0", &b""[..]),
        ("tail=1", b"four"),
        ("tail=3", b"three\n\xff\xfe\nfour"),
        ("tail=99", b"one\ntwo\nthree\n\xff\xfe\nfour"),
        ("tail=-1", b"one\ntwo\nthree\n\xff\xfe\nfour"),
        ("since=1970-01-01T00:00:03Z", b"three\n\xff\xfe\nfour"),
        ("since=5s", b""),
        ("tail=3&since=1970-01-01T00:00:03.5Z", b"\xff\xfe\nfour"),
        ("stream=stderr&tail=2", b"\xff\xfe\nfour"),
    ] {
        assert_eq!(lab.read("p", query), expected, "{query}");
    }
}

fn records_hold_the_same_lines_their_places_and_the_end_of_each_stream(store: &Store) {
    let lab = Lab::on(store);
    two_streams(&lab, "p");
    let records = lab.records("p", "");
    let stream = |record: &serde_json::Value| record["stream"].as_str().unwrap().to_owned();
    let ends: Vec<String> =
        records.iter().filter(|record| record["marker"]["kind"] == "end").map(stream).collect();
    assert_eq!(ends, ["stdout", "stderr"]);
    let lines: Vec<_> = records.iter().filter(|record| record["marker"].is_null()).collect();
    assert_eq!(lines[0]["text"], "one\n");
    assert_eq!((&lines[2]["offset"], &lines[2]["time"]), (&4.into(), &3000.into()));
    assert_eq!(lines[3]["base64"], "//4K");
    assert_eq!(lines[4]["text"], "four");
}

fn all_runs_come_in_order_and_previous_is_the_one_before_the_last(store: &Store) {
    let lab = Lab::on(store);
    for (instance, text) in [("r1", "first\n"), ("r2", "second\n"), ("r3", "third\n")] {
        let mut writer = lab.writer("p", instance, "stdout");
        writer.write(text.as_bytes());
        writer.finish();
    }
    assert_eq!(lab.read("p", ""), b"first\nsecond\nthird\n");
    assert_eq!(lab.read("p", "previous=true"), b"second\n");
    assert_eq!(lab.read("p", "tail=2"), b"second\nthird\n");
    assert_eq!(lab.read("p", "instance=r1"), b"first\n");
}

fn lost_bytes_are_shown_as_what_they_are(store: &Store) {
    let lab = Lab::on(store);
    let mut writer = lab.writer("p", "a", "stdout");
    writer.write(b"a\nb");
    writer.drop_bytes(12);
    writer.write(b"c\n");
    writer.skip(5);
    writer.write(b"d\n");
    let text = String::from_utf8(lab.read("p", "")).unwrap();
    let expected =
        "a\nb\n[relay: 12 bytes dropped (3-14)]\nc\n[relay: 5 bytes not here yet (17-21)]\nd\n";
    assert_eq!(text, expected);
    let kinds: Vec<_> =
        lab.records("p", "").iter().map(|record| record["marker"]["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| !kind.is_null()).collect::<Vec<_>>(), ["dropped", "gap"]);
}

#[test]
fn a_corrupt_segment_is_told_and_what_lies_behind_it_is_shown() {
    let store = Store::files();
    let mut lab = Lab::on(&store);
    let mut writer = lab.writer("p", "a", "stdout");
    for line in ["good one\n", "will be bad\n", "good two\n"] {
        writer.write(line.as_bytes());
    }
    writer.finish();
    lab.spoil_segment(9);
    lab.restart();
    let text = String::from_utf8(lab.read("p", "")).unwrap();
    assert_eq!(text, "good one\n[relay: 12 bytes corrupt (9-20)]\ngood two\n");
    let (code, _) = status(lab.get("p", "format=raw", &[("range", "bytes=0-8")]));
    assert_eq!(code, 206);
    assert!(metric(lab.service(), "corrupt_segments_total") > 0);
}

#[test]
fn what_cannot_be_understood_is_refused_with_the_parameter_the_value_and_the_remedy() {
    let lab = Lab::on(&Store::Memory);
    two_streams(&lab, "p");
    for (query, words) in [
        ("tail=-2", r#"tail cannot be \"-2\": send a number of lines, or -1 for all"#),
        ("since=yesterday", r#"since cannot be \"yesterday\": send a duration"#),
        ("follow=maybe", r#"follow cannot be \"maybe\": send true or false"#),
        ("stream=STDOUT", r#"stream: \"STDOUT\" is not a stream name"#),
        ("lines=3", r#"\"lines\" is not a parameter"#),
        ("tail=1&tail=2", r#"\"tail\" is there twice"#),
        ("format=raw", "exact bytes are those of one stream"),
        ("format=raw&stream=stdout&tail=3", "tail, since and timestamps are about lines"),
    ] {
        let (code, body) = status(lab.get("p", query, &[]));
        assert_eq!(code, 400, "{query}");
        assert!(body.contains(words), "{query}: {body}");
    }
    assert_eq!(status(lab.get("p", "", &[("accept", "application/json")])).0, 406);
    assert_eq!(status(lab.get("p", "", &[("last-event-id", "nonsense")])).0, 400);
    assert_eq!(status(lab.get("nobody", "", &[])).0, 404);
    assert_eq!(status(lab.get("p", "previous=true", &[])).0, 404);
}

fn several_containers_ask_for_one_of_them(store: &Store) {
    let lab = Lab::on(store);
    lab.writer_of("p", "main", "a", "stdout").write(b"main\n");
    lab.writer_of("p", "side", "b", "stdout").write(b"side\n");
    let (code, body) = status(lab.get("p", "", &[]));
    assert_eq!(code, 400);
    assert!(body.contains("container= (relay logs -c) with one of main, side"), "{body}");
    assert_eq!(lab.read("p", "container=side"), b"side\n");
}

#[test]
fn answers_can_do_no_harm_in_a_browser() {
    let lab = Lab::on(&Store::Memory);
    two_streams(&lab, "p");
    for query in ["", "format=ndjson", "format=sse", "format=raw&stream=stdout", "tail=x"] {
        let answer = lab.get("p", query, &[]);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff", "{query}");
        assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'", "{query}");
        assert_eq!(header("cache-control"), "no-store", "{query}");
    }
}

fn lists_say_what_is_kept(store: &Store) {
    let lab = Lab::on(store);
    two_streams(&lab, "p");
    let list = lab.json("/api/namespaces/local/pods");
    assert_eq!(list["pods"][0]["pod"], "p");
    let pod = lab.json("/api/namespaces/local/pods/p");
    assert_eq!(pod, list["pods"][0]);
    let streams = pod["streams"].as_array().unwrap();
    let stdout = streams.iter().find(|stream| stream["stream"] == "stdout").unwrap();
    assert_eq!((&stdout["length"], &stdout["end"]), (&10.into(), &"eof".into()));
    assert_eq!(status(lab.get_path("/api/namespaces/local/pods/q", &[])).0, 404);
}
