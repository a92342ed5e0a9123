//! Logs of the parts of a workflow: the streams of all their pods together.

mod busy;
mod choice;
mod command_line;
mod follow;
mod order;
mod resume;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_tests::{
    on_every_store, on_shared_stores,
    service::{Service, files},
    store::Store,
};
use reqwest::blocking::Response;
use serde_json::{Value, json};

use crate::lab::{Lab, Writer, create, status};

const TRIGGER: &str = "/api/workflows/deploy/triggers/push/logs";
const STEP: &str = "/api/workflows/deploy/runs/7/steps/build/logs";

on_every_store! {
    the_log_of_a_trigger_has_the_streams_of_all_its_pods_in_order,
    the_log_of_a_step_has_its_own_run_and_nothing_else,
    a_log_comes_in_every_form_and_takes_the_parameters_of_pods,
    triggers_and_steps_say_what_is_kept_of_them,
    what_names_no_part_of_a_workflow_is_refused_with_the_remedy,
}

mod shared {
    use super::*;

    on_shared_stores! {
        a_service_that_starts_finds_what_others_kept,
    }

    fn a_service_that_starts_finds_what_others_kept(store: &Store) {
        let mut lab = Lab::on(store);
        part(&lab, "a", &trigger()).write(b"kept\n");
        lab.restart();
        assert_eq!(text(&lab, TRIGGER, ""), "kept\n");
        let list = lab.json("/api/workflows/deploy/triggers");
        assert_eq!(list["triggers"][0]["id"], "push");
    }
}

/// What a writer says to belong to the trigger `push` of the workflow `deploy`.
fn trigger() -> Value {
    json!({ "workflow": "deploy", "trigger": "push" })
}

/// What a writer says to belong to the step `build` of its run 7.
fn step() -> Value {
    json!({ "workflow": "deploy", "run": "7", "step": "build" })
}

/// What a writer of standard output of a pod says.
fn body(pod: &str, part: &Value) -> Value {
    let mut body = json!({ "name": "stdout", "pod": pod, "instance": "i", "writer": "w" });
    body.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    body
}

/// A writer of standard output of a pod.
fn part(lab: &Lab<'_>, pod: &str, part: &Value) -> Writer {
    Writer::at(lab.service(), &body(pod, part)).0
}

fn get(lab: &Lab<'_>, path: &str, query: &str, headers: &[(&str, &str)]) -> Response {
    lab.get_path(&format!("{path}?{query}"), headers)
}

fn text(lab: &Lab<'_>, path: &str, query: &str) -> String {
    let (code, text) = status(get(lab, path, query, &[]));
    assert_eq!(code, 200, "{path}?{query}: {text}");
    text
}

fn records(lab: &Lab<'_>, path: &str, query: &str) -> Vec<Value> {
    let text = text(lab, path, &format!("format=ndjson&{query}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// So many milliseconds from a moment on in which the test began, as a capture time.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(now.as_millis()).unwrap()
}

fn the_log_of_a_trigger_has_the_streams_of_all_its_pods_in_order(store: &Store) {
    let lab = Lab::on(store);
    let now = now();
    let at = |offset: u64, after: u64| format!("{offset}={}", now + after);
    let mut one = part(&lab, "a", &trigger());
    one.write_timed(b"1\n3\n", &[at(0, 1), at(2, 3)].join(","));
    let mut other = part(&lab, "b", &trigger());
    other.write_timed(b"2\n4\n", &[at(0, 2), at(2, 4)].join(","));
    part(&lab, "c", &json!({ "workflow": "deploy", "trigger": "other" })).write(b"no\n");
    part(&lab, "d", &json!({ "workflow": "other", "trigger": "push" })).write(b"no\n");
    part(&lab, "e", &step()).write(b"no\n");
    part(&lab, "f", &json!({})).write(b"no\n");
    assert_eq!(text(&lab, TRIGGER, ""), "1\n2\n3\n4\n");
    one.finish();
    other.finish();
    let pods: Vec<String> = records(&lab, TRIGGER, "")
        .iter()
        .map(|record| record["pod"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pods, ["a", "b", "a", "b", "a", "b"], "four lines and two ends");
    let record = &records(&lab, "/api/namespaces/local/pods/a/logs", "")[0];
    assert!(record.get("pod").is_none(), "a pod's log names the pod in its address: {record}");
}

fn the_log_of_a_step_has_its_own_run_and_nothing_else(store: &Store) {
    let lab = Lab::on(store);
    part(&lab, "a", &step()).write(b"build\n");
    part(&lab, "b", &json!({ "workflow": "deploy", "run": "8", "step": "build" })).write(b"8\n");
    part(&lab, "c", &json!({ "workflow": "deploy", "run": "7", "step": "test" })).write(b"test\n");
    // Without a name it is that of the container.
    let mut unnamed = body("d", &json!({ "workflow": "deploy", "run": "7" }));
    unnamed["container"] = json!("build");
    Writer::at(lab.service(), &unnamed).0.write(b"container\n");
    assert_eq!(text(&lab, STEP, ""), "build\ncontainer\n");
    assert_eq!(text(&lab, STEP, "container=build"), "container\n");
    assert_eq!(text(&lab, "/api/workflows/deploy/runs/8/steps/build/logs", ""), "8\n");
    for unknown in [
        "/api/workflows/deploy/runs/9/steps/build/logs",
        "/api/workflows/other/runs/7/steps/build/logs",
        "/api/workflows/deploy/triggers/build/logs",
        "/api/workflows/deploy/triggers/build",
        "/api/workflows/deploy/runs/9/steps/build",
        "/api/workflows/other/triggers",
    ] {
        assert_eq!(status(get(&lab, unknown, "", &[])).0, 404, "{unknown}");
        let named = "namespace=local";
        assert_eq!(status(get(&lab, unknown, named, &[])).0, 404, "{unknown}?{named}");
    }
}

fn a_log_comes_in_every_form_and_takes_the_parameters_of_pods(store: &Store) {
    let lab = Lab::on(store);
    let mut one = part(&lab, "a", &trigger());
    one.write(b"first\n\xff\n");
    part(&lab, "b", &trigger()).write(b"second\n");
    for (accept, expected) in [
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
    ] {
        let answer = get(&lab, TRIGGER, "", &[("accept", accept)]);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &expected.parse().unwrap())
        );
        assert_eq!(answer.headers()["content-security-policy"], "sandbox; default-src 'none'");
    }
    assert_eq!(status(get(&lab, TRIGGER, "", &[("accept", "image/png")])).0, 406);
    assert_eq!(text(&lab, TRIGGER, "tail=1"), "second\n");
    assert_eq!(text(&lab, TRIGGER, "tail=0"), "");
    assert_eq!(text(&lab, TRIGGER, "since=2100-01-01T00:00:00Z"), "");
    assert_eq!(text(&lab, TRIGGER, "since=1h&tail=1"), "second\n");
    let stamped = text(&lab, TRIGGER, "timestamps=true&tail=1");
    assert!(stamped.ends_with("Z second\n"), "{stamped}");
    for (query, expected) in [
        ("previous=true", "previous is about the container of one pod"),
        ("pod=a", "\"pod\" is not a parameter"),
        ("namespace=local&namespace=local", "\"namespace\" is there twice"),
        ("namespace=A", "\"A\" is not a namespace"),
        ("format=raw", "add one of stream=stdout&instance=i"),
    ] {
        let (code, text) = status(get(&lab, TRIGGER, query, &[]));
        assert_eq!(code, 400, "{query}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{query}: {detail}");
    }
    let alone = json!({ "workflow": "deploy", "trigger": "alone" });
    part(&lab, "c", &alone).write(b"exact \xff\n");
    let answer = get(&lab, "/api/workflows/deploy/triggers/alone/logs", "format=raw", &[]);
    assert_eq!(answer.bytes().unwrap(), b"exact \xff\n"[..]);
}

fn triggers_and_steps_say_what_is_kept_of_them(store: &Store) {
    let lab = Lab::on(store);
    let mut writer = part(&lab, "a", &trigger());
    writer.write(b"12345\n");
    writer.finish();
    part(&lab, "b", &trigger()).write(b"1\n");
    part(&lab, "c", &step()).write(b"1\n");
    part(&lab, "d", &json!({ "workflow": "deploy", "trigger": "cron" })).write(b"1\n");
    let list = lab.json("/api/workflows/deploy/triggers");
    assert_eq!((&list["namespace"], &list["workflow"]), (&"local".into(), &"deploy".into()));
    let ids: Vec<_> = list["triggers"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["cron", "push"]);
    let state = lab.json("/api/workflows/deploy/triggers/push");
    assert_eq!(state["id"], "push");
    for field in ["created", "newest", "namespace", "workflow"] {
        assert_eq!(state[field], list["triggers"][1][field], "{field}");
    }
    let streams = state["streams"].as_array().unwrap();
    let told = |stream: &Value| {
        format!("{} {} {}", stream["pod"], stream["length"], stream["end"]).replace('"', "")
    };
    assert_eq!(streams.iter().map(told).collect::<Vec<_>>(), ["a 6 eof", "b 2 null"]);
    let step = lab.json("/api/workflows/deploy/runs/7/steps/build?namespace=local");
    assert_eq!((&step["run"], &step["step"]), (&"7".into(), &"build".into()));
    assert_eq!(step["streams"][0]["pod"], "c");
    let (code, _) = status(get(&lab, "/api/workflows/deploy/triggers", "tail=1", &[]));
    assert_eq!(code, 400);
}

fn what_names_no_part_of_a_workflow_is_refused_with_the_remedy(store: &Store) {
    let lab = Lab::on(store);
    for (part, expected) in [
        (json!({ "workflow": "deploy" }), "say which trigger or run"),
        (json!({ "trigger": "push" }), "belong to a workflow: say which"),
        (json!({ "workflow": "deploy", "step": "s" }), "a step belongs to a run"),
        (json!({ "workflow": "deploy", "run": "7", "trigger": "push" }), "leave one out"),
        (json!({ "workflow": "../x", "run": "7" }), "is not a workflow name"),
    ] {
        let answer = create(lab.service(), &body("p", &part));
        assert_eq!(answer.status, 422, "{part}");
        let detail = answer.problem();
        assert!(detail.contains(expected), "{detail}");
    }
    let (code, _) = status(lab.get_path("/api/workflows/a%2Fb/triggers", &[]));
    assert_eq!(code, 400);
}

/// The part of a workflow is what was said first: who asks again for a stream may say anything.
#[test]
fn a_stream_stays_in_its_part_of_a_workflow() {
    let store = Store::files();
    let lab = Lab::on(&store);
    part(&lab, "a", &trigger()).write(b"one\n");
    for other in [step(), json!({})] {
        let answer = create(lab.service(), &body("a", &other));
        assert_eq!((answer.status, answer.json()["created"].as_bool()), (200, Some(false)));
    }
    assert_eq!(text(&lab, TRIGGER, ""), "one\n");
    assert_eq!(status(get(&lab, STEP, "", &[])).0, 404);
}

/// A process that ends between the puts of a creation leaves some of them out.
#[test]
fn an_index_that_lacks_entries_is_mended_when_the_writer_asks_again() {
    let store = Store::files();
    let lab = Lab::on(&store);
    part(&lab, "a", &trigger()).write(b"one\n");
    for folder in ["i/local/workflows", "w"] {
        let entries = files(&store.folder().unwrap().join(folder), "");
        assert_eq!(entries.len(), 1, "{folder}");
        std::fs::remove_file(&entries[0]).unwrap();
        assert_eq!(status(get(&lab, TRIGGER, "", &[])).0, 404);
        part(&lab, "a", &trigger());
        assert_eq!(text(&lab, TRIGGER, ""), "one\n", "without {folder}");
    }
}

#[test]
fn the_log_of_hundreds_of_pods_is_read_whole_and_from_its_end() {
    let service = Service::in_memory();
    let count = 400;
    for number in 0..count {
        let mut writer = Writer::at(&service, &body(&format!("p{number}"), &trigger())).0;
        writer.write(format!("{number}\n").as_bytes());
        writer.finish();
    }
    let get = |query: &str| {
        let answer = crate::lab::client().get(format!("{}{TRIGGER}?{query}", service.url()));
        answer.send().unwrap().text().unwrap()
    };
    let all: Vec<String> = (0..count).map(|number| format!("{number}\n")).collect();
    assert_eq!(get(""), all.concat());
    assert_eq!(get("tail=3"), "397\n398\n399\n");
}
