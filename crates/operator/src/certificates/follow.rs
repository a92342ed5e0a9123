//! What every replica does: it serves from the Secret as it is now.

use std::{pin::pin, sync::Arc};

use arc_swap::ArcSwapOption;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use super::{Held, Leaf, SECRET, Use};

/// The certificate that new connections are shown.
#[derive(Debug, Default)]
pub struct Serving(ArcSwapOption<CertifiedKey>);

/// What a replica knows of the Secret.
#[derive(Clone, Debug)]
pub struct Followed {
    serving: Arc<Serving>,
    held: watch::Sender<Option<Arc<Held>>>,
}

impl Serving {
    /// Shows this certificate from now on.
    ///
    /// # Errors
    ///
    /// If certificate and key cannot be used; the old ones stay.
    pub fn set(&self, leaf: &Leaf) -> Result<(), rustls::Error> {
        let unreadable = |error| rustls::Error::General(format!("not PEM: {error}"));
        let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes());
        let chain = chain.collect::<Result<_, _>>().map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).map_err(unreadable)?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        self.0.store(Some(Arc::new(key)));
        Ok(())
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl Followed {
    /// Nothing is known yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it opens a channel")]
    pub fn new() -> Self {
        Self { serving: Arc::default(), held: watch::Sender::new(None) }
    }

    /// What servers show.
    #[must_use]
    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving)
    }

    /// What is held, as it changes.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Option<Arc<Held>>> {
        self.held.subscribe()
    }

    /// Takes over what the Secret holds.
    pub fn take(&self, held: Held) {
        let held = Arc::new(held);
        // First, since it says where reviews are answered.
        self.held.send_if_modified(|known| {
            let changes = known.as_ref() != Some(&held);
            *known = Some(Arc::clone(&held));
            changes
        });
        let set = held.leaves.get(&Use::Webhook).map(|leaf| self.serving.set(leaf));
        if let Some(Err(error)) = set {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the webhook's certificate cannot be used"
            );
        }
    }
}

/// Follows the Secret for as long as it is polled.
pub async fn follow(client: Client, namespace: &str, followed: &Followed) {
    let secrets = Api::<Secret>::namespaced(client, namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={SECRET}"));
    let mut changes = pin!(watcher(secrets, only).default_backoff().applied_objects());
    loop {
        match changes.try_next().await {
            Ok(Some(secret)) => match Held::from_data(&secret.data.unwrap_or_default()) {
                Ok(held) => followed.take(held),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the Secret with the certificates cannot be read"
                    );
                }
            },
            // The stream tries again by itself.
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to follow the Secret with the certificates"
                );
            }
            Ok(None) => return,
        }
    }
}
