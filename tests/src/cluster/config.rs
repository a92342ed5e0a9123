//! What the environment says about the cluster.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::program::workspace;

/// A cluster that somebody has already, by `RELAY_TEST_KUBECONFIG`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn given_kubeconfig() -> Option<PathBuf> {
    env::var_os("RELAY_TEST_KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// How an image gets into that cluster, by `RELAY_TEST_LOAD`: a command whose last word will be the
/// path of an archive, such as `kind load image-archive`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn load_command() -> Option<String> {
    env::var("RELAY_TEST_LOAD").ok().filter(|command| !command.is_empty())
}

/// Whether namespaces outlive their tests, by `RELAY_KEEP`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn keeps_namespaces() -> bool {
    env::var_os("RELAY_KEEP").is_some_and(|value| !value.is_empty())
}

/// Folder of the node that `make cluster-up` starts: `RELAY_CLUSTER_DIR`, otherwise `.relay/cluster`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn folder() -> PathBuf {
    env::var_os("RELAY_CLUSTER_DIR")
        .map_or_else(|| workspace().join(".relay/cluster"), PathBuf::from)
}

/// `PATH` with one more folder, which comes first.
///
/// # Panics
///
/// If the folder's name cannot stand in it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn path_with(folder: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()].into_iter().chain(env::split_paths(&path));
    env::join_paths(folders).expect("no colon in the folder's name")
}
