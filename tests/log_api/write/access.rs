//! Who may write, and by which sockets.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use relay_protocol::capability::{Access, KeyId, KeyRing, TokenClaim};
use relay_tests::{certificate::self_signed, service::Service};
use serde_json::{Value, json};

use crate::lab::{Answer, Writer, client, send};

fn key(number: u8) -> KeyRing {
    KeyRing::new(KeyId(number), vec![number; 32]).unwrap()
}

fn token(access: Access, expires: u64, number: u8) -> String {
    let namespace = "team-a".parse().unwrap();
    TokenClaim { namespace, access, expires }.sign(&key(number))
}

fn write_access() -> Access {
    Access::Write("web".parse().unwrap(), None)
}

fn create_with(service: &Service, token: &str, body: &Value) -> Answer {
    let request = client().post(format!("{}/logs", service.url())).bearer_auth(token);
    send(request.body(body.to_string()))
}

#[test]
fn a_token_says_whose_stream_it_is() {
    let keys = tempfile::tempdir().unwrap();
    fs::write(keys.path().join("1.key"), [1; 32]).unwrap();
    let keys = keys.path().to_str().unwrap();
    let service = Service::with(&["--store", "memory:", "--auth", "hmac", "--key-dir", keys]);
    let body = json!({ "name": "stdout", "namespace": "team-b", "pod": "db", "writer": "w" });
    for refused in [
        token(write_access(), 1, 1),
        token(write_access(), u64::MAX, 2),
        token(Access::Read(None), u64::MAX, 1),
        "relay_".to_owned(),
    ] {
        assert_eq!(create_with(&service, &refused, &body).status, 404);
    }
    let created = create_with(&service, &token(write_access(), u64::MAX, 1), &body);
    assert_eq!(created.status, 200);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let data = client().patch(format!("{}/logs/{id}/data", service.url()));
    assert_eq!(send(data.body("hello\n")).status, 202, "the id alone gives the right");
    // The body's namespace and pod count for nothing.
    let read = |namespace: &str, pod: &str| {
        let url = format!("{}/api/namespaces/{namespace}/pods/{pod}/logs", service.url());
        let request = client().get(url).bearer_auth(token(Access::Read(None), u64::MAX, 1));
        let answer = send(request);
        (answer.status, answer.response.text().unwrap())
    };
    assert_eq!(read("team-a", "web"), (200, "hello\n".to_owned()));
    assert_eq!(read("team-b", "db").0, 404);
}

#[test]
fn neither_the_log_nor_the_metrics_hold_a_secret() {
    let keys = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(keys.path().join("1.key"), [1; 32]).unwrap();
    let store = format!("file://{}", folder.path().display());
    let keys = keys.path().to_str().unwrap();
    let flags = ["--store", &store, "--auth", "hmac", "--key-dir", keys, "--log", "trace"];
    let service = Service::with(&flags);
    let token = token(write_access(), u64::MAX, 1);
    let body = json!({ "name": "stdout", "writer": "writer-secret", "instance": "i" });
    let id = create_with(&service, &token, &body).json()["id"].as_str().unwrap().to_owned();
    let url = |path: &str| format!("{}/logs/{id}/{path}", service.url());
    let content = "captured-content";
    for (range, bytes, status) in [
        ("bytes 0-15/*", content, 202),
        ("bytes 0-15/*", "captured-CONTENT", 409),
        ("bytes captured-content", content, 400),
    ] {
        let request = client().patch(url("data")).header("content-range", range);
        assert_eq!(send(request.header("relay-flush", "now").body(bytes)).status, status);
    }
    let end = json!({ "length": 1, "crc32c": "00000000", "reason": "eof" }).to_string();
    assert_eq!(send(client().post(url("end")).body(end)).status, 409);
    fs::remove_dir_all(folder.path()).unwrap();
    fs::write(folder.path(), "no folder").unwrap();
    let lost = client().patch(url("data")).header("content-range", "bytes 16-31/*");
    assert_eq!(send(lost.body(content)).status, 503);
    let metrics = client().get(format!("{}/metrics", service.url())).send().unwrap();
    let told = format!("{}{}", metrics.text().unwrap(), service.log());
    assert!(told.contains("failed to store a segment"), "{told}");
    for secret in [&id, &token, "writer-secret", content, "captured-CONTENT"] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}

#[test]
fn a_unix_socket_serves_and_is_taken_over_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("relay.sock");
    let listen = format!("unix:{}", socket.display());
    let mut service = Service::with(&["--store", "memory:", "--listen", &listen]);
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let body = r#"{"name":"stdout"}"#;
        let length = body.len();
        write!(
            stream,
            "POST /logs HTTP/1.1\r\nhost: relay\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        service.kill_9();
        assert!(socket.exists(), "a crash leaves it behind");
        service.restart();
    }
    drop(service.stop());
    assert!(!socket.exists());
}

#[test]
fn tls_serves_those_who_trust_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = self_signed(folder.path());
    let flags = ["--store", "memory:", "--tls-cert-file", &cert, "--tls-key-file", &key];
    let service = Service::with(&flags);
    drop(client());
    let trusted = reqwest::Certificate::from_pem(&fs::read(&cert).unwrap()).unwrap();
    let builder = || reqwest::blocking::Client::builder().tls_certs_only([trusted.clone()]);
    for (builder, version) in
        [(builder(), reqwest::Version::HTTP_2), (builder().http1_only(), reqwest::Version::HTTP_11)]
    {
        let client = builder.build().unwrap();
        let created = client.post(format!("{}/logs", service.url())).body(r#"{"name":"stdout"}"#);
        let created = created.send().unwrap();
        assert_eq!((created.status().as_u16(), created.version()), (200, version));
        let created: Value = serde_json::from_str(&created.text().unwrap()).unwrap();
        let url = format!("{}/logs/{}", service.url(), created["id"].as_str().unwrap());
        let writer = Writer::with(client, url);
        assert_eq!(writer.patch("bytes 0-999999/*", &vec![b'x'; 1_000_000]).status, 202);
    }
    let stranger = reqwest::blocking::Client::builder().tls_certs_only([]).build().unwrap();
    assert!(stranger.get(format!("{}/livez", service.url())).send().is_err());
    let plain = service.url().replace("https", "http");
    assert!(client().get(format!("{plain}/livez")).send().is_err());
}
