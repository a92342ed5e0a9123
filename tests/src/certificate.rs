//! Certificates for servers under test.

use std::{path::Path, process::Command};

/// A certificate for 127.0.0.1 that signs itself, and its key: paths of two PEM files in `folder`.
///
/// # Panics
///
/// Without the program openssl.
#[must_use]
pub fn self_signed(folder: &Path) -> (String, String) {
    let name = |name: &str| folder.join(name).display().to_string();
    let (cert, key) = (name("cert.pem"), name("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=relay"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"])
        .args(["-keyout", &key, "-out", &cert])
        .output();
    assert!(made.expect("the program openssl is installed").status.success());
    (cert, key)
}
