//! What the leader does: it brings the Secrets up to date, and tells people whom to trust.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use tokio::sync::watch;

use super::{
    CA_CONFIG_MAP, CA_KEY, Held, IssueFailed, LOG_SERVICE_SECRET, Moment, Names, Path, Periods,
    SECRET, Use, advance, log_service_secret, make_keys,
};

/// Who writes, in the API server's books.
pub(super) const MANAGER: &str = "relay-operator";
/// Longest pause between two looks at the clock.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// The certificates could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum KeepFailed {
    /// The API server refused, or did not answer.
    #[error("failed to {action}")]
    Kube {
        /// What was being attempted.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// The system gave no random key.
    #[error("the system has no randomness")]
    NoRandomness,
    /// Nothing could be issued.
    #[error(transparent)]
    Issue(#[from] IssueFailed),
}

/// Keeps the Secrets up to date for as long as it is polled. Only the leader may.
///
/// # Guarantees
///
/// Even two that both think they lead cannot split the authority: a Secret is replaced only as it was read.
///
/// `configured` is the path that the webhook's configuration names, as far as that is known.
pub async fn keep(
    client: Client,
    namespace: &str,
    (names, periods): (&Names, &Periods),
    configured: watch::Receiver<Option<Path>>,
) {
    // A certificate lives on for half of its life when it is due.
    let pause = MAX_PAUSE.min(periods.leaf / 20).min(periods.announcement / 4);
    let pause = pause.max(Duration::from_millis(100));
    loop {
        let path = configured.borrow().clone();
        match renew(&client, namespace, (names, periods), Moment::now(), path.as_ref()).await {
            Ok(_) => tokio::time::sleep(pause).await,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to renew certificates"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Brings the Secrets up to date once, while the webhook's configuration names the path `configured`.
///
/// # Errors
///
/// [`KeepFailed`]; what was written stays, and doing it again continues.
pub async fn renew(
    client: &Client,
    namespace: &str,
    (names, periods): (&Names, &Periods),
    now: Moment,
    configured: Option<&Path>,
) -> Result<Held, KeepFailed> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let failed = |action| move |source| KeepFailed::Kube { action, source };
    let there = secrets.get_opt(SECRET).await.map_err(failed("read the certificates"))?;
    let (metadata, data) = match there {
        Some(secret) => (secret.metadata, secret.data.unwrap_or_default()),
        None => (named(SECRET), BTreeMap::new()),
    };
    let mut held = Held::from_data(&data).unwrap_or_else(|error| {
        if !data.is_empty() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the Secret cannot be read: all certificates are issued anew"
            );
        }
        Held::default()
    });
    held.paths.configured(configured);
    let steps = advance(&mut held, names, periods, now)?;
    if !steps.is_empty() {
        tracing::info!(?steps, "certificates change");
        let is_new = metadata.resource_version.is_none();
        let data = Some(held.to_data());
        let secret = Secret { metadata, data, ..Secret::default() };
        let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let written = if is_new {
            secrets.create(&how, &secret).await
        } else {
            secrets.replace(SECRET, &how, &secret).await
        };
        written.map_err(failed("write the certificates"))?;
    }
    if let Some(leaf) = held.leaves.get(&Use::LogService) {
        let secret = log_service_secret(namespace, leaf, &held.bundle());
        let how = PatchParams::apply(MANAGER).force();
        let applied = secrets.patch(LOG_SERVICE_SECRET, &how, &Patch::Apply(&secret)).await;
        applied.map_err(failed("apply the log service's certificate"))?;
    }
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let how = PatchParams::apply(MANAGER).force();
    let applied = maps.patch(CA_CONFIG_MAP, &how, &Patch::Apply(authorities(&held))).await;
    applied.map_err(failed("apply the authorities that people trust"))?;
    make_keys(&secrets).await?;
    Ok(held)
}

/// What people need who read logs from outside of the cluster; tenants' pods have it in their own namespaces.
fn authorities(held: &Held) -> ConfigMap {
    let data = Some([(CA_KEY.to_owned(), held.bundle())].into());
    ConfigMap { metadata: named(CA_CONFIG_MAP), data, ..ConfigMap::default() }
}

pub(super) fn named(name: &str) -> ObjectMeta {
    let labels = [("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())];
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() }
}
