//! Who may read what, with tokens as `relay token mint` makes them.

use std::{
    fs,
    io::Read,
    process::Command,
    time::{Duration, SystemTime},
};

use relay_tests::{
    program::{is_long_run, program},
    service::Service,
};
use reqwest::blocking::{Client, Response};
use tempfile::TempDir;

/// A service that asks for tokens, with a log of the pods `a` and `b`.
struct Guarded {
    service: Service,
    keys: TempDir,
    client: Client,
}

impl Guarded {
    fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let keys = tempfile::tempdir().unwrap();
        fs::write(keys.path().join("1.key"), [1; 32]).unwrap();
        let folder = keys.path().to_str().unwrap();
        let service = Service::with(&["--store", "memory:", "--auth", "hmac", "--key-dir", folder]);
        // Longer than a follower goes without its right being checked.
        let client = Client::builder().timeout(Duration::from_secs(90)).build().unwrap();
        let guarded = Self { service, keys, client };
        for pod in ["a", "b"] {
            let token = guarded.token(&["--write", "--pod", pod]);
            let request = guarded.client.post(format!("{}/logs", guarded.service.url()));
            let request = request.header("content-type", "application/json").bearer_auth(token);
            let answer = request.body(r#"{"name":"stdout"}"#).send().unwrap();
            assert_eq!(answer.status(), 200);
        }
        guarded
    }

    fn token(&self, flags: &[&str]) -> String {
        let mut command = Command::new(program("relay"));
        command.args(["token", "mint", "--key-dir"]).arg(self.keys.path()).args(flags);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn get(&self, token: &str, path: &str) -> Response {
        let url = format!("{}/api/namespaces/{path}", self.service.url());
        self.client.get(url).bearer_auth(token).send().unwrap()
    }
}

#[test]
fn a_token_opens_what_it_names_and_everything_else_is_as_if_it_were_not_there() {
    let guarded = Guarded::new();
    let paths = ["local/pods/a/logs", "local/pods/a", "local/pods/b/logs", "local/pods"];
    for (flags, expected) in [
        (&["--read", "--pod", "a"][..], [200, 200, 404, 404]),
        (&["--read"], [200, 200, 200, 200]),
        (&["--read", "-n", "other"], [404, 404, 404, 404]),
        (&["--write", "--pod", "a"], [404, 404, 404, 404]),
    ] {
        let token = guarded.token(flags);
        let statuses = paths.map(|path| guarded.get(&token, path).status().as_u16());
        assert_eq!(statuses, expected, "{flags:?}");
    }
    let url = format!("{}/api/namespaces/local/pods/a/logs", guarded.service.url());
    assert_eq!(guarded.client.get(url).send().unwrap().status(), 401);
}

/// Takes the minute between two checks of a follower's right.
#[test]
fn a_follower_whose_token_expires_is_cut_off_within_a_minute() {
    if !is_long_run() {
        return;
    }
    let guarded = Guarded::new();
    let token = guarded.token(&["--read", "--pod", "a", "--ttl", "5s"]);
    let mut answers = ["follow=true", "follow=true&format=raw", "follow=true&format=sse"]
        .map(|query| guarded.get(&token, &format!("local/pods/a/logs?{query}")));
    let begun = SystemTime::now();
    for answer in &mut answers {
        assert_eq!(answer.status(), 200);
        answer.read_to_end(&mut Vec::new()).unwrap_err();
    }
    assert!(begun.elapsed().unwrap() < Duration::from_secs(75), "only the client gave up");
}
