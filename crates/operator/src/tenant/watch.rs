//! Twelve watches that keep the index, and say whose plan may have changed.

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
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, watcher},
    },
};
use tokio::sync::mpsc;

use super::{
    index::{Index, Mirrors},
    mirror::{Change, Mirror},
    names::{FIELD_MANAGER, MANAGED_BY, PULL_RIGHTS, TENANT},
    reduce,
};
use crate::{certificates::CA_CONFIG_MAP, webhook::configuration};

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
    let all = Watches { client, index, triggers };
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
}

/// Objects that Relay made.
fn ours() -> Config {
    Config::default().labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"))
}

impl Watches<'_> {
    async fn namespaces(&self) {
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        let events = watcher(api, Config::default().labels(TENANT));
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
        let running = Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let events = watcher(Api::<PartialObjectMeta<Pod>>::all(self.client.clone()), running);
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
        let events = watcher(Api::<ConfigMap>::all(self.client.clone()), own);
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
        let events = watcher(Api::<RoleBinding>::all(self.client.clone()), own);
        let kind = Kind {
            name: "role bindings",
            mirror: |all| &mut all.pull_rights,
            reduce: reduce::pull_rights,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn claims(&self) {
        let events = watcher(Api::<PersistentVolumeClaim>::all(self.client.clone()), ours());
        let kind = Kind {
            name: "claims",
            mirror: |all| &mut all.claims,
            reduce: |object| Some(reduce::claim(object)),
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn jobs(&self) {
        let events = watcher(Api::<Job>::all(self.client.clone()), ours());
        let kind = Kind {
            name: "jobs",
            mirror: |all| &mut all.jobs,
            reduce: |object| Some(reduce::job(object)),
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn pods(&self) {
        let events = watcher(Api::<Pod>::all(self.client.clone()), ours());
        let kind = Kind {
            name: "pods of jobs",
            mirror: |all| &mut all.pods,
            reduce: reduce::job_pod,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn classes(&self) {
        let api = Api::<PartialObjectMeta<StorageClass>>::all(self.client.clone());
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
        let events = watcher(Api::<Node>::all(self.client.clone()), Config::default());
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
        let events = watcher(Api::<MutatingWebhookConfiguration>::all(self.client.clone()), own);
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
        let events =
            watcher(Api::<Event>::all(self.client.clone()), Config::default().fields(failed));
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
        let events =
            watcher(Api::<Event>::all(self.client.clone()), Config::default().fields(failed));
        let kind = Kind {
            name: "events of jobs",
            mirror: |all| &mut all.job_warnings,
            reduce: reduce::warning,
            concerns: its_namespace,
        };
        self.follow(events, kind).await;
    }

    async fn follow<K: ResourceExt, Seen: PartialEq + Debug>(
        &self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
        kind: Kind<K, Seen>,
    ) {
        let mut events = pin!(events.default_backoff());
        let mut is_complete = false;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    // The stream tries again by itself.
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, kind = kind.name, "failed to watch");
                    continue;
                }
            };
            let change = (kind.mirror)(&mut self.index.lock()).take(event, kind.reduce);
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
