//! Relay on Kubernetes, and the node that these tests stand on.

mod harness;
mod lifetime;
mod manifest;
mod relay;

use std::process::Command;

use relay_tests::cluster::{Cluster, image::SHELL, namespace::Namespace};
use serde_json::json;

use manifest::{script, script_with_claim};

#[test]
fn the_node_is_ready_and_of_the_version_that_was_asked_for() {
    let words = ["get", "nodes", "--output"];
    let path = r#"jsonpath={range .items[*]}{.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let nodes =
        Cluster::get().ask(&[&words[..], &[path]].concat()).expect("the API server answers");
    assert!(nodes.lines().all(|node| node.ends_with(" True")), "{nodes}");
    assert!(nodes.starts_with("v1."), "{nodes}");
}

#[test]
fn a_pod_finds_a_service_by_its_name_and_reaches_the_pod_behind_it() {
    let namespace = Namespace::new("names");
    let server = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "server", "labels": { "app": "server" } },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": SHELL,
                "command": ["sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"],
                "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
            }],
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "greeting" },
        "spec": { "selector": { "app": "server" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    namespace.apply(&server.to_string());
    namespace.apply(&service.to_string());
    namespace.wait_for("condition=Ready", "pod/server");
    let url = format!("http://greeting.{}.svc.cluster.local/", namespace.name());
    // Rules for the Service's address follow the pod a moment later.
    let client = format!("until curl -sf -m 2 {url}; do sleep 0.2; done");
    namespace.apply(&script("client", &client).to_string());
    assert_eq!(namespace.finish("client"), "hello\n");
}

#[test]
fn a_read_only_claim_is_filled_by_a_job_and_read_by_pods() {
    let namespace = Namespace::new("claims");
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "tools" },
        "spec": {
            "storageClassName": "local-path", "accessModes": ["ReadOnlyMany"],
            "resources": { "requests": { "storage": "16Mi" } },
        },
    });
    let pod =
        script_with_claim("job", "echo tool >/claim/tool; chmod 755 /claim/tool", ("tools", "rw"));
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "fill" },
        "spec": { "template": { "spec": pod["spec"] } },
    });
    namespace.apply(&claim.to_string());
    namespace.apply(&job.to_string());
    namespace.wait_for("condition=Complete", "job/fill");
    namespace.wait_for("jsonpath={.status.phase}=Bound", "persistentvolumeclaim/tools");
    let read = "cat /claim/tool; if touch /claim/other 2>/dev/null; then exit 1; fi";
    for reader in ["one", "other"] {
        namespace.apply(&script_with_claim(reader, read, ("tools", "ro")).to_string());
    }
    assert_eq!(
        (namespace.finish("one"), namespace.finish("other")),
        ("tool\n".into(), "tool\n".into())
    );
}

#[test]
fn a_pod_runs_an_image_that_a_test_has_made_and_loaded() {
    let namespace = Namespace::new("images");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let root = folder.path().join("root");
    std::fs::create_dir(&root).expect("the folder can be written");
    std::fs::copy("/bin/busybox", root.join("busybox")).expect("busybox-static is installed");
    let layout = folder.path().join("layout");
    for words in [
        format!("umoci init --layout {}", layout.display()),
        format!("umoci new --image {}:own", layout.display()),
        format!(
            "umoci insert --image {}:own {}/busybox /busybox",
            layout.display(),
            root.display()
        ),
    ] {
        let made = Command::new("sh").args(["-c", &words]).output().expect("a shell");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    namespace.cluster().load_image(&layout, "dev.local/made");
    let mut pod = script("pod", "");
    pod["spec"]["containers"][0]["image"] = "dev.local/made:own".into();
    pod["spec"]["containers"][0]["command"] = json!(["/busybox", "echo", "made"]);
    namespace.apply(&pod.to_string());
    assert_eq!(namespace.finish("pod"), "made\n");
}
