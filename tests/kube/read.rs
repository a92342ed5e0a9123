//! Who may read: whoever may `get pods/log`.

use std::{io::Read, thread, time::Duration};

use relay_tests::{
    kube::{AUDIENCE, ApiServer, Space},
    program::is_long_run,
    wait::eventually,
};

use crate::lab::{ENOUGH, Lab};

#[test]
fn whoever_may_read_the_logs_of_pods_reads_and_for_others_there_is_nothing() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    lab.write(&lab.pod_token(), "one", "hello\n");
    let name = lab.space.name();
    drop(lab.space.account("stranger"));
    let stranger = lab.space.token("stranger", None, None);
    let nothing = lab.log(&lab.reader("all", &[]), "none");
    assert_eq!(nothing.0, 404);
    let paths = ["/web/logs", "/web", "/db/logs", ""];
    for (token, expected) in [
        (lab.reader("everything", &[]), [200, 200, 404, 200]),
        (lab.reader("one", &["web"]), [200, 200, 404, 404]),
        (lab.reader("other", &["db"]), [404, 404, 404, 404]),
        (stranger, [404, 404, 404, 404]),
        // The token that a pod writes with gives no right to read.
        (lab.pod_token(), [404, 404, 404, 404]),
        ("garbage".to_owned(), [404, 404, 404, 404]),
    ] {
        let answers = paths.map(|path| lab.get(&token, &format!("{name}/pods{path}")));
        let answers = answers.map(|(status, body)| {
            assert!(status == 200 || body == nothing.1, "every 404 is the same: {body}");
            status
        });
        assert_eq!(answers, expected, "{token}");
        let elsewhere = lab.get(&token, "kube-system/pods/web/logs");
        assert_eq!(elsewhere, nothing);
    }
}

#[test]
fn whole_workflows_need_the_right_to_all_pods_of_their_namespace() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    lab.write(&lab.pod_token(), "one", "here\n");
    let other = Space::new(&api);
    drop(other.account("app"));
    let uid = other.pod("web", "app");
    lab.write(&other.token("app", Some(AUDIENCE), Some(("web", &uid))), "one", "there\n");
    let (here, there) = (lab.space.name(), other.name());
    let named = |namespace: &str| format!("namespace={namespace}");
    let nothing = lab.log(&lab.reader("all", &[]), "none");
    for token in [lab.reader("one", &["web"]), lab.pod_token(), "garbage".to_owned()] {
        assert_eq!(lab.trigger(&token, ""), nothing);
        assert_eq!(lab.trigger(&token, &named(here)), nothing);
    }
    let user = lab.space.account("both");
    drop(lab.space.allow(&user, &[]));
    let token = lab.space.token("both", None, None);
    // The workflow of the same name elsewhere is as if it were not there.
    assert_eq!(lab.trigger(&token, ""), (200, "here\n".to_owned()));
    assert_eq!(lab.trigger(&token, &named(there)), nothing);
    drop(other.allow(&user, &[]));
    let mut answer = lab.trigger(&token, "");
    eventually(ENOUGH, "the new right counts", || {
        answer = lab.trigger(&token, "");
        answer.0 == 409
    });
    assert!(answer.1.contains(here) && answer.1.contains(there), "{}", answer.1);
    assert_eq!(lab.trigger(&token, &named(here)), (200, "here\n".to_owned()));
    assert_eq!(lab.trigger(&token, &named(there)), (200, "there\n".to_owned()));
}

#[test]
fn nobody_reads_without_saying_who_they_are() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    let url = format!("{}/api/namespaces/{}/pods", lab.service.url(), lab.space.name());
    let answer = lab.client.get(url).send().unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
}

#[test]
fn a_reader_may_have_a_token_for_this_service_only() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    lab.write(&lab.pod_token(), "one", "hello\n");
    drop(lab.reader("reader", &[]));
    let narrow = lab.space.token("reader", Some(AUDIENCE), None);
    assert_eq!(lab.log(&narrow, "web"), (200, "hello\n".to_owned()));
    let other = lab.space.token("reader", Some("vault"), None);
    assert_eq!(lab.log(&other, "web").0, 404);
}

#[test]
fn a_right_that_is_given_shows_within_seconds() {
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    lab.write(&lab.pod_token(), "one", "hello\n");
    let user = lab.space.account("reader");
    let token = lab.space.token("reader", None, None);
    assert_eq!(lab.log(&token, "web").0, 404);
    drop(lab.space.allow(&user, &[]));
    eventually(ENOUGH, "the new right counts", || lab.log(&token, "web").0 == 200);
}

/// Takes two minutes, which lie between the checks of a follower's right.
#[test]
fn a_follower_is_cut_off_within_a_minute_after_its_right_is_gone() {
    if !is_long_run() {
        return;
    }
    let Some(api) = ApiServer::find() else { return };
    let lab = Lab::new(&api);
    lab.write(&lab.pod_token(), "one", "hello\n");
    let user = lab.space.account("reader");
    let binding = lab.space.allow(&user, &[]);
    let token = lab.space.token("reader", None, None);
    let follow = || {
        let path = format!("{}/pods/web/logs?follow=true", lab.space.name());
        let url = format!("{}/api/namespaces/{path}", lab.service.url());
        let mut answer = lab.client.get(url).bearer_auth(&token).send().unwrap();
        let mut first = [0; 6];
        answer.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"hello\n");
        thread::spawn(move || answer.read_to_end(&mut Vec::new()))
    };
    // The right is checked for both at the same time, a minute after it was found for the early one.
    let early = follow();
    thread::park_timeout(Duration::from_secs(30));
    let late = follow();
    thread::park_timeout(Duration::from_secs(35));
    assert!(!early.is_finished() && !late.is_finished());
    lab.space.forbid(&binding);
    let minute = Duration::from_secs(60 + 5);
    eventually(minute, "both followers are cut off", || early.is_finished() && late.is_finished());
    for follower in [early, late] {
        assert!(follower.join().unwrap().is_err(), "the answer breaks off");
    }
}
