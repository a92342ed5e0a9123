//! Looks for pods that run without Relay, though their tenant wants them wrapped: those that were there before it, that
//! came while nobody asked the webhook, or that others changed after it.
//!
//! The webhook sees only what is created. Here tenants' namespaces are listed one after another, a page of pods' metadata
//! at a time. Pods that the webhook says nothing about there are read one by one, since whoever fills a namespace with pods
//! of megabytes must not fill the operator's memory with them. So are, fewer at a time, those that it has wrapped: once for
//! each version of their specs, which containers may have come into since. What is found is a gauge by namespace, and an event
//! about whatever made the pod.

mod finding;
mod told;
mod versions;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta, Request},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{lenient::Lenient, webhook::TENANT_LABEL};
use finding::{Doubt, Finding};
use told::Told;
use versions::Versions;

/// Pods in a list of metadata. Each may have a quarter of a megabyte of annotations, and as much of other things.
const PAGE: u32 = 8;
/// Pods of a namespace that are read in a round; more that look as if they were not wrapped are counted unread.
const MAX_READ: usize = 64;
/// Pods of a namespace that the webhook has wrapped and that are read again in a round. The next rounds read others.
const MAX_READ_AGAIN: usize = 16;
/// Events about one namespace in a round; the gauge counts the others.
const MAX_EVENTS: usize = 16;
/// Pods that have ended are past help.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// How many pods run without Relay.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pods: Family<Labels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    namespace: String,
    tenant: String,
}

impl Metrics {
    /// Registers the gauge; the registry gives its name a prefix.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "unwrapped_pods",
            "Pods of a tenant's namespace with a container that should run under Relay, and does not",
            metrics.pods.clone(),
        );
        metrics
    }
}

/// What the gauge shows, until nobody looks any more: then another replica does.
struct Shown {
    metrics: Metrics,
    of: BTreeMap<String, Labels>,
}

impl Shown {
    fn set(&mut self, namespace: &str, tenant: &str, count: i64) {
        let labels = Labels { namespace: namespace.to_owned(), tenant: tenant.to_owned() };
        if let Some(before) = self.of.remove(namespace)
            && (count == 0 || before != labels)
        {
            self.metrics.pods.remove(&before);
        }
        if count > 0 {
            self.metrics.pods.get_or_create(&labels).set(count);
            self.of.insert(namespace.to_owned(), labels);
        }
    }

    /// Nothing is known of other tenants any more.
    fn keep(&mut self, tenants: &BTreeMap<String, String>) {
        let metrics = self.metrics.clone();
        self.of.retain(|namespace, labels| {
            let stays = tenants.contains_key(namespace);
            if !stays {
                metrics.pods.remove(labels);
            }
            stays
        });
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        for labels in self.of.values() {
            self.metrics.pods.remove(labels);
        }
    }
}

/// What a look through a namespace has shown.
#[derive(Default)]
struct Seen {
    /// Pods that run without Relay.
    count: i64,
    /// What is wrong with some of them.
    findings: Vec<Finding>,
    read: usize,
    read_again: usize,
}

/// Looks again and again.
pub struct Auditor {
    client: Client,
    period: Duration,
    metrics: Metrics,
    recorder: Recorder,
}

impl Auditor {
    /// One round takes `period`, however many namespaces there are.
    #[must_use]
    pub fn new(client: Client, period: Duration, metrics: Metrics) -> Self {
        let recorder = Recorder::new(client.clone(), Reporter::from("relay-operator"));
        Self { client, period, metrics, recorder }
    }

    /// Looks for as long as it is polled.
    pub async fn run(&self) {
        let (mut told, mut versions) = (Told::default(), Versions::default());
        let mut shown = Shown { metrics: self.metrics.clone(), of: BTreeMap::new() };
        loop {
            let tenants = match self.tenants().await {
                Ok(tenants) => tenants,
                Err(error) => {
                    complain(&error, "failed to list the namespaces of tenants");
                    sleep(self.period).await;
                    continue;
                }
            };
            shown.keep(&tenants);
            let pause = self.period / u32::try_from(tenants.len().max(1)).unwrap_or(u32::MAX);
            for (namespace, tenant) in &tenants {
                match self.look(namespace, &mut versions).await {
                    Ok(seen) => {
                        shown.set(namespace, tenant, seen.count);
                        self.tell(&seen.findings, &mut told).await;
                    }
                    Err(error) => complain(&error, "failed to list the pods of a tenant"),
                }
                sleep(pause).await;
            }
            versions.end_round();
            if tenants.is_empty() {
                sleep(pause).await;
            }
        }
    }

    /// Tenants by their namespaces.
    async fn tenants(&self) -> Result<BTreeMap<String, String>, kube::Error> {
        let labelled = ListParams::default().labels(TENANT_LABEL);
        let request = Request::new(Namespace::url_path(&(), None)).list_metadata(&labelled);
        let all = self.list(request).await?;
        let tenant = |namespace: &Value| {
            let metadata = namespace.get("metadata")?;
            let tenant = metadata.get("labels")?.get(TENANT_LABEL)?.as_str()?;
            Some((metadata.get("name")?.as_str()?.to_owned(), tenant.to_owned()))
        };
        Ok(all.iter().filter_map(tenant).collect())
    }

    /// Objects as they are: one that no type can hold must not hide the others.
    async fn list(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Vec<Value>, kube::Error> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(self.client.request::<ObjectList<Value>>(request).await?.items)
    }

    /// Looks through a namespace.
    async fn look(&self, namespace: &str, versions: &mut Versions) -> Result<Seen, kube::Error> {
        let mut seen = Seen::default();
        let pods =
            Api::<Lenient<PartialObjectMeta<Pod>>>::namespaced(self.client.clone(), namespace);
        let mut page = ListParams::default().fields(RUNNING).limit(PAGE);
        loop {
            let listed = pods.list(&page).await?;
            for pod in &listed.items {
                self.weigh(namespace, pod, versions, &mut seen).await?;
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(seen),
            }
        }
    }

    /// Reads a pod if its metadata does not say that all is well.
    async fn weigh(
        &self,
        namespace: &str,
        pod: &Lenient<PartialObjectMeta<Pod>>,
        versions: &mut Versions,
        seen: &mut Seen,
    ) -> Result<(), kube::Error> {
        // What cannot be read as metadata is of interest all the more.
        let doubt = pod.read().map_or(Doubt::Suspect, |pod| Doubt::of(&pod.metadata));
        match doubt {
            Doubt::None => return Ok(()),
            Doubt::Changed if versions.is_known(pod.meta()) => return Ok(()),
            Doubt::Changed if seen.read_again == MAX_READ_AGAIN => return Ok(()),
            Doubt::Changed => seen.read_again += 1,
            Doubt::Suspect if seen.read == MAX_READ => {
                seen.count += 1;
                return Ok(());
            }
            Doubt::Suspect => seen.read += 1,
        }
        let Some(finding) = self.read(namespace, &pod.name_any()).await? else {
            if doubt == Doubt::Changed {
                versions.insert(pod.meta());
            }
            return Ok(());
        };
        seen.count += 1;
        if seen.findings.len() < MAX_EVENTS {
            seen.findings.push(finding);
        }
        Ok(())
    }

    /// What is wrong with a pod, if it is still there. By a list, since the operator may not read pods otherwise.
    async fn read(&self, namespace: &str, pod: &str) -> Result<Option<Finding>, kube::Error> {
        let one = ListParams::default().fields(&format!("metadata.name={pod}")).limit(1);
        let request = Request::new(Pod::url_path(&(), Some(namespace))).list(&one);
        let listed = self.list(request).await?;
        Ok(listed.first().and_then(|pod| Finding::of(pod, namespace)))
    }

    async fn tell(&self, findings: &[Finding], told: &mut Told) {
        for finding in findings {
            if !told.is_news(finding, Instant::now()) {
                continue;
            }
            let event = Event {
                type_: EventType::Warning,
                reason: "RunsWithoutRelay".to_owned(),
                note: Some(finding.to_string()),
                action: "Audit".to_owned(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, &finding.about).await {
                complain(&error, "failed to write an event");
            }
        }
    }
}

/// The next round tries again.
fn complain(error: &kube::Error, what: &'static str) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, what, "the audit is not complete");
}
