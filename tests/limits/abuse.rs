//! What no client does by mistake.

use std::net::Shutdown;

use relay_tests::wait::eventually;
use serde_json::json;

use super::{http::PATIENCE, lab::Lab};

#[test]
fn pipelined_requests_are_answered_in_order() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let mut connection = stream.connect();
    let mut requests = Vec::new();
    for at in 0..50_u64 {
        let range = format!("bytes {at}-{at}/*");
        let head =
            stream.patch_head(&range, "relay-flush: now\r\nhost: relay\r\ncontent-length: 1");
        requests.extend_from_slice(format!("{head}\r\n\r\nx").as_bytes());
    }
    connection.send(&requests);
    for at in 0..50 {
        let answer = connection.answer().unwrap();
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (202, &*format!("bytes {at}-{at}/*"))
        );
    }
}

#[test]
fn a_request_that_breaks_off_leaves_nothing() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let tree = lab.tree();
    for (framing, part) in [
        ("content-length: 5", &b"hell"[..]),
        ("transfer-encoding: chunked", b"4\r\nhell\r\n"),
        ("transfer-encoding: chunked", b"5\r\nhello\r\n"),
        ("transfer-encoding: chunked", b"5\r\nhello\r\n0\r\n"),
        ("transfer-encoding: chunked\r\ncontent-encoding: gzip", b"3\r\n\x1f\x8b\x08\r\n"),
    ] {
        let head = stream.patch_head("bytes 0-4/*", framing);
        for how in [Some(Shutdown::Write), Some(Shutdown::Both), None] {
            let mut connection = stream.connect();
            connection.send(format!("{head}\r\nhost: relay\r\n\r\n").as_bytes());
            connection.send(part);
            how.map_or(Ok(()), |how| connection.stream.shutdown(how)).unwrap();
        }
    }
    eventually(PATIENCE, "all are gone", || lab.metric("connections") == 1);
    lab.settle();
    assert_eq!(stream.head(), (0, String::new()));
    assert_eq!(lab.tree(), tree);
    assert_eq!(stream.patch(0, b"hello"), 202);
}

#[test]
fn requests_that_two_servers_would_read_differently_are_refused() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let inner =
        format!("PATCH {}/data HTTP/1.1\r\nhost: relay\r\ncontent-length: 1\r\n\r\nx", stream.path);
    for framing in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: 5 5",
        "content-length: 99999999999999999999",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity, chunked\r\ncontent-length: 5",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        " transfer-encoding: chunked",
        "x: 1\r\n folded: 2",
        "content-length: 5\0",
    ] {
        let mut connection = stream.connect();
        let request =
            format!("GET /livez HTTP/1.1\r\nhost: relay\r\n{framing}\r\n\r\n0\r\n\r\n{inner}");
        connection.send(request.as_bytes());
        let first = connection.answer().map_or(400, |answer| answer.status);
        let smuggled = connection.answer().is_some_and(|answer| answer.status == 202);
        println!("{framing:?}: {first}");
        assert!(!smuggled, "{framing:?}: a request in a body was answered");
    }
    // Both, where the RFC lets the chunks win, must at least end the connection.
    let mut connection = stream.connect();
    let both = "transfer-encoding: chunked\r\ncontent-length: 5";
    connection.send(
        format!("POST /livez HTTP/1.1\r\nhost: relay\r\n{both}\r\n\r\n0\r\n\r\n{inner}").as_bytes(),
    );
    let first = connection.answer().map_or(400, |answer| answer.status);
    assert!(first >= 400);
    lab.settle();
}

#[test]
fn endless_heads_chunks_and_trailers_are_refused() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    let before = lab.forget_peak();
    let long = "x".repeat(1 << 20);
    let many = "x: y\r\n".repeat(10_000);
    let chunked = stream.patch_head("bytes 0-4/*", "transfer-encoding: chunked\r\nhost: relay");
    for request in [
        format!("GET /{long} HTTP/1.1\r\nhost: relay\r\n\r\n"),
        format!("{long} / HTTP/1.1\r\nhost: relay\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nhost: relay\r\nx: {long}\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nhost: relay\r\n{long}: x\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nhost: relay\r\n{many}\r\n"),
        format!("{chunked}\r\n\r\n5;{long}\r\nhello\r\n0\r\n\r\n"),
        format!("{chunked}\r\n\r\n5\r\nhello\r\n0\r\nx: {long}\r\n\r\n"),
        format!("{chunked}\r\n\r\n5\r\nhello\r\n0\r\n{many}\r\n\r\n"),
        format!("{chunked}\r\n\r\n{}", "1;x\r\nh\r\n".repeat(100_000)),
        format!("{chunked}\r\n\r\nffffffffffffffff\r\nhello\r\n"),
        format!("{chunked}\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut connection = stream.connect();
        connection.send(request.as_bytes());
        drop(connection.stream.shutdown(Shutdown::Write));
        let status = connection.answer().map(|answer| answer.status);
        let body = request.split_once("\r\n\r\n").map_or(request.as_str(), |(_, body)| body);
        let shown: String = body.chars().take(40).collect();
        assert!(
            status.is_none_or(|status| (400..500).contains(&status)),
            "{status:?} for {shown:?}"
        );
        lab.settle();
        assert_eq!(stream.head(), (0, String::new()), "{status:?} for {shown:?}");
    }
    let more = lab.peak().saturating_sub(before);
    assert!(more < 16 << 20, "{more} bytes more");
}

#[test]
fn names_and_headers_become_neither_metrics_nor_lines_of_the_log() {
    let lab = Lab::new();
    let lines = |lab: &Lab| lab.get("/metrics").body.split(|byte| *byte == b'\n').count();
    lab.get("/nothing");
    let before = lines(&lab);
    for number in 0..100 {
        let stream = lab.stream(&format!("needle-{number}"));
        let body = json!({ "range": "bytes 0-0/*", "markers": ["dropped"], "reason": format!("needle{number}") });
        let head =
            format!("POST {}/markers HTTP/1.1\r\ncontent-type: application/json", stream.path);
        assert_eq!(stream.connect().request(&head, body.to_string().as_bytes()).status, 202);
        let evil = format!("PATCH /needle-{number}\x1b[31m HTTP/1.1\r\nx: needle\x1b]0;needle\x07");
        let mut connection = lab.connect();
        connection.send(format!("{evil}\r\nhost: \u{202e}needle\r\n\r\n").as_bytes());
        connection.answer();
        lab.connect()
            .request(&format!("NEEDLE /needle{number} HTTP/1.1\r\nuser-agent: needle"), b"needle");
    }
    // The first marker of a kind and the first status of a class begin a line each.
    assert!(lines(&lab) <= before + 4, "{} lines were {before}", lines(&lab));
    assert!(!String::from_utf8(lab.get("/metrics").body).unwrap().contains("needle"));
    let log = lab.service.log();
    assert!(!log.to_lowercase().contains("needle") && !log.contains('\x1b'), "{log}");
}
