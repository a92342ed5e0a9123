//! The image of the tools: where its program lies, and how a container runs it. Pure.

use serde_json::{Value, json};

/// The program, in the image and where wrapped containers mount the tools.
pub const ENTRYPOINT: &str = "/relay/lib/entrypoint";
/// How the names of the claims begin that pods mount.
pub(crate) const CLAIM_PREFIX: &str = "relay-tools-";
/// Where a container has the volume that it fills or compares. Not `/relay`: there lies the program that it runs.
pub(crate) const MOUNT: &str = "/mnt/relay";
/// The image's own user, which is nobody. The files are made for everyone to read.
pub(crate) const USER: u32 = 65532;

/// A container that runs the program, and that the restricted profile of Pod Security admits, if its pod says the rest.
pub(crate) fn container(name: &str, image: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name,
        "image": image,
        "command": [ENTRYPOINT],
        "args": arguments,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    })
}
