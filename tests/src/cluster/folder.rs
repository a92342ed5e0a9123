//! The folder in which a node keeps everything of one run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::digest::digest;
use crate::registry::PASSWORDS;

/// Where the node's own processes see the folder: a short path, since kubelet makes sockets in it,
/// and the same in every run, so that the files of configuration are the same too.
pub const INSIDE: &str = "/run/relay";

/// What kubelet, containerd and their companions are configured with: their name in `etc/`, and text.
const CONFIGURATION: [(&str, &str); 14] = [
    ("containerd.toml", include_str!("../../cluster/etc/containerd.toml")),
    ("cni/10-node.conflist", include_str!("../../cluster/etc/cni/10-node.conflist")),
    ("kubelet.yaml", include_str!("../../cluster/etc/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("../../cluster/etc/kube-proxy.yaml")),
    ("Corefile", include_str!("../../cluster/etc/Corefile")),
    ("local-path.json", include_str!("../../cluster/etc/local-path.json")),
    ("helper-pod.yaml", include_str!("../../cluster/etc/helper-pod.yaml")),
    ("objects.yaml", include_str!("../../cluster/etc/objects.yaml")),
    ("guarded-registry.yaml", include_str!("../../cluster/etc/guarded-registry.yaml")),
    ("open-registry.yaml", include_str!("../../cluster/etc/open-registry.yaml")),
    ("registry.passwords", PASSWORDS),
    ("registries/10.88.0.1/hosts.toml", include_str!("../../cluster/etc/registries/guarded.toml")),
    (
        "registries/10.88.0.1:5000/hosts.toml",
        include_str!("../../cluster/etc/registries/open.toml"),
    ),
    // Pods of the host's network find no name server: nothing outside of the node is reached.
    ("resolv.conf", "nameserver 10.88.0.1\n"),
];

/// The folder of one node. At most one node runs in it.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path, which need not exist.
    ///
    /// # Errors
    ///
    /// If the current folder is gone.
    pub fn at(path: &Path) -> Result<Self> {
        Ok(Self(std::path::absolute(path).context("the current folder is gone")?))
    }

    /// Makes it, with the files of configuration and links to the programs.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn prepare(&self, programs: impl Iterator<Item = (&'static str, PathBuf)>) -> Result<()> {
        for folder in ["bin", "logs", "pki", "kubeconfigs", "volumes", "pods", "cni"] {
            let folder = self.path(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("failed to make {}", folder.display()))?;
        }
        for (name, text) in CONFIGURATION {
            let name = format!("etc/{name}");
            let parent = self.path(&name).parent().map(fs::create_dir_all);
            parent.transpose().with_context(|| format!("failed to make the folder of {name}"))?;
            self.write(&name, text)?;
        }
        for (name, program) in programs {
            std::os::unix::fs::symlink(program, self.path("bin").join(name))?;
        }
        Ok(())
    }

    /// Its path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Path of something in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The kubeconfig of the administrator, for people and tests.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// Writes a file in it.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// The text of a file in it; empty if there is none.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Name of the node's group of processes, below the root of every hierarchy: one for each folder.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("relay-cluster-{}", digest(self.0.as_os_str().as_encoded_bytes(), 8))
    }

    /// Removes what `keep` does not say, and the folder itself if nothing is left.
    ///
    /// # Errors
    ///
    /// If something cannot be removed.
    pub fn remove(&self, keep: Option<&str>) -> Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if keep.is_some_and(|kept| entry.file_name() == kept) {
                continue;
            }
            let is_folder = entry.file_type()?.is_dir();
            let removed =
                if is_folder { fs::remove_dir_all } else { fs::remove_file }(entry.path());
            removed.with_context(|| format!("failed to remove {}", entry.path().display()))?;
        }
        if keep.is_none() {
            fs::remove_dir(&self.0)?;
        }
        Ok(())
    }
}
