//! Where the programs under test are.

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Path of one of Relay's programs: `entrypoint`, `relay-log-service`, `relay-operator` or `relay`.
///
/// Taken from the folder `RELAY_BIN_DIR`, which `make test` sets to `bin/`, otherwise from the debug
/// builds in `CARGO_TARGET_DIR`.
///
/// # Panics
///
/// If it is not there: a test of a program that was not built proves nothing.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let debug = || variable("CARGO_TARGET_DIR").unwrap_or_else(|| workspace().join("target"));
    let folder = variable("RELAY_BIN_DIR").unwrap_or_else(|| debug().join("debug"));
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make build`, or set RELAY_BIN_DIR",
        path.display()
    );
    path
}

/// Where `make images` leaves programs and images: `RELAY_BIN_DIR`, otherwise `bin`.
#[must_use]
pub fn built() -> PathBuf {
    variable("RELAY_BIN_DIR").unwrap_or_else(|| workspace().join("bin"))
}

/// Path of a tool that `scripts/install` puts into the folder for tools.
///
/// # Panics
///
/// If it is not there.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let path = cache.unwrap_or_default().join("relay/tools/bin").join(name);
    assert!(path.is_file(), "{} is missing: run `scripts/install test`", path.display());
    path
}

/// Whether the suites run in full length (`make test-long`).
#[must_use]
pub fn is_long_run() -> bool {
    variable("RELAY_TEST_LONG").is_some()
}

/// What the environment says, if it says it.
#[expect(clippy::disallowed_methods, reason = "the harness's only configuration")]
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from)
}

/// Writes a file that can be executed at once.
///
/// Another process writes it: what this one has open is open in every child that another test starts at the same
/// moment, and the kernel executes nothing that somebody may still write.
///
/// # Panics
///
/// If it cannot be written.
pub fn write(path: &Path, bytes: &[u8], mode: u32) {
    let mut writer = Command::new("sh");
    writer.args(["-c", r#"exec cat >"$0""#]).arg(path).stdin(Stdio::piped());
    let mut writer = writer.spawn().expect("sh is installed");
    let mut stdin = writer.stdin.take().expect("it was asked for");
    stdin.write_all(bytes).expect("cat reads");
    drop(stdin);
    assert!(writer.wait().is_ok_and(|status| status.success()), "{} is written", path.display());
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).expect("the file is the test's own");
}

/// Copies a program to where it can be executed at once, as [`write()`] does.
///
/// # Panics
///
/// If it cannot be read or written.
pub fn copy(from: &Path, to: &Path) {
    write(to, &fs::read(from).expect("the program can be read"), 0o755);
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
