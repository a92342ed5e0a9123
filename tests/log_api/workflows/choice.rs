//! Which namespace is meant, and who may read there.

use relay_tests::{on_every_store, service::Service, store::Store};
use reqwest::blocking::Response;
use serde_json::{Value, json};

use super::{TRIGGER, body, get, text, trigger};
use crate::{
    guarded::Guarded,
    lab::{Lab, Writer, client, send, status},
};

on_every_store! {
    a_name_that_two_namespaces_have_is_chosen_by_the_parameter,
}

fn write(service: &Service, namespace: &str, line: &str) {
    let mut named = body("p", &trigger());
    named["namespace"] = json!(namespace);
    Writer::at(service, &named).0.write(line.as_bytes());
}

fn a_name_that_two_namespaces_have_is_chosen_by_the_parameter(store: &Store) {
    let lab = Lab::on(store);
    write(lab.service(), "team-a", "of a\n");
    assert_eq!(text(&lab, TRIGGER, ""), "of a\n", "there is no other");
    write(lab.service(), "team-b", "of b\n");
    for path in [
        TRIGGER,
        "/api/workflows/deploy/triggers/push",
        "/api/workflows/deploy/triggers",
        "/api/workflows/deploy/runs/7/steps/build",
        "/api/workflows/deploy/runs/7/steps/build/logs",
    ] {
        let (code, body) = status(get(&lab, path, "", &[]));
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &problem["type"]), (409, &"/problems/ambiguous".into()), "{path}");
        assert_eq!(problem["candidates"], json!(["team-a", "team-b"]), "{path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.ends_with("add namespace= with one of team-a, team-b"), "{detail}");
    }
    assert_eq!(text(&lab, TRIGGER, "namespace=team-a"), "of a\n");
    assert_eq!(text(&lab, TRIGGER, "namespace=team-b"), "of b\n");
    assert_eq!(status(get(&lab, TRIGGER, "namespace=team-c", &[])).0, 404);
}

#[test]
fn a_name_that_very_many_namespaces_have_must_come_with_one() {
    let store = Store::Memory;
    let lab = Lab::on(&store);
    for number in 0..129 {
        write(lab.service(), &format!("team-{number}"), "line\n");
    }
    let (code, body) = status(get(&lab, TRIGGER, "", &[]));
    assert_eq!(code, 400);
    assert!(body.contains("too many workflows of this name") && !body.contains("team"), "{body}");
    assert_eq!(text(&lab, TRIGGER, "namespace=team-128"), "line\n");
}

/// A service that asks for tokens, with the same workflow in two namespaces.
fn guarded() -> Guarded {
    let guarded = Guarded::start();
    for namespace in ["team-a", "team-b"] {
        let token = guarded.token(&["--write", "-n", namespace, "--pod", "p"]);
        // What the body says of namespace and pod does not count, what it says of workflows does.
        let mut named = body("forged", &trigger());
        named["namespace"] = json!("team-a");
        let created = guarded.create(&token, &named).json();
        let url = format!("{}/logs/{}/data", guarded.url(), created["id"].as_str().unwrap());
        let append = client().post(url).header("relay-flush", "now");
        assert_eq!(send(append.body(format!("of {namespace}\n"))).status, 202);
    }
    guarded
}

fn ask(guarded: &Guarded, token: Option<&str>, query: &str) -> Response {
    guarded.get(token, &format!("workflows/{query}"))
}

#[test]
fn whole_workflows_need_the_right_to_all_pods_and_everything_else_is_as_if_it_were_not_there() {
    let guarded = guarded();
    let queries = [
        "deploy/triggers/push/logs",
        "deploy/triggers/push/logs?namespace=team-a",
        "deploy/triggers/push/logs?follow=true&namespace=team-b",
        "deploy/triggers/push?namespace=team-a",
        "deploy/triggers",
        "deploy/runs/7/steps/build?namespace=team-b",
        "nowhere/triggers",
    ];
    for (flags, expected) in [
        (&["--read", "-n", "team-a"][..], [200, 200, 404, 200, 200, 404, 404]),
        (&["--read", "-n", "team-c"], [404; 7]),
        (&["--read", "-n", "team-a", "--pod", "p"], [404; 7]),
        (&["--write", "-n", "team-a", "--pod", "p"], [404; 7]),
    ] {
        let token = guarded.token(flags);
        let statuses = queries.map(|query| ask(&guarded, Some(&token), query).status().as_u16());
        assert_eq!(statuses, expected, "{flags:?}");
    }
    for query in queries {
        assert_eq!(ask(&guarded, None, query).status(), 401, "{query}");
    }
}

#[test]
fn of_a_name_that_several_namespaces_have_only_the_readable_ones_count() {
    let guarded = guarded();
    for namespace in ["team-a", "team-b"] {
        let token = guarded.token(&["--read", "-n", namespace]);
        let text = ask(&guarded, Some(&token), "deploy/triggers/push/logs").text().unwrap();
        assert_eq!(text, format!("of {namespace}\n"));
        let state = ask(&guarded, Some(&token), "deploy/triggers/push").text().unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        assert_eq!(state["streams"][0]["pod"], "p", "the token says the pod, not the body");
    }
}
