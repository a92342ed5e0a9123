//! Gives each tenant its namespace and the tools: observe, plan (pure), apply, status.
//!
//! Watches keep an index of what the cluster holds (`watch`, `reduce`, `mirror`, `index`), so that a
//! plan costs no request. `plan` decides, `objects` says how things look, `apply` writes, and the status is
//! written last and only if it changed. There is no state but the cluster: whoever leads next goes on.

mod apply;
mod index;
mod mirror;
pub mod names;
mod objects;
pub mod plan;
mod reconcile;
mod reduce;
pub mod seen;
mod watch;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        controller::{Config, applier},
        reflector::{ObjectRef, Store, store},
        watcher::{self, watcher},
    },
};
use tokio::sync::{mpsc, watch as watched};

use crate::{
    api::{self, v1beta1::Tenant},
    certificates::Held,
    events::Events,
    leader::Leadership,
    lenient::{Lenient, readable},
    metrics::Metrics,
};
use index::Index;
use reconcile::{Context, Failures, Superseded, reconcile, when_failed};
use watch::Trigger;

pub use apply::ApplyError;
pub use plan::Step;

/// Tenants whose plans are carried out at once: each waits for one answer of the API server at a time.
const AT_ONCE: u16 = 16;
/// News that wait while plans are made. More make the watches wait, which is harmless.
const TRIGGERS: usize = 1024;

/// What holds for all tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image that holds the tools.
    pub tools_image: String,
    /// Secrets of tenants' namespaces with which it is pulled there.
    pub pull_secrets: Vec<String>,
    /// Cluster role with the rights to read pull secrets, which the operator binds in tenants' namespaces.
    pub pull_role: Option<String>,
    /// The operator's own namespace.
    pub namespace: String,
    /// How long tools stay after the last pod that mounted them.
    pub grace: Duration,
    /// How long a claim may be pending, or an image volume awaited, before another way is taken, or somebody
    /// should look.
    pub claim_patience: Duration,
}

/// What the controller needs.
pub struct Controller {
    /// The API server.
    pub client: Client,
    /// What holds for all tenants.
    pub settings: Settings,
    /// The right to write.
    pub leadership: Leadership,
    /// The authorities that pods are to trust, once there are any.
    pub held: watched::Receiver<Option<Arc<Held>>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who tells people.
    pub events: Events,
}

impl Controller {
    /// Looks after all tenants for as long as it is polled.
    pub async fn run(self) {
        let index = Arc::new(Index::default());
        let (sender, triggers) = mpsc::channel(TRIGGERS);
        let watching = watch::watch(self.client.clone(), &index, sender.clone());
        let authorities = tell_of_authorities(self.held.clone(), sender);
        let reconciling = self.reconcile(Arc::clone(&index), triggers);
        tokio::join!(watching, authorities, reconciling);
    }

    async fn reconcile(&self, index: Arc<Index>, triggers: mpsc::Receiver<Trigger>) {
        index.completed().await;
        let (tenants, writer) = store::<Tenant>();
        let all = Api::<Lenient<Tenant>>::all(self.client.clone());
        let changed = watcher(all, watcher::Config::default().page_size(api::PAGE))
            .default_backoff()
            .filter_map(async |event| event.map(readable).transpose())
            .modify(|tenant| tenant.managed_fields_mut().clear())
            .reflect(writer)
            .touched_objects();
        let changed = changed.filter_map(async |tenant| match tenant {
            Ok(tenant) => Some(ObjectRef::from_obj(&tenant)),
            Err(error) => {
                // The stream tries again by itself.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "failed to watch tenants");
                None
            }
        });
        let queue = stream::select(changed, concerned(triggers, tenants.clone()));
        let context = Arc::new(Context {
            index: Arc::clone(&index),
            settings: self.settings.clone(),
            held: self.held.clone(),
            writer: apply::Writer {
                client: self.client.clone(),
                leadership: self.leadership.clone(),
                metrics: Arc::clone(&self.metrics),
                index,
            },
            events: self.events.clone(),
            failures: Failures::default(),
            superseded: Superseded::default(),
        });
        let boxed = |tenant, context| Box::pin(reconcile(tenant, context));
        let config = Config::default().concurrency(AT_ONCE);
        let queue = Box::pin(queue.map(Ok::<_, Infallible>));
        let mut done = Box::pin(applier(boxed, when_failed, context, tenants, queue, config));
        while done.next().await.is_some() {}
    }
}

/// The tenants that a trigger is about.
fn concerned(
    triggers: mpsc::Receiver<Trigger>,
    tenants: Store<Tenant>,
) -> impl Stream<Item = ObjectRef<Tenant>> {
    let triggers = stream::unfold(triggers, async |mut triggers| {
        triggers.recv().await.map(|trigger| (trigger, triggers))
    });
    triggers.flat_map(move |trigger| {
        let name = match trigger {
            Trigger::Namespace(name) => Some(name),
            Trigger::All => None,
        };
        // More than one tenant may name a namespace, though only one has it.
        let concerns =
            |tenant: &Tenant| name.as_ref().is_none_or(|name| tenant.namespace_name() == *name);
        let tenants = tenants.state();
        let tenants = tenants.iter().filter(|tenant| concerns(tenant));
        let refs: Vec<_> = tenants.map(|tenant| ObjectRef::from_obj(&**tenant)).collect();
        stream::iter(refs)
    })
}

/// New authorities concern everyone.
async fn tell_of_authorities(
    mut held: watched::Receiver<Option<Arc<Held>>>,
    triggers: mpsc::Sender<Trigger>,
) {
    while held.changed().await.is_ok() {
        if triggers.send(Trigger::All).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use kube::runtime::{reflector::store, watcher::Event};
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::{Tenant, Trigger, concerned};

    #[tokio::test]
    async fn all_tenants_that_name_a_namespace_hear_of_it() {
        let (tenants, mut writer) = store::<Tenant>();
        for (name, namespace) in [("first", "shared"), ("second", "shared"), ("other", "other")] {
            let tenant = json!({
                "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": name },
                "spec": { "namespaceTemplate": { "metadata": { "name": namespace } } },
            });
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(tenant).unwrap()));
        }
        let (sender, triggers) = mpsc::channel(2);
        sender.send(Trigger::Namespace("shared".to_owned())).await.unwrap();
        drop(sender);
        let mut names: Vec<_> = concerned(triggers, tenants).map(|it| it.name).collect().await;
        names.sort();
        assert_eq!(names, ["first", "second"]);
    }
}
