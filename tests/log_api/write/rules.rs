use relay_tests::{on_every_store, service::files, store::Store};
use serde_json::json;

use crate::lab::{Writer, crc32c, create, send};

on_every_store! {
    ranges_come_in_any_order_and_repeat_without_harm,
    other_bytes_for_a_stored_offset_are_refused_and_kept_as_evidence,
    appends_land_one_after_the_other_and_a_key_makes_them_repeatable,
    encoded_bodies_are_stored_decoded,
    markers_move_the_end_and_what_is_stored_counts_more,
    an_end_is_checked_against_what_is_stored,
    the_same_writer_gets_the_same_stream_and_another_none,
}

fn ranges_come_in_any_order_and_repeat_without_harm(store: &Store) {
    let service = store.service();
    let writer = Writer::new(&service);
    let answer = writer.patch("bytes 5-9/*", b"world");
    assert_eq!((answer.status, answer.header("content-range")), (202, "bytes 5-9/*"));
    assert_eq!((answer.header("upload-offset"), answer.header("relay-gaps")), ("0", "0-4"));
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").header("upload-offset"), "10");
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 202);
    assert_eq!(writer.patch("bytes 3-11/*", b"loworld!!").header("upload-offset"), "12");
    assert_eq!(writer.end(12, &crc32c(b"helloworld!!")).status, 202);
}

fn other_bytes_for_a_stored_offset_are_refused_and_kept_as_evidence(store: &Store) {
    let service = store.service();
    let writer = Writer::new(&service);
    assert_eq!(writer.patch("bytes 0-4/*", b"hello").status, 202);
    for (range, bytes) in [("bytes 0-4/*", b"jello"), ("bytes 4-8/*", b"xxxxx")] {
        let answer = writer.patch(range, bytes);
        assert_eq!(answer.status, 409);
        assert!(answer.problem().contains("other bytes are stored"));
    }
    assert_eq!(writer.head(), (5, String::new()));
    assert!(store.folder().is_none_or(|folder| files(folder, "/x/").len() == 2));
    assert_eq!(writer.end(5, &crc32c(b"hello")).status, 202);
}

fn appends_land_one_after_the_other_and_a_key_makes_them_repeatable(store: &Store) {
    let service = store.service();
    let writer = Writer::new(&service);
    assert_eq!(writer.append(None, b"one").header("content-range"), "bytes 0-2/*");
    assert_eq!(writer.append(Some("k"), b"two").header("content-range"), "bytes 3-5/*");
    assert_eq!(writer.append(Some("k"), b"two").header("content-range"), "bytes 3-5/*");
    assert_eq!(writer.append(Some("k"), b"owt").status, 409);
    assert_eq!(writer.append(Some("k"), b"longer").status, 409);
    assert_eq!(writer.append(None, b"three").header("content-range"), "bytes 6-10/*");
    assert_eq!(writer.patch("bytes 11-11/*", b"x").status, 409, "it is appended to");
    assert_eq!(writer.mark(11, 5).status, 409, "offsets are not the writer's");
    let ranged = Writer::new(&service);
    assert_eq!(ranged.patch("bytes 0-0/*", b"x").status, 202);
    assert_eq!(ranged.append(None, b"x").status, 409, "it is written by range");
    let marked = Writer::new(&service);
    assert_eq!(marked.mark(0, 5).status, 202);
    assert_eq!(marked.append(None, b"x").status, 409, "it is written by range");
    assert_eq!(marked.put_at(5, b"x").status, 202);
}

fn encoded_bodies_are_stored_decoded(store: &Store) {
    let service = store.service();
    let writer = Writer::new(&service);
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\xcf\xaf\xca\x2c\x50\x00\x00\xe8\x05\x8c\x5d\x06\x00\x00\x00";
    let zstd = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00zstd\n";
    let send_encoded = |encoding: &str, range: &str, body: &[u8]| {
        let request = writer.request("PATCH", "data").header("content-encoding", encoding);
        send(request.header("content-range", range).body(body.to_vec())).status
    };
    assert_eq!(send_encoded("zstd", "bytes 0-4/*", zstd), 202);
    assert_eq!(send_encoded("zstd", "bytes 5-10/*", zstd), 400, "it is shorter than its range");
    assert_eq!(send_encoded("gzip", "bytes 5-10/*", &gzip[..20]), 400, "it is cut short");
    assert_eq!(writer.end(5, &crc32c(b"zstd\n")).status, 202);
}

fn markers_move_the_end_and_what_is_stored_counts_more(store: &Store) {
    let service = store.service();
    let writer = Writer::new(&service);
    writer.patch("bytes 0-1/*", b"ab");
    let dropped = json!({ "range": "bytes 2-9/*", "markers": ["dropped"], "reason": "full" });
    for _ in 0..2 {
        let answer = writer.post("markers", &dropped);
        assert_eq!((answer.status, answer.header("upload-offset")), (202, "10"));
    }
    writer.patch("bytes 10-11/*", b"cd");
    assert_eq!(writer.end(12, &crc32c(b"abcd")).status, 202);
    let metrics = send(crate::lab::client().get(format!("{}/metrics", service.url())));
    let text = metrics.response.text().unwrap();
    let counted = "relay_log_service_marked_bytes_total{marker=\"dropped\",reason=\"full\"} 8";
    assert!(text.contains(counted), "{text}");
}

fn an_end_is_checked_against_what_is_stored(store: &Store) {
    let service = store.service();
    let writer = Writer::new(&service);
    writer.patch("bytes 0-4/*", b"hello");
    let crc = crc32c(b"hello");
    assert_eq!(writer.end(4, &crc).status, 409, "more is stored");
    assert_eq!(writer.end(5, "00000000").status, 409, "another checksum");
    assert_eq!(writer.patch("bytes 5-5/*", b"!").status, 202, "nothing changed");
    let ended = writer.end(8, "12345678");
    assert_eq!((ended.status, ended.header("relay-gaps")), (202, "6-7"));
    assert_eq!(ended.json()["gaps"], json!(["bytes 6-7/*"]));
    assert_eq!(writer.end(8, "12345678").status, 202, "repeated");
    assert_eq!(writer.end(9, "12345678").status, 409, "another length");
    assert_eq!(writer.patch("bytes 8-8/*", b"x").status, 409, "past the end");
    assert_eq!(writer.patch("bytes 6-7/*", b"??").status, 202, "a hole is filled");
    assert_eq!(writer.head(), (8, String::new()));
}

fn the_same_writer_gets_the_same_stream_and_another_none(store: &Store) {
    let service = store.service();
    let body = json!({ "name": "stdout", "pod": "p", "instance": "i", "writer": "secret" });
    let (first, created) = Writer::at(&service, &body);
    assert!(created);
    first.patch("bytes 0-0/*", b"x");
    let (again, created) = Writer::at(&service, &body);
    assert!(!created);
    assert_eq!(again.head(), (1, String::new()));
    for other in [
        json!({ "name": "stdout", "pod": "p", "instance": "i", "writer": "other" }),
        json!({ "name": "stdout", "pod": "p", "instance": "i" }),
    ] {
        assert_eq!(create(&service, &other).status, 409);
    }
}
