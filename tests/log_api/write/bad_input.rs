use relay_tests::service::Service;
use serde_json::json;

use crate::lab::{Writer, client, create, send};

#[test]
fn every_wrong_request_gets_its_status_and_changes_nothing() {
    let service = Service::in_memory();
    let writer = Writer::new(&service);
    let patch = || writer.request("PATCH", "data");
    let long = vec![0; (4 << 20) + 1];
    for (status, request) in [
        (400, patch().header("content-range", "0-4").body("hello")),
        (400, patch().header("content-range", "bytes 0-5/*").body("hello")),
        (400, patch().header("content-range", "bytes 0-3/*").body("hello")),
        (400, patch().body("")),
        (400, patch().header("content-range", "bytes 0-0/*").header("relay-times", "x").body("a")),
        (400, patch().header("idempotency-key", "k".repeat(65)).body("a")),
        (400, patch().header("content-encoding", "gzip").body("not gzip")),
        (400, patch().header("content-encoding", "zstd").body("not zstd")),
        (416, patch().header("content-range", "bytes 5-4/*").body("x")),
        (416, patch().header("content-range", "bytes 0-18446744073709551615/*").body("x")),
        (413, patch().header("content-range", "bytes 0-4194304/*").body(long.clone())),
        (413, patch().body(long)),
        (415, patch().header("content-type", "text/plain").body("x")),
        (415, patch().header("content-encoding", "br").body("x")),
        (415, patch().header("content-encoding", "gzip, zstd").body("x")),
        (415, writer.request("POST", "markers").header("content-type", "text/plain").body("{}")),
        (400, writer.request("POST", "markers").body("{")),
        (422, writer.request("POST", "markers").body("{}")),
        (422, writer.request("POST", "end").body(r#"{"length":-1,"crc32c":"0","reason":"eof"}"#)),
        (405, writer.request("PUT", "data").body("x")),
        (405, writer.request("DELETE", "end").body("x")),
        (404, writer.request("POST", "nothing").body("x")),
    ] {
        let answer = send(request);
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("allow").is_empty(), status != 405);
        assert!(!answer.problem().is_empty());
    }
    let empty = json!({ "range": "bytes 0-5/*", "markers": [] });
    assert_eq!(writer.post("markers", &empty).status, 422);
    assert_eq!(writer.head(), (0, String::new()));
}

#[test]
fn wrong_names_and_secrets_are_refused() {
    let service = Service::in_memory();
    for body in [
        json!({}),
        json!({ "name": "../x" }),
        json!({ "name": "stdout", "pod": "../.." }),
        json!({ "name": "stdout", "namespace": "A" }),
        json!({ "name": "stdout", "writer": "" }),
        json!({ "name": "stdout", "writer": "x".repeat(129) }),
        json!({ "name": "stdout", "writer": "tab\t" }),
    ] {
        let answer = create(&service, &body);
        assert_eq!(answer.status, 422, "{body}");
        assert!(!answer.problem().is_empty());
    }
}

#[test]
fn forged_ids_get_one_and_the_same_answer() {
    let service = Service::in_memory();
    let writer = Writer::new(&service);
    let unknown = send(client().post(format!("{}/nothing/here", service.url()))).problem();
    let (base, id) = writer.url.rsplit_once('/').unwrap();
    let flipped =
        format!("{}{}", if id.starts_with('A') { 'B' } else { 'A' }, id.get(1..).unwrap());
    // An id of another process is signed with a key that this one does not know.
    let other = Writer::new(&Service::in_memory()).url;
    let foreign = other.rsplit_once('/').unwrap().1.to_owned();
    for id in [flipped.as_str(), foreign.as_str(), "x", "..%2f..%2fetc", "%ff", &"A".repeat(10_000)]
    {
        let answer = send(client().post(format!("{base}/{id}/data")).body("x"));
        assert_eq!(answer.status, 404, "{id}");
        assert_eq!(answer.problem(), unknown);
    }
}

/// The most memory that the service ever used, in bytes.
fn peak(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process().id()));
    let status = status.unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_bomb_is_refused_while_it_is_decoded() {
    let service = Service::in_memory();
    let writer = Writer::new(&service);
    // 4 bytes that a block repeats to 128 KiB, 8,192 times: 1 GiB.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for _ in 0..8192 {
        bomb.extend_from_slice(&[0x02, 0x00, 0x10, b'x']);
    }
    assert_eq!(writer.patch("bytes 0-99999/*", &vec![b'x'; 100_000]).status, 202);
    let before = peak(&service);
    let send_bomb = |range: Option<&str>| {
        let request = writer.request("PATCH", "data").header("content-encoding", "zstd");
        let request = range
            .into_iter()
            .fold(request, |request, range| request.header("content-range", range));
        send(request.body(bomb.clone())).status
    };
    assert_eq!(send_bomb(None), 413);
    assert_eq!(send_bomb(Some("bytes 0-9/*")), 400, "longer than its range");
    // 4 MiB of content, and code that was not loaded before.
    assert!(peak(&service) - before < 8 << 20, "{} bytes more", peak(&service) - before);
}

#[test]
fn bodies_end_where_they_say() {
    use std::{
        io::{Read, Write},
        net::Shutdown,
    };
    let service = Service::in_memory();
    let writer = Writer::new(&service);
    let path = writer.url.trim_start_matches(service.url()).to_owned();
    let answer = |head: &str, body: &str, cut: Option<Shutdown>| {
        let address = service.url().trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = format!(
            "PATCH {path}/data HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\
             content-range: bytes 0-4/*\r\n{head}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        cut.map_or(Ok(()), |cut| stream.shutdown(cut)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let cut = Some(Shutdown::Write);
    let chunked = "transfer-encoding: chunked";
    assert_eq!(answer("content-length: 5", "hel", cut), "400");
    assert_eq!(answer("content-length: 3", "hel", None), "400");
    assert_eq!(answer(chunked, "3\r\nhel\r\n", cut), "400", "it has no end");
    assert_eq!(answer(chunked, "6\r\nhello!\r\n0\r\n\r\n", None), "400");
    assert_eq!(writer.head(), (0, String::new()));
    assert_eq!(answer(chunked, "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", None), "202");
}

#[test]
fn json_that_is_none_or_something_else_is_refused() {
    let service = Service::in_memory();
    let writer = Writer::new(&service);
    let deep = format!(
        "{{\"range\":\"bytes 0-5/*\",\"markers\":[\"dropped\"],\"x\":{}",
        "[".repeat(30_000)
    );
    let long = " ".repeat(70_000);
    for (status, path, body) in [
        (400, "end", r#"{"length": NaN, "crc32c": "00000000", "reason": "eof"}"#),
        (422, "end", r#"{"length": 1e3, "crc32c": "00000000", "reason": "eof"}"#),
        (422, "end", r#"{"length": 99999999999999999999, "crc32c": "00000000", "reason": "eof"}"#),
        (422, "end", r#"{"length": 0, "length": 0, "crc32c": "00000000", "reason": "eof"}"#),
        (422, "end", r#"{"length": 0, "crc32c": "0000000g", "reason": "eof"}"#),
        (422, "end", r#"{"length": 0, "crc32c": "00000000", "reason": "bored"}"#),
        (400, "markers", &deep),
        (413, "markers", &long),
        (422, "markers", r#"{"range": "bytes 5-4/*", "markers": ["dropped"]}"#),
        (422, "markers", r#"{"range": "bytes 0-5/*", "markers": ["corrupt"]}"#),
    ] {
        let answer = send(writer.request("POST", path).body(body.to_owned()));
        assert_eq!(answer.status, status, "{path} {}", body.chars().take(80).collect::<String>());
        answer.problem();
    }
    assert_eq!(writer.head(), (0, String::new()));
}
