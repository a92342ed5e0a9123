//! The platforms of the cluster's nodes, kept in memory.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{PoisonError, RwLock},
};

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;

use super::{
    config::Platform,
    platforms::{Nodes, Platforms},
};
use crate::lenient::{Lenient, readable};

/// Nodes of a list whose metadata is in memory at once.
const PAGE: u32 = 32;

/// The nodes of the cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    nodes: Nodes,
    /// Whether all of them were seen once.
    is_complete: bool,
    /// While the watch lists all again: those that it named.
    listed: HashMap<String, Platform>,
}

impl Cluster {
    /// Whether all nodes are known.
    pub(super) fn is_complete(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_complete
    }

    /// Where a pod may run.
    pub(super) fn platforms(&self, pod: &Value) -> Platforms {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Platforms::of(pod, &known.nodes)
    }

    /// Follows nodes for as long as it is polled. The kubelet labels its node with what it is, so that the labels are
    /// enough: a node without them is nowhere a pod can be told to run.
    ///
    /// One that takes no new pods now counts too: it may again when a pod comes to run.
    pub(super) async fn follow(&self, client: Client) {
        let nodes = Api::<Lenient<PartialObjectMeta<Node>>>::all(client);
        let pages = watcher::Config::default().page_size(PAGE);
        let mut events = pin!(watcher(nodes, pages).default_backoff());
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    let Some(event) = readable(event) else { continue };
                    self.0.write().unwrap_or_else(PoisonError::into_inner).take(event);
                }
                // The stream tries again by itself.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "failed to follow nodes");
                }
                Ok(None) => return,
            }
        }
    }
}

impl Known {
    fn take(&mut self, event: Event<PartialObjectMeta<Node>>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(node) => {
                if let Some(platform) = platform(&node) {
                    self.listed.insert(node.name_any(), platform);
                }
            }
            Event::InitDone => {
                self.nodes = Nodes::default();
                for (name, platform) in std::mem::take(&mut self.listed) {
                    self.nodes.put(name, platform);
                }
                self.is_complete = true;
            }
            Event::Apply(node) => match platform(&node) {
                Some(platform) => self.nodes.put(node.name_any(), platform),
                None => self.nodes.remove(&node.name_any()),
            },
            Event::Delete(node) => self.nodes.remove(&node.name_any()),
        }
    }
}

fn platform(node: &PartialObjectMeta<Node>) -> Option<Platform> {
    let label = |name| node.labels().get(name).map(String::as_str);
    Some(Platform::new(label("kubernetes.io/os")?, label("kubernetes.io/arch")?, ""))
}

#[cfg(test)]
mod tests {
    use super::{Known, Platform};
    use k8s_openapi::api::core::v1::Node;
    use kube::{ResourceExt, core::PartialObjectMeta, runtime::watcher::Event};
    use serde_json::json;

    fn node(name: &str, architecture: &str) -> PartialObjectMeta<Node> {
        let mut node = PartialObjectMeta::<Node>::default();
        node.metadata.name = Some(name.to_owned());
        if !architecture.is_empty() {
            let labels = node.labels_mut();
            labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
            labels.insert("kubernetes.io/arch".to_owned(), architecture.to_owned());
        }
        node
    }

    #[test]
    fn nodes_come_and_go_and_a_list_replaces_all() {
        let mut known = Known::default();
        let platforms = |known: &Known| match super::Platforms::of(&json!({}), &known.nodes) {
            super::Platforms::Any => Vec::new(),
            super::Platforms::Of(all) => all.iter().map(Platform::to_string).collect(),
        };
        known.take(Event::Apply(node("a", "amd64")));
        known.take(Event::Apply(node("b", "arm64")));
        assert_eq!(platforms(&known), ["linux/amd64", "linux/arm64"]);
        known.take(Event::Delete(node("a", "amd64")));
        known.take(Event::Apply(node("b", "")));
        assert!(platforms(&known).is_empty());
        known.take(Event::Apply(node("b", "arm64")));
        for event in
            [Event::Init, Event::InitApply(node("c", "s390x")), Event::InitApply(node("d", ""))]
        {
            known.take(event);
            assert_eq!(platforms(&known), ["linux/arm64"], "a list is not over");
        }
        known.take(Event::InitDone);
        assert_eq!(platforms(&known), ["linux/s390x"]);
    }
}
