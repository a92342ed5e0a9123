//! The watches that keep the index, and say whose plan may have changed.

use std::{fmt::Debug, pin::pin};

use futures_util::{Stream, StreamExt, future::join_all};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    batch::v1::Job,
    core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod},
    rbac::v1::RoleBinding,
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, watcher},
    },
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    index::{Index, Mirrors},
    mirror::{Change, Mirror},
    names::{FIELD_MANAGER, MANAGED_BY, PULL_RIGHTS, TENANT},
    reduce,
};
use crate::{certificates::CA_CONFIG_MAP, lenient::Lenient, webhook::configuration};

/// Objects of a list that are in memory at once. Whoever may write in any namespace of the cluster can make them as large
/// as the API server takes: metadata some megabytes of JSON, all of an object nine, and a list is in memory thrice.
const PAGE_OF_METADATA: u32 = 8;
/// The same for kinds of which all is read.
const PAGE: u32 = 2;
/// The same for nodes, which name the images that they have: some tens of KiB each. Only kubelets write them.
const PAGE_OF_NODES: u32 = 32;

/// Whose plan may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// That of the tenant with this namespace.
    Namespace(String),
    /// Everyone's.
    All,
}

/// How objects of a kind get into the index.
struct Kind<K, Seen> {
    name: &'static str,
    mirror: fn(&mut Mirrors) -> &mut Mirror<Seen>,
    reduce: fn(&K) -> Option<Seen>,
    concerns: fn(namespace: String, name: String) -> Trigger,
}

/// An object of a tenant's namespace.
fn its_namespace(namespace: String, _: String) -> Trigger {
    Trigger::Namespace(namespace)
}

/// A namespace.
fn itself(_: String, name: String) -> Trigger {
    Trigger::Namespace(name)
}

/// An object of the cluster.
fn everyone(_: String, _: String) -> Trigger {
    Trigger::All
}

/// Keeps the index for as long as it is polled.
pub(super) async fn watch(client: Client, index: &Index, triggers: mpsc::Sender<Trigger>) {
    let all = Watches { client, index, triggers, lists: Semaphore::new(1) };
    let watches = [
        Box::pin(all.namespaces()) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        Box::pin(all.mounts()),
        Box::pin(all.authorities()),
        Box::pin(all.pull_rights()),
        Box::pin(all.claims()),
        Box::pin(all.jobs()),
        Box::pin(all.pods()),
        Box::pin(all.classes()),
        Box::pin(all.nodes()),
        Box::pin(all.webhooks()),
        Box::pin(all.claim_warnings()),
        Box::pin(all.job_warnings()),
    ];
    join_all(watches).await;
}

struct Watches<'run> {
    client: Client,
    index: &'run Index,
    triggers: mpsc::Sender<Trigger>,
    /// One kind is listed at a time.
    lists: Semaphore,
}

/// Objects that Relay made, or that say so.
fn ours() -> Config {
    Config::default().page_size(PAGE).labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"))
}

fn of_metadata() -> Config {
    Config::default().page_size(PAGE_OF_METADATA)
}

impl Watches<'_> {
    async fn namespaces(&self) {
        let api = Api::<Lenient<PartialObjectMeta<Namespace>>>::all(self.client.clone());
        let events = watcher(api, of_metadata().labels(TENANT));
        let kind = Kind {
            name: "namespaces",
            mirror: |all| &mut all.namespaces,
            reduce: |object| Some(reduce::namespace(object)),
            concerns: itself,
        };
        self.follow(events, kind).await;
    }

    /// Pods that have ended hold no claim.
    async fn mounts(&self) {
        let running = of_metadata().fields("status.phase!=Succeeded,status.phase!=Failed");
        let events =
            watcher(Api::<Lenient<PartialObjectMeta<Pod>>>::all(self.client.clone()), running);
        let kind = Kind {
            name: "running pods",
            mirror: |all| &mut all.mounts,
            reduce: reduce::mount,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn authorities(&self) {
        // By name too: the operator has no right to read any other.
        let own = ours().fields(&format!("metadata.name={CA_CONFIG_MAP}"));
        let events = watcher(Api::<Lenient<ConfigMap>>::all(self.client.clone()), own);
        let kind = Kind {
            name: "config maps",
            mirror: |all| &mut all.authorities,
            reduce: reduce::authorities,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn pull_rights(&self) {
        let own = ours().fields(&format!("metadata.name={PULL_RIGHTS}"));
        let events = watcher(Api::<Lenient<RoleBinding>>::all(self.client.clone()), own);
        let kind = Kind {
            name: "role bindings",
            mirror: |all| &mut all.pull_rights,
            reduce: reduce::pull_rights,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn claims(&self) {
        let ours = ours().page_size(PAGE_OF_METADATA);
        let events = watcher(Api::<Lenient<PersistentVolumeClaim>>::all(self.client.clone()), ours);
        let kind = Kind {
            name: "claims",
            mirror: |all| &mut all.claims,
            reduce: reduce::claim,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn jobs(&self) {
        let events = watcher(Api::<Lenient<Job>>::all(self.client.clone()), ours());
        let kind = Kind {
            name: "jobs",
            mirror: |all| &mut all.jobs,
            reduce: reduce::job,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn pods(&self) {
        let events = watcher(Api::<Lenient<Pod>>::all(self.client.clone()), ours());
        let kind = Kind {
            name: "pods of jobs",
            mirror: |all| &mut all.pods,
            reduce: reduce::job_pod,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn classes(&self) {
        let api = Api::<Lenient<PartialObjectMeta<StorageClass>>>::all(self.client.clone());
        let events = watcher(api, Config::default());
        let kind = Kind {
            name: "storage classes",
            mirror: |all| &mut all.classes,
            reduce: |object| Some(reduce::storage_class(object)),
            concerns: everyone,
        };
        self.follow(events, kind).await;
    }

    async fn nodes(&self) {
        let all = Config::default().page_size(PAGE_OF_NODES);
        let events = watcher(Api::<Lenient<Node>>::all(self.client.clone()), all);
        let kind = Kind {
            name: "nodes",
            mirror: |all| &mut all.nodes,
            reduce: reduce::node,
            concerns: everyone,
        };
        self.follow(events, kind).await;
    }

    async fn webhooks(&self) {
        let own = Config::default().fields(&format!("metadata.name={}", configuration::NAME));
        let events =
            watcher(Api::<Lenient<MutatingWebhookConfiguration>>::all(self.client.clone()), own);
        let kind = Kind {
            name: "webhook configurations",
            mirror: |all| &mut all.webhooks,
            reduce: |object| Some(reduce::webhook(object)),
            concerns: everyone,
        };
        self.follow(events, kind).await;
    }

    async fn claim_warnings(&self) {
        let failed = "involvedObject.kind=PersistentVolumeClaim,reason=ProvisioningFailed";
        let only = Config::default().page_size(PAGE).fields(failed);
        let events = watcher(Api::<Lenient<Event>>::all(self.client.clone()), only);
        let kind = Kind {
            name: "events of claims",
            mirror: |all| &mut all.claim_warnings,
            reduce: reduce::warning,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn job_warnings(&self) {
        let failed = "involvedObject.kind=Job,reason=FailedCreate";
        let only = Config::default().page_size(PAGE).fields(failed);
        let events = watcher(Api::<Lenient<Event>>::all(self.client.clone()), only);
        let kind = Kind {
            name: "events of jobs",
            mirror: |all| &mut all.job_warnings,
            reduce: reduce::warning,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn follow<K: Resource, Seen: PartialEq + Debug>(
        &self,
        events: impl Stream<Item = watcher::Result<watcher::Event<Lenient<K>>>>,
        kind: Kind<K, Seen>,
    ) {
        let mut events = pin!(events.default_backoff());
        let mut is_complete = false;
        let mut turn = None;
        while let Some(event) = events.next().await {
            // A list begins with its first word; nothing was asked for yet.
            match event {
                Ok(watcher::Event::Init) => turn = self.lists.acquire().await.ok(),
                Ok(watcher::Event::InitDone) | Err(_) => drop(turn.take()),
                Ok(_) => {}
            }
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    // The stream tries again by itself.
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, kind = kind.name, "failed to watch");
                    continue;
                }
            };
            // What cannot be read is as if it were not there.
            let reduce = |object: &Lenient<K>| object.read().and_then(kind.reduce);
            let change = (kind.mirror)(&mut self.index.lock()).take(event, reduce);
            if change == Change::All && !is_complete {
                is_complete = true;
                self.index.complete_one();
            }
            let trigger = match change {
                Change::Nothing => continue,
                Change::Of(namespace, name) => (kind.concerns)(namespace, name),
                Change::All => Trigger::All,
            };
            // Before everything was seen no plan is made, and all are made then.
            if self.index.is_complete() && self.triggers.send(trigger).await.is_err() {
                return;
            }
        }
    }
}
