//! What each tenant wants, by namespace, kept in memory: an answer costs no request.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{PoisonError, RwLock},
};

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::{Semaphore, watch};

use crate::{
    api::{
        self,
        v1beta1::{ConditionKind, InjectionMode, Tenant, ToolsDelivery, ToolsStatus},
    },
    injection::{Source, Tools},
    lenient::{Lenient, readable},
};

/// Label on a tenant's namespace: the tenant's name.
pub const TENANT_LABEL: &str = "relay.sh/tenant";
/// Namespaces that are asked for at once. Anyone may send reviews, and each of a namespace that nobody knows costs
/// the API server two requests.
const LOOKUPS: usize = 4;

/// What a tenant wants for its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What happens to a pod that cannot be wrapped.
    pub mode: InjectionMode,
    /// What its containers mount.
    pub tools: Tools,
}

/// The wishes of all tenants.
pub struct Tenants {
    client: Client,
    known: RwLock<Known>,
    is_complete: watch::Sender<bool>,
    lookups: Semaphore,
}

/// Tenants by their namespaces.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Secrets with which the tools image is pulled in all tenants' namespaces.
    pull_secrets: Vec<String>,
    /// By tenant: its namespace.
    namespaces: HashMap<String, String>,
    /// By namespace.
    wishes: HashMap<String, Wish>,
    /// While the watch lists all again: those that it named.
    listed: HashMap<String, Entry>,
}

/// The namespace that a tenant got, which no other has, and its wish.
#[derive(Debug)]
struct Entry(Option<String>, Wish);

impl Entry {
    fn of(tenant: &Tenant, pull_secrets: &[String]) -> Self {
        let namespace = tenant.status.as_ref().and_then(|status| status.namespace.clone());
        Self(namespace, Wish::of(tenant, pull_secrets))
    }
}

impl Wish {
    /// These secrets are for the tools of all tenants.
    fn of(tenant: &Tenant, pull_secrets: &[String]) -> Self {
        let status = tenant.status.as_ref();
        let tools = status.and_then(|status| status.tools.as_ref());
        let missing = || {
            let condition = status.and_then(|status| status.condition(ConditionKind::ToolsReady));
            let why = condition.map(|condition| condition.message.clone());
            why.filter(|why| !why.is_empty()).unwrap_or_else(|| "they are being made".to_owned())
        };
        Self {
            mode: tenant.spec.injection.mode,
            tools: match tools {
                Some(tools) => Tools::Ready {
                    source: source(tools),
                    generation: tools.generation.clone(),
                    pull_secrets: tenant.tools_secrets(pull_secrets),
                },
                None => Tools::NotReady { why: missing() },
            },
        }
    }
}

fn source(tools: &ToolsStatus) -> Source {
    match tools.delivery {
        ToolsDelivery::PersistentVolumeClaim => {
            Source::Claim(tools.claim_name.clone().unwrap_or_default())
        }
        ToolsDelivery::ImageVolume => Source::Image(tools.image.clone()),
        ToolsDelivery::InitContainer => Source::InitContainer(tools.image.clone()),
    }
}

impl Tenants {
    /// Nothing is known yet.
    ///
    /// With these secrets the tools image is pulled in all tenants' namespaces.
    #[must_use]
    pub fn new(client: Client, pull_secrets: Vec<String>) -> Self {
        Self {
            client,
            known: RwLock::new(Known::of_all(pull_secrets)),
            is_complete: watch::Sender::new(false),
            lookups: Semaphore::new(LOOKUPS),
        }
    }

    /// Whether all tenants are known.
    #[must_use]
    pub fn is_complete(&self) -> watch::Receiver<bool> {
        self.is_complete.subscribe()
    }

    /// Waits until all tenants are known.
    pub async fn completed(&self) {
        let mut is_complete = self.is_complete();
        // The sender is these tenants themselves.
        drop(is_complete.wait_for(|is_complete| *is_complete).await);
    }

    /// Tenants by their namespaces, as far as they got any.
    #[must_use]
    pub fn by_namespace(&self) -> BTreeMap<String, String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let all = known.namespaces.iter();
        all.map(|(tenant, namespace)| (namespace.clone(), tenant.clone())).collect()
    }

    /// Follows tenants for as long as it is polled.
    pub async fn follow(&self) {
        let tenants = Api::<Lenient<Tenant>>::all(self.client.clone());
        let pages = watcher::Config::default().page_size(api::PAGE);
        let mut events = pin!(watcher(tenants, pages).default_backoff());
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    let Some(event) = readable(event) else { continue };
                    let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                    if known.take(event) {
                        self.is_complete.send_replace(true);
                    }
                }
                // The stream tries again by itself.
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "failed to follow tenants"
                    );
                }
                Ok(None) => return,
            }
        }
    }

    /// What the tenant of a namespace wants; `None` if it belongs to none.
    ///
    /// A namespace that the watch has not shown yet is asked for: its first pod may come before.
    ///
    /// # Errors
    ///
    /// If the API server does not say.
    pub async fn wish(&self, namespace: &str) -> Result<Option<Wish>, kube::Error> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).wish(namespace);
        if known.is_some() {
            return Ok(known);
        }
        // It becomes part of a path, and whoever sends reviews may write what he likes.
        if !is_name(namespace) {
            return Ok(None);
        }
        let _turn = self.lookups.acquire().await;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let found = namespaces.get_metadata_opt(namespace).await?;
        let label = found.and_then(|found| found.labels().get(TENANT_LABEL).cloned());
        let Some(name) = label else { return Ok(None) };
        let tenant = Api::<Tenant>::all(self.client.clone()).get_opt(&name).await?;
        let tenant = tenant.filter(|tenant| tenant.namespace_name() == namespace);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tenant.map(|tenant| Wish::of(&tenant, &known.pull_secrets)))
    }
}

/// Whether a namespace can have this name.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&text.len()) && text.bytes().all(is_part)
}

impl Known {
    /// Nothing but the secrets for all tenants.
    pub(super) fn of_all(pull_secrets: Vec<String>) -> Self {
        Self { pull_secrets, ..Self::default() }
    }

    pub(super) fn wish(&self, namespace: &str) -> Option<Wish> {
        self.wishes.get(namespace).cloned()
    }

    /// Whether a list is complete with this event.
    pub(super) fn take(&mut self, event: Event<Tenant>) -> bool {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(tenant) => {
                let entry = Entry::of(&tenant, &self.pull_secrets);
                self.listed.insert(tenant.name_any(), entry);
            }
            Event::InitDone => {
                self.namespaces.clear();
                self.wishes.clear();
                for (tenant, entry) in std::mem::take(&mut self.listed) {
                    self.put(tenant, entry);
                }
                return true;
            }
            Event::Apply(tenant) => {
                let entry = Entry::of(&tenant, &self.pull_secrets);
                self.put(tenant.name_any(), entry);
            }
            Event::Delete(tenant) => self.remove(&tenant.name_any()),
        }
        false
    }

    fn put(&mut self, tenant: String, entry: Entry) {
        self.remove(&tenant);
        if let Entry(Some(namespace), wish) = entry {
            self.wishes.insert(namespace.clone(), wish);
            self.namespaces.insert(tenant, namespace);
        }
    }

    fn remove(&mut self, tenant: &str) {
        if let Some(namespace) = self.namespaces.remove(tenant) {
            self.wishes.remove(&namespace);
        }
    }
}
