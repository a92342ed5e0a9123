//! Requests that chance made.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Write as _,
    net::Shutdown,
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use relay_tests::service::Service;

use super::lab::{Lab, Stream};

/// What must not be found in the service's log: it is in bodies, ids, tokens and headers.
const NEEDLE: &str = "n33dle";

#[derive(Clone, Debug)]
struct Request {
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    framing: String,
    body: Vec<u8>,
}

impl Request {
    /// As bytes, for this stream.
    fn bytes(&self, stream: &Stream) -> Vec<u8> {
        let Self { method, target, version, headers, framing, body } = self;
        let target = target.replace("{id}", &stream.id);
        let mut text = format!("{method} {target} {version}\r\nhost: relay\r\n");
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        let framing = framing.replace("{length}", &body.len().to_string());
        [format!("{text}{framing}\r\n").as_bytes(), body].concat()
    }
}

/// Numbers where things change.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..20_u64).prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        prop::sample::select(vec![
            "",
            "-",
            "+1",
            "1.5",
            "1e9",
            "0x10",
            "18446744073709551615",
            "18446744073709551616",
            "9223372036854775807",
            "4194304",
            "4194305",
            "*",
            "٣",
            "NaN",
            "00",
        ])
        .prop_map(str::to_owned),
    ]
}

fn range() -> impl Strategy<Value = String> {
    let unit = prop::sample::select(vec!["bytes ", "bytes=", "bytes", "lines ", ""]);
    let total = prop::sample::select(vec!["/*", "/10", "", "/", ",5-6", "/*/*"]);
    (unit, number(), prop::sample::select(vec!["-", "", "--", "–"]), number(), total)
        .prop_map(|(unit, first, dash, last, total)| format!("{unit}{first}{dash}{last}{total}"))
}

fn noise() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => "[ -~]{0,40}",
        20 => "[a-z=,;/*.+0-9-]{0,30}",
        10 => Just(NEEDLE.to_owned()),
        // What only the HTTP layer may refuse.
        1 => "[\u{80}-\u{ff}\t\u{1}]{0,8}",
        1 => Just("x".repeat(5_000)),
    ]
}

fn position() -> impl Strategy<Value = String> {
    prop_oneof![
        noise(),
        (number(), number())
            .prop_map(|(one, two)| format!("main/stdout@i:{one},main/stderr@i:{two}")),
        vec(("[a-z/@:.]{0,9}", number()), 0..20).prop_map(|all| all
            .iter()
            .map(|(name, at)| format!("{name}:{at}"))
            .collect::<Vec<_>>()
            .join(",")),
    ]
}

fn header() -> impl Strategy<Value = (String, String)> {
    let named = |name: &'static str| move |value: String| (name.to_owned(), value);
    let encodings = vec!["gzip", "zstd", "identity", "br", "gzip, zstd", "", "GZIP", "x-gzip"];
    let accepts = vec![
        "text/plain",
        "application/octet-stream",
        "application/x-ndjson",
        "text/event-stream",
        "*/*",
        "text/*;q=0.1, */*;q=0",
        "application/json",
        ";",
        "text/plain;q=2",
        ",,,",
    ];
    prop_oneof![
        range().prop_map(named("content-range")),
        range().prop_map(named("range")),
        noise().prop_map(named("relay-gaps")),
        noise().prop_map(named("idempotency-key")),
        position().prop_map(named("last-event-id")),
        vec((number(), number()), 0..70)
            .prop_map(|all| all
                .iter()
                .map(|(at, ms)| format!("{at}={ms}"))
                .collect::<Vec<_>>()
                .join(","))
            .prop_map(named("relay-times")),
        prop::sample::select(encodings).prop_map(str::to_owned).prop_map(named("content-encoding")),
        prop::sample::select(accepts).prop_map(str::to_owned).prop_map(named("accept")),
        noise().prop_map(named("accept")),
        prop_oneof![
            Just("application/json".to_owned()),
            Just("application/octet-stream".to_owned()),
            noise()
        ]
        .prop_map(named("content-type")),
        prop_oneof![Just("now".to_owned()), noise()].prop_map(named("relay-flush")),
        prop_oneof![Just("100-continue".to_owned()), noise()].prop_map(named("expect")),
        noise().prop_map(|value| ("authorization".to_owned(), format!("Bearer relay_{value}"))),
        prop_oneof![Just("close".to_owned()), Just("upgrade".to_owned()), noise()]
            .prop_map(named("connection")),
        prop_oneof![Just("h2c".to_owned()), noise()].prop_map(named("upgrade")),
        noise().prop_map(named("if-range")),
        ("[!-9;-~]{1,20}", noise()),
    ]
}

fn parameter() -> impl Strategy<Value = String> {
    let names = vec![
        "container",
        "stream",
        "instance",
        "tail",
        "since",
        "timestamps",
        "previous",
        "format",
        "grep",
        "%66ollow",
    ];
    let values = vec![
        "true",
        "false",
        "main",
        "stdout",
        "i",
        "10",
        "-1",
        "-2",
        "1h",
        "90s",
        "1h30m",
        "99999999999999999999d",
        "2026-01-01T00:00:00Z",
        "0000-00-00T99:99:99Z",
        "raw",
        "sse",
        "ndjson",
        "text",
        "%00",
        "%ff",
        "%",
        "a%26b=c",
    ];
    let value = prop_oneof![
        prop::sample::select(values).prop_map(str::to_owned),
        number(),
        "[!-\"$-~]{0,20}",
    ];
    (prop::sample::select(names), value).prop_map(|(name, value)| format!("{name}={value}"))
}

fn target() -> impl Strategy<Value = String> {
    let paths = vec![
        "/logs",
        "/logs/{id}/data",
        "/logs/{id}/markers",
        "/logs/{id}/end",
        "/logs/n33dle/data",
        "/livez",
        "/readyz",
        "/metrics",
        "/api/namespaces/local/pods",
        "/api/namespaces/local/pods/p",
        "/api/namespaces/local/pods/p/logs",
        "/api/namespaces/local/pods/p/logs",
        "/api/namespaces/n33dle/pods/q/logs",
        "/",
        "*",
        "//",
        "/logs/",
        "n33dle",
        "http://relay/livez",
        "/logs/{id}{id}/data",
        "/api/namespaces//pods//logs",
    ];
    (prop::sample::select(paths), vec(parameter(), 0..4)).prop_map(|(path, query)| {
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    })
}

/// Mostly right: what the HTTP layer refuses finds nothing behind it.
fn framing() -> impl Strategy<Value = String> {
    let wrong = vec![
        "transfer-encoding: chunked\r\ncontent-length: {length}\r\n",
        "content-length: {length}\r\ncontent-length: {length}\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: -1\r\n",
        "content-length: 99999999\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "",
        "content-length: {length}\r\n\r\nGET /livez HTTP/1.1\r\n",
        "\n",
        "\r",
    ];
    prop_oneof![
        12 => Just("content-length: {length}\r\n".to_owned()),
        1 => prop::sample::select(wrong).prop_map(str::to_owned),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let json = vec![
        r#"{"name":"stdout","pod":"p"}"#,
        r#"{"range":"bytes 0-5/*","markers":["dropped"],"reason":"n33dle"}"#,
        r#"{"length":6,"crc32c":"0000beef","reason":"eof","exit":0}"#,
        r#"{"length":-1}"#,
        "{",
        "[]",
        "null",
        "\"",
        r#"{"name":"n33dle","writer":"n33dle"}"#,
        r#"{"name":{"name":{}}}"#,
        "5\r\nhello\r\n0\r\n\r\n",
        "5;x=n33dle\r\nhello\r\n0\r\nx: y\r\n\r\n",
        "fffffffff\r\nx",
        "\u{1f}\u{8b}",
    ];
    prop_oneof![
        Just(Vec::new()),
        prop::sample::select(json).prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..60),
        Just(NEEDLE.repeat(100).into_bytes()),
    ]
}

fn anything() -> impl Strategy<Value = Request> {
    let methods =
        vec!["GET", "HEAD", "POST", "PATCH", "PATCH", "PUT", "DELETE", "OPTIONS", "CONNECT", "PRI"];
    let method = prop_oneof![
        20 => prop::sample::select(methods).prop_map(str::to_owned),
        1 => "[!-~]{0,12}",
    ];
    let wrong = prop::sample::select(vec!["HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "http/1.1"]);
    let version = prop_oneof![20 => Just("HTTP/1.1"), 1 => wrong];
    (method, target(), version, vec(header(), 0..5), framing(), body()).prop_map(
        |(method, target, version, headers, framing, body)| Request {
            method,
            target,
            version,
            headers,
            framing,
            body,
        },
    )
}

/// What a client would send, with a header or two that it would not.
fn nearly_right() -> impl Strategy<Value = Request> {
    let json = "application/json";
    let requests = prop_oneof![
        (0..20_u64, vec(any::<u8>(), 1..9)).prop_map(|(at, body)| {
            let range = format!("bytes {at}-{}/*", at + body.len() as u64 - 1);
            ("PATCH", "/logs/{id}/data".to_owned(), ("content-range", range), body)
        }),
        (range(), body()).prop_map(|(range, body)| {
            ("POST", "/logs/{id}/data".to_owned(), ("content-range", range), body)
        }),
        (prop::sample::select(vec!["data", "markers", "end"]), body()).prop_map(
            move |(what, body)| {
                ("POST", format!("/logs/{{id}}/{what}"), ("content-type", json.to_owned()), body)
            }
        ),
        body().prop_map(move |body| {
            ("POST", "/logs".to_owned(), ("content-type", json.to_owned()), body)
        }),
        (vec(parameter(), 0..3), position()).prop_map(|(query, position)| {
            let path = format!("/api/namespaces/local/pods/p/logs?{}", query.join("&"));
            ("GET", path, ("last-event-id", position), Vec::new())
        }),
    ];
    (requests, vec(header(), 0..2), framing()).prop_map(
        |((method, target, (name, value), body), mut headers, framing)| {
            headers.push((name.to_owned(), value));
            let method = method.to_owned();
            Request { method, target, version: "HTTP/1.1", headers, framing, body }
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![1 => anything(), 2 => nearly_right()]
}

/// Sends one, and checks what comes back.
fn check(
    lab: &Lab,
    stream: &Stream,
    request: &Request,
    seen: &RefCell<BTreeMap<u16, usize>>,
) -> Result<(), TestCaseError> {
    let mut connection = lab.connect();
    connection.send(&request.bytes(stream));
    drop(connection.stream.shutdown(Shutdown::Write));
    let begun = std::time::SystemTime::now();
    while let Some(answer) = connection.answer() {
        *seen.borrow_mut().entry(answer.status).or_default() += 1;
        let allowed = answer.status < 500 || [501, 503, 505, 507].contains(&answer.status);
        prop_assert!(allowed, "{} {}", answer.head, String::from_utf8_lossy(&answer.body));
        if request.method == "HEAD" {
            break;
        }
    }
    // Only what never ends takes that long.
    prop_assert!(begun.elapsed().unwrap() < super::http::PATIENCE, "it hangs");
    Ok(())
}

fn run(lab: &Lab) {
    // Many, since one end or conflict decides about all that comes to the same stream.
    let streams: Vec<Stream> = (0..50).map(|run| lab.run_of("p", &format!("i{run}"))).collect();
    let next = Cell::new(0);
    let seen = RefCell::default();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let result = runner.run(&request(), |request| {
        next.set(next.get() + 1);
        check(lab, &streams[next.get() % streams.len()], &request, &seen)
    });
    result.unwrap();
    let seen = seen.into_inner();
    // A fuzzer that is refused at the door finds nothing.
    for status in [400, 404, 405, 415] {
        assert!(
            seen.contains_key(&status) || seen.values().sum::<usize>() < 500,
            "{status}: {seen:?}"
        );
    }
    let log = lab.service.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains(NEEDLE), "{log}");
    assert!(!streams.iter().any(|stream| log.contains(&stream.id)), "{log}");
    assert_eq!(lab.get("/readyz").status, 200);
    assert_eq!(lab.stream("after").patch(0, b"x"), 202);
}

#[test]
fn no_request_breaks_the_service_or_is_told_in_its_log() {
    run(&Lab::new());
}

#[test]
fn no_request_breaks_a_service_that_says_all_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().join("store").display());
    let lab = Lab { service: Service::with(&["--store", &store, "--log", "relay=debug"]), folder };
    run(&lab);
}
