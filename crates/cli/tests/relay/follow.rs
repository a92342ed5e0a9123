//! Reading and following a log.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use crate::{
    peer::{Answer, Peer, begin, chunk, end, json, problem, send},
    relay, run,
};

fn record(stream: &str, offset: u64, length: u64, content: &str) -> String {
    format!(
        "{{\"container\":\"main\",\"instance\":\"a1\",\"stream\":\"{stream}\",\"offset\":{offset},\"length\":{length},{content}}}\n"
    )
}

/// A record of a line of output.
fn line(offset: u64, text: &str) -> String {
    record("stdout", offset, text.len() as u64 + 1, &format!(r#""text":"{text}\n""#))
}

fn end_of(stream: &str, offset: u64) -> String {
    record(stream, offset, 0, r#""marker":{"kind":"end","reason":"eof","exit":7}"#)
}

fn pod(state: &str) -> String {
    json(&format!(
        r#"{{"namespace":"local","pod":"p","streams":[{{"container":"main","instance":"a1","stream":"stdout","created":0,"length":8{state}}}]}}"#
    ))
}

/// Sends these chunks and breaks the connection.
fn broken(chunks: Vec<String>) -> Answer {
    Box::new(move |connection| {
        begin(connection, "200 OK");
        for text in &chunks {
            chunk(connection, text);
        }
    })
}

/// Sends these chunks and ends in order.
fn orderly(chunks: Vec<String>) -> Answer {
    Box::new(move |connection| {
        begin(connection, "200 OK");
        for text in &chunks {
            chunk(connection, text);
        }
        end(connection);
    })
}

fn refused(status: u16, detail: &'static str) -> Answer {
    Box::new(move |connection| send(connection, &problem(status, detail)))
}

fn logs(peer: &Peer, arguments: &[&str]) -> Command {
    let mut command = relay();
    command.env("RELAY_LOG_URL", &peer.url).arg("logs").args(arguments);
    command
}

#[test]
fn a_broken_connection_loses_and_repeats_nothing() {
    let cut = line(8, "three");
    let peer = Peer::start(
        pod(""),
        vec![
            broken(vec![line(0, "one"), line(4, "two"), cut.split_at(30).0.to_owned()]),
            refused(503, "later"),
            // The service repeats a record, and stops in order while the log goes on.
            orderly(vec![line(4, "two"), line(8, "three")]),
            orderly(vec![line(14, "four"), end_of("stdout", 19)]),
        ],
    );
    let (status, stdout, stderr) =
        run(&mut logs(&peer, &["-f", "p", "--tail", "5", "--since", "1h"]));
    assert_eq!((status, stdout.as_str()), (Some(0), "one\ntwo\nthree\nfour\n"));
    assert_eq!(stderr, "[relay: main ended with status 7]\n");
    let asked = peer.asked_for_logs();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines[0],
        "GET /api/namespaces/local/pods/p/logs?follow=true&tail=5&since=1h HTTP/1.1"
    );
    assert!(
        lines[1].contains("/logs?follow=true&since=20") && !lines[1].contains("tail"),
        "{lines:?}"
    );
    let positions: Vec<_> = asked.iter().map(|asked| asked.header("last-event-id")).collect();
    let position = |offset| Some(format!("0~main/stdout@a1:{offset}"));
    assert_eq!(
        positions.iter().map(|id| id.map(str::to_owned)).collect::<Vec<_>>(),
        [None, position(8), position(8), position(14)]
    );
    assert!(asked.iter().all(|asked| asked.header("accept") == Some("application/x-ndjson")));
}

#[test]
fn exact_bytes_go_on_where_they_stopped() {
    let rest: Answer = Box::new(|connection| {
        begin(connection, "206 Partial Content\r\nContent-Range: bytes 4-7/8");
        chunk(connection, "\x1b[2J");
        end(connection);
    });
    let peer = Peer::start(pod(r#","end":"eof""#), vec![broken(vec!["one\n".to_owned()]), rest]);
    let arguments = ["-f", "p", "-o", "raw", "--stream", "stdout"];
    assert_eq!(
        run(&mut logs(&peer, &arguments)),
        (Some(0), "one\n\x1b[2J".to_owned(), String::new())
    );
    let asked = peer.asked_for_logs();
    assert_eq!(asked[1].header("range"), Some("bytes=4-"));
    assert_eq!(asked[0].header("accept"), Some("application/octet-stream"));
}

#[test]
fn exact_bytes_from_another_place_are_not_taken() {
    let peer = Peer::start(
        pod(""),
        vec![broken(vec!["one\n".to_owned()]), orderly(vec!["one\n".to_owned()])],
    );
    let (status, stdout, stderr) =
        run(&mut logs(&peer, &["-f", "p", "-o", "raw", "--stream", "stdout"]));
    assert_eq!((status, stdout.as_str()), (Some(1), "one\n"));
    assert!(stderr.contains("broke after 4 bytes"), "{stderr}");
}

#[test]
fn without_following_a_broken_connection_is_an_error() {
    let peer = Peer::start(pod(""), vec![broken(vec![line(0, "one")])]);
    let (status, stdout, stderr) = run(&mut logs(&peer, &["p"]));
    assert_eq!((status, stdout.as_str()), (Some(1), "one\n"));
    assert!(
        stderr.starts_with("relay: the connection to the log service at http://127.0.0.1:"),
        "{stderr}"
    );
}

#[test]
fn an_answer_that_ends_within_a_record_is_not_the_whole_log() {
    let peer = Peer::start(pod(""), vec![orderly(vec![line(0, "one"), "{\"contai".to_owned()])]);
    let (status, stdout, stderr) = run(&mut logs(&peer, &["p"]));
    assert_eq!((status, stdout.as_str()), (Some(1), "one\n"));
    assert_eq!(stderr, "relay: the answer of the log service ended within a record\n");
}

#[test]
fn a_refusal_ends_it_at_once_even_while_following() {
    let peer = Peer::start(
        pod(""),
        vec![broken(vec![line(0, "one")]), refused(401, "the token\\u001b[2J has expired")],
    );
    let (status, stdout, stderr) = run(&mut logs(&peer, &["-f", "p"]));
    assert_eq!((status, stdout.as_str()), (Some(1), "one\n"));
    assert!(stderr.starts_with("relay: the token [2J has expired (give a token"), "{stderr}");
}

#[test]
fn a_pod_without_a_log_is_named() {
    for (words, what) in [
        (&["web-0"][..], "pod web-0"),
        (&["web-0", "-c", "app"], "container app of pod web-0"),
        // There may be a log, of the only run.
        (&["web-0", "--previous"], "an earlier run of pod web-0"),
    ] {
        let peer = Peer::start(problem(404, "no"), vec![refused(404, "no such log")]);
        let (status, _, stderr) = run(logs(&peer, &["-n", "team"]).args(words));
        let expected = format!(
            "relay: no log of {what} in namespace team: `relay ls -n team` lists the pods that have one\n"
        );
        assert_eq!((status, stderr), (Some(1), expected));
    }
}

#[test]
fn what_is_no_log_service_is_said_to_be_none() {
    let peer = Peer::start(
        pod(""),
        vec![Box::new(|connection| {
            send(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
        })],
    );
    let (status, _, stderr) = run(&mut logs(&peer, &["p"]));
    assert_eq!(status, Some(1));
    assert!(stderr.contains("is not a log service: it says 404 Not Found"), "{stderr}");
}

#[test]
fn more_streams_than_a_position_can_name_are_told_with_the_remedy() {
    let too_long: Answer = Box::new(|connection| {
        let head = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n";
        send(connection, head);
    });
    let peer = Peer::start(pod(""), vec![broken(vec![line(0, "one")]), too_long]);
    let (status, stdout, stderr) = run(&mut logs(&peer, &["-f", "p"]));
    assert_eq!((status, stdout.as_str()), (Some(1), "one\n"));
    let expected = "relay: the connection broke, and the log has too many open streams to name in a request how far each was read: follow fewer with --container or --stream\n";
    assert_eq!(stderr, expected);
}

#[test]
fn a_log_that_has_not_begun_is_waited_for_and_the_user_is_told() {
    let (begin_now, told) = sync_channel(1);
    let told = std::sync::Mutex::new(told);
    let answer: Answer = Box::new(move |connection| {
        begin(connection, "200 OK");
        told.lock().unwrap().recv().unwrap();
        chunk(connection, &(line(0, "one") + &end_of("stdout", 4)));
        end(connection);
    });
    let peer = Peer::start(problem(404, "no"), vec![answer]);
    let mut reader =
        logs(&peer, &["-f", "p"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(reader.stderr.take().unwrap()).lines();
    assert_eq!(stderr.next().unwrap().unwrap(), "relay: waiting for the log of p to begin…");
    begin_now.send(()).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"one\n");
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let endless: Answer = Box::new(|connection| {
        begin(connection, "200 OK");
        for number in 0..20_000 {
            chunk(connection, &line(number * 4, "one"));
        }
    });
    let peer = Peer::start(pod(""), vec![endless]);
    let mut reader =
        logs(&peer, &["p"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    reader.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), b"".as_slice()));
}

#[test]
fn ctrl_c_ends_it_quietly_even_while_nobody_reads() {
    // More than a pipe holds.
    let full: Answer = Box::new(|connection| {
        begin(connection, "200 OK");
        for number in 0..200 {
            chunk(connection, &line(number * 1_001, &"x".repeat(1_000)));
        }
        thread::park();
    });
    let peer = Peer::start(pod(""), vec![full]);
    let mut reader =
        logs(&peer, &["-f", "p"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = reader.stdout.take().unwrap();
    // A chunk of 1,000 bytes does not fit any more.
    while rustix::io::ioctl_fionread(&stdout).unwrap() < 60_000 {
        thread::park_timeout(Duration::from_millis(5));
        assert!(reader.try_wait().unwrap().is_none());
    }
    let sent = Command::new("kill").args(["-INT", &reader.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = reader.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), b"".as_slice()));
    drop(stdout);
}

#[test]
fn json_and_colours_are_as_asked_for() {
    let records = || vec![line(0, "one"), record("stderr", 0, 4, r#""text":"\u001b[2Jbad\n""#)];
    let peer = Peer::start(pod(""), vec![orderly(records()), orderly(records())]);
    assert_eq!(run(&mut logs(&peer, &["p", "-o", "json"])).1, records().concat());
    let coloured = run(&mut logs(&peer, &["p", "--color", "always"])).1;
    assert_eq!(coloured, "one\n\x1b[31mbad\x1b[0m\n");
}
