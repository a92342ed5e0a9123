//! From installation to uninstallation, with Relay's own programs, which have the chart's rights and
//! no others. No kubelet is there: the test says that the pods of Jobs have ended.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use relay_tests::{
    control_plane::Controllers,
    program::{program, workspace},
    wait::eventually,
};
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::{
    chart::chart,
    server::{ENOUGH, Part, Server},
};

/// A cluster with Relay's charts.
struct Lab {
    server: Server,
}

impl Lab {
    fn new() -> Self {
        let server = Server::start(Controllers::All);
        let lab = Self { server };
        // A class that nobody provides: claims stay pending.
        lab.server.apply(
            &json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "relay.sh/nobody",
                "metadata": { "name": "nobody", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
            })
            .to_string(),
        );
        lab
    }

    /// What Helm says when it does this with a chart.
    fn helm(&self, what: &str, name: &str, values: &[&str]) -> Result<String, String> {
        let path = chart(name).display().to_string();
        let mut words = vec![what, name, &path];
        for value in values {
            words.extend(["--set", value]);
        }
        let output = self.server.helm(&words);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Runs the commands of docs/operations.md that begin like this; what they print.
    fn follow_the_page(&self, beginning: &str) -> String {
        let page = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
        let mut blocks = page.split("\n```\n").filter(|block| block.starts_with(beginning));
        let block = blocks.next().expect(beginning);
        let is_for_nodes =
            |line: &&str| line.starts_with("make ") || line.contains(" wait deployment ");
        let lines: Vec<_> = block.lines().filter(|line| !is_for_nodes(line)).collect();
        let script = lines.join("\n").replace("REGISTRY", "dev.local");
        let output = self.server.shell(&script);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The operator, with the rights of its service account and these tools.
    fn operator(&self, image: &str) -> Part {
        let address = self.server.path("operator-address");
        drop(fs::remove_file(&address));
        let mut command = Command::new(program("relay-operator"));
        command.args(["run", "--tools-image", image, "--owner", "relay-operator"]);
        command.args(["--listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0"]);
        command.args(["--grace-seconds", "1", "--drain-seconds", "0"]);
        command.args(["--namespace", "relay-system", "--address-file"]).arg(&address);
        command.env("KUBECONFIG", self.server.kubeconfig_of("relay-operator"));
        let part = Part::start(&command, &self.server.path("operator.log"));
        eventually(ENOUGH, "the operator is ready", || {
            let address = fs::read_to_string(&address).unwrap_or_default();
            !address.is_empty() && status(&format!("http://{address}/readyz")) == 200
        });
        part
    }

    /// Says that the pods of all Jobs have ended well, as a kubelet would.
    fn end_jobs(&self) {
        let label = "--selector=batch.kubernetes.io/job-name";
        let pods = self.server.get(&["pods", "--namespace=demo", label]);
        for pod in pods["items"].as_array().into_iter().flatten() {
            if pod["status"]["phase"] == "Pending" {
                let name = pod["metadata"]["name"].as_str().unwrap();
                let patch = r#"--patch={"status":{"phase":"Succeeded"}}"#;
                // It may be gone by now.
                drop(self.server.kubectl(&[
                    "patch",
                    "pod",
                    name,
                    "--namespace=demo",
                    "--subresource=status",
                    patch,
                ]));
            }
        }
    }

    fn tenant(&self) -> Value {
        self.server.get(&["tenant", "demo"])
    }

    /// Waits until the tenant's only tools are those of an image.
    fn wait_for_tools(&self, image: &str) {
        eventually(ENOUGH, &format!("the tools of {image} alone are there"), || {
            self.end_jobs();
            let claims = self.server.get(&["persistentvolumeclaims", "--namespace=demo"]);
            let stay = claims["items"].as_array().into_iter().flatten();
            let stay = stay.filter(|claim| claim["metadata"]["deletionTimestamp"].is_null());
            self.tenant()["status"]["tools"]["image"] == image && stay.count() == 1
        });
    }

    fn secret(&self, name: &str) -> Value {
        self.server.get(&["secret", name, "--namespace=relay-system"])["data"].clone()
    }

    fn webhook(&self) -> Value {
        self.server.get(&["mutatingwebhookconfiguration", "0-relay-injection"])
    }

    /// The log service, with the rights of its service account and what its pod mounts.
    fn log_service(&self) -> (Part, String) {
        let folder = self.server.path("mounted");
        fs::create_dir_all(folder.join("keys")).unwrap();
        let tls = self.secret("relay-log-service-tls");
        for (data, key, file) in [
            (&tls, "tls.crt", "tls.crt"),
            (&tls, "tls.key", "tls.key"),
            (&self.secret("relay-log-service-keys"), "1.key", "keys/1.key"),
        ] {
            let bytes = BASE64.decode(data[key].as_str().unwrap()).unwrap();
            fs::write(folder.join(file), bytes).unwrap();
        }
        let file = |name: &str| folder.join(name).display().to_string();
        let address = folder.join("address");
        let mut command = Command::new(program("relay-log-service"));
        command.args(["--auth", "kube", "--store", "memory:", "--listen", "127.0.0.1:0"]);
        command.arg("--kubeconfig").arg(self.server.kubeconfig_of("relay-log-service"));
        command.args(["--tls-cert-file", &file("tls.crt"), "--tls-key-file", &file("tls.key")]);
        command.args(["--key-dir", &file("keys"), "--address-file"]).arg(&address);
        let part = Part::start(&command, &self.log("log-service"));
        eventually(ENOUGH, "the log service listens", || address.exists());
        (part, fs::read_to_string(&address).unwrap())
    }

    fn log(&self, part: &str) -> PathBuf {
        self.server.path(&format!("{part}.log"))
    }

    /// Kinds of requests that the API server refused for want of a right.
    fn refusals(&self) -> Vec<String> {
        let counters = self.server.ask(&["get", "--raw", "/metrics"]);
        // The controllers of Kubernetes create these where a namespace goes. Relay does not in this way.
        let is_foreign = |line: &str| {
            let of = |name| line.contains(&format!("resource=\"{name}\""));
            line.contains(r#"group="""#)
                && line.contains(r#"verb="POST""#)
                && (of("configmaps") || of("events"))
        };
        let refused = counters.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && line.contains(r#"code="403""#)
                && !is_foreign(line)
        });
        refused.map(str::to_owned).collect()
    }

    /// What is left in the cluster of a release, by the label that all its objects have.
    fn left(&self) -> Vec<String> {
        let kinds = "all,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,networkpolicies,poddisruptionbudgets,persistentvolumeclaims,validatingadmissionpolicies,validatingadmissionpolicybindings";
        let words = [
            "get",
            kinds,
            "--all-namespaces",
            "--output=name",
            "--selector=app.kubernetes.io/instance=relay",
        ];
        self.server.ask(&words).lines().map(str::to_owned).collect()
    }
}

/// The status of an answer, whoever vouches for it; 0 without one.
fn status(url: &str) -> u16 {
    drop(rustls::crypto::ring::default_provider().install_default());
    let client =
        Client::builder().danger_accept_invalid_certs(true).timeout(Duration::from_secs(20));
    client.build().unwrap().get(url).send().map_or(0, |answer| answer.status().as_u16())
}

/// The status of an answer to the bearer of a token, if the service is whom `ca` vouches for.
fn ask_service(address: &str, ca: &Path, token: &str, path: &str) -> String {
    let port = address.rsplit(':').next().unwrap();
    let host = "relay-log-service.relay-system.svc";
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--max-time",
        "20",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
    ]);
    curl.args(["--noproxy", "*", "--resolve", &format!("{host}:{port}:127.0.0.1")]);
    curl.args(["--header", &format!("Authorization: Bearer {token}"), "--cacert"]).arg(ca);
    let output = curl.arg(format!("https://{host}:{port}{path}")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn check_log_service(lab: &Lab) {
    let (service, address) = lab.log_service();
    let map = lab.server.get(&["configmap", "relay-ca", "--namespace=relay-system"]);
    let ca = lab.server.path("relay-ca.crt");
    fs::write(&ca, map["data"]["ca.crt"].as_str().unwrap()).unwrap();
    lab.server.ask(&["create", "serviceaccount", "reader", "--namespace=demo"]);
    let token = lab.server.ask(&["create", "token", "reader", "--namespace=demo"]);
    let ask = || ask_service(&address, &ca, token.trim(), "/api/namespaces/demo/pods");
    // 503 where the API server is slow.
    eventually(ENOUGH, "who has no right finds nothing", || ask() == "404");
    lab.server.ask(&[
        "create",
        "role",
        "reader",
        "--namespace=demo",
        "--verb=get",
        "--resource=pods/log",
    ]);
    lab.server.ask(&[
        "create",
        "rolebinding",
        "reader",
        "--namespace=demo",
        "--role=reader",
        "--serviceaccount=demo:reader",
    ]);
    eventually(ENOUGH, "who may read logs in the namespace reads them", || ask() == "200");
    eventually(ENOUGH, "the service knows who vouches for people", || {
        let log = fs::read_to_string(lab.log("log-service")).unwrap();
        log.contains("the authorities of clients were replaced")
    });
    drop(service);
}

#[test]
fn relay_lives_with_the_rights_of_the_chart_and_is_gone_when_the_chart_is() {
    let lab = Lab::new();
    lab.server.ask(&["create", "namespace", "relay-system"]);
    let refused = lab.helm("install", "relay", &["image.registry=dev.local"]).unwrap_err();
    assert!(refused.contains("install the chart relay-crds first"), "{refused}");
    let notes = lab.follow_the_page("make push-images");
    assert!(notes.contains("kubectl relay logs -f -n demo hello"), "{notes}");
    lab.follow_the_page("kubectl label namespace");
    lab.follow_the_page("kubectl -n relay-system create rolebinding");

    let operator = lab.operator("dev.local/relay-tools:1");
    lab.server.apply(
        r#"{ "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": "demo" }, "spec": {} }"#,
    );
    lab.wait_for_tools("dev.local/relay-tools:1");
    check_names(&lab);
    check_log_service(&lab);
    let first = check_keys(&lab);

    // An upgrade brings other tools. What earlier ones left is taken away.
    let bucket = [
        "image.registry=dev.local",
        "image.tag=2",
        "storage.gcs.bucket=logs",
        "logService.replicas=2",
    ];
    lab.helm("upgrade", "relay", &bucket).unwrap();
    drop(operator);
    let operator = lab.operator("dev.local/relay-tools:2");
    lab.wait_for_tools("dev.local/relay-tools:2");
    let keys = lab.secret("relay-log-service-keys");
    assert!(keys["1.key"].is_string() && keys["1.key"] != first && keys["2.key"].is_null());
    lab.follow_the_page("helm upgrade relay-crds");
    lab.helm("upgrade", "relay", &["image.registry=dev.local", "image.tag=3"]).unwrap();
    assert!(lab.webhook().is_object());

    drop(operator);
    check_removal(&lab);
    lab.helm("install", "relay", &["image.registry=dev.local"]).unwrap();
    let operator = lab.operator("dev.local/relay-tools:4");
    lab.wait_for_tools("dev.local/relay-tools:4");
    assert_eq!(lab.secret("relay-log-service-keys"), keys);

    lab.server.ask(&["delete", "tenant", "demo", "--timeout=120s"]);
    eventually(ENOUGH, "the tenant's namespace is deleted", || {
        lab.server.get(&["namespace", "demo"]).is_null()
    });
    check_refusals(&lab);

    // The operator still runs when its rights go.
    lab.follow_the_page("kubectl delete tenants");
    for words in [["namespace", "relay-system"], ["crd", "tenants.relay.sh"]] {
        assert!(lab.server.get(&words).is_null(), "{words:?}");
    }
    eventually(ENOUGH, "the webhook's configuration is gone", || lab.webhook().is_null());
    drop(operator);
}

/// What the chart names is what the operator made, and the other way round.
fn check_names(lab: &Lab) {
    let deployments = lab.server.get(&["deployments", "--namespace=relay-system"]);
    let all = deployments["items"].as_array().unwrap();
    let volumes =
        all.iter().filter_map(|one| one["spec"]["template"]["spec"]["volumes"].as_array());
    let secrets = volumes.flatten().filter_map(|volume| volume["secret"].as_object());
    let mut mounted = Vec::new();
    for secret in secrets {
        let name = secret["secretName"].as_str().unwrap();
        let data = lab.secret(name);
        let items = secret.get("items").and_then(Value::as_array);
        for item in items.into_iter().flatten() {
            assert!(data[item["key"].as_str().unwrap()].is_string(), "{item} of {name}");
        }
        assert!(data.is_object(), "{name}");
        mounted.push(name);
    }
    assert_eq!(mounted, ["relay-log-service-tls", "relay-log-service-keys"]);
    let service = lab.server.get(&["service", "relay-operator", "--namespace=relay-system"]);
    let webhook = lab.webhook();
    let called = &webhook["webhooks"][0]["clientConfig"]["service"];
    assert_eq!(
        (&called["name"], &called["namespace"]),
        (&"relay-operator".into(), &"relay-system".into())
    );
    assert_eq!(called["port"], service["spec"]["ports"][0]["port"]);
}

/// Nothing was tried that the chart does not allow.
fn check_refusals(lab: &Lab) {
    assert_eq!(lab.refusals(), Vec::<String>::new());
    for part in ["operator", "log-service"] {
        let log = fs::read_to_string(lab.log(part)).unwrap();
        assert!(!log.to_lowercase().contains("forbidden"), "{log}");
    }
}

/// Rotates the keys of ids, and removes them. The first one.
fn check_keys(lab: &Lab) -> Value {
    let first = lab.secret("relay-log-service-keys")["1.key"].clone();
    assert_eq!(BASE64.decode(first.as_str().unwrap()).unwrap().len(), 32);
    lab.follow_the_page("kubectl -n relay-system patch secret");
    let rotated = lab.secret("relay-log-service-keys");
    assert_eq!((&rotated["1.key"], &rotated["sign"]), (&first, &BASE64.encode("2").into()));
    assert_eq!(BASE64.decode(rotated["2.key"].as_str().unwrap()).unwrap().len(), 32);
    lab.follow_the_page("kubectl -n relay-system delete secret");
    first
}

/// Uninstalls, and looks at what stays.
fn check_removal(lab: &Lab) {
    lab.follow_the_page("helm uninstall relay");
    eventually(ENOUGH, "the webhook's configuration goes with the chart", || {
        lab.webhook().is_null()
    });
    eventually(ENOUGH, "nothing but the logs is left", || {
        lab.left() == ["persistentvolumeclaim/relay-logs"]
    });
    assert_eq!(lab.tenant()["metadata"]["name"], "demo");
    // Without the definitions there would be no tenants.
    assert!(lab.server.helm(&["uninstall", "relay-crds"]).status.success());
    assert_eq!(lab.tenant()["metadata"]["name"], "demo");
    lab.helm("install", "relay-crds", &[]).unwrap();
}
