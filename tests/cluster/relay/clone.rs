//! Storage that shares only what begins as a copy of something, as the disks of clouds do.

use std::{
    fs,
    io::{Write as _, stderr},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use relay_tests::{
    cluster::{
        Cluster,
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::{is_short_run, log_of};
use crate::manifest::{end, field, is_wrapped, script};

/// What it says of a claim that is to be shared and begins empty, in the words of a driver that many have.
const REFUSAL: &str = "VolumeContentSource must be provided when AccessMode is set to read only";

/// Provides claims of one class for as long as it lives: folders of the node.
struct Provisioner {
    class: String,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Provisioner {
    /// A class of its own, and who provides it; nothing in a cluster whose nodes are not reached.
    fn start(cluster: &'static Cluster) -> Option<Self> {
        let volumes = cluster.own_node()?.path("volumes");
        let class = format!("relay-test-disk-{}", std::process::id());
        let object = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": class },
            "provisioner": format!("relay.sh/{class}"),
        });
        cluster.apply(&object.to_string());
        let ended = Arc::new(AtomicBool::new(false));
        let thread = {
            let (ended, class) = (Arc::clone(&ended), class.clone());
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    // What went meanwhile is not there at the next look, at which all else is tried again.
                    if let Err(error) = provide(cluster, &class, &volumes) {
                        drop(writeln!(stderr(), "a claim is not provided yet: {error:#}"));
                    }
                    thread::park_timeout(Duration::from_millis(200));
                }
            })
        };
        Some(Self { class, ended, thread: Some(thread) })
    }
}

impl Drop for Provisioner {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
        drop(Cluster::get().ask(&["delete", "storageclass", &self.class]));
    }
}

/// Provides what is pending.
fn provide(cluster: &Cluster, class: &str, volumes: &Path) -> Result<()> {
    let words = ["get", "persistentvolumeclaims", "--all-namespaces", "--output=json"];
    let all: Value = serde_json::from_str(&cluster.ask(&words)?)?;
    let all = all["items"].as_array().cloned().unwrap_or_default();
    let is_pending = |claim: &&Value| {
        claim["spec"]["storageClassName"] == class && claim["status"]["phase"] == "Pending"
    };
    for claim in all.iter().filter(is_pending) {
        let modes = &claim["spec"]["accessModes"];
        let name = |claim: &Value| format!("relay-test-{}", text_of(&claim["metadata"]["uid"]));
        let source = claim["spec"]["dataSourceRef"]["name"].as_str();
        let source = source.and_then(|source| {
            all.iter().find(|other| {
                other["metadata"]["name"] == source
                    && other["metadata"]["namespace"] == claim["metadata"]["namespace"]
            })
        });
        let folder = volumes.join(name(claim));
        match source {
            Some(source) if !folder.exists() => {
                let mut copy = Command::new("cp");
                copy.arg("-a").arg(volumes.join(name(source))).arg(&folder);
                if !copy.status()?.success() {
                    fs::remove_dir_all(&folder)?;
                    bail!("{copy:?} failed");
                }
            }
            None if *modes == json!(["ReadOnlyMany"]) => {
                refuse(cluster, claim)?;
                continue;
            }
            _ => fs::create_dir_all(&folder)?,
        }
        let open = Command::new("chmod").arg("0777").arg(&folder).status()?;
        ensure!(open.success(), "the folder of a volume is closed");
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name(claim) },
            "spec": {
                "accessModes": modes, "capacity": claim["spec"]["resources"]["requests"],
                "storageClassName": class, "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": { "path": format!("/run/relay/volumes/{}", name(claim)) },
                "claimRef": {
                    "namespace": claim["metadata"]["namespace"], "name": claim["metadata"]["name"],
                },
            },
        });
        cluster.try_apply(&volume.to_string())?;
    }
    Ok(())
}

fn refuse(cluster: &Cluster, claim: &Value) -> Result<()> {
    let about = &claim["metadata"];
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "ProvisioningFailed",
        "message": REFUSAL,
        "metadata": { "name": about["uid"], "namespace": about["namespace"] },
        "involvedObject": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": about["name"],
            "namespace": about["namespace"], "uid": about["uid"],
        },
    });
    cluster.try_apply(&event.to_string())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn a_class_that_shares_only_copies_gets_a_claim_to_copy_which_goes_afterwards() {
    let relay = Relay::shared();
    if is_short_run() {
        return;
    }
    let Some(disks) = Provisioner::start(relay.cluster()) else { return };
    let claim =
        json!({ "spec": { "accessModes": ["ReadOnlyMany"], "storageClassName": disks.class } });
    let spec = |fill: &str| json!({ "entrypointInjection": { "volumeClaimTemplate": claim, "fill": fill } });
    let tenant = Namespace::of_tenant("direct", &spec("Direct"));
    let refused = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}=NoReadOnlyMany";
    tenant.wait_for(refused, &tenant.tenant());
    let said = field(&tenant, &tenant.tenant(), ".status.conditions[?(@.type=='Ready')].message");
    assert!(said.contains("write Clone in spec.entrypointInjection.fill"), "{said}");

    let patch = json!({ "spec": spec("Clone") }).to_string();
    tenant
        .ask(&["patch", &tenant.tenant(), "--type=merge", "--patch", &patch])
        .expect("what it said can be done");
    tenant.wait_for("condition=Ready", &tenant.tenant());
    tenant.apply(&script("pod", "echo cloned").to_string());
    assert_eq!(end(&tenant, "pod"), ("0".into(), "Completed".into()));
    assert!(is_wrapped(&tenant, "pod"));
    assert_eq!(log_of(&relay, &tenant, "pod"), "cloned\n");
    eventually(PATIENCE, "only the clone is left", || {
        thread::park_timeout(Duration::from_millis(200));
        let claims = tenant.ask(&["get", "persistentvolumeclaims", "--output=name"]);
        let claims = claims.expect("they are asked for");
        claims.lines().count() == 1 && claims.contains("relay-tools-")
    });
}
