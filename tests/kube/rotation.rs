//! Certificates, authorities and tokens that are replaced while they are used.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use relay_protocol::capability::{Access, KeyId, KeyRing, TokenClaim};
use relay_tests::{
    certificate::{Authority, Issued},
    kube::volume::Volume,
    process::{Notes, Running, bare_entrypoint, under},
    program::{self, program},
    service::Service,
    wait::eventually,
};
use reqwest::{Certificate, blocking::Client};
use tempfile::TempDir;

use crate::lab::{ENOUGH, client};

/// The files of a mounted Secret.
fn secret(issued: &Issued) -> [(&str, &str); 2] {
    [("tls.crt", issued.certificate.as_str()), ("tls.key", issued.key.as_str())]
}

/// A service on loopback with the certificate of a mounted Secret.
struct Guarded {
    service: Service,
    secret: Volume,
    folder: TempDir,
}

impl Guarded {
    fn new(issued: &Issued, flags: &[&str]) -> Self {
        drop(client());
        let folder = tempfile::tempdir().unwrap();
        let mounted = Volume::new(&folder.path().join("secret"), &secret(issued));
        let (cert, key) = (mounted.path("tls.crt"), mounted.path("tls.key"));
        let mut all = vec!["--tls-cert-file", &cert, "--tls-key-file", &key];
        all.extend(flags);
        Self { service: Service::with(&all), secret: mounted, folder }
    }

    fn is_reached_by(&self, client: &Client) -> bool {
        let url = format!("{}/livez", self.service.url());
        client.get(url).send().is_ok_and(|answer| answer.status() == 200)
    }
}

/// A client that trusts these authorities only, on connections of its own.
fn trusting(authority: &Authority) -> Client {
    let ca = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let builder = Client::builder().tls_certs_only([ca]).no_proxy().pool_max_idle_per_host(0);
    builder.timeout(ENOUGH * 2).build().unwrap()
}

#[test]
fn a_new_certificate_is_served_without_a_restart_and_breaks_no_connection() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let guarded = Guarded::new(&old.issue("127.0.0.1"), &["--store", "memory:"]);
    let (by_old, by_new) = (trusting(&old), trusting(&new));
    let url = |path: &str| format!("{}{path}", guarded.service.url());
    let created = by_old.post(url("/logs")).header("content-type", "application/json");
    let created = created.body(r#"{"name":"stdout","pod":"p"}"#).send().unwrap().text().unwrap();
    let id = created.split('"').nth(3).unwrap().to_owned();
    let append = |client: &Client, text: &'static str| {
        let stored = client.post(url(&format!("/logs/{id}/data"))).body(text).send().unwrap();
        assert_eq!(stored.status(), 202);
    };
    append(&by_old, "one\n");
    let mut follower =
        by_old.get(url("/api/namespaces/local/pods/p/logs?follow=true")).send().unwrap();
    let mut four = [0; 4];
    follower.read_exact(&mut four).unwrap();
    assert!(!guarded.is_reached_by(&by_new));
    guarded.secret.replace(&secret(&new.issue("127.0.0.1")));
    eventually(ENOUGH, "the new certificate is served", || guarded.is_reached_by(&by_new));
    assert!(!guarded.is_reached_by(&by_old), "the old one is not served any more");
    append(&by_new, "two\n");
    follower.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"two\n", "the connection of the old certificate lives on");
}

#[test]
fn a_certificate_without_its_key_changes_nothing() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let kept = old.issue("127.0.0.1");
    let guarded = Guarded::new(&kept, &["--store", "memory:"]);
    let replacement = new.issue("127.0.0.1");
    for broken in [
        Issued { key: kept.key.clone(), ..replacement.clone() },
        Issued { certificate: String::new(), ..replacement.clone() },
    ] {
        let told = guarded.service.log().matches("the certificate did not change").count();
        guarded.secret.replace(&secret(&broken));
        eventually(ENOUGH, "the service says that it does not take it", || {
            guarded.service.log().matches("the certificate did not change").count() > told
        });
        assert!(guarded.is_reached_by(&trusting(&old)));
    }
    guarded.secret.replace(&secret(&replacement));
    eventually(ENOUGH, "the pair is taken", || guarded.is_reached_by(&trusting(&new)));
}

/// What a container's identity volume holds.
fn identity<'a>(ca: &'a str, token: &'a str) -> [(&'a str, &'a str); 2] {
    [("ca.crt", ca), ("token", token)]
}

fn token(access: Access) -> String {
    let keys = KeyRing::new(KeyId(1), vec![1; 32]).unwrap();
    let claim = TokenClaim { namespace: "local".parse().unwrap(), access, expires: u64::MAX };
    claim.sign(&keys)
}

fn write_token() -> String {
    token(Access::Write("p".parse().unwrap(), None))
}

/// Flags of a service that keeps its logs and keys in a folder.
fn kept(folder: &Path) -> [String; 6] {
    let (keys, store) = (folder.join("keys"), folder.join("store"));
    fs::create_dir(&keys).unwrap();
    fs::create_dir(&store).unwrap();
    fs::write(keys.join("1.key"), [1; 32]).unwrap();
    [
        "--auth",
        "hmac",
        "--key-dir",
        &keys.display().to_string(),
        "--store",
        &format!("file://{}", store.display()),
    ]
    .map(ToOwned::to_owned)
}

/// The entrypoint as the container of a pod, with its identity volume.
fn container(service: &Service, volume: &Path) -> Command {
    let mut command = bare_entrypoint();
    command.env("RELAY_LOG_URL", service.url()).env("RELAY_POD", "p").stdin(Stdio::null());
    command.env("RELAY_TOKEN_FILE", volume.join("token"));
    command.env("RELAY_CA_FILE", volume.join("ca.crt"));
    command.args(["--block-max", "60s"]);
    command
}

fn stored(service: &Service, authority: &Authority) -> String {
    let url =
        format!("{}/api/namespaces/local/pods/p/logs?stream=stdout&format=raw", service.url());
    let reader = token(Access::Read(None));
    let answer = trusting(authority).get(url).bearer_auth(reader).send().unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().unwrap());
    answer.text().unwrap()
}

#[test]
fn no_byte_is_lost_while_authority_certificate_and_token_are_replaced() {
    let [first, second, third] = ["first", "second", "third"].map(Authority::new);
    let data = tempfile::tempdir().unwrap();
    let flags = kept(data.path());
    let mut guarded =
        Guarded::new(&first.issue("127.0.0.1"), &flags.each_ref().map(String::as_str));
    let folder = guarded.folder.path().join("identity");
    let old_token = write_token();
    let volume = Volume::new(&folder, &identity(&first.pem(), &old_token));
    let notes = Notes::new();
    // Some hundred lines a second, each with its number; the number of the last one is noted.
    let script = format!(
        "i=0; until [ -e {0}.stop ]; do for j in 1 2 3 4 5; do i=$((i+1)); echo line $i; done; \
         sleep 0.02; done; echo $i > {0}",
        notes.path().display()
    );
    let running =
        Running::start(container(&guarded.service, &folder).args(["--", "sh", "-c", &script]));
    let lines =
        |service: &Service, authority: &Authority| stored(service, authority).lines().count();
    let grows = |service: &Service, authority: &Authority| {
        let before = lines(service, authority);
        eventually(ENOUGH, "new lines arrive", || lines(service, authority) > before + 50);
    };
    // The log begins with the first lines: until then it is not there.
    eventually(ENOUGH, "the first lines arrive", || {
        let url = format!("{}/api/namespaces/local/pods/p", guarded.service.url());
        let reader = token(Access::Read(None));
        let answer = trusting(&first).get(url).bearer_auth(reader).send();
        answer.is_ok_and(|answer| answer.status() == 200)
    });
    grows(&guarded.service, &first);
    // At once, and without an overlap: nothing can be sent until the volume follows.
    guarded.secret.replace(&secret(&second.issue("127.0.0.1")));
    guarded.service.kill_9();
    guarded.service.restart();
    let before = lines(&guarded.service, &second);
    volume.replace(&identity(&second.pem(), &write_token()));
    eventually(ENOUGH, "delivery goes on", || lines(&guarded.service, &second) > before + 50);
    // As an operator does it: both authorities, then the certificate, then the new one only.
    volume.replace(&identity(&format!("{}{}", second.pem(), third.pem()), &write_token()));
    guarded.secret.replace(&secret(&third.issue("127.0.0.1")));
    eventually(ENOUGH, "the third certificate is served", || {
        guarded.is_reached_by(&trusting(&third))
    });
    grows(&guarded.service, &third);
    volume.replace(&identity(&third.pem(), &write_token()));
    guarded.service.kill_9();
    guarded.service.restart();
    grows(&guarded.service, &third);
    fs::write(format!("{}.stop", notes.path().display()), "").unwrap();
    let finished = running.finish();
    assert_eq!(finished.shell_status(), 0, "{finished:?}");
    let last: u64 = notes.text().trim().parse().unwrap();
    let mut expected: Vec<_> = (1..=last).map(|line| format!("line {line}")).collect();
    expected.push(String::new());
    let expected = expected.join("\n");
    assert!(stored(&guarded.service, &third) == expected, "the log is not what was written");
}

#[test]
fn in_a_root_without_anything_else_the_identity_files_are_enough() {
    let entrypoint = fs::read(program("entrypoint")).unwrap();
    if entrypoint.windows(11).any(|bytes| bytes == b"/lib64/ld-l") {
        eprintln!("skipped: this build of the entrypoint is not static");
        return;
    }
    let authority = Authority::new("first");
    let data = tempfile::tempdir().unwrap();
    let flags = kept(data.path());
    let guarded =
        Guarded::new(&authority.issue("127.0.0.1"), &flags.each_ref().map(String::as_str));
    let root = guarded.folder.path().join("root");
    drop(Volume::new(&root.join("relay-identity"), &identity(&authority.pem(), &write_token())));
    program::copy(&program("entrypoint"), &root.join("entrypoint"));
    let inside = container(&guarded.service, Path::new("/relay-identity"));
    let root = root.display().to_string();
    let mut command = Command::new("/entrypoint");
    command.args(inside.get_args());
    for (name, value) in inside.get_envs() {
        value.map(|value| command.env(name, value));
    }
    // The only program there is the entrypoint itself: it runs itself, to print its version.
    command.args(["--", "/entrypoint", "--version"]);
    let mut confined = under(&["bwrap", "--die-with-parent", "--ro-bind", &root, "/"], &command);
    let finished = Running::start(confined.stdin(Stdio::null())).finish();
    assert_eq!(finished.shell_status(), 0, "{finished:?}");
    let version = stored(&guarded.service, &authority);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}
