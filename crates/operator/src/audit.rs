//! Looks for pods that run without Relay, though their tenant wants them wrapped: those that were there before it, that
//! came while nobody asked the webhook, or that others changed after it.
//!
//! The webhook sees only what is created. Here pods are listed one tenant's namespace after another, a page of their metadata
//! at a time. Pods that the webhook says nothing about there are read one by one, since whoever fills a namespace with pods
//! of megabytes must not fill the operator's memory with them. So are, fewer at a time, those that it has wrapped, which
//! containers may have come into since. Each is read once for each of its versions. What is found is a gauge by namespace, and
//! an event about whatever made the pod.

mod finding;
mod look;
mod told;
mod versions;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta, Request},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{events::Events, lenient::Lenient, webhook::Tenants};
use finding::Finding;
use look::{Look, Memory};

/// Pods in a list of metadata. Each may have a quarter of a megabyte of annotations, and as much of other things.
const PAGE: u32 = 8;
/// Pods that have ended are past help.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// How many pods run without Relay, and of how many that is not known.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    unwrapped: Family<Labels, Gauge>,
    unread: Family<Labels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    namespace: String,
    tenant: String,
}

impl Metrics {
    /// Registers the gauges; the registry gives their names a prefix.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "unwrapped_pods",
            "Pods of a tenant's namespace with a container that should run under Relay, and does not",
            metrics.unwrapped.clone(),
        );
        registry.register(
            "unread_pods",
            "Pods of a tenant's namespace that the next rounds of the audit read, since this one has read so many",
            metrics.unread.clone(),
        );
        metrics
    }

    fn show(&self, labels: &Labels, unwrapped: i64, unread: i64) {
        for (gauge, count) in [(&self.unwrapped, unwrapped), (&self.unread, unread)] {
            if count == 0 {
                gauge.remove(labels);
            } else {
                gauge.get_or_create(labels).set(count);
            }
        }
    }
}

/// What the gauges show, until nobody looks any more: then another replica does.
struct Shown {
    metrics: Metrics,
    of: BTreeMap<String, Labels>,
}

impl Shown {
    fn set(&mut self, namespace: &str, tenant: &str, look: &Look<'_>) {
        let labels = Labels { namespace: namespace.to_owned(), tenant: tenant.to_owned() };
        let before = self.of.insert(namespace.to_owned(), labels.clone());
        if let Some(before) = before.filter(|before| *before != labels) {
            self.metrics.show(&before, 0, 0);
        }
        self.metrics.show(&labels, look.unwrapped, look.unread);
    }

    /// Nothing is known of other tenants any more.
    fn keep(&mut self, tenants: &BTreeMap<String, String>) {
        let metrics = &self.metrics;
        self.of.retain(|namespace, labels| {
            let stays = tenants.contains_key(namespace);
            if !stays {
                metrics.show(labels, 0, 0);
            }
            stays
        });
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        for labels in self.of.values() {
            self.metrics.show(labels, 0, 0);
        }
    }
}

/// Looks again and again.
pub struct Auditor {
    client: Client,
    tenants: Arc<Tenants>,
    period: Duration,
    metrics: Metrics,
    events: Events,
}

impl Auditor {
    /// One round takes `period`, however many namespaces there are, and what the API server takes to answer.
    ///
    /// # Assumptions
    ///
    /// Somebody follows `tenants`.
    #[must_use]
    pub fn new(client: Client, tenants: Arc<Tenants>, period: Duration, metrics: Metrics) -> Self {
        let events = Events::new(client.clone(), None);
        Self { client, tenants, period, metrics, events }
    }

    /// Looks for as long as it is polled.
    pub async fn run(&self) {
        let mut memory = Memory::default();
        let mut shown = Shown { metrics: self.metrics.clone(), of: BTreeMap::new() };
        self.tenants.completed().await;
        loop {
            let tenants = self.tenants.by_namespace();
            shown.keep(&tenants);
            let pause = self.period / u32::try_from(tenants.len().max(1)).unwrap_or(u32::MAX);
            for (namespace, tenant) in &tenants {
                match self.look(namespace, &mut memory).await {
                    Ok(look) => shown.set(namespace, tenant, &look),
                    Err(error) => complain(&error, "failed to list the pods of a tenant"),
                }
                sleep(pause).await;
            }
            memory.end_round();
            if tenants.is_empty() {
                sleep(pause).await;
            }
        }
    }

    /// Looks through a namespace.
    async fn look<'memory>(
        &self,
        namespace: &str,
        memory: &'memory mut Memory,
    ) -> Result<Look<'memory>, kube::Error> {
        let mut look = Look::new(memory, Instant::now());
        let pods =
            Api::<Lenient<PartialObjectMeta<Pod>>>::namespaced(self.client.clone(), namespace);
        let mut page = ListParams::default().fields(RUNNING).limit(PAGE);
        loop {
            let listed = pods.list(&page).await?;
            for pod in &listed.items {
                if !look.must_read(pod) {
                    continue;
                }
                let found = self.read(namespace, &pod.name_any()).await?;
                if let Some(finding) = look.take(pod.meta(), found) {
                    self.tell(&finding).await;
                }
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(look),
            }
        }
    }

    /// What is wrong with a pod, if it is still there. By a list, since the operator may not read pods otherwise; and as
    /// it is, since one that no type can hold must not hide itself.
    async fn read(&self, namespace: &str, pod: &str) -> Result<Option<Finding>, kube::Error> {
        let one = ListParams::default().fields(&format!("metadata.name={pod}")).limit(1);
        let request = Request::new(Pod::url_path(&(), Some(namespace))).list(&one);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let listed = self.client.request::<ObjectList<Value>>(request).await?.items;
        Ok(listed.first().and_then(|pod| Finding::of(pod, namespace)))
    }

    async fn tell(&self, finding: &Finding) {
        let note = finding.to_string();
        let told = self.events.warn(&finding.about, "RunsWithoutRelay", "Audit", note).await;
        if let Err(error) = told {
            complain(&error, "failed to write an event");
        }
    }
}

/// The next round tries again.
fn complain(error: &kube::Error, what: &'static str) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, what, "the audit is not complete");
}
