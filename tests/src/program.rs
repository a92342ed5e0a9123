//! Where the programs under test are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Path of one of Relay's programs: `entrypoint`, `relay-log-service` or `relay`.
///
/// Taken from the folder `RELAY_BIN_DIR`, which `make test` sets to `bin/`, otherwise from the debug
/// builds in `CARGO_TARGET_DIR`.
///
/// # Panics
///
/// If it is not there: a test of a program that was not built proves nothing.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn program(name: &str) -> PathBuf {
    let folder = env::var_os("RELAY_BIN_DIR").map_or_else(
        || {
            env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| workspace().join("target"), PathBuf::from)
                .join("debug")
        },
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make build`, or set RELAY_BIN_DIR",
        path.display()
    );
    path
}

/// Path of a tool that `scripts/install` puts into the folder for tools.
///
/// # Panics
///
/// If it is not there.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn tool(name: &str) -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let path = cache.unwrap_or_default().join("relay/tools/bin").join(name);
    assert!(path.is_file(), "{} is missing: run `scripts/install test`", path.display());
    path
}

/// Whether the suites run in full length (`make test-long`).
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
pub fn is_long_run() -> bool {
    env::var_os("RELAY_TEST_LONG").is_some()
}

/// Folder of the workspace.
///
/// # Panics
///
/// Never: the manifest of this package lies one below.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a folder").to_owned()
}
