//! Who may read what, with tokens as `relay token mint` makes them.

use std::{
    io::Read,
    time::{Duration, SystemTime},
};

use relay_tests::program::is_long_run;
use reqwest::blocking::Response;
use serde_json::json;

use crate::guarded::Guarded;

/// A service that asks for tokens, with a log of the pods `a` and `b`.
fn guarded() -> Guarded {
    let guarded = Guarded::start();
    for pod in ["a", "b"] {
        let token = guarded.token(&["--write", "--pod", pod]);
        assert_eq!(guarded.create(&token, &json!({ "name": "stdout" })).status, 200);
    }
    guarded
}

fn get(guarded: &Guarded, token: Option<&str>, path: &str) -> Response {
    guarded.get(token, &format!("namespaces/{path}"))
}

#[test]
fn a_token_opens_what_it_names_and_everything_else_is_as_if_it_were_not_there() {
    let guarded = guarded();
    let paths = ["local/pods/a/logs", "local/pods/a", "local/pods/b/logs", "local/pods"];
    for (flags, expected) in [
        (&["--read", "--pod", "a"][..], [200, 200, 404, 404]),
        (&["--read"], [200, 200, 200, 200]),
        (&["--read", "-n", "other"], [404, 404, 404, 404]),
        (&["--write", "--pod", "a"], [404, 404, 404, 404]),
    ] {
        let token = guarded.token(flags);
        let statuses = paths.map(|path| get(&guarded, Some(&token), path).status().as_u16());
        assert_eq!(statuses, expected, "{flags:?}");
    }
    assert_eq!(get(&guarded, None, "local/pods/a/logs").status(), 401);
}

/// Takes the minute between two checks of a follower's right.
#[test]
fn a_follower_whose_token_expires_is_cut_off_within_a_minute() {
    if !is_long_run() {
        return;
    }
    let guarded = guarded();
    let token = guarded.token(&["--read", "--pod", "a", "--ttl", "5s"]);
    let mut answers = ["follow=true", "follow=true&format=raw", "follow=true&format=sse"]
        .map(|query| get(&guarded, Some(&token), &format!("local/pods/a/logs?{query}")));
    let begun = SystemTime::now();
    for answer in &mut answers {
        assert_eq!(answer.status(), 200);
        answer.read_to_end(&mut Vec::new()).unwrap_err();
    }
    assert!(begun.elapsed().unwrap() < Duration::from_secs(75), "only the client gave up");
}
