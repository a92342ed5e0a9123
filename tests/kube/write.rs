//! Who may write: pods, with their own tokens.

use std::time::Duration;

use relay_tests::{
    kube::{AUDIENCE, ApiServer},
    wait::eventually,
};

use crate::lab::Lab;

#[test]
fn a_pod_writes_as_itself_whoever_it_says_it_is() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    lab.write(&lab.pod_token(), "one", "hello\n");
    let reader = lab.reader("reader", &[]);
    assert_eq!(lab.log(&reader, "web"), (200, "hello\n".to_owned()));
    let (status, list) = lab.get(&reader, &format!("{}/pods", lab.space.name()));
    assert_eq!(status, 200);
    assert!(list.contains(r#""pod":"web""#) && !list.contains("etcd"), "{list}");
}

#[test]
fn the_same_pod_finds_its_stream_again_and_another_of_its_name_does_not() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    let is_new = |token: &str| {
        let answer = lab.create(token, "one");
        (answer.status().as_u16(), answer.text().unwrap().contains(r#""created":true"#))
    };
    assert_eq!(is_new(&lab.pod_token()), (200, true));
    assert_eq!(is_new(&lab.pod_token()), (200, false), "a renewed token is the same pod's");
    lab.space.delete_pod("web");
    let uid = lab.space.pod("web", "app");
    let token = lab.space.token("app", Some(AUDIENCE), Some(("web", &uid)));
    assert_eq!(is_new(&token), (200, true), "it has another unique id");
}

#[test]
fn tokens_that_are_not_for_this_service_write_nothing() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    let bound = Some(("web", lab.uid.as_str()));
    let good = lab.pod_token();
    // The last digit holds bits that count for nothing: another one before it does.
    let middle = good.len() - 20;
    let digit = if good.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let mut forged = good.clone();
    forged.replace_range(middle..=middle, digit);
    for (token, why) in [
        (lab.space.token("app", Some("vault"), bound), "another audience"),
        (lab.space.token("app", None, bound), "the API server's audience"),
        (forged, "a signature that was changed"),
        ("garbage".to_owned(), "no token at all"),
    ] {
        let answer = lab.create(&token, "one");
        assert_eq!(answer.status(), 404, "{why}: {}", answer.text().unwrap());
    }
    assert_eq!(lab.create(&good, "one").status(), 200);
}

#[test]
fn a_token_without_a_pod_is_refused_with_the_reason() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    let answer = lab.create(&lab.space.token("app", Some(AUDIENCE), None), "one");
    assert_eq!(answer.status(), 403);
    let text = answer.text().unwrap();
    assert!(text.contains("this token belongs to no pod"), "{text}");
}

#[test]
fn the_token_of_a_pod_that_is_gone_writes_nothing() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    let (shown, unseen) = (lab.pod_token(), lab.pod_token());
    assert_eq!(lab.create(&shown, "one").status(), 200);
    lab.space.delete_pod("web");
    // The API server itself may learn of it a moment later, and what it said before holds for a minute.
    eventually(Duration::from_mins(2), "the token of the deleted pod is refused", || {
        lab.create(&unseen, "two").status() == 404
    });
}

#[test]
fn neither_the_log_nor_the_metrics_hold_a_token() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::by_way_of(&api, &api.address(), &["--log", "trace"]);
    let (writer, reader) = (lab.pod_token(), lab.reader("reader", &[]));
    lab.write(&writer, "one", "hello\n");
    assert_eq!(lab.log(&reader, "web").0, 200);
    let wrong = lab.space.token("app", Some("vault"), None);
    assert_eq!(lab.create(&wrong, "one").status(), 404);
    let url = format!("{}/metrics", lab.service.url());
    let metrics = lab.client.get(url).send().unwrap().text().unwrap();
    let log = lab.service.log();
    assert!(log.len() > 1_000, "{log}");
    for token in [writer, reader, wrong] {
        // The middle of it, so that parts count too.
        let secret = token.get(token.len() / 2..token.len() / 2 + 40).expect("it is ASCII");
        assert!(!log.contains(secret) && !metrics.contains(secret), "{secret} is in {log}");
    }
}
