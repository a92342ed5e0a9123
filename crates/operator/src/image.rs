//! What an image would run: its entrypoint and command, found out before a pod starts.
//!
//! From the middle outwards: [`config`], names, credentials, platforms, manifests and what is remembered are pure; `session` asks
//! one registry, [`Finder`] decides whom to ask and when, and [`Lookup`] knows what a pod brings along: its pull secrets and where
//! it may run.

mod address;
pub mod config;
mod descend;
mod digest;
mod endpoint;
mod finder;
mod flight;
mod go_json;
mod keychain;
mod lru;
mod manifest;
mod memory;
mod metrics;
mod name;
mod nodes;
mod platforms;
mod registries;
mod secrets;
mod session;
mod turns;
mod why;

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use kube::Client;
use serde_json::Value;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

pub use config::{Found, ImageConfig, Platform};
pub use finder::{Answered, Finder, Query};
pub use keychain::Keychain;
pub use metrics::Metrics;
pub use platforms::{Nodes, Platforms};
pub use registries::{BadFile, File, Registries};

use nodes::Cluster;
use secrets::{Pulled, Secrets};
use why::Why;

/// How long a pod waits for all that has to be asked for, from when it comes: whose its namespace is, its pull secrets,
/// and what its images run.
pub const BUDGET: Duration = Duration::from_secs(3);

/// Images of one pod that are looked up, and how many of them at once.
const MAX_IMAGES: usize = 64;
const AT_ONCE: usize = 8;

/// Looks up the images of pods.
pub struct Lookup {
    client: Client,
    finder: Finder,
    secrets: Secrets,
    cluster: Cluster,
}

/// What the images of a pod run.
#[derive(Debug, Default)]
pub struct Looked {
    /// Each by its name as it is written there. Where that is not known, a clause says why, and what to do about it.
    pub images: HashMap<String, Result<Found, String>>,
    /// Those for which something counts that was said before, because the registry does not say it now.
    pub stale: Vec<String>,
}

/// One pod, while its images are looked up.
struct Pod<'pod> {
    json: &'pod Value,
    namespace: &'pod str,
    deadline: Instant,
    platforms: Platforms,
    /// Read only if a registry is asked.
    pulled: OnceCell<Pulled>,
}

impl Lookup {
    /// A lookup that knows nothing yet.
    #[must_use]
    pub fn new(client: Client, finder: Finder) -> Self {
        let secrets = Secrets::new(client.clone());
        Self { client, finder, secrets, cluster: Cluster::default() }
    }

    /// Whether it knows where pods may run: before that, images are looked up for platforms that no node has.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.cluster.is_complete()
    }

    /// Follows what lookups depend on for as long as it is polled.
    pub async fn follow(&self) {
        self.cluster.follow(self.client.clone()).await;
    }

    /// What these images of a pod run, as far as that is known until `deadline`.
    pub async fn find(
        &self,
        json: &Value,
        namespace: &str,
        images: &[&str],
        deadline: Instant,
    ) -> Looked {
        let mut looked = Looked::default();
        if images.is_empty() {
            return looked;
        }
        let platforms = self.cluster.platforms(json);
        let pod = Pod { json, namespace, deadline, platforms, pulled: OnceCell::new() };
        let one = async |(at, image): (usize, &&str)| {
            let answered = match at {
                0..MAX_IMAGES => self.one(&pod, image).await,
                _ => Err(Why::TooMany { most: MAX_IMAGES }),
            };
            ((*image).to_owned(), answered.unwrap_or_else(|why| self.finder.refuse(&why)))
        };
        let answers = stream::iter(images.iter().enumerate()).map(one).buffer_unordered(AT_ONCE);
        for (image, answered) in answers.collect::<Vec<_>>().await {
            looked.stale.extend(answered.is_stale.then(|| image.clone()));
            looked.images.insert(image, answered.result);
        }
        looked
    }

    async fn one(&self, pod: &Pod<'_>, image: &str) -> Result<Answered, Why> {
        if let Some(found) = self.finder.fixed(image) {
            return Ok(Answered { result: Ok(found), is_stale: false });
        }
        if is_never_pulled(pod.json, image) {
            return Err(Why::NeverPulled);
        }
        let pulled = if self.finder.asks() {
            let read = pod.pulled.get_or_init(|| self.secrets.of(pod.json, pod.namespace));
            timeout_at(pod.deadline, read).await.map_err(|_| Why::NoSecrets)?
        } else {
            &Pulled::default()
        };
        let Pod { namespace, platforms, deadline, .. } = pod;
        let Pulled { keychain, unread } = pulled;
        let query = Query { image, namespace, keychain, unread, platforms, deadline: *deadline };
        Ok(self.finder.find(query).await)
    }
}

/// Whether a container of the pod takes the image only from the node.
fn is_never_pulled(pod: &Value, image: &str) -> bool {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let lists = lists.iter().filter_map(|list| pod.pointer("/spec")?.get(list)?.as_array());
    let mut containers = lists.flatten();
    containers.any(|container| {
        let is = |field, text| container.get(field).and_then(Value::as_str) == Some(text);
        is("image", image) && is("imagePullPolicy", "Never")
    })
}
