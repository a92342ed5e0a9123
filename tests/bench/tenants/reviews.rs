//! Reviews in an open loop.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use relay_tests::{measure::Samples, program::workspace};
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use super::{cluster::Cluster, images};

/// Reviews in a second.
pub(super) const RATE: u32 = 500;
/// For how long.
pub(super) const SECONDS: u32 = 20;
/// Reviews before the clock counts: connections open, caches fill.
const WARM_UP: u32 = 2 * RATE;
/// Pods of all sizes.
const CASES: [&str; 5] = [
    "a-command",
    "everything-else-stays",
    "init-containers-and-sidecars",
    "knative",
    "tekton-task",
];

/// Which pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pods {
    /// All containers say what they run.
    WithCommands,
    /// Their images say it.
    OfImages,
}

impl Pods {
    fn read(self) -> Result<Vec<Value>> {
        match self {
            Self::WithCommands => CASES.iter().map(|case| pod(case)).collect(),
            Self::OfImages => Ok((0..images::COUNT).map(of_images).collect()),
        }
    }
}

/// Sends reviews; a slow answer does not delay the next.
pub(super) async fn send(cluster: &Cluster, pods: Pods) -> Result<Samples> {
    let (client, url) = cluster.webhook().await?;
    let pods = pods.read()?;
    let url: Arc<str> = url.into();
    let mut due = interval(Duration::from_secs(1) / RATE);
    let mut sent = Vec::new();
    for (number, pod) in (0..WARM_UP + RATE * SECONDS).zip(pods.iter().cycle()) {
        let body = review(&cluster.tenant(number as usize), pod);
        let planned = due.tick().await;
        sent.push(tokio::spawn(one(client.clone(), Arc::clone(&url), body, planned)));
    }
    let mut samples = Vec::new();
    for sent in sent {
        samples.push(sent.await??);
    }
    Ok(Samples::new(samples.split_off(WARM_UP as usize)))
}

/// Time from the moment at which it was due to the end of its answer.
async fn one(
    client: reqwest::Client,
    url: Arc<str>,
    body: String,
    planned: Instant,
) -> Result<Duration> {
    let answer = client.post(&*url).body(body).send().await.context("no answer")?;
    let answer = answer.error_for_status()?.bytes().await?;
    let took = planned.elapsed();
    let answer: Value = serde_json::from_slice(&answer)?;
    ensure!(answer["response"]["patch"].is_string(), "a pod was not wrapped: {answer}");
    Ok(took)
}

/// A pod of three images.
fn of_images(number: usize) -> Value {
    let container = |at: usize| json!({ "name": format!("c{at}"), "image": images::name(number + at), "imagePullPolicy": "IfNotPresent" });
    let containers: Vec<_> = (0..3).map(container).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "serviceAccountName": "default", "restartPolicy": "Always", "containers": containers },
    })
}

fn pod(case: &str) -> Result<Value> {
    let path = workspace().join("tests/injection").join(case).join("in/pod.json");
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn review(namespace: &str, pod: &Value) -> String {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": namespace, "operation": "CREATE", "object": pod, "oldObject": null, "dryRun": false,
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
        },
    });
    review.to_string()
}
