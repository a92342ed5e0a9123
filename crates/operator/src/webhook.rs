//! The HTTP side of the webhook: admission reviews in and out, over TLS.
//!
//! Every replica serves; the leader alone keeps the configuration ([`register()`]). Facts come from memory
//! ([`Tenants`]), so that an answer needs no request, unless an image must say what it runs ([`Lookup`]): what cannot
//! be decided is no answer at all, and the API server does what the configuration says for a webhook that fails.

mod answer;
pub mod configuration;
mod event;
mod limits;
mod metrics;
mod register;
mod review;
mod server;
mod stock;
mod tenants;

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;
pub use register::register;
pub use tenants::{TENANT_LABEL, Tenants, Wish};

use crate::{
    certificates::{Followed, Held, Serving},
    image::{Finder, Lookup},
    injection,
};
use answer::Reviewer;

/// What the webhook writes into pods, and how it stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What holds for the pods of all tenants.
    pub pods: injection::Settings,
    /// Secrets with which the tools image is pulled in all tenants' namespaces.
    pub pull_secrets: Vec<String>,
    /// How long it serves on after it said that it is not ready: until nobody has connected for so long.
    pub drain: Duration,
}

/// The webhook, before it runs.
pub struct Webhook {
    client: Client,
    settings: Settings,
    metrics: Metrics,
    readiness: Readiness,
    held: watch::Receiver<Option<Arc<Held>>>,
}

/// Whether the webhook can answer.
#[derive(Clone)]
pub struct Readiness {
    tenants: Arc<Tenants>,
    lookup: Arc<Lookup>,
    serving: Arc<Serving>,
    draining: CancellationToken,
}

impl Readiness {
    /// Whether it has a certificate, knows all tenants and nodes, and is not about to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let Self { tenants, lookup, serving, draining } = self;
        let knows_all = *tenants.is_complete().borrow() && lookup.is_complete();
        serving.is_set() && knows_all && !draining.is_cancelled()
    }
}

impl Webhook {
    /// A webhook that shows the certificate of `followed`, answers at its paths, and asks `finder` what images run.
    #[must_use]
    pub fn new(
        client: Client,
        settings: Settings,
        followed: &Followed,
        finder: Finder,
        metrics: Metrics,
    ) -> Self {
        let readiness = Readiness {
            tenants: Arc::new(Tenants::new(client.clone(), settings.pull_secrets.clone())),
            lookup: Arc::new(Lookup::new(client.clone(), finder)),
            serving: followed.serving(),
            draining: CancellationToken::new(),
        };
        Self { client, settings, metrics, readiness, held: followed.held() }
    }

    /// The tenants that it follows while it runs.
    #[must_use]
    pub fn tenants(&self) -> Arc<Tenants> {
        Arc::clone(&self.readiness.tenants)
    }

    /// Whether it can answer, for probes.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves until `stopping`: then it is not ready any more, serves on as the settings say, and finishes what runs.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub async fn run(
        self,
        listener: TcpListener,
        stopping: CancellationToken,
    ) -> Result<(), rustls::Error> {
        let Self { client, settings, metrics, readiness, held } = self;
        let Settings { pods, drain, .. } = settings;
        let (sender, events) = mpsc::channel(event::QUEUE);
        let (tenants, lookup) = (Arc::clone(&readiness.tenants), Arc::clone(&readiness.lookup));
        let reviewer = Reviewer {
            tenants: Arc::clone(&tenants),
            settings: Arc::new(pods),
            lookup: Arc::clone(&lookup),
            metrics: metrics.clone(),
            events: sender,
        };
        let tls = server::tls(Arc::clone(&readiness.serving))?;
        let draining = readiness.draining.clone();
        let stopped = {
            let draining = draining.clone();
            async move {
                stopping.cancelled().await;
                draining.cancel();
                // The server's end is the end of all.
                std::future::pending::<()>().await;
            }
        };
        let router = server::router(reviewer, readiness, held);
        tokio::select! {
            () = server::run(listener, tls, router, (draining, drain)) => {}
            () = stopped => {}
            () = tenants.follow() => {}
            () = lookup.follow() => {}
            () = event::write(client, events, &metrics) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
