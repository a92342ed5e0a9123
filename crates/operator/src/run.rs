//! Puts the parts together. Every replica serves the webhook; one of them leads, and writes.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::{api::rbac::v1::ClusterRole, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Api, Client, Resource};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    audit::{self, Auditor},
    certificates::{self, Followed, Path, Periods},
    config::{Config, LogFormat},
    events::Events,
    image::{self, File, Finder, Registries},
    leader::{Election, Lead},
    metrics::{self, Metrics},
    tenant::Controller,
    webhook::{self, Tenants, Webhook, configuration::Wanted, register},
};

/// Pause after the owner of the webhook's configuration could not be read.
const OWNER_PAUSE: Duration = Duration::from_secs(2);

/// Runs until it is told to stop.
///
/// # Errors
///
/// If something is missing that it cannot run without.
pub async fn run(config: Config) -> Result<()> {
    start_logging(&config)?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let stopping = stop_signal()?;
    let client = Client::try_default().await.context("failed to find the API server")?;
    let namespace = config.namespace(client.default_namespace());
    let mut registry = Registry::with_prefix("relay_operator");
    let followed = Followed::new();
    let counters = webhook::Metrics::new(&mut registry);
    let lookups = image::Metrics::new(&mut registry);
    let finder = Finder::new(registries(&config)?, &namespace, lookups);
    let settings = config.webhook(&namespace);
    let webhook = Webhook::new(client.clone(), settings, &followed, finder, counters);
    let is_ready = {
        let readiness = webhook.readiness();
        Arc::new(move || readiness.is_ready())
    };
    let part = Part {
        metrics: Arc::new(Metrics::new(&mut registry)),
        unwrapped: audit::Metrics::new(&mut registry),
        client: client.clone(),
        tenants: webhook.tenants(),
        namespace: namespace.clone(),
        followed: followed.clone(),
        config,
    };
    let reviews = TcpListener::bind(part.config.webhook_listen).await;
    let reviews = reviews.context("failed to listen for the API server")?;
    let probes = part.listen().await?;
    let router = metrics::router(registry, is_ready);
    // To stop, the webhook drains and the leader hands over: both are waited for.
    let working = async {
        let lead = async {
            Box::pin(part.lead(&stopping)).await;
            Ok(())
        };
        tokio::try_join!(webhook.run(reviews, stopping.clone()), lead)
    };
    tokio::select! {
        done = working => drop(done.context("failed to serve the webhook")?),
        served = async { axum::serve(probes, router).await } => {
            served.context("failed to answer probes")?;
        }
        () = certificates::follow(client, &namespace, &followed) => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// What the operator's configuration says about registries and images.
fn registries(config: &Config) -> Result<Registries> {
    let Some(path) = &config.images_config else {
        return Registries::new(File::default()).context("failed to prepare for registries");
    };
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("failed to read {}", path.display()))?;
    let file = File::read(&text).and_then(Registries::new);
    file.with_context(|| format!("{} is wrong", path.display()))
}

/// What a replica is made of.
struct Part {
    client: Client,
    tenants: Arc<Tenants>,
    namespace: String,
    config: Config,
    followed: Followed,
    metrics: Arc<Metrics>,
    unwrapped: audit::Metrics,
}

impl Part {
    /// Listens for probes, and says where.
    async fn listen(&self) -> Result<TcpListener> {
        let listener = TcpListener::bind(self.config.listen).await;
        let listener = listener.context("failed to listen for probes")?;
        let address = listener.local_addr().context("failed to find the own address")?;
        tracing::info!(%address, namespace = self.namespace, "listening");
        if let Some(file) = &self.config.address_file {
            let partly = file.with_extension("partly");
            let written = std::fs::write(&partly, address.to_string());
            let written = written.and_then(|()| std::fs::rename(&partly, file));
            written.with_context(|| format!("failed to write {}", file.display()))?;
        }
        Ok(listener)
    }

    /// Leads whenever nobody else does, until it is told to stop.
    async fn lead(&self, stopping: &CancellationToken) {
        let Config { identity, lease, .. } = &self.config;
        let election =
            Election::new(self.client.clone(), &self.namespace, identity.clone(), *lease);
        loop {
            let lead = tokio::select! {
                lead = election.win() => lead,
                () = stopping.cancelled() => return,
            };
            tracing::info!(identity, "leading");
            self.metrics.leading.set(1);
            let lead = Box::pin(self.work(lead, stopping)).await;
            self.metrics.leading.set(0);
            let Some(lead) = lead else {
                tracing::warn!(identity, "the lead was lost");
                continue;
            };
            return lead.release().await;
        }
    }

    /// What the leader does. Gives the lead back if it was not lost.
    async fn work(&self, mut lead: Lead, stopping: &CancellationToken) -> Option<Lead> {
        let controller = Controller {
            client: self.client.clone(),
            settings: self.config.tenants(&self.namespace),
            leadership: lead.leadership(),
            held: self.followed.held(),
            metrics: Arc::clone(&self.metrics),
            events: Events::new(self.client.clone(), Some(self.config.identity.clone())),
        };
        let names = self.config.names(&self.namespace);
        let periods = Periods::default();
        let (path, configured) = watch::channel(None);
        let registered = async {
            let wanted = Wanted {
                namespace: self.namespace.clone(),
                address: self.config.webhook_address(),
                path: Path::default(),
                bundle: String::new(),
                owner: self.owner().await,
            };
            register(self.client.clone(), wanted, self.followed.held(), path).await;
        };
        tokio::select! {
            _ = lead.keep() => None,
            () = stopping.cancelled() => Some(lead),
            // None of these ends by itself.
            ((), (), (), ()) = async {
                let auditor = self.auditor();
                let keep = certificates::keep(self.client.clone(), &self.namespace, (&names, &periods), configured);
                tokio::join!(controller.run(), keep, registered, auditor.run())
            } => None,
        }
    }

    fn auditor(&self) -> Auditor {
        let (client, tenants) = (self.client.clone(), Arc::clone(&self.tenants));
        Auditor::new(client, tenants, self.config.audit, self.unwrapped.clone())
    }

    /// With what the webhook's configuration goes: without it, pods would be refused for ever after
    /// the operator is uninstalled. So it is asked for until the API server says.
    async fn owner(&self) -> Option<OwnerReference> {
        let name = self.config.owner.as_deref()?;
        let roles = Api::<ClusterRole>::all(self.client.clone());
        loop {
            let failure = match roles.get_metadata(name).await {
                Ok(role) => return role.metadata.uid.map(|uid| owner(name, uid)),
                Err(failure) => failure,
            };
            let error = &failure as &dyn std::error::Error;
            tracing::warn!(
                error,
                name,
                "failed to read the ClusterRole that owns the webhook's configuration"
            );
            if matches!(&failure, kube::Error::Api(status) if matches!(status.code, 403 | 404)) {
                return None;
            }
            tokio::time::sleep(OWNER_PAUSE).await;
        }
    }
}

fn owner(name: &str, uid: String) -> OwnerReference {
    OwnerReference {
        api_version: ClusterRole::api_version(&()).into_owned(),
        kind: ClusterRole::kind(&()).into_owned(),
        name: name.to_owned(),
        uid,
        ..OwnerReference::default()
    }
}

/// Cancelled by SIGTERM or SIGINT.
fn stop_signal() -> Result<CancellationToken> {
    let stopping = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?;
    let stopped = stopping.clone();
    // Lives as long as the process; nobody needs to wait for it.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stopped.cancel();
    });
    Ok(stopping)
}

fn start_logging(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("{:?} is not a filter for --log", config.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
