//! The document about the interface: it is what is committed, it is `OpenAPI`, and it is true.

use std::{collections::BTreeSet, env, fs, path::PathBuf, process::Command};

use relay_tests::{
    program::{tool, workspace},
    service::Service,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::lab::{Writer, client, create, named, send, status};

const METHODS: [&str; 4] = ["get", "head", "patch", "post"];

fn committed() -> PathBuf {
    workspace().join("docs/openapi.json")
}

fn document(service: &Service) -> String {
    let answer = client().get(format!("{}/openapi.json", service.url())).send().unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    answer.text().unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "make bless says so by a variable")]
fn the_document_that_is_committed_is_the_one_that_is_served() {
    let served = document(&Service::in_memory());
    if env::var_os("RELAY_BLESS").is_some() {
        fs::write(committed(), &served).unwrap();
    }
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let committed = value(&fs::read_to_string(committed()).unwrap_or_default());
    assert!(
        committed == value(&served),
        "docs/openapi.json differs from what is served: make bless"
    );
}

/// An address of a resource that nobody has.
fn example(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "x".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn every_operation_of_the_document_is_served_and_no_other_of_its_resources() {
    let service = Service::in_memory();
    let document: Value = serde_json::from_str(&document(&service)).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/api/workflows/{workflow}/triggers/{trigger}/logs"));
    for (path, operations) in paths {
        let url = format!("{}{}", service.url(), example(path));
        let request = client().request(Method::from_bytes(b"PROPFIND").unwrap(), url);
        let answer = request.send().unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer.headers()["allow"].to_str().unwrap().to_lowercase();
        let allowed: BTreeSet<&str> = allowed.split(',').map(str::trim).collect();
        let named = |method: &&&str| operations.get(**method).is_some();
        let mut told: BTreeSet<&str> = METHODS.iter().filter(named).copied().collect();
        if told.contains("get") {
            // Which every GET implies, and the document does not repeat.
            told.insert("head");
        }
        assert_eq!(told, allowed, "{path}");
    }
}

/// A service that keeps a stream of a trigger and one of a step, and what its document says.
struct Told {
    service: Service,
    document: Value,
    id: String,
}

impl Told {
    fn new() -> Self {
        let service = Service::in_memory();
        let document = serde_json::from_str(&document(&service)).unwrap();
        let step = json!({ "name": "stdout", "pod": "q", "workflow": "w", "run": "r" });
        Writer::at(&service, &step).0.write(b"line\n");
        let trigger = json!({ "name": "stdout", "pod": "p", "workflow": "w", "trigger": "t" });
        let mut writer = Writer::at(&service, &trigger).0;
        writer.write(b"line\n");
        let id = writer.url.rsplit('/').next().unwrap().to_owned();
        Self { service, document, id }
    }

    /// Asks, and looks up what answers: its status, its media type and its headers.
    fn check(&self, method: &str, path: &str, query: &str) {
        let names = [
            ("{id}", self.id.as_str()),
            ("{namespace}", "local"),
            ("{pod}", "p"),
            ("{workflow}", "w"),
            ("{trigger}", "t"),
            ("{run}", "r"),
            ("{step}", "main"),
        ];
        let address =
            names.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
        let url = format!("{}{address}{query}", self.service.url());
        let request = client().request(method.to_uppercase().parse().unwrap(), url);
        let answer = request.send().unwrap();
        let (status, asked) = (answer.status(), format!("{method} {path}{query}"));
        let told = &self.document["paths"][path][method]["responses"][status.as_str()];
        assert!(status.is_success() && told.is_object(), "{asked}: {status} is told as {told}");
        for (header, _) in told["headers"].as_object().into_iter().flatten() {
            assert!(answer.headers().contains_key(header), "{asked}: {header}");
        }
        let media = answer.headers().get("content-type").map(|media| media.to_str().unwrap());
        let media = media.map(|media| media.split(';').next().unwrap());
        let is_told = match (told["content"].as_object(), media) {
            (Some(content), Some(media)) => content.contains_key(media),
            (content, media) => content.is_none() && media.is_none(),
        };
        assert!(is_told, "{asked}: {media:?} is not in {told}");
    }
}

#[test]
fn answers_are_those_of_the_document() {
    let told = Told::new();
    for (path, operations) in told.document["paths"].as_object().unwrap() {
        if operations.get("get").is_none() {
            continue;
        }
        told.check("get", path, "");
        let formats = ["text", "ndjson", "sse", "raw"].iter().filter(|_| path.ends_with("/logs"));
        for format in formats {
            told.check("get", path, &format!("?format={format}"));
        }
    }
    told.check("head", "/logs/{id}/data", "");
    let fresh = Writer::at(&told.service, &json!({ "name": "stdout", "pod": "appended" })).0;
    let appended = send(fresh.request("POST", "data").body("line\n"));
    let path = &told.document["paths"]["/logs/{id}/data"];
    let headers = path["post"]["responses"]["202"]["headers"].as_object().unwrap();
    assert_eq!((appended.status, headers.len()), (202, 3));
    for (header, _) in headers {
        assert!(appended.response.headers().contains_key(header), "{header}");
    }
}

/// What docs/http-api.md has a heading for, the document has.
#[test]
fn the_document_and_the_prose_have_the_same_resources() {
    let document: Value = serde_json::from_str(&document(&Service::in_memory())).unwrap();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = METHODS.iter().filter(|method| operations.get(**method).is_some());
        told.extend(methods.map(|method| format!("`{} {path}`", method.to_uppercase())));
    }
    let prose = fs::read_to_string(workspace().join("docs/http-api.md")).unwrap();
    for operation in told {
        assert!(prose.contains(&operation), "docs/http-api.md does not speak of {operation}");
    }
}

/// Values of parameters of the query, of which the first is taken and the second is not.
const VALUES: [(&str, &str, &str); 10] = [
    ("container", "main", "Main"),
    ("stream", "stdout", "STDOUT"),
    ("instance", "b", "b%20c"),
    ("follow", "false", "maybe"),
    ("tail", "-1", "-2"),
    ("since", "1h", "yesterday"),
    ("timestamps", "true", "maybe"),
    ("previous", "true", "maybe"),
    ("format", "ndjson", "xml"),
    ("namespace", "local", "Local"),
];

/// Headers with what is accepted beside them, a value that cannot be taken, and what is said of it. One has no such value.
const HEADERS: [(&str, &str, &str, u16); 7] = [
    ("Last-Event-ID", "text/event-stream", "nonsense", 400),
    ("Range", "application/octet-stream", "bytes=900-", 416),
    ("Content-Range", "*/*", "bytes 0-1", 400),
    ("Content-Encoding", "*/*", "br", 415),
    ("Idempotency-Key", "*/*", "", 400),
    ("Relay-Times", "*/*", "yesterday", 400),
    ("Relay-Flush", "*/*", "later", 202),
];

/// Keeps a pod `kept` of two runs, a trigger and a step.
fn keep_some(service: &Service) {
    for (pod, instance, part) in [
        ("kept", "a", json!({})),
        ("kept", "b", json!({})),
        ("t", "b", json!({ "workflow": "deploy", "trigger": "push" })),
        ("s", "b", json!({ "workflow": "deploy", "run": "7", "step": "build" })),
    ] {
        let mut body = json!({ "name": "stdout", "pod": pod, "instance": instance });
        body.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        let mut writer = Writer::at(service, &body).0;
        writer.write(b"x\n");
        writer.finish();
    }
}

/// The address of something that is kept.
fn kept(path: &str, id: &str) -> String {
    let names = [
        ("{namespace}", "local"),
        ("{pod}", "kept"),
        ("{workflow}", "deploy"),
        ("{trigger}", "push"),
        ("{run}", "7"),
        ("{step}", "build"),
        ("{id}", id),
    ];
    names.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

/// Names of an operation's parameters that stand in one place.
fn parameters(operation: &Value, place: &str) -> BTreeSet<String> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    let placed = all.filter(|parameter| parameter["in"] == place);
    placed.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_operation_takes_the_parameters_that_the_document_has_and_no_others() {
    let service = Service::in_memory();
    keep_some(&service);
    let document: Value = serde_json::from_str(&document(&service)).unwrap();
    let mut told = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let names = parameters(&operations["get"], "query");
        // Where nothing can be asked for, what is sent changes nothing.
        if names.is_empty() {
            continue;
        }
        let url = format!("{}{}", service.url(), kept(path, "none"));
        let ask = |query: &str| status(client().get(format!("{url}?{query}")).send().unwrap());
        assert_eq!(ask("").0, 200, "{path}");
        assert_eq!(ask("other=x").0, 400, "{path}");
        for (name, good, bad) in VALUES {
            let (code, text) = ask(&format!("{name}={good}"));
            if !names.contains(name) {
                assert_eq!(code, 400, "{path} {name}: {text}");
                continue;
            }
            assert_eq!(code, 200, "{path} {name}: {text}");
            let (code, text) = ask(&format!("{name}={bad}"));
            let is_named = text.contains(name) && !text.contains("is not a parameter");
            assert!(code == 400 && is_named, "{path} {name}: {code} {text}");
        }
        told.extend(names);
    }
    assert_eq!(told, VALUES.map(|(name, ..)| name.to_owned()).into(), "all of them were sent");
}

#[test]
fn each_operation_looks_at_the_headers_that_the_document_has() {
    let service = Service::in_memory();
    keep_some(&service);
    let document: Value = serde_json::from_str(&document(&service)).unwrap();
    let mut told = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            for name in parameters(&operations[method], "header") {
                let (_, accept, value, expected) = HEADERS.iter().find(|it| it.0 == name).unwrap();
                // One that takes bytes as they come: others are about what it has then.
                let id = create(&service, &named(&format!("{method}-{name}").to_lowercase()))
                    .json()["id"]
                    .clone();
                let path = kept(path, id.as_str().unwrap()) + "?instance=b";
                let url = format!("{}{path}", service.url());
                let request = client().request(method.to_uppercase().parse().unwrap(), url);
                let request = request.header("accept", *accept);
                let request = if method == "get" { request } else { request.body("x") };
                let (without, _) = status(request.try_clone().unwrap().send().unwrap());
                assert!(without < 300, "{method} {path}: {without}");
                let (with, text) = status(request.header(&name, *value).send().unwrap());
                assert_eq!(with, *expected, "{method} {path} {name}: {text}");
                told.insert(name);
            }
        }
    }
    assert_eq!(told, HEADERS.map(|(name, ..)| name.to_owned()).into(), "all of them were sent");
}

/// By a validator that others wrote.
#[test]
fn the_document_is_openapi_3_1() {
    let validate = tool("validate");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    let served = document(&Service::in_memory());
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Command::new(&validate).arg(&file).output().unwrap();
        let told =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), told.into_owned())
    };
    let (is_valid, told) = check(&served);
    assert!(is_valid, "{told}");
    let (is_valid, told) = check(&served.replacen("\"responses\"", "\"response\"", 1));
    assert!(!is_valid, "the validator finds what is wrong: {told}");
}
