use relay_tests::service::Service;
use serde_json::json;

use super::lab::{Writer, client, create, send};

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
    let flipped = format!("{}{}", if id.starts_with('A') { 'B' } else { 'A' }, &id[1..]);
    // An id of another process is signed with a key that this one does not know.
    let other = Writer::new(&Service::in_memory()).url;
    let foreign = other.rsplit_once('/').unwrap().1.to_owned();
    for id in [flipped.as_str(), foreign.as_str(), "x", "..%2f..%2fetc", &"A".repeat(3_000)] {
        let answer = send(client().post(format!("{base}/{id}/data")).body("x"));
        assert_eq!(answer.status, 404, "{id}");
        assert_eq!(answer.problem(), unknown);
    }
}

#[test]
fn a_bomb_is_refused_while_it_is_decoded() {
    let service = Service::in_memory();
    let writer = Writer::new(&service);
    // 11 bytes that a run of one byte repeats to 128 MiB: a zstd frame of RLE blocks.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for _ in 0..1024 {
        bomb.extend_from_slice(&[0x02, 0x00, 0x10, b'x']);
    }
    let request = writer.request("POST", "data").header("content-encoding", "zstd").body(bomb);
    assert_eq!(send(request).status, 413);
}
