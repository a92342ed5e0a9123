//! Keeps the configuration in the API server: the leader's work.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher::watch_object},
};
use tokio::sync::watch;

use super::configuration::{NAME, Wanted, plan};
use crate::certificates::{Held, Path};

/// Who writes, in the API server's books.
const MANAGER: &str = "relay-operator";
/// Pause after a failure, and least time between two changes: others may want it otherwise.
const PAUSE: Duration = Duration::from_secs(2);

/// Keeps the configuration as it should be for as long as it is polled. Only the leader may.
///
/// `wanted.bundle` and `wanted.path` are taken from what is held. `configured` is told which path the configuration names
/// once it is as it should be.
pub async fn register(
    client: Client,
    mut wanted: Wanted,
    mut held: watch::Receiver<Option<Arc<Held>>>,
    configured: watch::Sender<Option<Path>>,
) {
    let configurations = Api::<MutatingWebhookConfiguration>::all(client);
    let watched = watch_object(configurations.clone(), NAME).default_backoff();
    let mut changes = pin!(watched);
    let mut there = None;
    loop {
        tokio::select! {
            next = changes.next() => match next {
                Some(Ok(configuration)) => there = Some(configuration),
                Some(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "failed to follow the webhook's configuration");
                }
                None => return,
            },
            followed = held.changed() => if followed.is_err() { return },
        }
        let known = held.borrow_and_update().clone();
        let (Some(known), Some(there)) = (known, &there) else { continue };
        let Some(path) = known.paths.named() else { continue };
        wanted.bundle = known.bundle();
        wanted.path = path.clone();
        let Some(configuration) = plan(&wanted, there.as_ref()) else {
            configured.send_replace(Some(path.clone()));
            continue;
        };
        apply(&configurations, &configuration).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tries until it is done: nothing else might wake the leader.
async fn apply(
    configurations: &Api<MutatingWebhookConfiguration>,
    configuration: &MutatingWebhookConfiguration,
) {
    let how = PatchParams::apply(MANAGER).force();
    while let Err(error) = configurations.patch(NAME, &how, &Patch::Apply(configuration)).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "failed to apply the webhook's configuration"
        );
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!("the webhook's configuration was applied");
}
