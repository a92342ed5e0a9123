//! The registries of a node. Containers and pods find both at the node's address, tests by its link.

use std::{fs, net::IpAddr, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    Cluster,
    network::{BRIDGE, Uplink},
    process::run,
};
use crate::registry::{CONFIG, Content, MANIFEST, Registry, USER};

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
        runtime.block_on(push(&registry, folder.path(), repository, tag))
    }
}

fn registry(host: &str, address: IpAddr, authority: &str) -> Registry {
    if host == GUARDED {
        Registry::at(&address.to_string(), Some(authority))
    } else {
        Registry::at(&host.replace(BRIDGE, &address.to_string()), None)
    }
}

async fn push(registry: &Registry, image: &Path, repository: &str, tag: &str) -> Result<()> {
    let index: Value = serde_json::from_slice(&fs::read(image.join("index.json"))?)?;
    let blob = |descriptor: &Value, media_type| -> Result<Content> {
        let digest = descriptor["digest"].as_str().context("what is named has a digest")?;
        let file = image.join("blobs").join(digest.replace(':', "/"));
        Ok(Content { digest: digest.to_owned(), bytes: fs::read(file)?, media_type })
    };
    let manifest = blob(&index["manifests"][0], MANIFEST)?;
    let parts: Value = serde_json::from_slice(&manifest.bytes)?;
    registry.push_blob(repository, &blob(&parts["config"], CONFIG)?).await;
    for layer in parts["layers"].as_array().into_iter().flatten() {
        registry.push_blob(repository, &blob(layer, LAYER)?).await;
    }
    registry.push_manifest(repository, tag, &manifest).await;
    Ok(())
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
