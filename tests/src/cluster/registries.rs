//! The registries of a node. Containers and pods find both at the node's address, tests by its link.

use std::{fs, net::IpAddr, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    Cluster,
    network::{BRIDGE, Uplink},
    process::run,
};
use crate::registry::{CONFIG, Content, INDEX, MANIFEST, Registry, USER};

/// As names of images have the one for everybody, which has no TLS.
pub const OPEN: &str = "10.88.0.1:5000";
/// As names of images have the one that wants a password, with TLS by the authority of the node.
pub const GUARDED: &str = BRIDGE;
/// What a layer is.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Cluster {
    /// Puts an archive with one image into the registry of a name that begins with [`OPEN`] or [`GUARDED`].
    ///
    /// # Errors
    ///
    /// If it is no image, or the cluster is none of ours.
    ///
    /// # Panics
    ///
    /// If the registry does not take it.
    pub fn push_image(&self, archive: &Path, name: &str) -> Result<()> {
        let node = self.node().context("a node of ours")?;
        let address = Uplink::parse(&node.read("uplink"))?.node_address();
        let (host, rest) = name.split_once('/').context("a name has a registry")?;
        let (repository, tag) = rest.split_once(':').context("a name has a tag")?;
        let registry = registry(host, address, &node.read("pki/ca.crt"));
        let folder = tempfile::tempdir()?;
        run(Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(archive))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let push = Push { image: folder.path(), registry: &registry, repository };
        runtime.block_on(push.all(tag))
    }
}

fn registry(host: &str, address: IpAddr, authority: &str) -> Registry {
    if host == GUARDED {
        Registry::at(&address.to_string(), Some(authority))
    } else {
        Registry::at(&host.replace(BRIDGE, &address.to_string()), None)
    }
}

/// An image that is unpacked here, and where it goes.
struct Push<'a> {
    image: &'a Path,
    registry: &'a Registry,
    repository: &'a str,
}

impl Push<'_> {
    /// The image, or all of an index.
    async fn all(&self, tag: &str) -> Result<()> {
        let index: Value = serde_json::from_slice(&fs::read(self.image.join("index.json"))?)?;
        let top = &index["manifests"][0];
        if top["mediaType"] != INDEX {
            return self.manifest(top, tag).await;
        }
        let top = self.blob(top, INDEX)?;
        let platforms: Value = serde_json::from_slice(&top.bytes)?;
        for one in platforms["manifests"].as_array().into_iter().flatten() {
            self.manifest(one, one["digest"].as_str().context("a digest")?).await?;
        }
        self.registry.push_manifest(self.repository, tag, &top).await;
        Ok(())
    }

    async fn manifest(&self, named: &Value, at: &str) -> Result<()> {
        let manifest = self.blob(named, MANIFEST)?;
        let parts: Value = serde_json::from_slice(&manifest.bytes)?;
        self.registry.push_blob(self.repository, &self.blob(&parts["config"], CONFIG)?).await;
        for layer in parts["layers"].as_array().into_iter().flatten() {
            self.registry.push_blob(self.repository, &self.blob(layer, LAYER)?).await;
        }
        self.registry.push_manifest(self.repository, at, &manifest).await;
        Ok(())
    }

    fn blob(&self, named: &Value, media_type: &'static str) -> Result<Content> {
        let digest = named["digest"].as_str().context("what is named has a digest")?;
        let file = self.image.join("blobs").join(digest.replace(':', "/"));
        Ok(Content { digest: digest.to_owned(), bytes: fs::read(file)?, media_type })
    }
}

/// A Secret with the password of [`GUARDED`].
#[must_use]
pub fn pull_secret(name: &str) -> Value {
    let (user, password) = USER;
    let known = json!({ "auths": { GUARDED: { "username": user, "password": password } } });
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
        "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": known.to_string() },
    })
}

/// Name of the `ConfigMap` in Relay's namespace with the authority of [`GUARDED`].
pub const AUTHORITIES: &str = "registry-authorities";

/// Values of the chart with which Relay asks the registries of a node.
#[must_use]
pub fn values() -> Value {
    let open = json!({ "host": OPEN, "endpoints": [{ "url": format!("http://{OPEN}") }] });
    json!({
        "imageLookup": {
            "authorities": AUTHORITIES,
            "config": { "authorities": "/etc/relay/authorities/ca.crt", "registries": [open] },
        },
        "networkPolicy": { "registryPorts": [443, 5000] },
    })
}
