//! `kubectl relay`: finds the log service of a cluster, and shows it who asks.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use relay_protocol::capability::{Access, KeyId, KeyRing, TokenClaim};
use relay_tests::{
    certificate::{Authority, Issued},
    program::program,
    service::Service,
};
use reqwest::{Certificate, blocking::Client};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cluster::{Cluster, Contents},
    lab::{ENOUGH, client},
};

/// A cluster with a log service, which has the log of pod `web` in namespace `team-a`.
struct Lab {
    service: Service,
    cluster: Cluster,
    folder: TempDir,
    /// The stream of the log.
    id: String,
    writer: Client,
}

fn token(access: Access) -> String {
    let keys = KeyRing::new(KeyId(1), vec![1; 32]).unwrap();
    TokenClaim { namespace: "team-a".parse().unwrap(), access, expires: u64::MAX }.sign(&keys)
}

impl Lab {
    fn new() -> Self {
        drop(client());
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            fs::write(folder.path().join(name), content).unwrap();
            folder.path().join(name).display().to_string()
        };
        fs::create_dir(folder.path().join("keys")).unwrap();
        let keys = file("keys/1.key", &[1; 32]);
        let keys = keys.trim_end_matches("/1.key");
        let authority = Authority::new("relay");
        let Issued { certificate, key } = authority.issue("relay-log-service.relay-system.svc");
        let (cert, key) =
            (file("tls.crt", certificate.as_bytes()), file("tls.key", key.as_bytes()));
        let tls = ["--tls-cert-file", &cert, "--tls-key-file", &key];
        let auth = ["--store", "memory:", "--auth", "hmac", "--key-dir", keys];
        let service = Service::with(&[&auth[..], &tls].concat());
        let contents = Contents {
            installed: vec!["relay-system"],
            ready: true,
            ca: Some(authority.pem()),
            forbidden: None,
        };
        let cluster = Cluster::start(service.url(), contents);
        let writer = writer(&service, &authority);
        let mut lab = Self { service, cluster, folder, id: String::new(), writer };
        lab.id = lab.create();
        lab.kubeconfig(&json!({ "token": token(Access::Read(None)) }));
        lab
    }

    fn url(&self, path: &str) -> String {
        let port = self.service.url().rsplit(':').next().unwrap();
        format!("https://relay-log-service.relay-system.svc:{port}{path}")
    }

    fn create(&self) -> String {
        let writer = token(Access::Write("web".parse().unwrap(), None));
        let request = self.writer.post(self.url("/logs")).bearer_auth(writer);
        let request = request.header("content-type", "application/json");
        let created = request.body(r#"{"name":"stdout"}"#).send().unwrap().text().unwrap();
        created.split('"').nth(3).unwrap().to_owned()
    }

    fn write(&self, text: &'static str) {
        let request = self.writer.post(self.url(&format!("/logs/{}/data", self.id)));
        assert_eq!(request.body(text).send().unwrap().status(), 202);
    }

    /// Ends the log, which has so many bytes.
    fn end(&self, length: u64, crc32c: &str) {
        let end = json!({ "length": length, "crc32c": crc32c, "reason": "eof", "exit": 0 });
        let request = self.writer.post(self.url(&format!("/logs/{}/end", self.id)));
        let request = request.header("content-type", "application/json").body(end.to_string());
        assert_eq!(request.send().unwrap().status(), 202);
    }

    fn kubeconfig(&self, user: &Value) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [
                { "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "team-a" } },
                { "name": "bare", "context": { "cluster": "test", "user": "test" } },
            ],
            "users": [{ "name": "test", "user": user }],
            "clusters": [{ "name": "test", "cluster": {
                "server": self.cluster.url,
                // Only so that none of this machine's is looked for.
                "certificate-authority-data": BASE64.encode(self.cluster.contents().ca.unwrap()),
            } }],
        });
        fs::write(self.folder.path().join("kubeconfig"), config.to_string()).unwrap();
    }

    /// The program as kubectl runs it.
    fn plugin(&self, arguments: &[&str]) -> Command {
        let plugin = self.folder.path().join("kubectl-relay");
        if !plugin.exists() {
            symlink(program("relay"), &plugin).unwrap();
        }
        let mut command = Command::new(plugin);
        for name in ["LOG_URL", "TOKEN_FILE", "CA_FILE", "NAMESPACE"] {
            command.env_remove(format!("RELAY_{name}"));
        }
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig")).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.plugin(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// What it says on its way to fail.
    fn fails(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.run(arguments);
        assert_eq!((status, stdout.as_str()), (Some(1), ""), "{stderr}");
        stderr
    }

    /// Whether anything was forwarded since this was last asked.
    fn has_forwarded(&self) -> bool {
        self.cluster.asked().iter().any(|asked| asked.path.ends_with("/portforward"))
    }
}

/// A client that finds the service by its name in the cluster.
fn writer(service: &Service, authority: &Authority) -> Client {
    let address = service.url().trim_start_matches("https://").parse().unwrap();
    let ca = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let builder = Client::builder().tls_certs_only([ca]).no_proxy().timeout(ENOUGH * 2);
    builder.resolve("relay-log-service.relay-system.svc", address).build().unwrap()
}

#[test]
fn a_log_is_read_through_the_api_server_with_the_persons_own_token() {
    let lab = Lab::new();
    lab.write("hello\n");
    let (status, stdout, stderr) = lab.run(&["logs", "web"]);
    assert_eq!((status, stdout.as_str(), stderr.as_str()), (Some(0), "hello\n", ""));
    let mine = format!("Bearer {}", token(Access::Read(None)));
    assert!(lab.cluster.asked().iter().all(|asked| asked.authorization == mine));
    let (_, stdout, _) = lab.run(&["ls"]);
    assert!(stdout.contains("\nweb "), "the namespace is that of the context: {stdout}");
    let (_, stdout, _) = lab.run(&["logs", "-n", "team-a", "--context", "bare", "pod/web"]);
    assert_eq!(stdout, "hello\n");
    let stderr = lab.fails(&["logs", "--context", "bare", "web"]);
    assert!(stderr.contains("no log of pod web in namespace default"), "{stderr}");
}

#[test]
fn a_plugin_for_credentials_is_run_once() {
    let lab = Lab::new();
    lab.write("hello\n");
    let runs = lab.folder.path().join("runs");
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": { "token": token(Access::Read(None)), "expirationTimestamp": "2099-01-01T00:00:00Z" },
    });
    let script = format!("echo run >> {}; echo '{credential}'", runs.display());
    lab.kubeconfig(&json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
        "interactiveMode": "Never",
    } }));
    assert_eq!(lab.run(&["logs", "web"]).1, "hello\n");
    assert_eq!(fs::read_to_string(runs).unwrap(), "run\n");
}

/// Sockets of a process that listen.
fn listening(child: &Child) -> usize {
    let folder = format!("/proc/{}/fd", child.id());
    let open: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|kind| format!("/proc/net/{kind}"));
    let tables: String = tables.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let listens = |line: &&str| {
        let mut columns = line.split_whitespace().skip(3);
        let (state, inode) = (columns.next(), columns.nth(5));
        state == Some("0A")
            && inode.is_some_and(|inode| open.contains(&format!("socket:[{inode}]")))
    };
    tables.lines().filter(listens).count()
}

#[test]
fn a_follower_goes_on_where_the_way_broke_and_ends_with_the_log() {
    let lab = Lab::new();
    lab.write("one\n");
    let mut follower = lab.plugin(&["logs", "-f", "web"]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert_eq!(listening(&follower), 0, "no port of this machine leads to the cluster");
    lab.cluster.cut();
    lab.write("two\n");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    lab.end(8, &crate::lab::crc32c(b"one\ntwo\n"));
    assert!(lines.next().is_none());
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn a_stranger_in_the_services_place_is_sent_nothing() {
    let lab = Lab::new();
    lab.write("hello\n");
    let before = requests(&lab);
    lab.cluster.change(|contents| contents.ca = Some(Authority::new("relay").pem()));
    let stderr = lab.fails(&["logs", "web"]);
    assert!(stderr.contains("failed to agree on TLS with the log service"), "{stderr}");
    assert!(lab.has_forwarded());
    assert_eq!(requests(&lab), before + 1, "only the question for this number");
    lab.cluster.change(|contents| contents.ca = None);
    assert!(lab.fails(&["logs", "web"]).contains("the ConfigMap relay-ca"));
    assert!(!lab.has_forwarded());
}

/// Requests that the service answered, this one not included.
fn requests(lab: &Lab) -> u64 {
    let metrics = lab.writer.get(lab.url("/metrics")).send().unwrap().text().unwrap();
    let counts =
        metrics.lines().filter(|line| line.starts_with("relay_log_service_requests_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_service_in_a_namespace_that_nobody_named_is_only_told_of() {
    let lab = Lab::new();
    lab.cluster.change(|contents| contents.installed = vec!["tenant"]);
    let stderr = lab.fails(&["logs", "web"]);
    assert!(stderr.contains("add --relay-namespace tenant"), "{stderr}");
    assert!(!lab.has_forwarded());
    // Its certificate would have to be for a name in that namespace.
    let stderr = lab.fails(&["logs", "web", "--relay-namespace", "tenant"]);
    assert!(stderr.contains("failed to agree on TLS"), "{stderr}");
    assert!(lab.has_forwarded());
}

#[test]
fn what_is_missing_is_named_with_the_remedy() {
    let lab = Lab::new();
    let full = lab.cluster.contents();
    for (change, message) in [
        (
            Contents { installed: vec![], ..full.clone() },
            "`helm install relay charts/relay -n relay-system --create-namespace`",
        ),
        (
            Contents { ready: false, ..full.clone() },
            "`kubectl get pods -n relay-system -l app.kubernetes.io/component=log-service`",
        ),
        (
            Contents { forbidden: Some("services"), ..full.clone() },
            "`kubectl auth can-i list services -n relay-system`",
        ),
        (
            Contents { forbidden: Some("pods"), ..full.clone() },
            "`kubectl auth can-i list pods -n relay-system`",
        ),
        (
            Contents { forbidden: Some("relay-ca"), ..full.clone() },
            "`kubectl auth can-i get configmaps/relay-ca -n relay-system`",
        ),
        (
            Contents { forbidden: Some("portforward"), ..full.clone() },
            "`kubectl auth can-i get pods --subresource=portforward -n relay-system`",
        ),
    ] {
        lab.cluster.change(|contents| *contents = change);
        for arguments in [&["logs", "web"][..], &["logs", "-f", "web"], &["ls"]] {
            let stderr = lab.fails(arguments);
            assert!(stderr.contains(message), "{arguments:?}: {stderr}");
        }
    }
    lab.cluster.change(|contents| *contents = full);
    let stderr = lab.fails(&["logs", "none"]);
    assert!(stderr.contains("`kubectl relay ls -n team-a` lists the pods"), "{stderr}");
    assert!(
        stderr.contains("`kubectl auth can-i get pods --subresource=log -n team-a`"),
        "{stderr}"
    );
    let stderr = lab.fails(&["ls", "-n", "other"]);
    assert!(
        stderr.contains("`kubectl auth can-i get pods --subresource=log -n other`"),
        "{stderr}"
    );
}

#[test]
fn a_kubeconfig_that_shows_nobody_or_somebody_else_is_refused() {
    let lab = Lab::new();
    for (user, message) in [
        (json!({}), "neither a token nor a client certificate"),
        (json!({ "token": "x", "as": "jane" }), "impersonates somebody"),
    ] {
        lab.kubeconfig(&user);
        assert!(lab.fails(&["logs", "web"]).contains(message), "{user}");
        assert!(!lab.has_forwarded());
    }
    let missing = lab.folder.path().join("none");
    let arguments = ["ls", "--kubeconfig", missing.to_str().unwrap()];
    let (status, _, stderr) = lab.run(&arguments);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("Name a file with --kubeconfig or KUBECONFIG"), "{stderr}");
}

#[test]
fn a_pod_that_refuses_the_connection_is_named() {
    let mut lab = Lab::new();
    lab.service.kill_9();
    let stderr = lab.fails(&["logs", "web"]);
    assert!(stderr.contains("failed to reach pod relay-log-service-0"), "{stderr}");
    assert!(stderr.contains("connection refused in the pod"), "{stderr}");
}
